"""Generated worlds: facts, names, questions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.environments.search.chain import ChainWorld
from askesis.errors import RecipeError

WORLD = ChainWorld(num_entities=50)


@settings(max_examples=15, deadline=None)
@given(st.integers(8, 60), st.integers(1, 12), st.integers(0, 4), st.integers(0, 5), st.booleans())
def test_passages_hold_every_fact_once(people: int, relations: int, noise: int, seed: int, grouped: bool) -> None:
    world = ChainWorld(num_entities=people, num_relations=relations, num_noise=noise, is_grouped=grouped, seed=seed)
    assert world.num_facts == people * (relations + noise) and len(set(world.names)) == people
    text = "\n".join(world[i].text for i in range(len(world)))
    assert text.count("The ") == world.num_facts
    assert {world[i].id for i in range(len(world))} == {str(i) for i in range(len(world))}
    assert all(world.follow(e, r) != e for e in range(people) for r in range(relations))
    with pytest.raises(IndexError):
        world[len(world)]


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_a_question_is_answered_by_its_facts_and_by_nothing_in_it(seed: int, hops: int) -> None:
    chain = (world := WORLD).draw(np.random.default_rng(seed), hops)
    assert chain.hops == hops and len(set(chain.people)) == hops + 1
    person = chain.people[0]
    for relation in chain.relations:
        person = world.follow(person, relation)
    assert person == chain.people[-1]
    question = world.question(chain)
    asked = world.names[chain.people[0]]
    assert question.endswith(f" of {asked}?") and question.count(" of ") == hops
    assert world.names[person] not in question.rpartition(" of ")[0]
    first = world.relations[chain.relations[0]]
    assert f"the {first} of {asked}?" in question


def test_a_distinct_world_asks_for_no_kind_twice() -> None:
    world = ChainWorld(num_entities=50, num_relations=12, is_distinct=True)
    for seed in range(20):
        assert len(set(world.draw(np.random.default_rng(seed), 12).relations)) == 12


def test_a_possessive_question_names_the_facts_in_their_order() -> None:
    plain, possessive = ChainWorld(num_entities=50), ChainWorld(num_entities=50, is_possessive=True)
    chain = plain.draw(np.random.default_rng(0), 2)
    first, then = (plain.relations[r] for r in chain.relations)
    person = plain.names[chain.people[0]]
    assert plain.question(chain) == f"Who is the {then} of the {first} of {person}?"
    assert possessive.question(chain) == f"Who is {person}'s {first}'s {then}?"


@pytest.mark.parametrize(("distinct", "hops", "cause"), [(False, 8, "num_entities"), (True, 5, "num_relations")])
def test_a_way_that_is_too_long_is_refused(distinct: bool, hops: int, cause: str) -> None:
    with pytest.raises(RecipeError, match=r"(?s)facts in a row.*" + cause):
        ChainWorld(num_entities=8, is_distinct=distinct).draw(np.random.default_rng(0), hops)


def test_the_same_seed_gives_the_same_world() -> None:
    one, two, other = (ChainWorld(num_entities=30, seed=seed) for seed in (1, 1, 2))
    assert [one[i] for i in range(len(one))] == [two[i] for i in range(len(two))]
    assert one.names != other.names and one[0].text != other[0].text


def test_a_hundred_thousand_facts_are_made_at_once() -> None:
    world = ChainWorld(num_entities=20_000)
    assert len(world) == world.num_facts == 100_000 and len(set(world.names)) == 20_000


@pytest.mark.parametrize(
    ("field", "value"), [("num_entities", 7), ("num_entities", 10**9), ("num_relations", 13), ("num_noise", 5)]
)
def test_impossible_sizes_are_refused(field: str, value: int) -> None:
    with pytest.raises(RecipeError, match=r"(?s)out of range.*" + field):
        ChainWorld(**{"num_entities": 100, field: value})  # type: ignore[arg-type]
