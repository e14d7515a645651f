"""The world ``program``: tasks and judgement of another world, played by a program that knows nothing of Askesis."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from askesis.environments.program.spec import Command, Program
from askesis.environments.protocol import Evaluator, World
from askesis.errors import RecipeError, did_you_mean
from askesis.gateway.http.server import require_serving
from askesis.trace import Failure, FailureOrigin, Message, Task, Trace, Verdict, VerdictStatus

__all__ = ["OutputEvaluator", "make"]

NAME = "program"
_DEFAULT_WORLD = "reasoning"
_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "command": (
        list,
        "a list of texts, for example ['python', 'agent.py']; a bare python is the one that runs Askesis",
    ),
    "world": (str, "the name of a world"),
    "judge": (str, "reply or output"),
    "model": (str, "a name"),
    "timeout_s": ((int, float), "seconds, above 0"),
    "override_sampling": (bool, "true or false"),
    "preload": (list, "a list of modules"),
    "env": (list, "a list of NAME=VALUE"),
    "cwd": (str, "a folder"),
    "max_output_kb": (int, "a whole number, at least 1"),
}


def make(*, family: str, level: str, options: Mapping[str, Any], seed: int, instruction: str | None) -> World:
    """A program in a world; see :func:`askesis.environments.make_world`.

    Args:
        family: of the world that sets the tasks.
        level: of its difficulty.
        options: ``command`` must be given; the others are fields of :class:`Command` and :class:`Program`, ``world``
            (default ``reasoning``; one in which the opening messages say all), ``judge`` (``reply``: what the policy
            said last; ``output``: what the program printed), and the options of that world.
        seed: root of the stream of tasks.
        instruction: system message of that world; it becomes part of the prompt.
    """
    from askesis.environments.registry import make_world

    require_serving()  # said before a model is loaded
    own = {name: _checked(name, options[name]) for name in _KINDS if name in options}
    if not own.get("command"):
        raise _wrong("command", own.get("command"))
    name, judge = own.get("world", _DEFAULT_WORLD), own.get("judge", "reply")
    if name == NAME:
        raise _wrong("world", name)
    if judge not in ("reply", "output"):
        raise _wrong("judge", judge)
    rest = {key: value for key, value in options.items() if key not in own}
    try:
        inner = make_world(name, family=family, level=level, options=rest, seed=seed, instruction=instruction)
    except RecipeError as error:
        near = next((hint for key in rest if (hint := did_you_mean(key, _KINDS))), None)
        if near is not None:
            error.next_step = f"{near}; {error.next_step or ''}".rstrip("; ")
        raise
    return World(
        name=NAME,
        environment=inner.environment,
        evaluator=OutputEvaluator(inner.evaluator) if judge == "output" else inner.evaluator,
        tasks=inner.tasks,
        program=Program(
            agent=_command(own),
            model=own.get("model", "policy"),
            timeout_s=float(own.get("timeout_s", 60.0)),
            override_sampling=own.get("override_sampling", False),
        ),
    )


@dataclass(frozen=True)
class OutputEvaluator:
    """Has ``inner`` judge what the program wrote to standard output, in the place of the policy's last reply."""

    inner: Evaluator

    @property
    def version(self) -> str:
        """The inner evaluator's, marked."""
        return f"{self.inner.version} of the output"

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """The inner verdict; status ERROR when the program left no output behind."""
        output = next((e.get("output") for e in reversed(trace.events) if e.get("event") == "program"), None)
        if not isinstance(output, str) or not trace.calls:
            failure = Failure(origin=FailureOrigin.ENVIRONMENT, kind="no_output", message="the program has no output")
            return Verdict(status=VerdictStatus.ERROR, evaluator=self.version, error=failure)
        last = replace(trace.calls[-1], reply=Message(role="assistant", content=output))
        verdict = await self.inner.score(replace(trace, calls=(*trace.calls[:-1], last)), task)
        return replace(verdict, evaluator=self.version)


def _command(own: Mapping[str, Any]) -> Command:
    argv = [_absolute(part) if place else part for place, part in enumerate(own["command"])]
    if argv[0] == "python":  # the one that runs Askesis: another on PATH would lack what is installed beside it
        argv[0] = sys.executable
    if shutil.which(argv[0]) is None:
        raise RecipeError(
            "the program is not installed",
            where="environment.options.command",
            got=argv[0],
            expected="a command of this machine",
            next_step="check the spelling and PATH",
        )
    preload = tuple(own.get("preload", ()))
    if preload and (len(argv) < 2 or not argv[1].endswith(".py") or "python" not in Path(argv[0]).name):
        raise RecipeError(
            "preload works for Python scripts only",
            where="environment.options.preload",
            got=" ".join(argv),
            expected="command = ['python', 'script.py', ...]",
            next_step="leave preload out",
        )
    if len(argv) > 1 and argv[1].endswith(".py") and not Path(argv[1]).is_file():
        raise RecipeError(
            "the script does not exist",
            where="environment.options.command",
            got=argv[1],
            expected="a file; relative paths start at the folder in which askesis was started",
        )
    cwd = own.get("cwd", "")
    if cwd and not Path(cwd).is_dir():
        raise _wrong("cwd", cwd)
    pairs = [str(pair).partition("=") for pair in own.get("env", ())]
    if any(not key or not sign for key, sign, _ in pairs):
        raise _wrong("env", own["env"])
    return Command(
        argv=tuple(argv),
        env={key: value for key, _, value in pairs},
        cwd=str(Path(cwd).resolve()) if cwd else "",
        preload=preload,
        max_output_bytes=own.get("max_output_kb", 64) << 10,
    )


def _absolute(part: str) -> str:
    """A file's full path, because the program starts in another folder; other arguments stay as they are."""
    try:
        return str(Path(part).resolve()) if part and Path(part).is_file() else part
    except (OSError, ValueError):  # not a path at all
        return part


def _checked(name: str, value: Any) -> Any:
    kind, _ = _KINDS[name]
    wrong_type = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
    if wrong_type or (isinstance(value, list) and not all(isinstance(part, str) for part in value)):
        raise _wrong(name, value)
    if name in ("timeout_s", "max_output_kb") and not value > 0:
        raise _wrong(name, value)
    return value


def _wrong(name: str, value: Any) -> RecipeError:
    return RecipeError(
        f"the option {name} of the environment program is wrong",
        where=f"environment.options.{name}",
        got=value,
        expected=_KINDS[name][1],
    )
