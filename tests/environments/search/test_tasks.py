"""Questions as tasks."""

from __future__ import annotations

import pytest

from askesis.environments.reasoning.split import split_of
from askesis.environments.search.chain import ChainWorld
from askesis.environments.search.tasks import ChainTasks, Question, QuestionTasks
from askesis.errors import RecipeError

TASKS = ChainTasks(world=ChainWorld(num_entities=60), hops=(1, 2, 3))


def test_a_task_is_a_function_of_its_number_and_carries_its_facts() -> None:
    task = TASKS.task("train", 5)
    assert task == TASKS.task("train", 5) and task != TASKS.task("train", 6)
    payload = task.payload
    assert len(payload["facts"]) == payload["hops"] and payload["answers"] == [payload["answer"]]
    assert payload["facts"][-1].endswith(f" is {payload['answer']}.") and task.tags == (
        "chain",
        f"hops_{payload['hops']}",
    )


def test_the_splits_share_no_question() -> None:
    asked = {split: {TASKS.task(split, i).payload["question"] for i in range(200)} for split in ("train", "held_out")}
    assert not asked["train"] & asked["held_out"]
    assert all(split_of(question) == split for split, questions in asked.items() for question in questions)
    assert {TASKS.task("train", i).payload["hops"] for i in range(50)} == {1, 2, 3}


def test_distinct_tasks_are_distinct_and_end() -> None:
    few = ChainTasks(world=ChainWorld(num_entities=8, num_relations=1), hops=(1,))
    found = few.distinct_tasks("train", 100) + few.distinct_tasks("held_out", 100)
    assert len({task.payload["question"] for task in found}) == len(found) == 8
    assert len(TASKS.distinct_tasks("held_out", 40)) == 40 and TASKS.num_tasks("train") is None


def test_an_unknown_split_is_refused() -> None:
    questions = QuestionTasks(name="q", train=(), held_out=())
    for source in (TASKS, questions):
        with pytest.raises(RecipeError, match="unknown split"):
            source.task("test", 0)
    with pytest.raises(RecipeError, match="no question in the split train"):
        questions.task("train", 0)


def question(number: int) -> Question:
    return Question(id=str(number), text=f"Q{number}?", golds=(f"A{number}", "B"), tags=("bridge",))


def test_questions_come_once_a_round_and_never_from_the_other_split() -> None:
    tasks = QuestionTasks(
        name="nq", train=[question(i) for i in range(10)] + [question(1)], held_out=[question(3)], seed=4
    )
    assert tasks.num_tasks("train") == 9 and tasks.num_tasks("held_out") == 1
    rounds = [[tasks.task("train", r * 9 + i).payload["question"] for i in range(9)] for r in (0, 1)]
    assert set(rounds[0]) == set(rounds[1]) == {f"Q{i}?" for i in range(10) if i != 3} and rounds[0] != rounds[1]
    task = tasks.task("held_out", 0)
    assert task.payload == {"question": "Q3?", "answer": "A3", "answers": ["A3", "B"]} and task.tags == ("nq", "bridge")
    assert len(tasks.distinct_tasks("train", 100)) == 9
