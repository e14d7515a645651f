"""One session: how it ends, and that nothing it does becomes an exception."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from askesis.clock import VirtualClock
from askesis.engines import Sampling
from askesis.engines.scripted import ScriptedEngine
from askesis.environments import Done, Turn, World
from askesis.environments.adapters.returns import ReturnEvaluator
from askesis.environments.fakes import EchoEnvironment, Fault, FlakyEnvironment, FlakyEvaluator, make_echo_world
from askesis.errors import EngineError
from askesis.gateway import Gateway, Session
from askesis.policy.loading import Policy
from askesis.rollout import Outcome, run_session
from askesis.trace import Budgets, FailureOrigin, Message, StopReason, Verdict, VerdictStatus

UNLIMITED = Budgets()


def play(
    policy: Policy,
    world: World,
    script: Callable[[str, int], str | Exception] | None = None,
    *,
    budgets: Budgets = UNLIMITED,
    delay_s: float = 0.0,
    context_length: int = 256,
) -> tuple[Outcome, float]:
    clock = VirtualClock()
    engine = ScriptedEngine(policy.template, script or echo, delay_s=delay_s)
    gateway = Gateway(engine, policy.template, sampling=Sampling(max_tokens=30), context_length=context_length)
    session = Session(
        id="s",
        task=world.tasks.task("train", 0),
        group_id="g",
        member_index=0,
        seed=1,
        policy_version=0,
        budgets=budgets,
        clock=clock,
    )
    return clock.run(run_session(world, gateway, session, call_timeout_s=5.0)), clock.now()


def echo(text: str, seed: int) -> str:
    """The last word of the prompt: what the echo world wants."""
    words = [w for w in text.replace("Repeat each word.", "").split("t") if w]
    return "t" + words[-1]


def altered(world: World, **parts: object) -> World:
    return World(
        **{
            "name": world.name,
            "environment": world.environment,
            "evaluator": world.evaluator,
            "tasks": world.tasks,
            **parts,
        }
    )  # type: ignore[arg-type]


def test_a_good_session_terminates_with_a_verdict(tiny: Policy) -> None:
    outcome, _ = play(tiny, make_echo_world(turns=3))
    assert outcome.trace.stop is StopReason.TERMINATED and len(outcome.trace.calls) == 3
    assert outcome.verdict.status is VerdictStatus.OK and outcome.verdict.reward is not None
    assert outcome.trace.events[-1]["info"] == {"turns": 3}


@pytest.mark.parametrize(
    ("budgets", "delay_s", "reason"),
    [
        (Budgets(turns=2), 0.0, StopReason.MAX_TURNS),
        (Budgets(tokens=9), 0.0, StopReason.MAX_TOKENS),
        (Budgets(seconds=15.0), 10.0, StopReason.MAX_SECONDS),
    ],
)
def test_a_budget_cuts_the_session_which_is_still_judged(
    tiny: Policy, budgets: Budgets, delay_s: float, reason: StopReason
) -> None:
    outcome, _ = play(tiny, make_echo_world(turns=9), budgets=budgets, delay_s=delay_s)
    assert outcome.trace.stop is reason and reason.is_truncated
    assert outcome.verdict.status is VerdictStatus.OK and outcome.verdict.completed is False


def test_a_prompt_that_does_not_fit_is_an_error_not_a_zero(tiny: Policy) -> None:
    outcome, _ = play(tiny, make_echo_world(), context_length=10)
    assert outcome.trace.stop is StopReason.CONTEXT_OVERFLOW and not outcome.trace.calls
    assert outcome.verdict.reward is None and outcome.verdict.error is not None
    assert outcome.verdict.error.kind == "ContextOverflow" and "tokens" in outcome.verdict.error.message


@pytest.mark.parametrize("fault", list(Fault))
def test_every_kind_of_fault_ends_as_a_failure_with_its_origin(tiny: Policy, fault: Fault) -> None:
    world = make_echo_world(turns=3)
    world = altered(
        world,
        environment=FlakyEnvironment(world.environment, {fault: 1.0}),
        evaluator=FlakyEvaluator(world.evaluator, {fault: 1.0}),
    )
    outcome, now = play(tiny, world)
    assert now < 60  # a hang costs its deadline, not a day
    if outcome.trace.stop is StopReason.TERMINATED and outcome.verdict.status is VerdictStatus.OK:
        assert any(e.get("event") == "close_failed" for e in outcome.trace.events)
        return
    error = outcome.verdict.error
    assert outcome.verdict.reward is None and error is not None
    assert error.origin in (FailureOrigin.ENVIRONMENT, FailureOrigin.EVALUATOR)
    assert error.message


def test_an_engine_that_fails_is_the_engines_fault(tiny: Policy) -> None:
    outcome, _ = play(tiny, make_echo_world(), lambda text, seed: EngineError("broken pipe"))
    assert outcome.trace.failure is not None
    assert outcome.trace.failure.origin is FailureOrigin.ENGINE and "broken pipe" in outcome.trace.failure.message


def test_a_bug_of_our_own_is_kept_with_its_traceback(tiny: Policy) -> None:
    outcome, _ = play(tiny, make_echo_world(), lambda text, seed: ZeroDivisionError("oops"))
    assert outcome.trace.failure is not None
    assert outcome.trace.failure.origin is FailureOrigin.FRAMEWORK and "oops" in outcome.trace.failure.traceback


class TwoSeats(EchoEnvironment):
    async def reset(self, session: Session) -> Turn:
        message = Message(role="user", content="x")
        return Turn(seats={"a": (message,), "b": (message,)})


class Interviews(EchoEnvironment):
    """Each word in a seat of its own."""

    def _say(self, session: Session, *before: Message) -> Turn:
        turn = super()._say(session, *before)
        (messages,) = turn.seats.values()
        return Turn(seats={f"seat {self._said[session.id]}": messages})


def test_a_seat_knows_only_what_it_was_told_itself(tiny: Policy) -> None:
    world = altered(make_echo_world(turns=3), environment=Interviews())
    outcome, _ = play(tiny, world)
    assert len(outcome.trace.branches()) == 3 and len(outcome.trace.calls) == 3
    words = world.tasks.task("train", 0).payload["words"]
    for call, word in zip(outcome.trace.calls, words, strict=True):
        text = tiny.template.decode(call.context.tolist())
        assert [other in text for other in words] == [other == word for other in words]


class NanEvaluator:
    version = "nan/1"

    async def score(self, trace: object, task: object) -> Verdict:
        return Verdict(status=VerdictStatus.OK, evaluator="nan/1", rewards={"x": (math.nan, 1.0)})


class NoVerdict:
    version = "none/1"

    async def score(self, trace: object, task: object) -> object:
        return 0.0


class BadEvidence:
    version = "evidence/1"

    async def score(self, trace: object, task: object) -> Verdict:
        return Verdict(
            status=VerdictStatus.OK, evaluator="e/1", rewards={"x": (1.0, 1.0)}, evidence={"score": math.nan}
        )


class NotAsync:
    version = "sync/1"

    def score(self, trace: object, task: object) -> Verdict:
        raise ValueError("not even async")


class SyncClose(EchoEnvironment):
    def close(self, session: Session) -> None:  # type: ignore[override]
        return None


def test_a_close_that_is_not_async_is_noted_and_the_episode_counts(tiny: Policy) -> None:
    outcome, _ = play(tiny, altered(make_echo_world(), environment=SyncClose()))
    assert outcome.verdict.status is VerdictStatus.OK
    assert any(e.get("event") == "close_failed" for e in outcome.trace.events)


class Strange(EchoEnvironment):
    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        return {"reward": 1.0}  # type: ignore[return-value]


def test_contract_breaches_are_failures(tiny: Policy) -> None:
    world = make_echo_world()
    for environment in (TwoSeats(), Strange()):
        outcome, _ = play(tiny, altered(world, environment=environment))
        assert outcome.verdict.error is not None and outcome.verdict.error.origin is FailureOrigin.ENVIRONMENT
    for evaluator in (NanEvaluator(), NoVerdict(), BadEvidence(), NotAsync()):
        outcome, _ = play(tiny, altered(world, evaluator=evaluator))
        assert outcome.verdict.error is not None and outcome.verdict.error.origin is FailureOrigin.EVALUATOR
        assert outcome.verdict.reward is None


def test_an_answer_of_random_bytes_is_only_a_bad_answer(tiny: Policy) -> None:
    junk = bytes(range(256)) * 400
    outcome, _ = play(tiny, make_echo_world(), lambda text, seed: junk.decode("latin-1"), context_length=1 << 20)
    assert outcome.verdict.status is VerdictStatus.OK and outcome.verdict.reward == 0.0


def test_what_a_turn_hands_over_is_kept_also_when_a_limit_cuts_the_session(tiny: Policy) -> None:
    class Paying(EchoEnvironment):
        async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
            outcome = await super().step(session, acts)
            return replace(outcome, info={"paid": {"agent": 0.5}}) if isinstance(outcome, Turn) else outcome

    world = altered(make_echo_world(turns=4), environment=Paying(), evaluator=ReturnEvaluator("echo"))
    outcome, _ = play(tiny, world, budgets=Budgets(turns=2))
    assert outcome.trace.stop is StopReason.MAX_TURNS
    assert [event["event"] for event in outcome.trace.events] == ["turn", "turn"]
    assert (outcome.verdict.reward, outcome.verdict.step_rewards) == (1.0, (0.5, 0.5))
