"""Every error that Askesis raises on purpose.

    AskesisError
    ├── RecipeError (ValueError)          a recipe, an override or a name in it is wrong
    ├── PolicyError (ValueError)          a model folder or its weights cannot be used
    ├── TemplateError (ValueError)        a chat template or a token mask is not what it must be
    ├── TraceError (ValueError)           calls that do not form a token tree, or bytes that are not one
    ├── EngineError (RuntimeError)        sampling failed
    │   └── ContextOverflow               a prompt does not fit into the model's context
    ├── BudgetExhausted (RuntimeError)    a session's budget is spent; carries its stop reason
    ├── EnvironmentFault (RuntimeError)   an environment or an evaluator broke its contract
    ├── MetricError (ValueError)          numbers of which a metric cannot be computed (askesis.evaluation)
    ├── AlignmentError (ValueError)       embeddings that cannot be aligned (askesis.alignment)
    ├── DiffusionError (ValueError)       a schedule or a law that cannot be sampled (askesis.diffusion)
    ├── LearnerError (RuntimeError)       processes that learn were lost too often
    ├── AlgorithmError (ValueError)       stages that do not fit together, or tensors that do not
    ├── StoreError (RuntimeError)
    │   ├── StoreBusy                     another process holds the store
    │   ├── StoreUnreachable              no database server answers (askesis.store)
    │   ├── StoreFull                     no space left where the store lies
    │   ├── StoreConflict                 the same record was given twice with different content
    │   └── StoreCorrupt                  the file or a record is not what was written
    ├── CheckpointError (RuntimeError)    a checkpoint is missing, incomplete or of another recipe
    ├── SelfCheckError (RuntimeError)     a run found that it is not computing what it claims to
    └── MissingExtra (ImportError)        an optional dependency is not installed

A message says what happened, where, what was got, what was expected, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "AlgorithmError",
    "AskesisError",
    "BudgetExhausted",
    "CheckpointError",
    "ContextOverflow",
    "EngineError",
    "EnvironmentFault",
    "LearnerError",
    "MissingExtra",
    "PolicyError",
    "RecipeError",
    "SelfCheckError",
    "StoreBusy",
    "StoreConflict",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "TemplateError",
    "TraceError",
    "did_you_mean",
]


class AskesisError(Exception):
    """Base of all errors. Picklable, so that a worker process can hand one to its parent.

    Args:
        what: what happened, one line.
        where: file, key, table or object concerned.
        got: the offending value, shown shortened.
        expected: what would have been right.
        next_step: what the reader should type or change.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        got: object = None,
        expected: object = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.got = got if got is None else _shorten(got)
        self.expected = expected if expected is None else _shorten(expected, 600)
        self.next_step = next_step

    def __str__(self) -> str:
        lines = [self.what]
        for label, value in (
            ("where", self.where),
            ("got", self.got),
            ("expected", self.expected),
            ("next", self.next_step),
        ):
            if value is not None:
                lines.append(f"  {label + ':':<10}{value}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.what, dict(self.__dict__)))


def _rebuild(cls: type[AskesisError], what: str, state: dict[str, Any]) -> AskesisError:
    error = cls.__new__(cls)
    Exception.__init__(error, what)
    error.__dict__.update(state)
    return error


def _shorten(value: object, limit: int = 200) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The closest of ``known`` to ``word`` as a ready phrase, or None when nothing is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None


class RecipeError(AskesisError, ValueError):
    """A recipe, an override or a name in it is wrong."""


class PolicyError(AskesisError, ValueError):
    """A model folder or its weights cannot be used."""


class TemplateError(AskesisError, ValueError):
    """A chat template or a token mask is not what it must be."""


class TraceError(AskesisError, ValueError):
    """Calls that do not form a token tree, or bytes that are not a trace."""


class EngineError(AskesisError, RuntimeError):
    """Sampling failed."""


class ContextOverflow(EngineError):
    """A prompt does not fit into the model's context."""


class BudgetExhausted(AskesisError, RuntimeError):
    """A session's budget is spent. ``reason`` is the value of a :class:`askesis.trace.StopReason`."""

    def __init__(self, what: str, *, reason: str, **details: Any) -> None:
        super().__init__(what, **details)
        self.reason = reason


class EnvironmentFault(AskesisError, RuntimeError):
    """An environment or an evaluator broke its contract."""


class LearnerError(AskesisError, RuntimeError):
    """Processes that learn were lost too often, or do not come up."""


class AlgorithmError(AskesisError, ValueError):
    """Stages that do not fit together, or tensors that do not."""


class StoreError(AskesisError, RuntimeError):
    """The store cannot do what was asked."""


class StoreBusy(StoreError):
    """Another process holds the store."""


class StoreFull(StoreError):
    """No space is left where the store lies."""


class StoreConflict(StoreError):
    """The same record was given twice with different content."""


class StoreCorrupt(StoreError):
    """The file or a record is not what was written."""


class CheckpointError(AskesisError, RuntimeError):
    """A checkpoint is missing, incomplete or belongs to another recipe."""


class SelfCheckError(AskesisError, RuntimeError):
    """A run found that it is not computing what it claims to compute."""


class MissingExtra(AskesisError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed",
            next_step=f"pip install 'askesis[{extra}]'",
        )
