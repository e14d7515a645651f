"""What agents of a PettingZoo environment may do, and how the ones that no policy plays are played."""

from __future__ import annotations

from typing import Any

import numpy as np

from askesis.environments.adapters.game import IllegalAct
from askesis.environments.adapters.gymnasium.codec import observation_text, parse_action
from askesis.streams import generator, seed_of

__all__ = ["RandomMover", "legal_moves", "parse_move", "seen_text"]


def legal_moves(observation: Any, info: Any) -> list[int] | None:
    """Numbers of the legal actions, where the environment gives a mask; None: all of them."""
    for holder in (observation, info):
        if isinstance(holder, dict) and holder.get("action_mask") is not None:
            return [int(number) for number in np.flatnonzero(np.asarray(holder["action_mask"]))]
    return None


def parse_move(space: Any, text: str, legal: list[int] | None) -> Any:
    """The action that ``text`` means; IllegalAct for one that the mask forbids."""
    action = parse_action(space, text)
    if legal is not None and int(action) - int(getattr(space, "start", 0)) not in legal:
        raise IllegalAct(f"write one of: {', '.join(map(str, legal))}")
    return action


def seen_text(observation: Any, legal: list[int] | None, drawn: str | None = None) -> str:
    """An observation as text, with the legal actions when they are known; ``drawn`` stands for it when given."""
    if isinstance(observation, dict) and "action_mask" in observation:
        kept = {key: value for key, value in observation.items() if key != "action_mask"}
        observation = kept["observation"] if kept.keys() == {"observation"} else kept
    text = observation_text(observation) if drawn is None else drawn
    return text if legal is None else f"{text}\nlegal: {', '.join(map(str, legal))}"


class RandomMover:
    """Draws legal actions, each with equal chance, from a stream of its own."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = generator(seed, "pettingzoo", "opponent")
        self._drawn = 0

    def __call__(self, space: Any, legal: list[int] | None) -> Any:
        """An action of ``space``."""
        self._drawn += 1
        if legal is not None:
            return space.start + legal[int(self._rng.integers(len(legal)))]
        space.seed(seed_of(self._seed, "pettingzoo", "space", self._drawn) % 2**31)
        return space.sample()
