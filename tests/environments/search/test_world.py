"""The world as a recipe names it, played by scripts, by the conformance kit, and learned from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from askesis.agents import make_harness
from askesis.algorithms import Aggregation, build
from askesis.algorithms.aggregation import denominators, token_weights
from askesis.clock import VirtualClock
from askesis.engines import Sampling
from askesis.engines.scripted import ScriptedEngine
from askesis.environments import World, check_environment, make_world
from askesis.environments.search.corpus import Hit
from askesis.environments.search.environment import SearchEnvironment
from askesis.errors import EnvironmentFault, RecipeError
from askesis.gateway import Gateway, Session
from askesis.learners import Sample
from askesis.learners.batch import TokenTable, rows_of
from askesis.policy.loading import Policy
from askesis.recipe.schema import AgentSection
from askesis.rollout import Outcome, run_session
from askesis.trace import Budgets, FailureOrigin, StopReason, VerdictStatus

FTS5 = {"retriever": "fts5"}


def chain(**options: object) -> World:
    return make_world("search", family="chain", level="nano", options={**FTS5, **options})


def play(
    policy: Policy, world: World, section: AgentSection, script: Callable[[str, int], str | Exception], index: int = 0
) -> Outcome:
    engine = ScriptedEngine(policy.template, script)
    gateway = Gateway(engine, policy.template, sampling=Sampling(max_tokens=120), context_length=4096)
    clock = VirtualClock()
    session = Session(
        id="s",
        task=world.tasks.task("train", index),
        group_id="g",
        member_index=0,
        seed=0,
        policy_version=0,
        budgets=Budgets(turns=20),
        clock=clock,
    )
    harness = make_harness(section, world.environment.tools())
    return clock.run(run_session(world, gateway, session, call_timeout_s=1.0, harness=harness))


def solver(world: World, index: int, *, memory: bool) -> Callable[[str, int], str]:
    """Follows the task's facts; reads each name out of what it was told, never out of the task."""
    facts = [fact.split() for fact in world.tasks.task("train", index).payload["facts"]]
    asked = [fact[1] for fact in facts]

    def script(prompt: str, seed: int) -> str:
        person, known = facts[0][3], 0
        seen = prompt[prompt.rindex("Who is") :]
        for relation in asked:
            mark = f"The {relation} of {person} is " if not memory else f"{relation} of {person}: "
            if mark not in seen:
                break
            person, known = seen.split(mark, 1)[1].split(".")[0].split(";")[0].split(" <")[0].strip(), known + 1
        if memory and "<information>" in seen:
            note = seen.split(f"The {asked[known]} of {person} is ", 1)[1].split(".")[0]
            old = seen.split("<memory>", 1)[1].split("</memory>")[0].strip()
            return f"<memory>{old + '; ' if old else ''}{asked[known]} of {person}: {note}</memory>"
        return f"<answer>{person}</answer>" if known == len(asked) else f"<search>{person} {asked[known]}</search>"

    return script


@pytest.mark.parametrize("memory", [False, True])
def test_a_policy_that_follows_the_facts_is_right(tiny: Policy, memory: bool) -> None:
    world = chain(min_hops=3, max_hops=3, reward="memory", thinks=False)
    section = AgentSection(context="compact_memory" if memory else "full", instruction="")
    outcome = play(tiny, world, section, solver(world, 0, memory=memory))
    assert outcome.trace.stop is StopReason.TERMINATED and outcome.verdict.reward == 1.0
    evidence = outcome.verdict.evidence
    assert (evidence["searches"], evidence["contexts"], evidence["recall"]) == (3, 4 if memory else 1, True)


def test_a_policy_that_always_searches_gets_nothing(tiny: Policy) -> None:
    outcome = play(tiny, chain(), AgentSection(max_tool_calls=4), lambda text, seed: "<search>x</search>")
    assert outcome.trace.stop is StopReason.MAX_TOOL_CALLS and len(outcome.trace.calls) == 5
    assert outcome.verdict.reward == 0.0 and outcome.verdict.evidence["searches"] == 4


def test_a_retriever_that_is_down_is_a_failure_of_the_tool_and_never_a_zero(tiny: Policy) -> None:
    class Down:
        is_deterministic = False

        async def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
            raise EnvironmentFault("nobody answers")

    class Hangs(Down):
        async def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
            import asyncio

            await asyncio.sleep(1e6)
            return []

    class Garbage(Down):
        async def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
            return [None]  # type: ignore[list-item]

    for retriever, kind in ((Down(), "EnvironmentFault"), (Hangs(), "timeout")):
        world = replace(chain(), environment=SearchEnvironment(retriever, top_k=3))
        outcome = play(tiny, world, AgentSection(), lambda text, seed: "<search>x</search>")
        assert outcome.verdict.status is VerdictStatus.ERROR and outcome.verdict.reward is None
        assert outcome.verdict.error is not None and outcome.verdict.error.origin is FailureOrigin.TOOL
        assert outcome.verdict.error.kind == kind
    # A bug of the tool is shown to the policy, noted, and does not stop the session.
    world = replace(chain(), environment=SearchEnvironment(Garbage(), top_k=3))
    outcome = play(tiny, world, AgentSection(max_tool_calls=1), lambda text, seed: "<search>x</search>")
    assert outcome.verdict.status is VerdictStatus.OK and outcome.trace.events[0]["is_error"] is True


def test_several_contexts_are_rows_of_one_sample_and_weigh_what_the_aggregation_says(tiny: Policy) -> None:
    world = chain(min_hops=1, max_hops=3)
    section = AgentSection(context="compact_memory", instruction="")
    hops = [world.tasks.task("train", i).payload["hops"] for i in range(20)]
    chosen = [hops.index(1), hops.index(3), hops.index(2), hops.index(1)]
    outcomes = [play(tiny, world, section, solver(world, i, memory=True), index=i) for i in chosen]
    turns = [int(o.verdict.evidence["contexts"]) for o in outcomes]
    assert turns == [2, 4, 3, 2]
    samples = [Sample(trace_id=str(i), trace=o.trace, reward=float(i), group=0) for i, o in enumerate(outcomes)]
    rows = rows_of(samples)
    table = TokenTable.of(rows, torch.device("cpu"))
    assert len(rows) == sum(turns) and table.sequence_B.tolist() == [i for i, n in enumerate(turns) for _ in range(n)]
    assert sum(len(row.at) for row in rows) == sum(o.trace.num_sampled for o in outcomes)
    totals = denominators(table.mask_BT, table.sequence_B)

    def weight(kind: Aggregation) -> torch.Tensor:
        weight_BT = token_weights(table.mask_BT, table.sequence_B, kind, denominators=totals)
        return torch.zeros(4).index_add(0, table.sequence_B, weight_BT.sum(1))

    sampled = torch.tensor([float(o.trace.num_sampled) for o in outcomes])
    assert torch.allclose(weight(Aggregation.TOKEN_MEAN), sampled / sampled.sum())
    assert torch.allclose(weight(Aggregation.ROW_MEAN), torch.tensor(turns) / sum(turns))
    assert torch.allclose(weight(Aggregation.SEQ_MEAN_TOKEN_MEAN), torch.full((4,), 0.25))
    assert build("memsearcher").aggregation is Aggregation.TOKEN_MEAN


def test_it_keeps_the_protocol() -> None:
    report = check_environment(chain(), num_tasks=3)
    assert report.ok, str(report)


def test_a_data_set_with_a_corpus(tiny: Policy, tmp_path: Path) -> None:
    files = {
        "train": {"question": "capital of France", "answer": ["Paris"]},
        "held_out": {"question": "x", "answer": "y"},
    }
    for split, record in files.items():
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(record) + "\n")
    (tmp_path / "corpus.jsonl").write_text('{"id": 0, "contents": "Paris\\nParis is the capital of France."}\n')
    options = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "held_out", "corpus")} | FTS5
    world = make_world("search", family="nq", options=options)
    assert world.tasks.task("train", 0).payload["question"] == "capital of France?"
    replies = iter(["<search>capital France</search>", "<answer>Paris</answer>"])
    assert play(tiny, world, AgentSection(), lambda text, seed: next(replies)).verdict.reward == 1.0


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("chains", {}, "did you mean 'chain'"),
        ("chain", {"num_entitys": 3}, "did you mean 'num_entities'"),
        ("chain", {"num_entities": 3}, "out of range"),
        ("chain", {"min_hops": 3, "max_hops": 2}, "min_hops=3"),
        ("chain", {"reward": "acc"}, "environment.options.reward"),
        ("chain", {"retriever": "google"}, "no retriever"),
        ("questions", {}, "nothing to read"),
        ("nq", {"train": "x.jsonl", "held_out": "x.jsonl"}, "x.jsonl"),
    ],
)
def test_wrong_options_are_refused(family: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        make_world("search", family=family, options=options)
    assert message in str(error.value)
