"""The servers behind an engine: started or reached, given weights, verified, started again. Plain calls, any thread."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch

from askesis.engines.vllm.answers import read_completion, request_body
from askesis.engines.vllm.client import Address
from askesis.engines.vllm.probing import Probe, check_sampling, judge, sampling_probe
from askesis.engines.vllm.process import ServerProcess, command_of, find_vllm
from askesis.engines.vllm.weights import Snapshot
from askesis.engines.vllm.wire import Facts, ReplicaLost, Server, check_url
from askesis.errors import EngineError, RecipeError
from askesis.policy.loading import Policy
from askesis.recipe.schema import VllmSection

__all__ = ["Fleet", "Launch", "Replica"]

Launch = Callable[[int], ServerProcess]
"""Starts the server of a replica."""

_POLL_S = 0.25
_LIMIT = {"float32": 1e-3}
_LIMIT_COARSE = 0.1
"""Nats, mean over the probe; where the learner or the server computes in half precision."""


@dataclass(slots=True)
class Replica:
    """One server, and what is known of it. ``process`` is None for a server that somebody else started."""

    index: int
    server: Server
    process: ServerProcess | None
    facts: Facts | None = None
    alive: bool = False


class Fleet:
    """All replicas of an engine.

    Args:
        policy: whose weights they sample from.
        settings: ``[engine.vllm]`` of a recipe.
        max_batch: sequences that each samples side by side.
        context_length: tokens of prompt and answer that must fit.
        folder: for logs.
        launch: how a server is started; by default with vLLM.
    """

    def __init__(
        self,
        policy: Policy,
        settings: VllmSection,
        *,
        max_batch: int,
        context_length: int,
        folder: Path,
        launch: Launch | None = None,
    ) -> None:
        self._policy, self._settings, self._context_length = policy, settings, context_length
        self._key = os.environ.get("ASKESIS_VLLM_KEY", "")
        length = settings.max_model_len or context_length
        if length < context_length:
            raise RecipeError(
                "the servers would have less room than the run needs",
                where="engine.vllm.max_model_len",
                got=length,
                expected=f"at least {context_length}, which is sampling.max_context or the model's own limit",
                next_step=f"set sampling.max_context={length}, or leave engine.vllm.max_model_len out",
            )
        self._urls = [check_url(url, self._key) for url in settings.urls]
        if not self._urls and launch is None:
            find_vllm(settings.python)
        command = command_of(
            settings,
            model=policy.name,
            dtype=_dtype(policy) if settings.dtype == "auto" else settings.dtype,
            max_model_len=length,
            max_batch=max_batch,
        )
        devices = settings.devices or [""] * settings.replicas

        def start(index: int) -> ServerProcess:
            number = next(n for n in count() if not (folder / f"vllm-{index}-{n}.log").exists())
            return ServerProcess(command, log=folder / f"vllm-{index}-{number}.log", devices=devices[index])

        self._launch = launch or start
        self._turn = threading.Lock()
        self._closed = False
        self.replicas: list[Replica] = []
        self.retired: list[Server] = []
        """Those of processes that were replaced; they may still hold connections."""
        self.restarts = 0
        self.gap = 0.0
        """Largest mean gap that the last probe found, nats."""

    @property
    def live(self) -> list[Replica]:
        """Those that answer, as far as is known."""
        return [replica for replica in self.replicas if replica.alive]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """How others reach those that answer."""
        return tuple(
            Address(
                index=replica.index,
                url=replica.server.url,
                key=replica.process.key if replica.process is not None else self._key,
                model=replica.facts.model,
            )
            for replica in self.live
            if replica.facts is not None
        )

    @property
    def describes(self) -> str:
        """One line for a report."""
        known = next((r.facts for r in self.replicas if r.facts), None)
        if known is None:
            return "vllm"
        kind = "replica" if len(self.replicas) == 1 else "replicas"
        return f"vllm {known.version}, {len(self.replicas)} {kind}{'' if known.has_door else ', without extension'}"

    def start(self, snapshot: Snapshot, probe: Probe) -> None:
        """Start or reach all of them, and give them the weights.

        Raises:
            EngineError: one does not come up in time, serves something else, or does not hold what it was given.
        """
        with self._turn:
            if self._urls:
                self.replicas = [
                    Replica(i, Server(f"replica {i}", url, self._key), None) for i, url in enumerate(self._urls)
                ]
            else:
                self.replicas = [self._started(index) for index in range(self._settings.replicas)]
            with ThreadPoolExecutor(len(self.replicas)) as pool:
                list(pool.map(self._come_up, self.replicas))
                list(pool.map(lambda replica: self._give(replica, snapshot, probe, None), self.replicas))
            for replica in self.replicas:
                replica.alive = True

    def push(self, snapshot: Snapshot, probe: Probe, before: Probe | None) -> None:
        """Give the weights to every replica, also to those that had been lost and come back.

        Raises:
            EngineError: a replica does not hold what it was given, or none is left.
        """
        with self._turn:
            self.gap = 0.0
            lost = self._each(lambda replica: self._give(replica, snapshot, probe, before), self.live)
            self._bring_back(snapshot, probe)
            if not self.live:
                raise lost or EngineError("no replica is left")

    def revive(self, snapshot: Snapshot, probe: Probe) -> None:
        """Bring back what can be, when nothing is left. Raises EngineError when nothing can."""
        with self._turn:
            if not self.live:  # somebody else may have been quicker
                error = self._bring_back(snapshot, probe)
                if not self.live:
                    raise error or EngineError(
                        "all replicas are lost",
                        where=", ".join(replica.server.name for replica in self.replicas),
                        got=f"{self.restarts} restarts, at most engine.vllm.restarts={self._settings.restarts}",
                        next_step="look into the servers' logs; the run can be resumed",
                    )

    def verify(self, snapshot: Snapshot, probe: Probe) -> None:
        """Does each live replica still hold the weights of ``snapshot``? Raises EngineError for one that does not."""
        with self._turn:
            for replica in self.live:
                timeout_s = self._settings.update_timeout_s
                if replica.facts and replica.facts.has_door:
                    version, content, intact = replica.server.held(timeout_s)
                    if (version, content, intact) != (snapshot.version, snapshot.content, True):
                        raise _wrong(replica, f"version {version}, sha256 {content[:12]}, intact: {intact}", snapshot)
                else:
                    self._probe(replica, probe, None)

    def lose(self, replica: Replica, error: EngineError) -> None:
        """It is counted out until the next update."""
        replica.alive = False
        tail = ""
        if replica.process is not None:
            replica.process.kill()
            tail = f"; last in {replica.process.log}:\n{replica.process.tail()[-500:]}"
        logging.getLogger(__name__).warning("%s is lost: %s%s", replica.server.name, error, tail)

    def close(self) -> None:
        """End what was started. A start that is under way gives up."""
        self._closed = True
        for replica in self.replicas:
            replica.alive = False
            if replica.process is not None:
                replica.process.close()

    def _started(self, index: int) -> Replica:
        process = self._launch(index)
        return Replica(index, Server(f"replica {index}", process.url, process.key), process)

    def _come_up(self, replica: Replica) -> None:
        """Wait until it answers, and look whether it serves what we need."""
        waits = self._settings.start_timeout_s if replica.process else 0.0
        deadline = time.monotonic() + waits
        while True:
            if replica.process is not None and not replica.process.is_alive:
                raise EngineError(
                    "the server ended while it started",
                    where=f"{replica.server.name}, log {replica.process.log}",
                    got=_last_lines(replica.process.tail()),
                    next_step="look into the log; engine.vllm.arguments can change how the server is started",
                )
            try:
                replica.facts = replica.server.look()
                break
            except ReplicaLost as error:
                if replica.process is None:
                    raise
                if self._closed or time.monotonic() >= deadline:
                    raise _too_late(replica, waits, error) from error
            time.sleep(_POLL_S)
        self._check(replica, replica.facts)

    def _check(self, replica: Replica, facts: Facts) -> None:
        """Refuse a server that serves something else."""
        where = replica.server.name
        if facts.logprobs_mode not in (None, "processed_logprobs"):
            raise EngineError(
                "the server would not give the log-probabilities of what it samples from",
                where=where,
                got=f"logprobs_mode={facts.logprobs_mode}",
                next_step="start it with --logprobs-mode processed_logprobs",
            )
        model = self._policy.model
        ours = type(model.get_base_model() if hasattr(model, "peft_config") else model).__name__
        if facts.architectures and ours not in facts.architectures:
            raise EngineError(
                "the server serves another model",
                where=where,
                got=f"{facts.model}: {', '.join(facts.architectures)}",
                expected=f"{self._policy.name}: {ours}",
                next_step="serve the model that policy.name says",
            )
        size = vocab_size(self._policy)
        if facts.vocab_size not in (None, size):
            raise EngineError(
                "the server's vocabulary is not the policy's",
                where=where,
                got=f"{facts.vocab_size} tokens, model {facts.model}",
                expected=f"{size} tokens, model {self._policy.name}",
                next_step="serve the model that policy.name says, with its own tokenizer",
            )
        if facts.max_model_len < self._context_length:
            raise EngineError(
                "the server's context is too short",
                where=where,
                got=f"{facts.max_model_len} tokens",
                expected=f"at least {self._context_length}",
                next_step=f"set sampling.max_context={facts.max_model_len}, or start the server with --max-model-len "
                f"{self._context_length}",
            )

    def _give(self, replica: Replica, snapshot: Snapshot, probe: Probe, before: Probe | None) -> None:
        """Load, and verify by hash and probe; a replica that is new to us also shows how it samples."""
        facts = replica.facts
        assert facts is not None
        timeout_s = self._settings.update_timeout_s
        held = replica.server.load(snapshot.file, snapshot.version, has_door=facts.has_door, timeout_s=timeout_s)
        if held not in (None, snapshot.content):
            raise _wrong(replica, f"sha256 {str(held)[:12]}", snapshot)
        self._probe(replica, probe, before)
        if not replica.alive:
            request = sampling_probe(probe)
            answer = replica.server.draw(request_body(request, facts.model), timeout_s)
            where, size = replica.server.name, vocab_size(self._policy)
            done = read_completion(answer, request, version=snapshot.version, vocab_size=size, where=where)
            check_sampling(self._policy, request, done, limit=self._limit(facts), where=where)

    def _probe(self, replica: Replica, probe: Probe, before: Probe | None) -> None:
        facts = replica.facts
        assert facts is not None
        theirs = replica.server.score(probe.sequences, facts.model, self._settings.update_timeout_s)
        gap = judge(theirs, probe, before, limit=self._limit(facts), where=replica.server.name)
        self.gap = max(self.gap, gap)

    def _limit(self, facts: Facts) -> float:
        if self._settings.max_gap:
            return self._settings.max_gap
        coarse = {_dtype(self._policy), facts.dtype or self._settings.dtype} - {"float32", "auto"}
        return _LIMIT_COARSE if coarse else _LIMIT["float32"]

    def _bring_back(self, snapshot: Snapshot, probe: Probe) -> EngineError | None:
        """Start lost servers anew; see whether those of others answer again. The last error, when one fails."""
        gone = [replica for replica in self.replicas if not replica.alive]
        for replica in gone:
            if replica.process is not None and not self._closed:
                if self.restarts >= self._settings.restarts:
                    continue
                self.restarts += 1
                replica.process.close()
                fresh = self._started(replica.index)
                self.retired.append(replica.server)
                replica.server, replica.process = fresh.server, fresh.process
        ready = [replica for replica in gone if replica.process is None or replica.process.is_alive]

        def back(replica: Replica) -> None:
            self._come_up(replica)
            self._give(replica, snapshot, probe, None)
            replica.alive = True

        return self._each(back, ready)

    def _each(self, work: Callable[[Replica], None], replicas: Sequence[Replica]) -> EngineError | None:
        """Side by side. One that does not answer is lost, and its error returned; any other error is raised."""
        lost: EngineError | None = None
        if not replicas:
            return None
        with ThreadPoolExecutor(len(replicas)) as pool:
            for replica, task in [(replica, pool.submit(work, replica)) for replica in replicas]:
                try:
                    task.result()
                except ReplicaLost as error:
                    self.lose(replica, error)
                    lost = error
        return lost


def vocab_size(policy: Policy) -> int:
    """Ids that the model knows."""
    return int(policy.model.get_input_embeddings().num_embeddings)


def _dtype(policy: Policy) -> str:
    """In which the model computes; adapters may be kept in a finer one."""
    dtypes = {p.dtype for p in policy.model.parameters() if not p.requires_grad} or {policy.model.dtype}
    return str((dtypes - {torch.float32} or dtypes).pop()).removeprefix("torch.")


def _wrong(replica: Replica, got: str, snapshot: Snapshot) -> EngineError:
    return EngineError(
        "a sampler does not hold the learner's weights",
        where=replica.server.name,
        got=got,
        expected=f"version {snapshot.version}, sha256 {snapshot.content[:12]}",
        next_step="see who else sends weights there, and whether it sees the same files in engine.vllm.weights_dir",
    )


def _too_late(replica: Replica, waited_s: float, error: EngineError) -> EngineError:
    assert replica.process is not None
    return EngineError(
        "the server did not come up in time",
        where=f"{replica.server.name}, log {replica.process.log}",
        got=f"{error.got} after {waited_s:g} s; last in the log: {_last_lines(replica.process.tail())}",
        next_step="raise engine.vllm.start_timeout_s, or look into the log",
    )


def _last_lines(text: str) -> str:
    return " | ".join(line.strip() for line in text.splitlines()[-3:])[-190:]
