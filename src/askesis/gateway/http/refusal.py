"""Answers that are not answers: what went wrong, in the shape that OpenAI's clients expect."""

from __future__ import annotations

from typing import Any

from askesis.errors import (
    AskesisError,
    BudgetExhausted,
    ContextOverflow,
    EngineError,
    TemplateError,
    TraceError,
)

__all__ = ["CLIENT_GONE", "Refusal", "refusal_of"]

CLIENT_GONE = 499
"""The client went away before its answer came. Nobody reads this status; the metrics count it."""

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}


class Refusal(Exception):
    """A request that gets no answer.

    Args:
        status: HTTP status.
        code: short name for programs.
        message: for people: what was wrong and what would be right.
        param: the field of the request that it is about.
        retry: whether asking again may help; clients are told so.
    """

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None, retry: bool = False) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.retry = status, code, message, param, retry

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = _TYPES.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """OpenAI's clients repeat 408, 409, 429 and 5xx by themselves unless they are told not to."""
        return {"x-should-retry": "true" if self.retry else "false"}


def refusal_of(error: Exception) -> Refusal:
    """What a client is told about an error of the gateway. Texts of unknown errors stay inside."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, BudgetExhausted):
        return Refusal(429, "session_budget_exhausted", _line(error))
    if isinstance(error, ContextOverflow):
        return Refusal(400, "context_length_exceeded", _line(error), param="messages")
    if isinstance(error, TemplateError):
        return Refusal(400, "conversation_refused", _line(error), param="messages")
    if isinstance(error, EngineError):
        return Refusal(500, "engine_failed", _line(error))
    if isinstance(error, TraceError):
        return Refusal(404, "session_closed", error.what)
    return Refusal(500, "internal_error", f"the server failed: {type(error).__name__}")


def _line(error: AskesisError) -> str:
    """One line of an error's parts."""
    parts = [error.what]
    parts += [f"{name} {value}" for name, value in (("got", error.got), ("expected", error.expected)) if value]
    return "; ".join(parts)
