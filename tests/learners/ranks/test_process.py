"""A rank's answers when something goes wrong. Real processes: tests/learners/ranks/test_learner.py."""

from __future__ import annotations

import pytest

from askesis.errors import AlgorithmError
from askesis.learners.ranks.process import answer_of
from askesis.learners.ranks.rank import Rank
from askesis.learners.ranks.wire import Message


class Broken(Rank):
    """Raises what it is told to."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def _do_break(self, message: Message) -> Message:
        raise self.error


def test_an_error_of_ours_travels_with_its_parts() -> None:
    error = AlgorithmError("wrong", where="here", got=1, expected="two", next_step="change it")
    assert answer_of(Broken(error), Message({"do": "break"}, {})).head == {
        "error": "AlgorithmError",
        "what": "wrong",
        "where": "here",
        "got": "1",
        "expected": "two",
        "next_step": "change it",
    }


def test_any_other_error_is_a_failure_with_its_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    answer = answer_of(Broken(RuntimeError("\nno memory\nstack")), Message({"do": "break"}, {}))
    assert answer.head == {"failed": "RuntimeError: no memory"}
    assert "Traceback" in capsys.readouterr().err


def test_a_rank_says_what_it_needs_of_memory() -> None:
    answer = answer_of(Rank(), Message({"do": "memory"}, {}))
    assert answer.head["rss"] > 1 << 20 and answer.head["gpu"] == 0
