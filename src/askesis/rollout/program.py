"""Black-box programs: each session is played by a foreign program that calls the policy over HTTP.

The program gets a prompt, a URL and a key, and nothing else: no payload, no answer. What it samples through them is
recorded token-exact. How it ends decides how the session does:

* it ends by itself: the episode is over, and is judged;
* a budget of the session is spent, or the context is full: the program is told so (429, 400), and however it then
  ends, the session was cut by that limit, and is judged;
* it leaves with another status than 0, is killed by a signal, works for longer than its deadline, or never speaks to
  the policy: the session has failed. It has no reward; the failure says why, with the end of what the program wrote
  to standard error.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from askesis.environments.program.spec import AgentFunction, Assignment, Command, Program
from askesis.environments.protocol import World
from askesis.errors import EnvironmentFault
from askesis.gateway import Endpoint, Gateway, Session
from askesis.gateway.http.door import Door, SamplingRule
from askesis.gateway.http.server import GatewayServer
from askesis.rollout.boundary import SessionFailed, failure_of, run_foreign
from askesis.rollout.processes import Ended, Launcher
from askesis.trace import Failure, FailureOrigin, Message, StopReason

__all__ = ["ProgramHost", "open_programs"]

_KEPT_CHARACTERS = 64 << 10
"""Of what a function returned."""
_SHOWN = 2000
"""Characters at the end of standard error that a failure shows."""
_LEAST_WAIT_S = 0.02


class _Cut(Enum):
    """Why a program was stopped before its end."""

    TIMEOUT = auto()
    SECONDS = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """What a program left behind. ``failure`` is None when it ended as it should; ``facts`` go into the trace."""

    facts: dict[str, Any]
    failure: Failure | None


@asynccontextmanager
async def open_programs(world: World, gateway: Gateway) -> AsyncIterator[ProgramHost | None]:
    """What plays the sessions of ``world``: a host for its program, with a server of its own; None without one.

    Raises:
        MissingExtra: the extra ``serve`` is not installed.
        EnvironmentFault: a module to be loaded before the program cannot be imported.
    """
    program = world.program
    if program is None:
        yield None
        return
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(GatewayServer(gateway))
        launcher = None
        if isinstance(program.agent, Command):
            preload = program.agent.preload
            python = shutil.which(program.agent.argv[0]) if preload else None
            launcher = await stack.enter_async_context(Launcher(python=python or sys.executable, preload=preload))
        yield ProgramHost(program, server, launcher)


class ProgramHost:
    """Plays sessions by a program. Made by :func:`open_programs`."""

    def __init__(self, program: Program, server: GatewayServer, launcher: Launcher | None) -> None:
        self._program, self._server, self._launcher = program, server, launcher

    async def play(self, endpoint: Endpoint, session: Session, opening: Sequence[Message]) -> StopReason:
        """Run the program on one session and say how the session ended.

        Raises SessionFailed when it says nothing about the policy.
        """
        rule = SamplingRule.OVERRIDE if self._program.override_sampling else SamplingRule.REFUSE
        with self._server.session(endpoint, model=self._program.model, rule=rule) as access:
            assignment = Assignment(
                prompt="\n\n".join(message.content for message in opening),
                base_url=access.base_url,
                api_key=access.api_key,
                model=access.model,
            )
            agent = self._program.agent
            if isinstance(agent, Command):
                report, cut = await self._run_command(agent, assignment, access.door, session)
            else:
                report, cut = await self._run_function(agent, assignment, access.door, session)
        endpoint.note({"event": "program", **report.facts})
        return self._judge(endpoint, access.door, report, cut)

    def _judge(self, endpoint: Endpoint, door: Door, report: _Report, cut: _Cut | None) -> StopReason:
        failure = door.failure
        if failure is None and cut is _Cut.TIMEOUT:
            limit = self._program.timeout_s
            failure = _failure("timeout", f"the program worked for {limit:g} s without ending", report)
        if failure is None and (door.stop is not None or cut is _Cut.SECONDS):
            return door.stop or StopReason.MAX_SECONDS
        failure = failure or report.failure
        if failure is None and not endpoint.num_replies:
            failure = _failure("no_call", "the program ended without a word from the policy", report)
        if failure is not None:
            raise SessionFailed(failure)
        return StopReason.TERMINATED

    async def _run_command(
        self, command: Command, assignment: Assignment, door: Door, session: Session
    ) -> tuple[_Report, _Cut | None]:
        assert self._launcher is not None  # open_programs makes one for every command
        with tempfile.TemporaryDirectory(prefix="askesis-program-", ignore_cleanup_errors=True) as folder:
            takes_argument = any("{prompt}" in part for part in command.argv)
            try:
                process = await self._launcher.start(
                    [_filled(part, assignment) for part in command.argv],
                    env={
                        **command.env,
                        "OPENAI_BASE_URL": assignment.base_url,
                        "OPENAI_API_KEY": assignment.api_key,
                        "OPENAI_MODEL": assignment.model,
                    },
                    cwd=command.cwd or folder,
                    stdin="" if takes_argument else assignment.prompt,
                    limit=command.max_output_bytes,
                    forks=bool(command.preload),
                )
            except EnvironmentFault as error:
                raise SessionFailed(failure_of(error, FailureOrigin.ENVIRONMENT)) from error
            try:
                cut = await self._wait(process.ended, door, session)
            finally:
                process.kill()
            return _command_report(await process.ended), cut

    async def _run_function(
        self, function: AgentFunction, assignment: Assignment, door: Door, session: Session
    ) -> tuple[_Report, _Cut | None]:
        task = asyncio.create_task(run_foreign(lambda: function(assignment), "the program"))
        try:
            cut = await self._wait(task, door, session)
        finally:
            task.cancel()
        await asyncio.wait({task}, timeout=1.0)  # one that does not end when it is cancelled is left behind
        return _function_report(task), cut

    async def _wait(self, work: asyncio.Future[Any], door: Door, session: Session) -> _Cut | None:
        """Until ``work`` is done, or one of its two limits is reached."""
        clock = asyncio.get_running_loop().time
        began, opened, seconds = clock(), session.clock.now(), session.budgets.seconds
        while not work.done():
            left = self._program.timeout_s - (clock() - began - door.busy_s)
            if left <= 0:
                return _Cut.TIMEOUT
            if seconds is not None:
                session_left = seconds - (session.clock.now() - opened)
                if session_left <= 0:
                    return _Cut.SECONDS
                left = min(left, session_left)
            await asyncio.wait({work}, timeout=max(left, _LEAST_WAIT_S))
        return None


def _filled(part: str, assignment: Assignment) -> str:
    return part.replace("{model}", assignment.model).replace("{prompt}", assignment.prompt)


def _command_report(ended: Ended) -> _Report:
    facts = {
        "status": ended.status,
        "output": ended.output,
        "output_bytes": ended.num_output_bytes,
        "errors": ended.errors[-_SHOWN:],
    }
    report = _Report(facts=facts, failure=None)
    if ended.status == 0:
        return report
    if ended.status < 0:
        why = f": {ended.reason}" if ended.reason else ""
        return _Report(
            facts=facts, failure=_failure("killed", f"the program was {_by_signal(ended.status)}{why}", report)
        )
    failure = _failure("exit_status", f"the program left with status {ended.status}", report)
    return _Report(facts=facts, failure=failure)


def _by_signal(status: int) -> str:
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _function_report(task: asyncio.Task[str | None]) -> _Report:
    if not task.done() or task.cancelled():
        return _Report(
            facts={"output": ""},
            failure=Failure(origin=FailureOrigin.ENVIRONMENT, kind="cancelled", message="the program was cancelled"),
        )
    error = task.exception()
    if isinstance(error, Exception):
        return _Report(facts={"output": ""}, failure=failure_of(error, FailureOrigin.ENVIRONMENT))
    if error is not None:
        raise error  # KeyboardInterrupt is not for us to keep
    output = str(task.result() or "")[:_KEPT_CHARACTERS].encode("utf-8", "replace").decode()
    return _Report(facts={"output": output}, failure=None)


def _failure(kind: str, message: str, report: _Report) -> Failure:
    """A program's failure, with the end of what it wrote to standard error."""
    errors = report.facts.get("errors", "").strip()
    text = f"{message}; it wrote: {errors[-_SHOWN:]}" if errors else message
    return Failure(origin=FailureOrigin.ENVIRONMENT, kind=kind, message=text)
