"""Demonstrations are real play: the harness reads them as it reads a policy."""

from __future__ import annotations

import itertools

import numpy as np

from askesis.agents.formats import TagFormat
from askesis.agents.parsing import first_block
from askesis.environments.reasoning.extract import extract_answer
from askesis.environments.reasoning.split import split_of
from askesis.environments.search.demonstrations import INSTRUCTION, SearchDemonstrations
from askesis.trace import Message

SMALL = {"num_worlds": 2, "num_entities": 30}


def episodes(n: int = 60, **options: float) -> list[list[list[Message]]]:
    demonstrations = SearchDemonstrations(**{**SMALL, **options})  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    return [demonstrations.episode(rng) for _ in range(n)]


def test_the_same_generator_gives_the_same_dialogues() -> None:
    one, two = (
        [SearchDemonstrations(**SMALL).dialogue(rng) for _ in range(20)]  # type: ignore[arg-type]
        for rng in (np.random.default_rng(1), np.random.default_rng(1))
    )
    assert one == two and len({str(talk) for talk in one}) > 10
    assert {message["role"] for talk in one for message in talk} == {"system", "user", "assistant", "tool"}


def test_every_reply_is_a_search_a_memory_or_the_last_answer() -> None:
    form = TagFormat(tools=("search",))
    for talks in episodes():
        assert talks[0][0].content == INSTRUCTION
        replies = [m.content for talk in talks for m in talk if m.role == "assistant"]
        for text in replies[:-1]:
            assert text.startswith("<search>") or first_block(text, "memory")
        assert extract_answer(replies[-1]) and form.stop[1] in replies[-1]


def test_without_mistakes_every_answer_stands_in_the_last_passages() -> None:
    for talks in episodes(wrong_share=0.0, early_share=0.0, memory_share=0.0, hops=(2,)):  # type: ignore[arg-type]
        (talk,) = talks
        told = [m.content for m in talk if m.role == "tool"]
        answer = extract_answer(talk[-1].content)
        query = talk[-3].content.removeprefix("<search>").removesuffix("</search>")
        assert len(told) == 2 and f"The {query} is {answer}." in told[-1]


def test_a_memory_is_what_is_left_of_the_question_and_the_next_turn_starts_from_it() -> None:
    for talks in episodes(20, wrong_share=0.0, early_share=0.0, memory_share=1.0, hops=(3,)):  # type: ignore[arg-type]
        assert len(talks) == 4
        asked = talks[0][1].content
        for turn, (before, after) in enumerate(itertools.pairwise(talks), start=1):
            memory = first_block(before[-1].content, "memory")
            assert memory is not None and f"<memory> {memory} </memory>" in after[1].content
            name, *rest = memory.split("'s ")
            query = before[2].content.removeprefix("<search>").removesuffix("</search>")
            assert f"The {query} is {name}." in before[-2].content and name in after[2].content
            assert len(rest) == 3 - turn and all(f"'s {kind}" in asked for kind in rest)


def test_mistakes_come_at_their_rates() -> None:
    alone = {"memory_share": 0.0, "hops": (2,)}
    early = episodes(200, wrong_share=0.0, early_share=0.5, **alone)  # type: ignore[arg-type]
    share = np.mean([sum(m.role == "tool" for m in talks[0]) == 1 for talks in early])
    assert 0.35 < share < 0.65
    wrong = 0
    for (talk,) in episodes(200, wrong_share=0.5, early_share=0.0, **alone):  # type: ignore[arg-type]
        query = talk[-3].content.removeprefix("<search>").removesuffix("</search>")
        wrong += f"The {query} is {extract_answer(talk[-1].content)}." not in talk[-2].content
    assert 0.35 < wrong / 200 < 0.65


def test_turns_are_shown_alike_and_their_mistakes_at_their_rate() -> None:
    demonstrations = SearchDemonstrations(**SMALL, hops=(3,), wrong_share=0.0, early_share=0.4, memory_share=1.0)  # type: ignore[arg-type]
    rng = np.random.default_rng(3)
    turns: dict[int, list[bool]] = {0: [], 1: [], 2: [], 3: []}
    for talk in (demonstrations.dialogue(rng) for _ in range(400)):
        _, memory = talk[1]["content"].split("</question>")
        has_begun = first_block(memory, "memory") not in (None, "")
        turns[3 - memory.count("'s ") if has_begun else 0].append(talk[-1]["content"].startswith("<answer>"))
    assert all(70 < len(shown) < 130 for shown in turns.values())
    assert not any(turns[0]) and all(turns[3])
    assert all(0.25 < sum(turns[turn]) / len(turns[turn]) < 0.55 for turn in (1, 2))


def test_a_long_episode_is_cut() -> None:
    cut = episodes(20, early_share=0.0, memory_share=0.0, max_searches=2, hops=(5,))  # type: ignore[arg-type]
    assert all(sum(m.role == "tool" for m in talk) == 2 and talk[-1].role == "tool" for (talk,) in cut)


def test_held_out_questions_are_never_shown() -> None:
    for talks in episodes(200):
        asked = next(m.content for m in talks[0] if m.role == "user")
        question = asked[asked.index("Who is") : asked.index("?") + 1]
        assert split_of(question) == "train"
