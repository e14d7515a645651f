"""Messages, JSON and exit codes."""

from __future__ import annotations

import json

import pytest

from askesis.cli import output
from askesis.errors import RecipeError, StoreError


def leave(error: BaseException | None, *, json_output: bool = False, value: object = None) -> int:
    def command() -> object:
        if error is not None:
            raise error
        return value

    with pytest.raises(SystemExit) as caught:
        output.run_guarded(command, json_output=json_output)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_exit_codes() -> None:
    assert leave(None) == 0
    assert leave(None, value=1) == 1
    assert leave(RecipeError("x")) == 2
    assert leave(StoreError("x")) == 1
    assert leave(KeyboardInterrupt()) == 130


def test_an_error_goes_to_stderr_and_as_json_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    leave(RecipeError("bad", where="here", got=3, expected="4", next_step="type 4"), json_output=True)
    out, err = capsys.readouterr()
    assert "RecipeError: bad" in err and "type 4" in err
    assert json.loads(out) == {
        "error": {"type": "RecipeError", "what": "bad", "where": "here", "got": "3", "expected": "4", "next": "type 4"}
    }


def test_tables_show_markup_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("a", "b"), [("[red]x[/red]", None), (1, "[/]")], title="t")
    out = capsys.readouterr().out
    assert "[red]x[/red]" in out and "[/]" in out


def test_shares() -> None:
    assert (output.percent(0.125), output.percent(None)) == ("12.5 %", "–")
