from __future__ import annotations

import pytest
from benchmarks.workload import Grpo, Turns, even_share

TURNS = Turns(prompts=2, members=3, turns=4, first=5, observation=7, action=2)


def test_even_share() -> None:
    assert even_share([2, 3, 4, 0]) == 0.75


def test_prompts_are_the_same_at_every_call_and_new_in_every_round() -> None:
    load = Grpo(prompts=3, group=2, prompt_tokens=9, new_tokens=4)
    texts = load.texts(5)
    assert texts == Grpo.of(load.to_dict()).texts(5)
    assert [len(t) for t in texts] == [9, 9, 9]
    assert not set(texts) & set(load.texts(6))


def test_members_share_their_first_observation_and_nothing_else() -> None:
    said = TURNS.conversations(0, 50)
    assert len(said) == 6
    first_group, second_group = said[:3], said[3:]
    assert len({one[0][0] for one in first_group}) == 1
    assert first_group[0][0][0] != second_group[0][0][0]
    assert len({one[1][0] for one in first_group}) == 3
    assert [len(text) for text, _ in said[0]] == [5, 7, 7, 7]
    assert all(len(ids) == 2 and all(0 <= i < 50 for i in ids) for one in said for _, ids in one)


def test_token_counts_by_hand() -> None:
    # A member: 4 x 2 sampled and 3 x 7 read after the shared 5.
    assert TURNS.distinct == 2 * (5 + 3 * 29)
    assert TURNS.per_sequence == 6 * 34
    assert TURNS.per_call == 6 * (7 + 16 + 25 + 34)


@pytest.mark.parametrize("load", [TURNS, Grpo(prompts=1, group=1, prompt_tokens=1, new_tokens=1)])
def test_loads_survive_json(load: Turns | Grpo) -> None:
    assert type(load).of(load.to_dict()) == load
