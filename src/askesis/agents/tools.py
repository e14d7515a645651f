"""Tools from typed Python functions: the signature is the schema, and the schema is enforced."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from askesis.errors import EnvironmentFault, RecipeError, did_you_mean
from askesis.trace.types import ToolCall, ToolSpec

__all__ = ["ToolResult", "Toolbox", "tool_spec"]

_SHOWN = 500  # characters of an exception's message that a policy is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool gave back. An error is shown to the policy too: it is part of the world, not a failure of the run."""

    content: str
    is_error: bool = False


def tool_spec(function: Callable[..., object]) -> ToolSpec:
    """The function's name, the first paragraph of its docstring, and its parameters as a JSON schema.

    ``Annotated[str, Field(description="...")]`` describes a parameter, and gives it limits. Raises RecipeError for a
    function whose parameters have no types, or that takes ``*args`` or ``**kwargs``.
    """
    return _spec(function, _arguments_model(function))


def _spec(function: Callable[..., object], model: type[BaseModel]) -> ToolSpec:
    schema = model.model_json_schema()
    schema.pop("title", None)
    for entry in schema.get("properties", {}).values():
        entry.pop("title", None)
    summary = (inspect.getdoc(function) or "").split("\n\n")[0]
    return ToolSpec(name=function.__name__, description=" ".join(summary.split()), parameters=schema)


class Toolbox:
    """Functions, plain or async, that a policy may call.

    Wrong arguments and what a function raises are shown to the policy. An EnvironmentFault is not: it says that the
    world is broken (a service is down), and fails the session without a reward. Plain functions run on the event loop:
    one that takes long should be async.
    """

    def __init__(self, functions: Sequence[Callable[..., object]]) -> None:
        self._functions = {function.__name__: function for function in functions}
        self._models = {name: _arguments_model(function) for name, function in self._functions.items()}
        if len(self._functions) < len(functions):
            raise RecipeError(
                "two tools have the same name", got=[function.__name__ for function in functions], expected="distinct"
            )
        self.specs: tuple[ToolSpec, ...] = tuple(_spec(f, self._models[name]) for name, f in self._functions.items())
        """In the order of the functions."""

    async def call(self, call: ToolCall) -> ToolResult:
        """Run a tool. Raises only EnvironmentFault, TimeoutError and what is not an Exception."""
        if call.name not in self._functions:
            hint = did_you_mean(call.name, self._functions) or f"there are: {', '.join(self._functions) or 'none'}"
            return _error(f"there is no tool called {call.name[:_SHOWN]!r}; {hint}")
        model = self._models[call.name]
        try:
            arguments = model.model_validate_json(call.arguments or "{}")
        except ValidationError as error:
            return _error(_complaints(error))
        given = {name: getattr(arguments, name) for name in model.model_fields}
        try:
            value = self._functions[call.name](**given)
            if isinstance(value, Awaitable):
                value = await value
        except (EnvironmentFault, TimeoutError):
            raise
        except Exception as error:  # whatever a function raises about a model's arguments
            return _error(f"{type(error).__name__}: {str(error)[:_SHOWN]}")
        return value if isinstance(value, ToolResult) else ToolResult(content=_text(value))


def _arguments_model(function: Callable[..., object]) -> type[BaseModel]:
    where = f"tool {getattr(function, '__name__', function)!r}"
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise RecipeError("a tool's parameters must have names", where=where, got=str(parameter))
        if name not in hints:
            raise RecipeError(
                "a parameter of a tool has no type",
                where=where,
                got=name,
                next_step=f"annotate it, for example {name}: str; the policy is shown the types",
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints[name], default)
    return create_model(function.__name__, __config__=ConfigDict(extra="forbid"), **fields)


def _complaints(error: ValidationError) -> str:
    found = [f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors()[:5]]
    return f"wrong arguments: {'; '.join(found)[:_SHOWN]}"


def _error(text: str) -> ToolResult:
    return ToolResult(content=f"error: {text}", is_error=True)


def _text(value: object) -> str:
    """Texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
