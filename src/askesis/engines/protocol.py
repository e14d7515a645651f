"""The seam between agents and whatever samples tokens: ids in, ids and log-probabilities out, never text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from askesis.errors import EngineError

__all__ = ["Capabilities", "Completion", "Engine", "Remote", "Request", "Sampling", "Swaps", "TracksSessions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How one answer is drawn. ``temperature=0`` takes the most probable token; ``top_k=0`` and ``top_p=1`` cut
    nothing.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 96

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and 0 < self.top_p <= 1 and self.top_k >= 0 and self.max_tokens >= 1):
            raise EngineError(
                "sampling parameters are out of range",
                got=self.to_dict(),
                expected="temperature >= 0, 0 < top_p <= 1, top_k >= 0, max_tokens >= 1",
            )

    @property
    def truncates(self) -> bool:
        """Some tokens get probability zero, so behaviour log-probabilities are not the model's own."""
        return self.temperature == 0 or self.top_p < 1 or self.top_k > 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "max_tokens": self.max_tokens,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A prefix to continue.

    Args:
        prefix: token ids, at least one.
        sampling: how to draw.
        stop_ids: ids that end the answer; the one that ends it is part of the answer.
        seed: names the random stream of this answer. The draw depends on the seed and the prefix, not on what else is
            in the batch.
        session: id of the session that asks, see :class:`TracksSessions`; empty for a call outside any session.
        variant: which of the engine's sets of weights samples, for an engine that has several.
    """

    prefix: tuple[int, ...]
    sampling: Sampling
    stop_ids: tuple[int, ...]
    seed: int
    session: str = ""
    variant: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What was sampled.

    Args:
        tokens: ids [n], n >= 1.
        logprobs: natural log of the probability of each token under the distribution that it was really drawn from,
            temperature and
            truncation included, [n].
        finish: ``stop`` (a stop id was drawn) or ``length``.
        version: of the weights that sampled, the first tokens of it if they changed meanwhile.
        swaps: number of the first token drawn from later weights, and their version, for each change.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: str
    version: int
    swaps: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do."""

    token_exact: bool
    """Takes ids, returns ids and their log-probabilities. Without it a trace cannot be trained on."""
    shares_weights: bool
    """Uses the learner's own tensors, so that an update needs no copy."""
    kernel: str = ""
    """What computes the logits, and why it is not the fastest when it is not."""
    meters_itself: bool = False
    """Charges its own computing to the present meter (:mod:`askesis.metering`); of others, calls under way count."""


class Engine(Protocol):
    """Continues prefixes. Requests that arrive together are sampled together."""

    @property
    def version(self) -> int:
        """Version of the weights that sample now."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        ...

    async def generate(self, request: Request) -> Completion:
        """Continue one prefix. Raises ContextOverflow when it does not fit, EngineError when sampling fails."""
        ...

    def publish(self, version: int) -> None:
        """Announce that the weights have changed to ``version``."""
        ...

    def weights_hash(self) -> str:
        """Hash of the weights that sample now, comparable with the learner's."""
        ...

    async def close(self) -> None:
        """Release what the engine holds."""
        ...


@runtime_checkable
class Remote(Protocol):
    """What an engine offers besides when other processes sample, from a copy of the weights."""

    async def start(self) -> None:
        """Start or reach what samples, and give it the present weights. Before anything else."""
        ...

    async def deliver(self) -> None:
        """Bring what was published to everything that samples, and verify it. Raises EngineError when that fails."""
        ...

    @property
    def metrics(self) -> dict[str, float]:
        """What happened so far, by name."""
        ...


@runtime_checkable
class Swaps(Protocol):
    """What an engine offers besides whose weights may change while it samples."""

    async def swap(self, version: int, load: Callable[[], None]) -> None:
        """Change the weights to ``version`` by ``load``, between two tokens: what is being sampled goes on with the new
        ones, and reads its prefix again. Returns when that is done; raises what ``load`` raises.
        """
        ...


@runtime_checkable
class TracksSessions(Protocol):
    """What an engine offers besides when its batches depend on which sessions are open."""

    def begin(self) -> None:
        """A rollout begins: nothing that earlier ones left behind may influence it."""
        ...

    def enter(self, session: str) -> None:
        """``session`` is open: it will ask again, or leave."""
        ...

    def leave(self, session: str) -> None:
        """``session`` will not ask again. Unknown sessions are ignored."""
        ...
