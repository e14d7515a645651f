"""A conformance test for any world: play it with a scripted policy and report every broken promise."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from askesis.environments.fakes import ScriptedPolicy
from askesis.environments.play import Bench, Play, trace_of
from askesis.environments.protocol import ToolResult, World
from askesis.errors import AskesisError, EnvironmentFault
from askesis.trace.types import Message, ToolCall, Verdict, canonical_json

__all__ = ["CheckOutcome", "CheckReport", "CheckResult", "check_environment"]

GARBAGE = ("", "\x00", "\ud800", "</answer><answer>", "{" * 1000, "<tool_call>{]</tool_call>", "9" * 100_000)
"""What a policy may write at worst; none of it may make an environment or an evaluator raise."""


class CheckOutcome(StrEnum):
    """SKIPPED: the environment does not promise this, or the sample did not get there."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check. ``message`` says what went wrong and how to mend it, or why the check was skipped."""

    name: str
    outcome: CheckOutcome
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """All checks of one world. ``str(report)`` is readable."""

    world: str
    results: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """No check failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the failed checks."""
        return tuple(r.name for r in self.results if r.outcome is CheckOutcome.FAILED)

    def __str__(self) -> str:
        lines = [f"{self.world}: {'ok' if self.ok else f'{len(self.failed)} checks failed'}"]
        for result in self.results:
            lines.append(f"  {result.outcome.value:<8}{result.name}")
            lines.extend(f"          {line}" for line in result.message.splitlines())
        return "\n".join(lines)


class _Skip(Exception):
    """This check does not apply."""


def check_environment(
    world: World,
    *,
    policy: Callable[[Sequence[Message]], Awaitable[str]] | None = None,
    num_tasks: int = 4,
    seed: int = 0,
    max_turns: int = 16,
    call_timeout_s: float = 30.0,
    reward_range: tuple[float, float] = (0.0, 1.0),
) -> CheckReport:
    """Play ``world`` and check its promises. Runs an event loop of its own.

    Args:
        world: what to check.
        policy: an async function from the messages so far to a reply; by default one that says a few fixed things.
        num_tasks: tasks looked at per split.
        seed: seed of the sessions.
        max_turns: turns per session at most.
        call_timeout_s: deadline of each call, seconds.
        reward_range: where the rewards of all verdicts must lie, both ends included.
    """
    bench = Bench(
        world=world,
        policy=policy or ScriptedPolicy(["hello", "<answer>1</answer>", "done"]),
        num_tasks=num_tasks,
        seed=seed,
        max_turns=max_turns,
        call_timeout_s=call_timeout_s,
        reward_range=reward_range,
    )
    return CheckReport(world=world.name, results=tuple(asyncio.run(_run_all(bench))))


async def _run_all(bench: Bench) -> list[CheckResult]:
    results = []
    for check in _CHECKS:
        name = check.__name__.strip("_")
        try:
            await check(bench)
        except _Skip as skip:
            results.append(CheckResult(name=name, outcome=CheckOutcome.SKIPPED, message=str(skip)))
        except Exception as error:
            text = str(error) if isinstance(error, AskesisError) else f"{type(error).__name__}: {error}"
            results.append(CheckResult(name=name, outcome=CheckOutcome.FAILED, message=text))
        else:
            results.append(CheckResult(name=name, outcome=CheckOutcome.PASSED))
    return results


def _fault(what: str, where: str, got: object, expected: object, next_step: str) -> EnvironmentFault:
    return EnvironmentFault(what, where=where, got=got, expected=expected, next_step=next_step)


async def _tasks_are_repeatable(bench: Bench) -> None:
    for split, index, task in bench.tasks():
        again = bench.world.tasks.task(split, index)
        if again.content_hash != task.content_hash:
            step = "make a task a pure function of (seed, split, index)"
            raise _fault(
                "the same number gave two different tasks", f"{split}/{index}", again.to_dict(), task.to_dict(), step
            )


async def _tasks_survive_json(bench: Bench) -> None:
    for split, index, task in bench.tasks():
        record = task.to_dict()
        back = json.loads(canonical_json(record))
        if canonical_json(back) != canonical_json(record) or back != record:
            step = "put only dicts with string keys, lists, strings, finite numbers, booleans and None into the payload"
            raise _fault("a task changes on the way through JSON", f"{split}/{index}", back, record, step)


async def _splits_are_disjoint(bench: Bench) -> None:
    seen: dict[bytes, str] = {}
    for split, index, task in bench.tasks():
        place, content = f"{split}/{index}", canonical_json(dict(task.payload))
        if seen.get(content, split).split("/")[0] != split:
            step = "let the content of a task decide its split"
            raise _fault("two splits share a task", place, seen[content], "payloads that occur in one split only", step)
        seen[content] = place


async def _turns_are_well_formed(bench: Bench) -> None:
    for task in bench.train_tasks():
        await bench.play(task)


async def _only_new_messages(bench: Bench) -> None:
    played = [await bench.play(task) for task in bench.train_tasks()]
    if all(len(play.turns) < 2 for play in played):
        raise _Skip("no session had a second turn")
    for play in played:
        for number, turn in enumerate(play.turns[1:], start=1):
            for seat, messages in turn.seats.items():
                earlier = [message for past in play.turns[:number] for message in past.seats.get(seat, ())]
                repeated = bool(earlier) and messages[: len(earlier)] == tuple(earlier)
                if repeated or any(m.role == "assistant" and m.content in play.replies for m in messages):
                    step = "return only what is new; the harness keeps the history"
                    where = f"task {play.task.key}, turn {number}, seat {seat}"
                    raise _fault("a turn repeats the history", where, messages, "new messages only", step)


async def _same_seed_same_transcript(bench: Bench) -> None:
    if not bench.world.environment.capabilities.deterministic:
        raise _Skip("the environment does not promise to be deterministic")
    for task in bench.train_tasks():
        _same(await bench.play(task), await bench.play(task), "two sessions with the same seed differ", "session.seed")


async def _sessions_do_not_mix(bench: Bench) -> None:
    capabilities = bench.world.environment.capabilities
    if not (capabilities.concurrent and capabilities.deterministic):
        raise _Skip("the environment does not promise to be concurrent and deterministic")
    tasks = bench.train_tasks()
    alone = [await bench.play(task) for task in tasks]
    for before, after in zip(alone, await bench.play_interleaved(tasks), strict=True):
        _same(after, before, "a session went otherwise beside others than alone", "session.id")


def _same(one: Play, two: Play, what: str, key: str) -> None:
    if one.transcript() != two.transcript():
        step = f"draw from streams seeded by session.seed, keep state under session.id (look at {key} first)"
        raise _fault(what, f"task {two.task.key}", one.transcript(), two.transcript(), step)


async def _global_generators_are_left_alone(bench: Bench) -> None:
    def state() -> tuple[Any, bytes]:
        words = np.random.get_state(legacy=False)
        return random.getstate(), repr((words["state"]["key"].tobytes(), words["state"]["pos"])).encode()

    before = state()
    for task in bench.train_tasks():
        play = await bench.play(task)
        await bench.score(play)
    if state() != before:
        step = "draw from askesis.streams.generator(session.seed, ...), never from random.* or numpy.random.*"
        raise _fault("a global random generator was used", bench.world.name, "its state changed", "unchanged", step)


async def _step_after_the_end_is_an_error(bench: Bench) -> None:
    play = await bench.play(bench.train_tasks()[0], keep_open=True)
    try:
        if play.done is None:
            raise _Skip(f"the session did not end within {bench.max_turns} turns")
        try:
            after = await bench.step(
                play.session, {seat: Message(role="assistant", content="x") for seat in play.seats}
            )
        except EnvironmentFault:
            return
        step = "raise EnvironmentFault when the session is not open"
        raise _fault("a step after the end was accepted", f"task {play.task.key}", after, "EnvironmentFault", step)
    finally:
        await bench.close(play.session)


async def _close_after_cancel(bench: Bench) -> None:
    task = bench.train_tasks()[0]
    session = bench.session(task)
    turn = await bench.reset(session)
    acts = {seat: Message(role="assistant", content="x") for seat in turn.seats}
    stepping = asyncio.ensure_future(bench.world.environment.step(session, acts))
    await asyncio.sleep(0)
    stepping.cancel()
    await asyncio.wait([stepping], timeout=bench.call_timeout_s)
    if not stepping.done():
        step = "do not swallow asyncio.CancelledError"
        raise _fault("a cancelled step went on", f"task {task.key}", "still running", "an end", step)
    await bench.close(session)
    await bench.play(task)


async def _garbage_from_the_policy(bench: Bench) -> None:
    task = bench.train_tasks()[0]
    for text in GARBAGE:
        session = bench.session(task)
        turn = await bench.reset(session)
        try:
            await bench.step(session, {seat: Message(role="assistant", content=text) for seat in turn.seats})
        except Exception as error:
            step = "any text is a legal act; answer a bad one with a message or an end"
            raise _fault(
                "a reply of the policy made step raise",
                f"task {task.key}",
                f"{text[:40]!r} gave {error!r}",
                "no error",
                step,
            ) from error
        finally:
            await bench.close(session)


async def _bad_tool_calls(bench: Bench) -> None:
    environment, task = bench.world.environment, bench.train_tasks()[0]
    session = bench.session(task)
    seat = next(iter((await bench.reset(session)).seats))
    try:
        for name in ("no_such_tool", *(tool.name for tool in environment.tools())):
            call = ToolCall(id="call-0", name=name, arguments="{]")
            async with asyncio.timeout(bench.call_timeout_s):
                result = await environment.call_tool(session, seat, call)
            if not isinstance(result, ToolResult) or not isinstance(result.content, str):
                raise _fault(
                    "a tool returned no ToolResult", f"tool {name}", result, "ToolResult(content=str)", "return one"
                )
            if name == "no_such_tool" and not result.is_error:
                step = "return ToolResult(..., is_error=True)"
                raise _fault("an unknown tool gave no error", f"tool {name}", result, "is_error=True", step)
    finally:
        await bench.close(session)


async def _verdicts_are_sound(bench: Bench) -> None:
    low, high = bench.reward_range
    for task in bench.train_tasks():
        play = await bench.play(task)
        for texts in (play.replies, *((text,) for text in GARBAGE)):
            verdict: object = await bench.score_trace(trace_of(task, texts), task)
            where = f"task {task.key}, reply {texts[-1][:40]!r}"
            if not isinstance(verdict, Verdict):
                raise _fault(
                    "an evaluator returned no verdict",
                    where,
                    verdict,
                    "Verdict",
                    "return one; status=error if it cannot judge",
                )
            if verdict.evaluator != bench.world.evaluator.version:
                expected = bench.world.evaluator.version
                raise _fault(
                    "a verdict names another evaluator", where, verdict.evaluator, expected, "use self.version"
                )
            if verdict.reward is not None and not low <= verdict.reward <= high:
                step = "scale the reward, or pass reward_range="
                raise _fault("a reward is out of range", where, verdict.reward, f"{low} to {high}", step)


_CHECKS = (
    _tasks_are_repeatable,
    _tasks_survive_json,
    _splits_are_disjoint,
    _turns_are_well_formed,
    _only_new_messages,
    _same_seed_same_transcript,
    _sessions_do_not_mix,
    _global_generators_are_left_alone,
    _step_after_the_end_is_an_error,
    _close_after_cancel,
    _garbage_from_the_policy,
    _bad_tool_calls,
    _verdicts_are_sound,
)
