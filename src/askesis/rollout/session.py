"""One session from reset to verdict. Whatever goes wrong in it ends as a record, not as an exception."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from askesis.agents.harness import Agent, End, Harness
from askesis.environments.protocol import Done, ToolResult, Turn, World, validate_turn
from askesis.errors import BudgetExhausted, ContextOverflow, EngineError, EnvironmentFault, TraceError
from askesis.gateway import Endpoint, Gateway, Session
from askesis.metering import Activity, charging
from askesis.rollout.boundary import SessionFailed, failure_of, guarded
from askesis.rollout.program import ProgramHost
from askesis.trace import (
    Failure,
    FailureOrigin,
    Message,
    StopReason,
    ToolCall,
    Trace,
    Verdict,
    VerdictStatus,
    canonical_json,
)

__all__ = ["Outcome", "run_session"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What is left of a session. ``verdict`` has status ERROR when the session or its evaluator failed."""

    session: Session
    trace: Trace
    verdict: Verdict
    duration_s: float


_PLAIN = Harness()


async def run_session(
    world: World,
    gateway: Gateway,
    session: Session,
    *,
    call_timeout_s: float,
    harness: Harness = _PLAIN,
    programs: ProgramHost | None = None,
) -> Outcome:
    """Play one session and have it judged.

    Args:
        world: where it is played.
        gateway: opens the endpoint that the policy speaks through.
        session: who plays what.
        call_timeout_s: deadline of each call to the environment, a tool or the evaluator, seconds.
        harness: leads the policy; without one it sees everything and calls no tool.
        programs: plays the session in the place of the harness, for a world with a program.
    """
    started = session.clock.now()
    endpoint = gateway.open(session)
    try:
        stop, failure = await _play(world, endpoint, session, call_timeout_s, harness, programs)
    finally:
        await _close(world, session, endpoint, call_timeout_s)
    trace = endpoint.close(stop, failure=failure)
    verdict = await _judge(world, trace, session, call_timeout_s)
    return Outcome(session=session, trace=trace, verdict=verdict, duration_s=session.clock.now() - started)


async def _play(
    world: World,
    endpoint: Endpoint,
    session: Session,
    timeout_s: float,
    harness: Harness,
    programs: ProgramHost | None,
) -> tuple[StopReason, Failure | None]:
    agents: dict[str, Agent] = {}  # each seat knows only what it was told itself
    try:
        turn = await _environment_call(world, session, None, timeout_s)
        if programs is not None and isinstance(turn, Turn):
            with charging(Activity.ENVIRONMENT):
                return await programs.play(endpoint, session, _only_seat(turn)[1]), None
        while isinstance(turn, Turn):
            if turn.info:
                endpoint.note({"event": "turn", "info": dict(turn.info)})
            seat, fresh = _only_seat(turn)
            if seat not in agents:
                agents[seat] = harness.seat(endpoint, _tool_caller(world, session, seat, timeout_s), name=seat)
            act = await agents[seat].act(fresh)
            if isinstance(act, End):
                return act.stop, None
            turn = await _environment_call(world, session, {seat: act}, timeout_s)
        if turn.reason or turn.info:
            endpoint.note({"event": "done", "reason": turn.reason, "info": dict(turn.info)})
        return turn.stop, None
    except BudgetExhausted as error:
        return StopReason(error.reason), None
    except ContextOverflow as error:
        # A first prompt that does not fit says nothing about the policy; later on the session was merely cut.
        silent = endpoint.num_replies == 0
        return StopReason.CONTEXT_OVERFLOW, failure_of(error, FailureOrigin.FRAMEWORK) if silent else None
    except SessionFailed as error:
        return StopReason.FAILED, error.failure
    except EngineError as error:
        return StopReason.FAILED, failure_of(error, FailureOrigin.ENGINE)
    except EnvironmentFault as error:
        return StopReason.FAILED, failure_of(error, FailureOrigin.ENVIRONMENT)
    except Exception as error:  # one bad session never stops a run; its cause is kept
        return StopReason.FAILED, failure_of(error, FailureOrigin.FRAMEWORK)


async def _environment_call(
    world: World, session: Session, acts: dict[str, Message] | None, timeout_s: float
) -> Turn | Done:
    name = "reset" if acts is None else "step"
    environment = world.environment

    def call() -> Awaitable[Turn | Done]:
        return environment.reset(session) if acts is None else environment.step(session, acts)

    with charging(Activity.ENVIRONMENT):
        value = await guarded(call, FailureOrigin.ENVIRONMENT, timeout_s=timeout_s, what=f"{world.name}.{name}")
    return validate_turn(value, where=name)


def _tool_caller(
    world: World, session: Session, seat: str, timeout_s: float
) -> Callable[[ToolCall], Awaitable[ToolResult]]:
    """Calls the world's tools under a deadline; what is not a result is the tool's failure."""

    async def call_tool(call: ToolCall) -> ToolResult:
        with charging(Activity.ENVIRONMENT):
            result = await guarded(
                lambda: world.environment.call_tool(session, seat, call),
                FailureOrigin.TOOL,
                timeout_s=timeout_s,
                what=f"{world.name}.{call.name[:80]!r}",  # a name that a policy made up
            )
        if isinstance(result, ToolResult) and isinstance(result.content, str):
            return result
        raise SessionFailed(
            Failure(
                origin=FailureOrigin.TOOL,
                kind="EnvironmentFault",
                message=f"the tool returned {result!r:.200}, not a ToolResult with a text",
            )
        )

    return call_tool


def _only_seat(turn: Turn) -> tuple[str, tuple[Message, ...]]:
    if len(turn.seats) != 1:
        raise EnvironmentFault(
            "this harness plays worlds for one seat",
            got=f"seats {sorted(turn.seats)}",
            expected="one seat per turn",
        )
    return next(iter(turn.seats.items()))


async def _close(world: World, session: Session, endpoint: Endpoint, timeout_s: float) -> None:
    try:
        with charging(Activity.ENVIRONMENT):
            await guarded(
                lambda: world.environment.close(session),
                FailureOrigin.ENVIRONMENT,
                timeout_s=timeout_s,
                what=f"{world.name}.close",
            )
    except SessionFailed as error:  # the episode is over and stays valid; that its clean-up failed is noted
        endpoint.note({"event": "close_failed", "kind": error.failure.kind, "message": error.failure.message})


async def _judge(world: World, trace: Trace, session: Session, timeout_s: float) -> Verdict:
    evaluator = world.evaluator.version
    failure = trace.failure
    if failure is None and not trace.calls:
        failure = Failure(
            origin=FailureOrigin.FRAMEWORK,
            kind=trace.stop.value,
            message=f"the session ended before the policy spoke: {trace.stop.value}",
        )
    if failure is not None:
        return Verdict(status=VerdictStatus.ERROR, evaluator=evaluator, error=failure)
    try:
        with charging(Activity.JUDGING):
            verdict = await guarded(
                lambda: world.evaluator.score(trace, session.task),
                FailureOrigin.EVALUATOR,
                timeout_s=timeout_s,
                what=evaluator,
            )
        if not isinstance(verdict, Verdict):
            raise SessionFailed(
                Failure(
                    origin=FailureOrigin.EVALUATOR, kind="EnvironmentFault", message=f"no verdict but {verdict!r:.200}"
                )
            )
        canonical_json(dict(verdict.evidence))  # what cannot be written must not reach the store
    except SessionFailed as error:
        return Verdict(status=VerdictStatus.ERROR, evaluator=evaluator, error=error.failure)
    except TraceError as error:
        return Verdict(
            status=VerdictStatus.ERROR, evaluator=evaluator, error=failure_of(error, FailureOrigin.EVALUATOR)
        )
    return verdict
