"""Dialogues that show a small policy the search world: for pretraining, drawn from small chain worlds of their own.

Instruction and layout of messages are those of the harness and of real searches, so that what is shown is what is met.
Some episodes go wrong on purpose: a policy that was shown only right ones has little to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from askesis.agents.context import CompactMemory, Context, FullContext
from askesis.agents.formats import ParsedCall, TagFormat
from askesis.environments.reasoning.split import split_of
from askesis.environments.search.chain import MAX_RELATIONS, Chain, ChainWorld
from askesis.environments.search.corpus import Hit, render
from askesis.environments.search.retrievers.fts5 import FTS5Retriever
from askesis.streams import seed_of
from askesis.trace.types import Message

__all__ = ["INSTRUCTION", "SearchDemonstrations"]

INSTRUCTION = "You can search by writing <search>query</search>."
"""Short enough for a policy of a million parameters; recipes for it say ``agent.instruction`` with the same words."""

_FORMAT = TagFormat(tools=("search",))


@dataclass(frozen=True, kw_only=True)
class SearchDemonstrations:
    """Endless demonstrations: look one fact up, then the next one with the name that it gave, then answer.

    A memory holds what the question has become: the name that was found last, and the kinds of facts that are still to
    be looked up from it.

    Args:
        hops: of the questions, drawn with equal chance.
        wrong_share: look-ups after which the name of another passage is taken for the right one.
        early_share: of the turns at which facts are still missing, those that answer all the same.
        memory_share: episodes with a compact memory; the others keep everything.
        max_searches: an episode that keeps everything is shown up to so many searches; the rest is left out.
        top_k: passages per search.
        num_worlds: small worlds that are drawn from; they contradict each other, so no fact is worth remembering.
        num_entities: people in each. From 99 to 1470 give names of two and three syllables, as the world's level
            ``nano`` has them; a policy this small does not copy names of a length that it was not shown.
        seed: of the worlds.
    """

    hops: tuple[int, ...] = (1, 2)
    wrong_share: float = 0.15
    early_share: float = 0.25
    memory_share: float = 0.5
    max_searches: int = 4
    top_k: int = 2
    num_worlds: int = 64
    num_entities: int = 120
    seed: int = 0

    def dialogue(self, rng: np.random.Generator) -> list[dict[str, str]]:
        """One conversation as role and content: an episode, or one turn of an episode with a memory.

        Each turn of a question is as likely as any other, so late ones, which few episodes reach, are practised too.
        """
        has_memory = bool(rng.random() < self.memory_share)
        world, retriever, chain = self._question(rng)
        turn = int(rng.integers(0, chain.hops + 1)) if has_memory else 0
        chosen = self._play(rng, world, retriever, chain, has_memory=has_memory, reaches=turn)[turn]
        return [{"role": message.role, "content": message.content} for message in chosen]

    def episode(self, rng: np.random.Generator) -> list[list[Message]]:
        """The conversations of one episode: one, or with a memory one for each turn."""
        has_memory = bool(rng.random() < self.memory_share)
        return self._play(rng, *self._question(rng), has_memory=has_memory, reaches=0)

    def _question(self, rng: np.random.Generator) -> tuple[ChainWorld, FTS5Retriever, Chain]:
        world, retriever = _small_world(self.seed, int(rng.integers(0, self.num_worlds)), self.num_entities)
        return world, retriever, _training_chain(world, self.hops, rng)

    def _play(
        self,
        rng: np.random.Generator,
        world: ChainWorld,
        retriever: FTS5Retriever,
        chain: Chain,
        *,
        has_memory: bool,
        reaches: int,
    ) -> list[list[Message]]:
        """The conversations of an episode that does not answer before turn ``reaches``."""
        script = _Script(world.question(chain), has_memory=has_memory)
        person = world.names[chain.people[0]]
        for turn, relation in enumerate(chain.relations):
            if turn and turn >= reaches and rng.random() < self.early_share:
                break
            if not has_memory and turn == self.max_searches:
                return script.talks
            fact = f"{world.relations[relation]} of {person}"
            hits = retriever.find(fact, self.top_k)
            person = _read(hits, f"The {fact} is ", is_wrong=bool(rng.random() < self.wrong_share))
            rest = "".join(f"'s {world.relations[later]}" for later in chain.relations[turn + 1 :])
            script.search(fact, hits, memory=person + rest)
        script.answer(person)
        return script.talks


class _Script:
    """Plays the policy's part in a context, and keeps the conversations."""

    def __init__(self, question: str, *, has_memory: bool) -> None:
        self._context: Context = CompactMemory(request="") if has_memory else FullContext()
        self._context.begin([Message(role="system", content=INSTRUCTION), Message(role="user", content=question)])
        self._closed: list[list[Message]] = []

    @property
    def talks(self) -> list[list[Message]]:
        """All conversations that hold a reply."""
        last = list(self._context.render())
        return [*self._closed, last] if any(m.role == "assistant" for m in last) else self._closed

    def search(self, query: str, hits: Sequence[Hit], *, memory: str) -> None:
        """Search, read, and where the context wants it, write the memory."""
        self._say(f"<search>{query}</search>")
        self._context.observe([_FORMAT.observation(ParsedCall(text=query, call=None), render(hits))])
        if self._context.wants_memory:
            text = f"<memory>{memory}</memory>"
            self._say(text)
            self._closed.append(list(self._context.render()))
            self._context.remember(text)

    def answer(self, name: str) -> None:
        """The last reply."""
        self._say(f"<answer>{name}</answer>")

    def _say(self, text: str) -> None:
        self._context.replied(Message(role="assistant", content=text))


@lru_cache(maxsize=256)
def _small_world(seed: int, number: int, num_entities: int) -> tuple[ChainWorld, FTS5Retriever]:
    world = ChainWorld(
        num_entities=num_entities,
        num_relations=MAX_RELATIONS,
        is_distinct=True,
        is_possessive=True,
        seed=seed_of(seed, "demonstration", number),
    )
    return world, FTS5Retriever(world)


def _training_chain(world: ChainWorld, hops: Sequence[int], rng: np.random.Generator) -> Chain:
    """A way whose question is not of the held-out quarter."""
    while True:
        chain = world.draw(rng, hops[int(rng.integers(0, len(hops)))])
        if split_of(world.question(chain)) == "train":
            return chain


def _read(hits: Sequence[Hit], opening: str, *, is_wrong: bool) -> str:
    """The name that the passage gives, or on purpose the one of another passage."""
    right = [h.passage.text for h in hits if h.passage.text.startswith(opening)]
    others = [h.passage.text for h in hits if h.passage.text not in right]
    text = (others or right if is_wrong else right or others)[0]
    return text.rpartition(" ")[2].rstrip(".")
