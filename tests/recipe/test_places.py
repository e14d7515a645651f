"""Where things are: addresses without passwords."""

from __future__ import annotations

import pytest

from askesis.errors import RecipeError
from askesis.recipe import load_recipe

PASSWORDS = [
    "postgresql://user:hunter2@host/db",
    "postgresql+psycopg://user:hun/ter2@host:5432/db",
    "postgresql://user:hun@ter2@host/db",
    "postgresql://user@host/db?password=hunter2",
    "postgresql://user@host/db?sslmode=require&sslpassword=hunter2",
]


@pytest.mark.parametrize("url", PASSWORDS)
def test_an_address_with_a_password_is_refused_without_being_repeated(url: str) -> None:
    for override in (
        f"store.url={url}",
        f'store.url="{url}"',
        f"store={url}",
        f"store.url.x={url}",
        f"store.uri={url}",
    ):
        with pytest.raises(RecipeError) as caught:
            load_recipe(None, [override])
        assert "ter2" not in str(caught.value) and "hun" not in str(caught.value), override
    with pytest.raises(RecipeError, match="the address holds a password") as caught:
        load_recipe(None, [f"store.url={url}"])
    for way_out in ("PGPASSWORD", "~/.pgpass", "service file"):
        assert way_out in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "postgresql://user@host:5432/db",
        "postgresql+psycopg://host/db?sslmode=verify-full",
        "postgresql:///db?service=x",
    ],
)
def test_an_address_without_one_is_kept(url: str) -> None:
    assert load_recipe(None, [f'store.url="{url}"']).recipe.store.url == url


def test_other_databases_are_refused() -> None:
    with pytest.raises(RecipeError, match="no store can lie there"):
        load_recipe(None, ["store.url=mysql://host/db"])
