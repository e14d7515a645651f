"""Which weights sample: the learner's own, or a copy that is renewed only now and then."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

import torch

from askesis.engines import Engine, Remote, Swaps
from askesis.engines.embedded import Admission, EmbeddedEngine
from askesis.engines.timed import TimedEngine
from askesis.engines.variants import VariantDecoder
from askesis.engines.verify import open_variants
from askesis.errors import CheckpointError
from askesis.policy.loading import Policy
from askesis.training.simulation import Simulation

__all__ = ["Sampler", "load_weights"]

T = TypeVar("T")

_SMALL = 4_000_000
"""Parameters. At 0.9 M one core samples a quarter faster than two, at 25 M two are faster (benchmarks/NOTES.md)."""


class Sampler:
    """The engine that training samples from, and the one that evaluation does.

    With ``staleness`` 1 both are one engine on the learner's tensors, or the ``remote`` one. With N > 1 training
    samples from a copy that gets the learner's weights after every N updates: a batch is then up to N - 1 updates old
    when it is learned from.
    ``overlaps``: training samples while the learner computes, from a copy and in a thread of its own; the copy gets the
    learner's weights by :meth:`take`.
    ``keeps_first`` keeps a second copy that is never renewed: the policy as it was given, before any checkpoint.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        max_batch: int,
        staleness: int,
        admission: Admission = "lockstep",
        kv_tokens: int = 0,
        keeps_first: bool = False,
        remote: Engine | None = None,
        overlaps: bool = False,
        simulation: Simulation | None = None,
    ) -> None:
        self._policy = policy
        self._staleness = staleness
        self._overlaps = overlaps
        self._simulation = simulation
        self._followers: list[Callable[[int, Policy], None]] = []
        self._pauses: list[Callable[[], AbstractAsyncContextManager[None]]] = []
        has_copy = staleness > 1 or (overlaps and remote is None)
        self._copy = replace(policy, model=copy.deepcopy(policy.model)) if has_copy else None
        # One thread for all tensor work, the learner's too: each thread that uses OpenMP keeps workers of its own, and
        # those of two threads fight over the cores.
        self._thread = _thread(policy, "askesis-compute")

        def engine(
            policy: Policy,
            decoder: VariantDecoder | None = None,
            *,
            thread: Executor = self._thread,
            admission: Admission = admission,
        ) -> EmbeddedEngine:
            made = (EmbeddedEngine if simulation is None else TimedEngine)(
                policy,
                max_batch=max_batch,
                admission=admission,
                kv_tokens=kv_tokens or None,
                thread=thread,
                decoder=decoder,
            )
            if isinstance(made, TimedEngine) and simulation is not None:
                made.token_s = simulation.token_s
            return made

        self._make = engine
        self._second: ThreadPoolExecutor | None = None
        self._variants: tuple[EmbeddedEngine, VariantDecoder] | None = None
        self.current: Engine = remote or engine(policy)
        """Samples from the present weights."""
        self.engine: Engine = self.current
        """Samples the training batches."""
        if self._copy is not None and overlaps:
            self._second = _thread(policy, "askesis-sampling")
            # Sessions that wait for a slow environment must not hold up the others.
            self.engine = engine(self._copy, thread=self._second, admission="continuous")
        elif self._copy is not None:
            self.engine = engine(self._copy)
        self.first = engine(replace(policy, model=copy.deepcopy(policy.model))) if keeps_first else None
        """Samples from the weights of the start."""

    async def variants(self, count: int) -> tuple[EmbeddedEngine, VariantDecoder]:
        """An engine that samples from ``count`` sets of weights, and where these are put. Made once.

        Raises:
            EngineError: this model cannot be sampled so.
        """
        if self._variants is None:
            decoder = await self.compute(lambda: open_variants(self._policy, count))
            self._variants = self._make(self._policy, decoder), decoder
        return self._variants

    async def compute(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the thread of the engines, while they sample nothing. The one that overlaps has another."""
        if self._simulation is not None:
            await asyncio.sleep(self._simulation.compute_s)
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def start(self) -> None:
        """Start what samples in other processes."""
        if isinstance(self.current, Remote):
            await self.current.start()

    async def deliver(self) -> None:
        """Bring what was published to what samples in other processes. Raises EngineError when that fails."""
        if isinstance(self.current, Remote):
            async with AsyncExitStack() as stack:
                for pause in self._pauses:
                    await stack.enter_async_context(pause())
                await self.current.deliver()

    def pause_with(self, pause: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        """Deliver weights only within ``pause()``: for those who ask other processes' engines past this one."""
        self._pauses.append(pause)

    @property
    def metrics(self) -> dict[str, float]:
        """Of what samples in other processes."""
        return self.current.metrics if isinstance(self.current, Remote) else {}

    def follow(self, follower: Callable[[int, Policy], None]) -> None:
        """``follower(version, policy)`` is called with the present weights, and with all that are published from now
        on, while they do not change.
        """
        self._followers.append(follower)
        follower(self.current.version, self._policy)
        if self._copy is not None:
            follower(self.engine.version, self._copy)

    def _tell(self, version: int, policy: Policy) -> None:
        for follower in self._followers:
            follower(version, policy)

    def publish(self, version: int) -> None:
        """The learner's weights have become ``version``."""
        if not (self._overlaps and self._copy is None):
            self.current.publish(version)
        self._tell(version, self._policy)
        if self._copy is not None and not self._overlaps and version % self._staleness == 0:
            load_weights(self._copy, dict(self._policy.trainable()))
            self.engine.publish(version)

    async def take(self, version: int) -> None:
        """What overlaps takes the learner's weights, which are ``version`` and do not change meanwhile. Sessions that
        are in play go on with them: from their next token, or, on servers, from their next call.
        """
        if self._copy is None:
            self.current.publish(version)
            await self.deliver()
            return
        own, learned = self._copy, dict(self._policy.trainable())
        assert isinstance(self.engine, Swaps)
        await self.engine.swap(version, lambda: load_weights(own, learned))

    async def close(self) -> None:
        """Release the engines."""
        await self.current.close()
        if self.engine is not self.current:
            await self.engine.close()
        if self._variants is not None:
            await self._variants[0].close()
        if self.first is not None:
            await self.first.close()
        for thread in (self._thread, self._second):
            if thread is not None:
                await asyncio.to_thread(thread.shutdown)

    def state_dict(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Weights of the copy (none when there is no copy), and the rest as JSON-ready values."""
        weights = (
            {} if self._copy is None or self._overlaps else {name: p.detach() for name, p in self._copy.trainable()}
        )
        return weights, {"version": self.engine.version}

    def load_state_dict(self, weights: Mapping[str, torch.Tensor], values: Mapping[str, Any], version: int) -> None:
        """Put back what :meth:`state_dict` gave, with the learner at ``version``."""
        self.current.publish(version)
        self._tell(version, self._policy)
        if self._copy is not None:
            is_saved = not self._overlaps
            load_weights(self._copy, weights if is_saved else dict(self._policy.trainable()))
            self.engine.publish(int(values["version"]) if is_saved else version)
            self._tell(self.engine.version, self._copy)


def _thread(policy: Policy, name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(
        max_workers=1,
        thread_name_prefix=name,
        initializer=torch.set_num_threads,
        initargs=(_sampling_threads(policy),),
    )


def _sampling_threads(policy: Policy) -> int:
    """Cores for one operation of the engine. A small model's operations end before a second core has joined in."""
    return 1 if policy.num_parameters < _SMALL else torch.get_num_threads()


def load_weights(policy: Policy, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy ``weights`` into the trainable tensors of ``policy``. Raises CheckpointError when they do not fit."""
    own = dict(policy.trainable())
    if own.keys() != weights.keys() or any(own[n].shape != t.shape for n, t in weights.items()):
        raise CheckpointError("the checkpoint's weights belong to another model", where=policy.name)
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)
