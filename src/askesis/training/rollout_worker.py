"""A process that plays groups for a run: it holds a copy of the policy and samples from it, or asks the run's servers.

It is told what to play and by which weights, and keeps nothing of it: stores, judgements of completeness and learning
are the driver's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import torch

from askesis.engines import Engine
from askesis.engines.vllm.client import Servers, VllmClient
from askesis.environments.hosting import Crew, hosted
from askesis.errors import EngineError
from askesis.policy.loading import Policy
from askesis.policy.voice import Facts, Voice, load_voice
from askesis.recipe import Recipe
from askesis.rollout import GroupSpec, RolloutRunner
from askesis.training.dispatch import Played
from askesis.training.evaluating import evaluation_sampling
from askesis.training.pieces import make_runner, open_policy, set_threads, state_evaluator
from askesis.training.preflight import open_world
from askesis.training.published import digest_of, frozen_digest
from askesis.training.sampler import Sampler, load_weights

__all__ = ["RolloutWorker"]


class RolloutWorker:
    """Plays groups in a process of its own, within one event loop.

    Args:
        recipe: values of the run's recipe, as ``Recipe.model_dump`` gives them.
        facts: of the policy, when it is sampled by the run's servers; without them it is loaded and sampled here.
        crew: where the environments are, if not here.
    """

    def __init__(self, recipe: Mapping[str, Any], *, facts: Facts | None = None, crew: Crew | None = None) -> None:
        self._recipe = Recipe.model_validate(recipe)
        set_threads(self._recipe.run.threads)
        world = open_world(self._recipe)
        self._world = world if crew is None else hosted(world, crew)
        self._crew = crew
        self._source: _Model | _Client = _Model(self._recipe) if facts is None else _Client(self._recipe, facts)
        self._runners: dict[bool, RolloutRunner] = {}
        self._in_play = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def ready(self) -> str:
        """Everything is loaded: the hash of what the policy is beside its trainable weights."""
        if self._crew is not None:
            await self._crew.start()
        return self._source.frozen

    async def load(self, version: int, content: Mapping[str, torch.Tensor] | Servers) -> str:
        """Sample from these weights; the hash of what is then held. What is still in play ends first."""
        await self._idle.wait()
        return await self._source.take(version, content)

    async def play(self, spec: GroupSpec, version: int) -> Played:
        """Play a group by the weights of ``version``.

        Raises:
            EngineError: this worker holds other weights.
        """
        engine = self._source.engine
        if engine.version != version:
            raise EngineError(
                "a worker was asked for weights that it does not hold",
                where=spec.group_id,
                got=f"version {engine.version}",
                expected=f"version {version}",
            )
        runner = self._runner(trains=spec.purpose == "train")
        self._in_play += 1
        self._idle.clear()
        try:
            (group,) = await runner.run([spec], policy_version=version)
        finally:
            self._in_play -= 1
            if not self._in_play:
                self._idle.set()
        return Played(group, () if self._crew is None else self._crew.take_notes())

    async def close(self) -> None:
        """Release what it holds, for one that ends before its process does."""
        await self._source.close()
        if self._crew is not None:
            await self._crew.close()

    def _runner(self, *, trains: bool) -> RolloutRunner:
        """A fresh one when nothing else is in play, so that what was played before influences nothing."""
        if not self._in_play:
            self._runners.clear()
        if trains not in self._runners:
            self._runners[trains] = make_runner(
                self._recipe,
                self._source.policy,
                self._source.engine,
                self._world,
                None if trains else evaluation_sampling(self._recipe),
                states=state_evaluator(self._recipe) if trains else None,
                first=self._source.first if trains else None,
            )
        return self._runners[trains]


class _Model:
    """The policy in this process, with an engine of its own."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.policy: Policy = open_policy(recipe.policy, seed=recipe.run.seed)
        self.frozen = frozen_digest(self.policy)
        section = recipe.engine
        self._sampler = Sampler(
            self.policy,
            max_batch=section.max_batch,
            staleness=1,
            admission=section.admission,
            kv_tokens=section.kv_tokens,
            keeps_first=recipe.states.evaluator == "frozen",
        )
        self.engine: Engine = self._sampler.current
        self.first: Engine | None = self._sampler.first

    async def take(self, version: int, content: Mapping[str, torch.Tensor] | Servers) -> str:
        assert not isinstance(content, Servers)

        def load() -> str:
            load_weights(self.policy, content)
            return digest_of(self.policy)

        digest = await self._sampler.compute(load)
        self._sampler.publish(version)
        return digest

    async def close(self) -> None:
        await self._sampler.close()


class _Client:
    """The run's servers, and here only what talks to them."""

    def __init__(self, recipe: Recipe, facts: Facts) -> None:
        self.policy: Voice = load_voice(facts)
        self.frozen = self.policy.digest
        self._client = VllmClient(
            name=facts.name,
            context_length=min(recipe.sampling.max_context or facts.context_length, facts.context_length),
            vocab_size=facts.vocab_size,
            request_timeout_s=recipe.engine.vllm.request_timeout_s,
        )
        self.engine: Engine = self._client
        self.first: Engine | None = None

    async def take(self, version: int, content: Mapping[str, torch.Tensor] | Servers) -> str:
        assert isinstance(content, Servers) and content.version == version
        await self._client.use(content)
        return ""

    async def close(self) -> None:
        await self._client.close()
