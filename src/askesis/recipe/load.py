"""From a TOML file and dotted overrides to a checked recipe that knows where each value came from.

One precedence: default < file < command line.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError

from askesis.errors import RecipeError, did_you_mean
from askesis.recipe.schema import NOT_HASHED, Recipe, without_secrets
from askesis.trace.types import canonical_json

__all__ = ["Resolved", "Row", "load_recipe", "resolve"]

R = TypeVar("R", bound=BaseModel)
COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of ``--explain``."""

    key: str
    value: Any
    default: Any
    origin: str
    """``default``, ``FILE:LINE`` or ``command line``."""

    @property
    def differs(self) -> bool:
        """The value is not the default."""
        return bool(self.value != self.default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved(Generic[R]):
    """A checked recipe with its provenance."""

    recipe: R
    rows: tuple[Row, ...]
    name: str
    """Stem of the file, ``recipe`` without one."""

    @property
    def values(self) -> dict[str, Any]:
        """Dotted key to value."""
        return {row.key: row.value for row in self.rows}

    @property
    def hash(self) -> str:
        """SHA-256 over every value that can change the result; where the run is kept cannot."""
        hashed = {key: value for key, value in self.values.items() if key not in NOT_HASHED}
        return hashlib.sha256(canonical_json(hashed)).hexdigest()


def load_recipe(path: Path | None, overrides: Sequence[str] = ()) -> Resolved[Recipe]:
    """Read a training recipe; see :func:`resolve`."""
    return resolve(Recipe, path, overrides)


def resolve(schema: type[R], path: Path | None, overrides: Sequence[str] = ()) -> Resolved[R]:
    """Merge defaults, ``path`` and ``overrides`` (``section.key=value``), check them, and remember origins.

    Raises:
        RecipeError: the file is missing or not TOML, a key is unknown, a value has the wrong type or range.
    """
    origins: dict[str, str] = {}
    document: dict[str, Any] = {}
    text = ""
    if path is not None:
        text, document = _read(path)
        lines = _lines_of(text)
        for key, _ in _flatten(document):
            origins[key] = f"{path}:{lines.get(key, lines.get(key.rpartition('.')[0], 1))}"
    for override in overrides:
        key, value = _parse_override(override)
        _set(document, key, value, override)
        for known in [k for k in origins if k.startswith(key + ".")]:
            del origins[known]
        for leaf, _ in _flatten({key: value}):
            origins[leaf] = COMMAND_LINE
    try:
        recipe = schema.model_validate(document)
    except ValidationError as error:
        raise _explain(schema, error, origins) from error
    defaults = _defaults(schema)
    rows = tuple(
        Row(key=key, value=value, default=defaults.get(key), origin=origins.get(key, "default"))
        for key, value in _flatten(recipe.model_dump())
    )
    return Resolved(recipe=recipe, rows=rows, name=path.stem if path else "recipe")


def _defaults(schema: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Default of each dotted key; None for a key that has none and must be given."""
    found: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= _defaults(inner, f"{prefix}{name}.")
        else:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            found |= dict(_flatten({f"{prefix}{name}": default}))
    return found


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = [str(p) for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        hint = did_you_mean(str(path), near)
        raise RecipeError(
            "the recipe file does not exist",
            where=str(path),
            expected="a TOML file",
            next_step=hint or "check the path; `recipes/quickstart.toml` is a good start",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError("the recipe file cannot be read", where=str(path), got=str(error)) from error
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(
            "the recipe file is not valid TOML", where=str(path), got=str(error), next_step="mend the line it names"
        ) from error


def _parse_override(override: str) -> tuple[str, Any]:
    key, sign, raw = override.partition("=")
    key = key.strip()
    if not sign or not key or not all(part.replace("-", "_").isidentifier() for part in key.split(".")):
        raise RecipeError(
            "an override is not of the form section.key=value",
            where=COMMAND_LINE,
            got=without_secrets(override),
            expected="for example training.lr=3e-4",
        )
    try:
        return key, tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return key, raw  # A bare word is a string: policy.name=nano needs no quotes.


def _set(document: dict[str, Any], key: str, value: Any, override: str) -> None:
    *sections, last = key.split(".")
    table = document
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise RecipeError(
                f"{section!r} is a value, not a section",
                where=COMMAND_LINE,
                got=without_secrets(override),
                expected="section.key=value",
            )
    table[last] = value


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _lines_of(text: str) -> dict[str, int]:
    """Line number of each dotted key and section header, read off plainly laid-out TOML."""
    lines: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("[") and "]" in stripped:
            section = stripped.strip("[").partition("]")[0].strip()
            lines.setdefault(section, number)
        elif "=" in stripped and not stripped.startswith("#"):
            key = stripped.partition("=")[0].strip().strip("\"'")
            lines.setdefault(f"{section}.{key}" if section else key, number)
    return lines


def _explain(schema: type[BaseModel], error: ValidationError, origins: Mapping[str, str]) -> RecipeError:
    problems: list[tuple[str, str, object, object, str | None]] = []
    for item in error.errors():
        loc = [str(part) for part in item["loc"]]
        key = ".".join(loc)
        where = origins.get(key) or next((o for k, o in origins.items() if k.startswith(key + ".")), None) or "recipe"
        if item["type"] == "extra_forbidden":
            problems.append((f"unknown key {key}", where, key, None, _suggest(schema, loc)))
        else:
            limits = {k: v for k, v in item.get("ctx", {}).items() if k not in ("error", "class_name")} or None
            if any(p[0].startswith(".".join(loc[:3])) for p in problems):
                continue  # a value that may have several types gives one error for each of them
            problems.append((f"{key or 'recipe'}: {item['msg']}", where, item["input"], limits, None))
    what, where, got, expected, hint = problems[0]
    more = [f"also: {p[0]} ({p[1]})" + (f"; {p[4]}" if p[4] else "") for p in problems[1:]]
    return RecipeError(
        what,
        where=where,
        got=_showable(got),
        expected=hint or expected,
        next_step="\n            ".join(["`askesis train RECIPE --explain` lists every key", *more]),
    )


def _showable(got: object) -> object:
    if got is None or isinstance(got, BaseModel):
        return None
    return without_secrets(got if isinstance(got, str) else repr(got))


def _suggest(schema: type[BaseModel], loc: Sequence[str]) -> str:
    model: type[BaseModel] = schema
    for part in loc[:-1]:
        # A key can be unknown only inside a section.
        model = cast("type[BaseModel]", model.model_fields[part].annotation)
    prefix = "".join(f"{part}." for part in loc[:-1])
    near = did_you_mean(loc[-1], model.model_fields)
    if near is None:
        everywhere = list(_defaults(schema))
        same_name = [key for key in everywhere if key.rpartition(".")[2] == loc[-1]]
        near = f"did you mean {same_name[0]!r}?" if same_name else did_you_mean(".".join(loc), everywhere)
        return near or "one of " + ", ".join(f"{prefix}{name}" for name in model.model_fields)
    return near if not prefix else near.replace("did you mean '", f"did you mean '{prefix}")
