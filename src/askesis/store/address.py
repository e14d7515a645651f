"""Addresses of PostgreSQL servers, and how to speak of them without their passwords."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from askesis.errors import StoreError

__all__ = ["parse", "public", "scrubbed"]

_EXAMPLE = "postgresql+psycopg://user@host:5432/database"
_SECRETS = ("password", "sslpassword")


def parse(url: str) -> URL:
    """A URL whose driver is psycopg. Raises StoreError, which does not repeat the URL."""
    try:
        parsed = make_url(url)
        drivername, host, database = parsed.drivername, parsed.host or "", parsed.database or ""
    except (ArgumentError, ValueError):
        raise _unreadable() from None  # the message would quote the URL
    if drivername not in ("postgresql", "postgresql+psycopg"):
        raise StoreError("no store can lie in this database", got=drivername, expected=f"a path, or {_EXAMPLE}")
    if "@" in host + database or not database:  # a password that was not quoted reaches into what follows it
        raise _unreadable()
    return parsed.set(drivername="postgresql+psycopg")


def public(url: URL) -> str:
    """User, host and database, and nothing else."""
    return URL.create("postgresql", url.username, None, url.host, url.port, url.database).render_as_string()


def scrubbed(text: str, url: URL) -> str:
    """``text`` without the passwords of ``url``, however they are quoted."""
    secrets = [url.password, *(value for name in _SECRETS for value in _all(url.query.get(name)))]
    for secret in secrets:
        if secret:
            for form in {str(secret), quote(str(secret), safe=""), quote(str(secret)), quote_plus(str(secret))}:
                text = text.replace(form, "***")
    return text


def _all(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else value


def _unreadable() -> StoreError:
    return StoreError(
        "the address of the store cannot be read",
        expected=_EXAMPLE,
        next_step="percent-encode special characters, or leave the password to PGPASSWORD or ~/.pgpass",
    )
