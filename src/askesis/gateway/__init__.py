"""The session-scoped model endpoint: the only place where tokens are recorded."""

from askesis.gateway.gateway import Endpoint, Gateway, Reply
from askesis.gateway.session import Session

__all__ = ["Endpoint", "Gateway", "Reply", "Session"]
