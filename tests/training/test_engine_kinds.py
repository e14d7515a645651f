"""``engine.kind=vllm`` is the only difference for a run: it learns, resumes, and stops when a sampler is stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from askesis.errors import EngineError, RecipeError
from askesis.policy.loading import Policy
from askesis.recipe import Recipe, Resolved, load_recipe
from askesis.store import Store
from askesis.training.rundir import RunDir
from fake_vllm import FakeVllm, fakes
from small_run import start

SMALL = [
    "training.lr=1e-3",
    "training.checkpoint_every=1",
    "training.max_drift=1e-3",
    "rollout.groups_per_step=2",
    "rollout.group_size=3",
    "sampling.max_tokens=6",
    "evaluation.num_tasks=2",
    'environment.instruction=""',
    "agent.format=none",
    "run.threads=1",
]


def recipe(folder: object, run: Path, servers: list[FakeVllm], *more: str) -> Resolved[Recipe]:
    urls = ", ".join(f'"{server.url}"' for server in servers)
    kind = ["engine.kind=vllm", f"engine.vllm.urls=[{urls}]"]
    return load_recipe(None, [*SMALL, *kind, f'policy.name="{folder}"', f'run.dir="{run}"', *more])


def test_a_run_learns_from_what_servers_sampled(tiny: Policy, tiny_folder: Path, tmp_path: Path) -> None:
    with fakes(tiny, 2) as servers:
        options = ["algorithm.options.kl_beta=0.0", "training.steps=3"]
        result = start(recipe(tiny_folder, tmp_path / "run", servers, *options))
        assert all(server.requests for server in servers)
    run = RunDir(Path(result.path))
    state: dict[str, Any] = run.state()
    assert state["kernel"] == "vllm 0.32.0, 2 replicas"
    checks = {check["name"]: check["passed"] for check in state["self_checks"]}
    assert (
        checks["the sampler's weights are the trainer's"] and checks["the learner's log-probabilities are the engine's"]
    )
    with Store.open(run.store, read_only=True) as store:
        metrics = store.metrics(result.run)
    assert all(value is not None and value < 1e-4 for _, value in metrics["drift"])
    assert [value for _, value in metrics["engine_restarts"]] == [0.0, 0.0, 0.0]
    assert all(value is not None and value > 0 for _, value in metrics["engine_update_seconds"])
    assert not (Path(result.path) / "engine" / "weights").exists()


def test_a_run_goes_on_where_it_stopped(tiny: Policy, tiny_folder: Path, tmp_path: Path) -> None:
    with fakes(tiny) as [server]:
        options = ["algorithm.options.kl_beta=0.0", "training.steps=3", "evaluation.num_tasks=0"]
        resolved = recipe(tiny_folder, tmp_path / "run", [server], *options)
        updates = 0

        def fail_late(*_: Any, **__: Any) -> Any:
            nonlocal updates
            updates += 1
            if updates == 3:
                server.keeps_old_weights = True
            return original(*_, **__)

        original = server.worker.reload_weights
        server.worker.reload_weights = fail_late  # type: ignore[method-assign]
        with pytest.raises(EngineError, match="before the last update") as caught:
            start(resolved)
        assert server.url in str(caught.value)
        assert "before the last update" in RunDir(tmp_path / "run").state()["error"]
        server.keeps_old_weights = False
        result = start(resolved)  # also on other servers: engine.vllm.urls may differ
        with Store.open(RunDir(Path(result.path)).store, read_only=True) as store:
            assert [step for step, _ in store.metrics(result.run)["drift"]] == [1, 2, 3]
            assert store.verify(heads=tmp_path / "run" / "heads.jsonl").ok


def test_evolution_gives_each_member_to_the_servers(tiny: Policy, tiny_folder: Path, tmp_path: Path) -> None:
    with fakes(tiny) as [server]:
        loads = 0
        original = server.worker.reload_weights

        def counted(**weights: Any) -> None:
            nonlocal loads
            loads += 1
            original(**weights)

        server.worker.reload_weights = counted  # type: ignore[method-assign]
        options = [
            "training.steps=1",
            "evaluation.num_tasks=0",
            "learner.kind=evolution",
            "learner.evolution.method=es",
        ]
        plain = [option for option in SMALL if not option.startswith(("training.lr", "training.max_drift"))]
        urls = [f'engine.vllm.urls=["{server.url}"]', "engine.kind=vllm", f'policy.name="{tiny_folder}"']
        result = start(load_recipe(None, [*plain, *options, *urls, f'run.dir="{tmp_path / "run"}"']))
        assert loads == 6  # the start, three members, the centre again, and what was learned
        assert RunDir(Path(result.path)).state()["status"] == "finished"


def test_two_sets_of_weights_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"training\.staleness=2") as caught:
        recipe(tiny_folder, tmp_path, [], "training.staleness=2")
    assert "engine.kind=embedded" in str(caught.value)
    with pytest.raises(RecipeError, match=r"has 1 entries, but engine\.vllm\.replicas=2"):
        recipe(tiny_folder, tmp_path, [], "engine.vllm.replicas=2", 'engine.vllm.devices=["0"]')


def test_where_servers_are_does_not_make_another_recipe(tiny_folder: Path, tmp_path: Path) -> None:
    one = recipe(tiny_folder, tmp_path, [], "engine.vllm.replicas=2", "engine.vllm.python=/a/python")
    two = recipe(tiny_folder, tmp_path, [], "engine.vllm.replicas=3", 'engine.vllm.urls=["http://127.0.0.1:1"]')
    assert one.hash == two.hash != recipe(tiny_folder, tmp_path, [], "engine.vllm.dtype=bfloat16").hash


@pytest.mark.parametrize("partial", ["true", pytest.param("false", marks=pytest.mark.opt_in)])
def test_servers_sample_while_the_learner_computes(
    partial: str, tiny: Policy, tiny_folder: Path, tmp_path: Path
) -> None:
    """Servers take new weights between two answers; what a session was sampled from is on record."""
    more = ["algorithm.options.kl_beta=0.0", "training.steps=4", "evaluation.every=2"]
    more += ["asynchronous.enabled=true", f"asynchronous.partial_rollouts={partial}"]
    with fakes(tiny) as [server]:
        result = start(recipe(tiny_folder, tmp_path / "run", [server], *more))
    with Store.open(RunDir(Path(result.path)).store, read_only=True) as store:
        groups = {g.group_id: g for g in store.groups(result.run, purpose="train")}
        used = store.consumed(result.run)
        drift = [value for _, value in store.metrics(result.run)["drift"] if value is not None]
        assert store.verify(heads=tmp_path / "run" / "heads.jsonl").ok
    assert sorted(used.values()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all(0 <= step - groups[name].step <= 2 for name, step in used.items())
    assert drift and max(drift) < 1e-4  # a token that is said to be of the learner's weights is
    calls = [c for g in groups.values() for m in g.members for c in m.trace.calls]
    assert not any(call.swaps for call in calls)
    if partial == "false":
        assert all(len({c.policy_version for c in m.trace.calls}) == 1 for g in groups.values() for m in g.members)
