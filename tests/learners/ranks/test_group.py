"""What the answers of a group mean. Groups of real processes, killed and hung: tests/learners/ranks/test_learner.py."""

from __future__ import annotations

import pytest

from askesis.errors import AlgorithmError, AskesisError
from askesis.learners.ranks.group import RankLost, require_answers
from askesis.learners.ranks.wire import Message

GOOD = Message({"norm": 1.0}, {})


def test_good_answers_are_given_back() -> None:
    assert require_answers([GOOD, GOOD]) == [GOOD, GOOD]


def test_an_error_of_ours_is_raised_as_what_it_was() -> None:
    head = {"error": "AlgorithmError", "what": "wrong", "where": None, "got": "1", "expected": None, "next_step": "x"}
    with pytest.raises(AlgorithmError, match="wrong") as caught:
        require_answers([GOOD, Message(head, {})])
    assert (caught.value.got, caught.value.next_step) == ("1", "x")
    with pytest.raises(AskesisError):
        require_answers([Message(head | {"error": "OneOfLater"}, {})])


def test_any_other_failure_costs_the_group() -> None:
    with pytest.raises(RankLost, match="rank 1: RuntimeError: no memory"):
        require_answers([GOOD, Message({"failed": "RuntimeError: no memory"}, {})])
