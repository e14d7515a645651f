"""Between the spaces of Gymnasium and text: what is seen becomes text, what is written becomes an action."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from askesis.environments.adapters.game import IllegalAct
from askesis.environments.adapters.requiring import require
from askesis.errors import RecipeError

__all__ = ["check_draws", "describe_action", "observation_text", "parse_action", "plain_rendering"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_MAX_ACTION = 10_000
_DIGITS = 4
_COLOURED = re.compile(r"\x1b\[[0-9;]*m(.*?)\x1b\[0m", re.DOTALL)
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def check_draws(env: Any, show: str) -> None:
    """RecipeError when ``env`` is to be shown as it draws itself in text, and does not."""
    modes = (getattr(env, "metadata", None) or {}).get("render_modes", [])
    if show == "ansi" and "ansi" not in modes:
        raise RecipeError(
            "the environment does not draw itself as text",
            where="environment.options.show",
            got=f"it draws {', '.join(modes) or 'nothing'}",
            expected="observation",
        )


def describe_action(space: Any, names: Sequence[str] = ()) -> str:
    """One sentence on what may be written."""
    spaces = _spaces()
    if names:
        return f"one of: {', '.join(names)}"
    if isinstance(space, spaces.Discrete):
        return f"a whole number from {space.start} to {space.start + space.n - 1}"
    if isinstance(space, spaces.Text):
        return f"a text of {space.min_length} to {space.max_length} characters"
    if isinstance(space, spaces.Box):
        bounds = f"from {_number(space.low.min())} to {_number(space.high.max())}"
        if space.shape == (1,):
            return f"a number {bounds}"
        return f"a JSON list of shape {list(space.shape)} with numbers {bounds}"
    return f"JSON that fits {space}"


def observation_text(observation: Any) -> str:
    """An observation as text: texts as they are, everything else as JSON with four significant digits."""
    if isinstance(observation, str):
        return observation
    return json.dumps(_plain(observation), ensure_ascii=False, default=str)


def plain_rendering(text: str) -> str:
    """What ``render_mode="ansi"`` draws, without control sequences; what was coloured stands in ``[ ]``."""
    return _ESCAPE.sub("", _COLOURED.sub(r"[\1]", text)).strip("\n")


def parse_action(space: Any, text: str, names: Sequence[str] = ()) -> Any:
    """The element of ``space`` that ``text`` means.

    Args:
        space: of the actions.
        text: what the policy wrote.
        names: of the actions of a Discrete space, in order; then a name is meant, whatever its case.

    Raises IllegalAct, and nothing else whatever the text.
    """
    legal = describe_action(space, names)
    spaces = _spaces()
    if len(text) > _MAX_ACTION:
        raise IllegalAct(f"{len(text)} characters; write {legal}")
    if isinstance(space, spaces.Text):
        action: Any = text
    elif names:
        known = {name.casefold(): number for number, name in enumerate(names)}
        if text.casefold() not in known:
            raise IllegalAct(f"write {legal}")
        action = space.start + known[text.casefold()]
    elif isinstance(space, spaces.Discrete):
        if not _INTEGER.fullmatch(text):
            raise IllegalAct(f"write {legal}")
        action = int(text)
    else:
        action = _element(space, _json(text, legal), legal)
    if not space.contains(action):
        raise IllegalAct(f"write {legal}")
    return action


def _json(text: str, legal: str) -> Any:
    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no number")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise IllegalAct(f"write {legal}") from error


def _element(space: Any, value: Any, legal: str) -> Any:
    """JSON as an element of a space; lists for arrays and tuples, objects for Dict."""
    spaces = _spaces()
    if isinstance(space, spaces.Dict):
        if not isinstance(value, dict) or value.keys() != space.spaces.keys():
            raise IllegalAct(f"write {legal}")
        return {key: _element(part, value[key], legal) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, list) or len(value) != len(space.spaces):
            raise IllegalAct(f"write {legal}")
        return tuple(_element(part, item, legal) for part, item in zip(space.spaces, value, strict=True))
    if isinstance(space, (spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary)):
        whole = not isinstance(space, spaces.Box) or np.issubdtype(space.dtype, np.integer)
        try:
            array = np.array(value)
            if array.dtype.kind not in ("iu" if whole else "iuf"):
                raise ValueError(f"numbers of kind {array.dtype}")
            return array.reshape(space.shape).astype(space.dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise IllegalAct(f"write {legal}") from error
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> Any:
    """Four significant digits; what is no JSON number as a text."""
    short = float(f"{float(value):.{_DIGITS}g}")
    return short if np.isfinite(short) else str(short)


def _spaces() -> Any:
    return require("gymnasium.spaces", extra="gymnasium", purpose="spaces of actions")
