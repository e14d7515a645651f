"""ChainWorld: generated facts about people who do not exist, and questions that take several look-ups.

Fact (e, r): *The r of e is f(e, r).* A question follows r1, r2, … from a person to another. Nobody can know an answer
without searching, and any number of facts can be made. Ours; the idea is that of ``search-qa`` stand-ins (inferred).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from askesis.environments.search.corpus import Passage
from askesis.errors import RecipeError
from askesis.streams import generator

__all__ = ["MAX_RELATIONS", "Chain", "ChainWorld"]

_SYLLABLES = ("ba", "do", "ka", "li", "mo", "na", "pe", "ra", "so", "ti", "ul", "ve", "zen", "gar")
_LONGEST_NAME = 6  # syllables
_RELATIONS = (
    *("teacher", "friend", "boss", "rival", "partner", "doctor", "parent", "neighbor"),
    *("pupil", "guide", "aunt", "cook"),
)
_NOISE = ("cousin", "tailor", "landlord", "guest")
"""Relations that no question is about."""

MAX_RELATIONS = len(_RELATIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A question's way: the people from the first to the answer, and the relations between them."""

    people: tuple[int, ...]
    relations: tuple[int, ...]

    @property
    def hops(self) -> int:
        """How many facts the answer takes."""
        return len(self.relations)


_DRAWS = 10_000
"""Ways looked at for a question: in a world of a thousand people nearly every one will do, in one too small none."""


@dataclass(frozen=True, kw_only=True)
class ChainWorld:
    """A world of facts, and its corpus: a passage for each fact, or one for each person.

    Args:
        num_entities: people.
        num_relations: kinds of facts that are asked about, at most :data:`MAX_RELATIONS`.
        num_noise: kinds of facts that are not, at most 4: passages that look alike and help nobody.
        is_grouped: one passage holds all facts of a person, in place of one fact each.
        is_distinct: no question asks for the same kind of fact twice, so that a kind says how far one has come.
        is_possessive: questions name the facts in the order in which they are looked up.
        seed: of names and facts.
    """

    num_entities: int
    num_relations: int = 4
    num_noise: int = 1
    is_grouped: bool = False
    is_distinct: bool = False
    is_possessive: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("num_entities", self.num_entities, 8, _name_capacity(_LONGEST_NAME) // 2),
            ("num_relations", self.num_relations, 1, MAX_RELATIONS),
            ("num_noise", self.num_noise, 0, len(_NOISE)),
        ):
            if not low <= value <= high:
                raise RecipeError(
                    "a size of the chain world is out of range",
                    where=f"environment.options.{name}",
                    got=value,
                    expected=f"a whole number from {low} to {high}",
                )

    @property
    def num_facts(self) -> int:
        """Those that nobody asks about included."""
        return self.num_entities * len(self.relations)

    @cached_property
    def relations(self) -> tuple[str, ...]:
        """Names of the relations; those beyond ``num_relations`` are noise."""
        return (*_RELATIONS[: self.num_relations], *_NOISE[: self.num_noise])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name for each person, all different."""
        syllables = 2
        while _name_capacity(syllables) < 2 * self.num_entities:
            syllables += 1
        chosen = generator(self.seed, "chain", "names").permutation(_name_capacity(syllables))[: self.num_entities]
        return tuple(_name(int(number), syllables) for number in chosen)

    @cached_property
    def _targets(self) -> NDArray[np.int64]:
        """[relations, people]: the person that a fact names; never the person that it is about."""
        rng = generator(self.seed, "chain", "facts")
        steps = rng.integers(1, self.num_entities, size=(len(self.relations), self.num_entities))
        return np.asarray((np.arange(self.num_entities) + steps) % self.num_entities)

    def follow(self, person: int, relation: int) -> int:
        """f(e, r)."""
        return int(self._targets[relation, person])

    def fact(self, person: int, relation: int) -> str:
        """The sentence that states it."""
        target = self.names[self.follow(person, relation)]
        return f"The {self.relations[relation]} of {self.names[person]} is {target}."

    def draw(self, rng: np.random.Generator, hops: int) -> Chain:
        """A way of ``hops`` facts on which nobody is met twice, so that no answer is in its question.

        Raises:
            RecipeError: the world holds no such way, or hardly any.
        """
        if self.is_distinct and hops > self.num_relations:
            raise self._too_far(hops, f"at most num_relations={self.num_relations} when is_distinct")
        for _ in range(_DRAWS):
            if self.is_distinct:
                relations = tuple(int(r) for r in rng.permutation(self.num_relations)[:hops])
            else:
                relations = tuple(int(r) for r in rng.integers(0, self.num_relations, size=hops))
            people = [int(rng.integers(0, self.num_entities))]
            for relation in relations:
                people.append(self.follow(people[-1], relation))
            if len(set(people)) == len(people):
                return Chain(people=tuple(people), relations=relations)
        raise self._too_far(hops, f"fewer hops, or more people than num_entities={self.num_entities}")

    def _too_far(self, hops: int, expected: str) -> RecipeError:
        return RecipeError(
            "a question asks for more facts in a row than the chain world has",
            where="environment.options.hops",
            got=hops,
            expected=expected,
        )

    def question(self, chain: Chain) -> str:
        """For example *Who is the boss of the friend of Kalimo?*; possessive, *Who is Kalimo's friend's boss?*"""
        if self.is_possessive:
            kinds = "".join(f"'s {self.relations[r]}" for r in chain.relations)
            return f"Who is {self.names[chain.people[0]]}{kinds}?"
        steps = "".join(f"the {self.relations[r]} of " for r in reversed(chain.relations))
        return f"Who is {steps}{self.names[chain.people[0]]}?"

    def __len__(self) -> int:
        """Passages."""
        return self.num_entities if self.is_grouped else self.num_facts

    def __getitem__(self, index: int) -> Passage:
        """Passage ``index``. Its title is the person that it is about. IndexError when there is none."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self.is_grouped:
            text = " ".join(self.fact(index, relation) for relation in range(len(self.relations)))
            return Passage(id=str(index), title=self.names[index], text=text)
        person, relation = divmod(index, len(self.relations))
        return Passage(id=str(index), title=self.names[person], text=self.fact(person, relation))


def _name_capacity(syllables: int) -> int:
    return sum(len(_SYLLABLES) ** count for count in range(2, syllables + 1))


def _name(number: int, longest: int) -> str:
    """Number ``number`` of all names of two to ``longest`` syllables."""
    count = 2
    while number >= len(_SYLLABLES) ** count:
        number -= len(_SYLLABLES) ** count
        count += 1
    parts = []
    for _ in range(count):
        number, digit = divmod(number, len(_SYLLABLES))
        parts.append(_SYLLABLES[digit])
    return "".join(parts).capitalize()
