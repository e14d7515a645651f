"""Dialogues that show a small policy the search world: for pretraining, drawn from small chain worlds of their own.

Texts, instructions and the layout of messages are those of the harness and of real searches, so that what is shown is
what is met. Some episodes take a wrong turn on purpose: a policy that was shown only right ones has little to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from askesis.agents.context import CompactMemory, Context, FullContext
from askesis.agents.formats import ParsedCall, TagFormat
from askesis.environments.reasoning.split import split_of
from askesis.environments.search.chain import Chain, ChainWorld
from askesis.environments.search.corpus import Hit, render
from askesis.environments.search.retrievers.fts5 import FTS5Retriever
from askesis.streams import seed_of
from askesis.trace.types import Message

__all__ = ["MEMORY_INSTRUCTION", "SEARCH_INSTRUCTION", "SearchDemonstrations"]

SEARCH_INSTRUCTION = "You can search by writing <search>query</search>."
MEMORY_INSTRUCTION = "You can search by writing <search>query</search>. You only keep what you write into the memory."
"""Short enough for a policy of a million parameters; recipes for it say ``agent.instruction`` with the same words."""

_FORMAT = TagFormat(tools=("search",))


@dataclass(frozen=True, kw_only=True)
class SearchDemonstrations:
    """Endless demonstrations.

    Args:
        hops: of the questions, drawn with equal chance.
        wrong_share: episodes in which one look-up reads another passage than the right one.
        early_share: episodes of several hops that answer too early.
        memory_share: episodes with a compact memory; the others keep everything.
        top_k: passages per search.
        num_worlds: small worlds that are drawn from; they contradict each other, so no fact is worth remembering.
        num_entities: people in each. From 99 to 1470 give names of two and three syllables, as the world's level
            ``nano`` has them; a policy this small does not copy names of a length that it was not shown.
        seed: of the worlds.
    """

    hops: tuple[int, ...] = (1, 2)
    wrong_share: float = 0.3
    early_share: float = 0.15
    memory_share: float = 0.5
    top_k: int = 2
    num_worlds: int = 64
    num_entities: int = 120
    seed: int = 0

    def dialogue(self, rng: np.random.Generator) -> list[dict[str, str]]:
        """One conversation as role and content: a whole episode, or one turn of an episode with a memory."""
        talks = self.episode(rng)
        chosen = talks[int(rng.integers(0, len(talks)))]
        return [{"role": message.role, "content": message.content} for message in chosen]

    def episode(self, rng: np.random.Generator) -> list[list[Message]]:
        """The conversations of one episode: one, or with a memory one for each turn."""
        world, retriever = _small_world(self.seed, int(rng.integers(0, self.num_worlds)), self.num_entities)
        kind: Literal["memory", "search"] = "memory" if rng.random() < self.memory_share else "search"
        chain = _training_chain(world, self.hops, rng)
        wrong_turn = int(rng.integers(0, chain.hops)) if rng.random() < self.wrong_share else None
        last = chain.hops
        if chain.hops > 1 and rng.random() < self.early_share:
            last = int(rng.integers(1, chain.hops))
        script = _Script(world.question(chain), kind)
        person = world.names[chain.people[0]]
        for turn, relation in enumerate(chain.relations[:last]):
            asked = world.relations[relation]
            hits = retriever.find(f"{person} {asked}", self.top_k)
            found = _read(hits, person, asked, is_wrong=turn == wrong_turn)
            script.search(f"{person} {asked}", hits, note=f"{asked} of {person}: {found}")
            person = found
        return script.answer(person)


class _Script:
    """Plays the policy's part in a context, and keeps the conversations."""

    def __init__(self, question: str, kind: Literal["memory", "search"]) -> None:
        self._context: Context = CompactMemory(request="") if kind == "memory" else FullContext()
        instruction = MEMORY_INSTRUCTION if kind == "memory" else SEARCH_INSTRUCTION
        self._context.begin([Message(role="system", content=instruction), Message(role="user", content=question)])
        self._notes: list[str] = []
        self._talks: list[list[Message]] = []

    def search(self, query: str, hits: Sequence[Hit], *, note: str) -> None:
        """Search, read, and where the context wants it, write the memory."""
        self._say(f"<search>{query}</search>")
        self._context.observe([_FORMAT.observation(ParsedCall(text=query, call=None), render(hits))])
        self._notes.append(note)
        if self._context.wants_memory:
            text = f"<memory>{'; '.join(self._notes)}</memory>"
            self._say(text)
            self._talks.append(list(self._context.render()))
            self._context.remember(text)

    def answer(self, name: str) -> list[list[Message]]:
        """Answer, and hand over all conversations."""
        self._say(f"<answer>{name}</answer>")
        return [*self._talks, list(self._context.render())]

    def _say(self, text: str) -> None:
        self._context.replied(Message(role="assistant", content=text))


@lru_cache(maxsize=256)
def _small_world(seed: int, number: int, num_entities: int) -> tuple[ChainWorld, FTS5Retriever]:
    world = ChainWorld(num_entities=num_entities, seed=seed_of(seed, "demonstration", number))
    return world, FTS5Retriever(world)


def _training_chain(world: ChainWorld, hops: Sequence[int], rng: np.random.Generator) -> Chain:
    """A way whose question is not of the held-out quarter."""
    while True:
        chain = world.draw(rng, hops[int(rng.integers(0, len(hops)))])
        if split_of(world.question(chain)) == "train":
            return chain


def _read(hits: Sequence[Hit], person: str, asked: str, *, is_wrong: bool) -> str:
    """The name that the passage gives, or on purpose the one of another passage."""
    right = [h.passage.text for h in hits if h.passage.text.startswith(f"The {asked} of {person} is ")]
    others = [h.passage.text for h in hits if h.passage.text not in right]
    text = (others or right if is_wrong else right or others)[0]
    return text.rpartition(" ")[2].rstrip(".")
