"""Errors in OpenAI's shape."""

from __future__ import annotations

import pytest

from askesis.errors import BudgetExhausted, ContextOverflow, EngineError, TemplateError, TraceError
from askesis.gateway.http.refusal import Refusal, refusal_of


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BudgetExhausted("spent", reason="max_turns", got="3 calls"), 429, "rate_limit_error"),
        (ContextOverflow("full"), 400, "invalid_request_error"),
        (TemplateError("no"), 400, "invalid_request_error"),
        (EngineError("broken"), 500, "server_error"),
        (TraceError("closed"), 404, "not_found_error"),
        (KeyError("secret text"), 500, "server_error"),
        (Refusal(401, "invalid_api_key", "no"), 401, "authentication_error"),
    ],
)
def test_every_error_has_its_status_and_shape(error: Exception, status: int, kind: str) -> None:
    refusal = refusal_of(error)
    assert refusal.status == status
    body = refusal.body()["error"]
    assert body["type"] == kind and body.keys() == {"message", "type", "param", "code"}
    assert refusal.headers() == {"x-should-retry": "false"}


def test_texts_of_unknown_errors_stay_inside_and_details_of_known_ones_are_told() -> None:
    assert "secret" not in refusal_of(KeyError("secret text")).message
    assert refusal_of(BudgetExhausted("spent", reason="x", got="3 calls")).message == "spent; got 3 calls"


def test_only_what_may_help_is_repeated() -> None:
    assert Refusal(429, "overloaded", "later", retry=True).headers() == {"x-should-retry": "true"}
