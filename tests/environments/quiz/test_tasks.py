"""Which questions, in which order."""

from __future__ import annotations

import pytest

from askesis.environments.quiz.tasks import QuizTasks
from askesis.environments.reasoning.client import shared_worker
from askesis.environments.reasoning.tasks import ReasoningTasks
from askesis.errors import RecipeError


def source(family: str) -> ReasoningTasks:
    return ReasoningTasks(family, {}, seed=3, worker=shared_worker("draw"))


@pytest.fixture(scope="module")
def quiz() -> QuizTasks:
    return QuizTasks(counted=source("gcd"), other=source("spell_backward"), counted_turns=2, other_turns=1, seed=7)


def test_a_quiz_has_its_turns_and_says_which_count(quiz: QuizTasks) -> None:
    for index in range(5):
        questions = quiz.task("train", index).payload["questions"]
        kinds = sorted((q["family"], q["counts"]) for q in questions)
        assert kinds == [("gcd", True), ("gcd", True), ("spell_backward", False)]


def test_no_question_is_used_twice_by_neighbours(quiz: QuizTasks) -> None:
    asked = [q["question"] for i in range(10) for q in quiz.task("train", i).payload["questions"] if q["counts"]]
    own = [quiz.counted.task("train", i).payload["question"] for i in range(20)]
    assert sorted(asked) == sorted(own)


def test_the_order_is_drawn_for_each_quiz_and_stays(quiz: QuizTasks) -> None:
    def order(index: int) -> list[bool]:
        return [q["counts"] for q in quiz.task("train", index).payload["questions"]]

    orders = [order(i) for i in range(12)]
    assert orders == [order(i) for i in range(12)]
    assert len({tuple(o) for o in orders}) == 3


def test_splits_share_no_question(quiz: QuizTasks) -> None:
    asked = {
        split: {q["question"] for i in range(30) for q in quiz.task(split, i).payload["questions"]}
        for split in ("train", "held_out")
    }
    assert asked["train"].isdisjoint(asked["held_out"])


def test_distinct_tasks(quiz: QuizTasks) -> None:
    tasks = quiz.distinct_tasks("held_out", 6)
    assert len({t.content_hash for t in tasks}) == 6 and quiz.num_tasks("held_out") is None
    few = QuizTasks(
        counted=ReasoningTasks("gcd", {"max_value": 4}, seed=0, worker=shared_worker("draw")),
        other=source("gcd"),
        counted_turns=1,
        other_turns=0,
        seed=0,
    )
    assert 0 < len(few.distinct_tasks("train", 500)) < 500


def test_an_unknown_split_is_refused(quiz: QuizTasks) -> None:
    with pytest.raises(RecipeError, match="split"):
        quiz.task("test", 0)
