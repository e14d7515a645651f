"""Finding worlds by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from askesis.environments import make_world, world_names
from askesis.errors import RecipeError

PLUGIN = """
from askesis.environments.fakes import make_echo_world
def make(*, family, level, options, seed, instruction):
    return make_echo_world(turns=options.get("turns", 1), seed=seed)
def wrong(**_):
    return "a world"
def crash(**_):
    raise KeyError("lost")
NOT_CALLABLE = 3
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package whose entry points are good and bad."""
    (tmp_path / "askesis_plugin_for_test.py").write_text(PLUGIN)
    info = tmp_path / "askesis_plugin_for_test-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: askesis-plugin-for-test\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(
        "[askesis.environments]\n"
        "third = askesis_plugin_for_test:make\n"
        "wrong = askesis_plugin_for_test:wrong\n"
        "crash = askesis_plugin_for_test:crash\n"
        "three = askesis_plugin_for_test:NOT_CALLABLE\n"
        "gone = askesis_no_such_module:make\n"
        "reasoning = askesis_plugin_for_test:make\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "askesis_plugin_for_test", raising=False)


def test_an_unknown_name_is_refused_with_a_suggestion() -> None:
    with pytest.raises(RecipeError) as caught:
        make_world("reasonin", family="x")
    assert caught.value.next_step == "did you mean 'reasoning'?"
    assert "reasoning" in (caught.value.expected or "")


@pytest.mark.usefixtures("plugin")
def test_a_package_can_add_a_world() -> None:
    assert {"third", "reasoning"} <= set(world_names())
    world = make_world("third", family="", options={"turns": 3}, seed=4)
    assert world.name == "echo"
    assert len(world.tasks.task("train", 0).payload["words"]) == 3


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("wrong", "returned 'a world'"),
        ("crash", "KeyError: 'lost'"),
        ("three", "names 3"),
        ("gone", "No module named 'askesis_no_such_module'"),
    ],
)
def test_a_broken_package_names_itself_and_harms_nobody_else(name: str, got: str) -> None:
    with pytest.raises(RecipeError, match="is broken") as caught:
        make_world(name, family="")
    assert "askesis-plugin-for-test 2.5" in (caught.value.where or "")
    assert got in (caught.value.got or "")
    assert make_world("third", family="").name == "echo"


@pytest.mark.usefixtures("plugin")
def test_two_worlds_of_one_name_are_refused() -> None:
    with pytest.raises(RecipeError, match="several environments") as caught:
        make_world("reasoning", family="chain_sum")
    assert caught.value.got == "askesis, askesis-plugin-for-test 2.5"
