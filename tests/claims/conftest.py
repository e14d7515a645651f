"""A study that takes seconds, and finished runs whose numbers are made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from askesis.claims import Arm, Direction, Metric, Part, Role, Scale, Setting, Study
from askesis.claims.reading import Count, FinishedRun, held_out_pass

MakeStudy = Callable[..., Study]
MakeRun = Callable[..., FinishedRun]


@pytest.fixture
def make_study(tiny_folder: Path) -> MakeStudy:
    def make(**changes: object) -> Study:
        parts = {
            "name": "tiny",
            "title": "A tiny study",
            "paper": "Nobody 2026",
            "statement": "Ours is better.",
            "measured": "Nothing.",
            "recipe": {
                "policy.name": str(tiny_folder),
                "environment.family": "spell_backward",
                "environment.instruction": "",
                "sampling.max_tokens": 4,
                "training.steps": 2,
                "training.lr": 1e-4,
                "evaluation.temperature": 1.0,
                "evaluation.samples": 2,
            },
            "arms": (
                Arm(name="ours", role=Role.METHOD, overrides={"algorithm.name": "a_nsr"}, note="with a note"),
                Arm(name="nsr", role=Role.BASELINE, overrides={"algorithm.name": "nsr"}),
                Arm(name="psr", role=Role.BASELINE, overrides={"algorithm.name": "psr"}),
            ),
            "settings": (Setting(name="easy"),),
            "metrics": (Metric(name="pass@1", read=held_out_pass(1), note="the first try"),),
            "parts": (Part(statement="More at the first try", metric="pass@1", setting="easy"),),
            "scales": {
                "smoke": Scale(
                    overrides={
                        "rollout.groups_per_step": 2,
                        "rollout.group_size": 2,
                        "evaluation.num_tasks": 2,
                    },
                    seeds=1,
                    workers=0,
                    judged=False,
                ),
                "laptop": Scale(overrides={"rollout.groups_per_step": 2}, seeds=3, workers=2),
            },
        }
        return Study(**{**parts, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_run() -> MakeRun:
    def make(
        arm: str, seed: int, right: Sequence[int], *, of: int = 4, setting: str = "easy", accuracy: float = 0.5
    ) -> FinishedRun:
        return FinishedRun(
            setting=setting,
            arm=arm,
            seed=seed,
            path=Path("nowhere"),
            wall_s=1.0,
            num_trained=100 + seed,
            evaluations={0: tuple(Count(of, 0) for _ in right), 2: tuple(Count(of, r) for r in right)},
            series={"accuracy": [(1, accuracy), (2, None), (3, accuracy + 0.1)]},
        )

    return make


@pytest.fixture
def direction_part() -> Callable[..., Part]:
    def make(direction: Direction, margin: float = 0.0, against: str | None = None) -> Part:
        return Part(statement="x", metric="pass@1", setting="easy", direction=direction, margin=margin, against=against)

    return make
