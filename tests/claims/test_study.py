"""What makes a study, and when it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from askesis.claims import Arm, Part, Role, Setting
from askesis.errors import RecipeError

BASE = {"algorithm.name": "nsr"}


def arms(*roles: Role, **overrides: Any) -> tuple[Arm, ...]:
    return tuple(Arm(name=f"arm{i}", role=role, overrides={**BASE, **overrides}) for i, role in enumerate(roles))


def test_plans_name_every_run_once(make_study: Any, tmp_path: Path) -> None:
    study = make_study(settings=(Setting(name="easy"), Setting(name="hard one", overrides={"training.lr": 2e-4})))
    plans = study.plans(study.scale("laptop"), seeds=3, folder=tmp_path)
    assert len(plans) == len({p.path for p in plans}) == 3 * 2 * 3
    assert {p.seed for p in plans[:6]} == {0}  # seed by seed, so that an interrupted claim is balanced
    assert plans[3].path.parent == tmp_path and plans[3].path.name.startswith("hard_one-ours-0-")
    assert {"training.lr=0.0002", "run.seed=0", "run.threads=1", f"run.dir={plans[3].path}"} <= set(plans[3].overrides)


def test_a_changed_recipe_gets_another_folder(make_study: Any, tmp_path: Path) -> None:
    def paths(**recipe: Any) -> list[Path]:
        study = make_study()
        study = make_study(recipe={**study.recipe, **recipe})
        return [p.path for p in study.plans(study.scale("smoke"), seeds=1, folder=tmp_path)]

    assert paths() == paths()
    assert not set(paths()) & set(paths(**{"training.steps": 3}))


def test_what_a_claim_is_about_may_differ_and_nothing_else(make_study: Any, tmp_path: Path) -> None:
    differing = (*arms(Role.METHOD), Arm(name="w", role=Role.BASELINE, overrides={**BASE, "agent.context": "window"}))
    for free in ((), ("agent.window",)):
        study = make_study(arms=differing, free=free)
        with pytest.raises(RecipeError, match=r"agent\.context: arm0 'full', w 'window'"):
            study.plans(study.scale("smoke"), seeds=1, folder=tmp_path)
    study = make_study(arms=differing, free=("agent.context",))
    assert len(study.plans(study.scale("smoke"), seeds=1, folder=tmp_path)) == 2


@pytest.mark.parametrize(
    "overrides",
    [
        {"training.steps": 3},
        {"rollout.groups_per_step": 4},
        {"rollout.group_size": 3},
        {"sampling.max_tokens": 5},
        {"rollout.max_session_tokens": 100},
        {"training.epochs": 2},
        {"policy.name": "nano"},
        {"environment.family": "gcd"},
        {"evaluation.num_tasks": 3},
    ],
)
def test_unequal_budgets_are_refused(make_study: Any, tmp_path: Path, overrides: dict[str, Any]) -> None:
    richer = (
        Arm(name="ours", role=Role.METHOD, overrides={"algorithm.name": "a_nsr", **overrides}),
        Arm(name="nsr", role=Role.BASELINE, overrides=BASE),
    )
    study = make_study(arms=richer)
    with pytest.raises(RecipeError, match="same budget") as caught:
        study.plans(study.scale("smoke"), seeds=1, folder=tmp_path)
    assert next(iter(overrides)) in str(caught.value)


def test_arms_may_differ_in_how_they_learn(make_study: Any, tmp_path: Path) -> None:
    free = {
        "training.lr": 1e-3,
        "training.schedule": "linear",
        "algorithm.options.kl_beta": 0.1,
        "learner.packed": False,
    }
    other = Arm(name="ours", role=Role.METHOD, overrides={"algorithm.name": "grpo", **free})
    study = make_study(arms=(other, Arm(name="nsr", role=Role.BASELINE, overrides=BASE)))
    assert len(study.plans(study.scale("smoke"), seeds=2, folder=tmp_path)) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"arms": arms(Role.METHOD)},
        {"arms": arms(Role.BASELINE)},
        {"arms": arms(Role.METHOD, Role.METHOD, Role.BASELINE)},
        {"arms": (*arms(Role.METHOD), *arms(Role.BASELINE))},
        {"parts": (Part(statement="", metric="pass@2", setting="easy"),)},
        {"parts": (Part(statement="", metric="pass@1", setting="hard"),)},
        {"parts": (Part(statement="", metric="pass@1", setting="easy", against="rsn"),)},
        {"parts": (Part(statement="", metric="pass@1", setting="easy", against="ours"),)},
    ],
)
def test_a_study_that_does_not_fit_together_is_refused(make_study: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="does not fit together"):
        make_study(**changes)


def test_an_unknown_scale_is_refused(make_study: Any) -> None:
    with pytest.raises(RecipeError, match="no such scale"):
        make_study().scale("galaxy")
