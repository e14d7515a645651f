"""Addresses are read, and shown without their passwords."""

from __future__ import annotations

import pytest

from askesis.errors import StoreError
from askesis.store.address import parse, public, scrubbed

SECRET = "s3cret/ p@ss%word"
URL = "postgresql://u:s3cret%2F%20p%40ss%25word@h:5433/d?sslmode=require&sslpassword=key%2Bpass"


def test_a_url_is_read_and_shown_without_its_password() -> None:
    url = parse(URL)
    assert (url.drivername, url.username, url.password, url.port) == ("postgresql+psycopg", "u", SECRET, 5433)
    assert public(url) == "postgresql://u@h:5433/d"
    assert public(parse("postgresql+psycopg:///d?host=/run/x")) == "postgresql:///d"


def test_passwords_are_taken_out_of_any_text() -> None:
    url = parse(URL)
    text = f"tried {URL} with {SECRET} and s3cret%2F+p%40ss%25word; key+pass"
    clean = scrubbed(text, url)
    assert "s3cret" not in clean and "key+pass" not in clean and "key%2Bpass" not in clean
    assert clean.startswith("tried postgresql://u:***@h:5433/d")
    assert scrubbed("nothing to hide", parse("postgresql://u@h/d")) == "nothing to hide"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hush@hush@h/d",  # an @ that was not quoted makes a host of half the password
        "postgresql://u:hush/hush@h/d",
        "postgresql://u:hush@h:hush/d",
        "postgresql://u:hush@h",
        "mysql://u:hush@h/d",
        "sqlite:///hush.db",
        "://hush",
    ],
)
def test_what_cannot_be_used_is_refused_without_being_repeated(url: str) -> None:
    try:
        shown = public(parse(url))
    except StoreError as error:
        assert "hush" not in str(error) and error.expected
        assert (error.__cause__ is None and error.__suppress_context__) or error.__context__ is None
    else:
        assert "hush" not in shown
