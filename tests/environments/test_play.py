"""Playing without a model."""

from __future__ import annotations

import asyncio

import numpy as np

from askesis.environments.fakes import ScriptedPolicy, make_echo_world
from askesis.environments.play import Bench, trace_of
from askesis.trace import Message

WORLD = make_echo_world(turns=3)


def bench(max_turns: int = 8) -> Bench:
    def echo(messages: list[Message]) -> str:
        return messages[-1].content

    return Bench(
        world=WORLD,
        policy=ScriptedPolicy(echo),  # type: ignore[arg-type]
        num_tasks=2,
        seed=0,
        max_turns=max_turns,
        call_timeout_s=5.0,
        reward_range=(0.0, 1.0),
    )


def test_a_played_session_keeps_every_turn_act_and_the_end() -> None:
    task = WORLD.tasks.task("train", 0)

    async def main() -> None:
        play = await bench().play(task)
        assert play.replies == tuple(task.payload["words"])
        assert len(play.turns) == 3 and play.done is not None and play.seats == ("agent",)
        assert (await bench().score(play)).reward == 1.0
        assert play.transcript()[2] == ["terminated", "", {"turns": 3}]

    asyncio.run(main())


def test_the_turn_limit_leaves_a_session_without_an_end() -> None:
    play = asyncio.run(bench(max_turns=2).play(WORLD.tasks.task("train", 0)))
    assert play.done is None and len(play.acts) == 2


def test_interleaved_sessions_go_as_they_would_alone() -> None:
    async def main() -> None:
        table = bench()
        tasks = table.train_tasks()
        together = await table.play_interleaved(tasks)
        assert [p.transcript() for p in together] == [(await table.play(t)).transcript() for t in tasks]
        assert len({p.session.id for p in together}) == 2

    asyncio.run(main())


def test_a_trace_is_one_growing_branch_of_bytes() -> None:
    task = WORLD.tasks.task("train", 0)
    trace = trace_of(task, ["hi", "", "\ud800"])
    assert len(trace.branches()) == 1
    assert np.array_equal(trace.calls[0].sampled, np.frombuffer(b"hi", np.uint8))
    assert [call.reply and call.reply.content for call in trace.calls] == ["hi", "", "\ud800"]
    assert trace_of(task, []).calls == ()
