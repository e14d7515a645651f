"""TRL's ``environment_factory``: a class whose public methods are the world's tools. TRL samples and runs the tools."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from askesis.environments.adapters.blocking import LoopThread
from askesis.environments.adapters.episode import Episode
from askesis.environments.protocol import Done, Turn, World
from askesis.errors import AskesisError, EnvironmentFault, RecipeError
from askesis.trace.types import StopReason, ToolSpec

__all__ = ["environment_factory", "environment_reward"]

_LOOP = LoopThread("askesis-trl")
_TYPES = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
_TAKEN = ("reset", "get_reward")
_REPLY = ToolSpec(
    name="reply",
    description="Say something to the world. Returns what it says next.",
    parameters={
        "type": "object",
        "properties": {"text": {"type": "string", "description": "what to say"}},
        "required": ["text"],
    },
)


def environment_factory(world: World, *, split: str = "train") -> Callable[[], Any]:
    """What ``GRPOTrainer(environment_factory=...)`` takes; give it ``reward_funcs=[environment_reward]`` as well.

    The rows of the data set need a prompt whose last message is the user's, such as
    ``{"prompt": [{"role": "user", "content": ""}], "task": 3}``: the world's first messages are appended to it.
    ``task`` is the number of the task in ``split``; without it they are taken in turn.

    The world's tools are offered as they are. A world without tools is played by a tool ``reply(text)``. The last text
    of the policy, the one without a call, is said to the world if it is not over yet.

    Raises RecipeError for a tool whose name TRL has taken or Python does not allow.
    """
    specs = world.environment.tools() or (_REPLY,)
    for spec in specs:
        if spec.name in _TAKEN or spec.name.startswith("_") or not spec.name.isidentifier():
            raise RecipeError(
                "TRL cannot have a tool of this name",
                where=world.name,
                got=spec.name,
                expected=f"a Python name that does not begin with _ and is none of {', '.join(_TAKEN)}",
            )
    numbers = iter(range(2**31))

    methods = {spec.name: _method(spec, is_reply=spec is _REPLY) for spec in specs}
    kind = type("WorldEnvironment", (_Played,), methods)  # TRL looks for tools on the class
    return lambda: kind(world, split, numbers)


def environment_reward(completions: Sequence[Any], environments: Sequence[Any], **_: object) -> list[float | None]:
    """The verdicts' rewards, a reward function for TRL. None, which TRL leaves out, where a world failed."""
    return [
        environment._judged(_last_text(completion))
        for completion, environment in zip(completions, environments, strict=True)
    ]


class _Played:
    """An instance plays one episode after the other. Its private names are none of TRL's business."""

    def __init__(self, world: World, split: str, numbers: Any) -> None:
        self._world, self._split, self._numbers = world, split, numbers
        self._episode: Episode | None = None
        self._seat = ""
        self._has_failed = False

    def reset(self, **row: Any) -> str:
        """Begin the task of a row of the data set. Returns the world's first messages."""
        if self._episode is not None:
            _LOOP.run(self._episode.close())
        number = row.get("task")
        number = next(self._numbers) if number is None else int(number)
        self._has_failed = False
        self._episode = Episode(self._world, self._world.tasks.task(self._split, number), seed=number)
        return self._seen(_LOOP.run(self._episode.begin()))

    def _call(self, name: str, arguments: Mapping[str, Any]) -> str:
        if self._episode is None or self._episode.done is not None:
            return "The episode is over."
        result = self._run(self._episode.call_tool(self._seat, name, json.dumps(arguments)))
        return str(result.content)

    def _say(self, text: str) -> str:
        if self._episode is None or self._episode.done is not None:
            return "The episode is over."
        outcome = self._run(self._episode.act({self._seat: text}))
        return "The episode is over." if isinstance(outcome, Done) else self._seen(outcome)

    def _run(self, coroutine: Any) -> Any:
        """TRL shows the policy what a tool raises; that the world failed must not become a reward as well."""
        try:
            return _LOOP.run(coroutine)
        except AskesisError:
            self._has_failed = True
            raise

    def _judged(self, last: str) -> float | None:
        if self._episode is None or self._has_failed:
            return None
        try:
            if self._episode.done is None:
                self._say(last)
            return _LOOP.run(self._episode.judge(stop=StopReason.MAX_TURNS)).reward
        except AskesisError:
            return None

    def _seen(self, turn: Turn) -> str:
        if len(turn.seats) != 1:
            raise EnvironmentFault("TRL plays worlds for one seat", got=sorted(turn.seats))
        ((self._seat, messages),) = turn.seats.items()
        return "\n\n".join(message.content for message in messages)


def _method(spec: ToolSpec, *, is_reply: bool) -> Callable[..., str]:
    """A method with the name, the types and the docstring from which TRL makes the tool's schema again."""

    def method(self: _Played, **arguments: Any) -> str:
        return self._say(arguments["text"]) if is_reply else self._call(spec.name, arguments)

    properties: Mapping[str, Any] = spec.parameters.get("properties", {})
    required = set(spec.parameters.get("required", ()))
    kinds = {name: _TYPES.get(str(field.get("type")), str) for name, field in properties.items()}
    lines = [f"    {name}: {' '.join(str(f.get('description', name)).split())}" for name, f in properties.items()]
    method.__name__ = method.__qualname__ = spec.name
    method.__doc__ = f"{spec.description}\n\nArgs:\n" + "\n".join(lines) + "\n\nReturns:\n    What came back.\n"
    method.__annotations__ = {**kinds, "return": str}
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for name in sorted(properties, key=lambda name: name not in required):  # those that may be left out come last
        default = inspect.Parameter.empty if name in required else properties[name].get("default")
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kinds[name], default=default)
        )
    method.__signature__ = inspect.Signature(parameters, return_annotation=str)  # type: ignore[attr-defined]
    return method


def _last_text(completion: Any) -> str:
    """What the policy said last: TRL gives a text, or a list of messages."""
    if isinstance(completion, str):
        return completion
    said = [m.get("content") for m in completion if m.get("role") == "assistant"]
    return said[-1] if said and isinstance(said[-1], str) else ""
