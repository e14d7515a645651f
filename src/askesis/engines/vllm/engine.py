"""Sampling by vLLM servers: the asyncio side."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path

from askesis.engines.protocol import Capabilities, Completion, Request, Sampling
from askesis.engines.vllm.answers import read_completion, request_body
from askesis.engines.vllm.client import Servers
from askesis.engines.vllm.fleet import Fleet, Launch, Replica, vocab_size
from askesis.engines.vllm.probing import Probe
from askesis.engines.vllm.routing import choose
from askesis.engines.vllm.weights import Snapshot, write_snapshot
from askesis.engines.vllm.wire import ReplicaLost
from askesis.errors import ContextOverflow, EngineError
from askesis.policy.loading import Policy
from askesis.recipe.schema import VllmSection

__all__ = ["VllmEngine"]

_WORK_S = 30.0
"""For one token, from a server that is thought to be lost."""


class VllmEngine:
    """An engine in front of one or more vLLM servers. Use it from one event loop; ``start`` before anything else.

    A session stays with one server as long as that lives; when it dies, its sessions move, and an answer that was under
    way is drawn again from the whole prefix: nothing of it had been kept. New weights are written at ``publish``, and
    brought to every server and verified by ``deliver``, or by the next call that needs them.

    Args:
        policy: whose weights the servers sample from.
        settings: ``[engine.vllm]`` of a recipe.
        max_batch: sequences that each server samples side by side.
        context_length: tokens of prompt and answer that must fit.
        folder: for the servers' logs, and for weights on their way.
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
        self._fleet = Fleet(
            policy, settings, max_batch=max_batch, context_length=context_length, folder=folder, launch=launch
        )
        self._folder = folder.resolve()
        self._vocab_size = vocab_size(policy)
        self._version = 0
        self._weights_dir: Path | None = None
        self._snapshot: Snapshot | None = None
        self._probe: Probe | None = None
        self._before: Probe | None = None
        self._delivered: Snapshot | None = None
        self._turn = asyncio.Lock()
        self._open, self._idle = asyncio.Event(), asyncio.Event()
        self._open.set()
        self._idle.set()
        self._under_way = 0
        self._placed: dict[str, int] = {}
        self._moved = self._repeated = 0
        self._update_s = 0.0
        self._closed = False

    @property
    def version(self) -> int:
        """Version of the weights that sample now."""
        return self._version

    @property
    def capabilities(self) -> Capabilities:
        """Token-exact, on a copy of the weights."""
        return Capabilities(token_exact=True, shares_weights=False, kernel=self._fleet.describes)

    @property
    def metrics(self) -> dict[str, float]:
        """What happened so far: sessions that moved to another server, answers drawn again, servers started again; and
        of the last update its seconds and the mean gap of log-probabilities that the probe found (nats).
        """
        return {
            "engine_sessions_moved": float(self._moved),
            "engine_repeated": float(self._repeated),
            "engine_restarts": float(self._fleet.restarts),
            "engine_update_seconds": self._update_s,
            "engine_gap": self._fleet.gap,
        }

    @property
    def servers(self) -> Servers:
        """Where others may ask for answers by the weights of ``version``, when these have been delivered."""
        return Servers(version=self._version, replicas=self._fleet.addresses)

    async def start(self) -> None:
        """Start or reach the servers and give them the present weights; see :class:`askesis.engines.Remote`."""
        snapshot, probe = self._write(self._version)
        await asyncio.to_thread(self._fleet.start, snapshot, probe)
        self._delivered, self._before = snapshot, probe

    def publish(self, version: int) -> None:
        """The learner's weights have become ``version``: write them down as they are now."""
        self._version = version
        if self._delivered is not None:
            self._write(version)

    async def deliver(self) -> None:
        """Bring the published weights to every server, and verify them; see :class:`askesis.engines.Remote`."""
        async with self._turn:
            if self._delivered is self._snapshot:
                return
            self._open.clear()
            try:
                async with asyncio.timeout(self._settings.request_timeout_s):
                    await self._idle.wait()  # an answer ends with the weights that it began with
                await asyncio.to_thread(self._push)
            except TimeoutError:
                raise EngineError(
                    "answers are still being sampled, so the weights cannot be changed",
                    got=f"{self._under_way} answers after engine.vllm.request_timeout_s",
                ) from None
            finally:
                self._open.set()

    def weights_hash(self) -> str:
        """The learner's hash of the weights that sample, if every server proves to hold them; otherwise EngineError."""
        if self._delivered is not self._snapshot:
            self._push()
        snapshot, probe = self._held()
        self._fleet.verify(snapshot, probe)
        return snapshot.weights

    def begin(self) -> None:
        """See :class:`askesis.engines.TracksSessions`."""

    def enter(self, session: str) -> None:
        """See :class:`askesis.engines.TracksSessions`."""

    def leave(self, session: str) -> None:
        """See :class:`askesis.engines.TracksSessions`."""
        self._placed.pop(session, None)

    async def generate(self, request: Request) -> Completion:
        """Continue one prefix; see :class:`askesis.engines.Engine`."""
        self._check(request)
        if self._delivered is not self._snapshot:
            await self.deliver()
        await self._open.wait()
        self._under_way += 1
        self._idle.clear()
        try:
            return await self._generate(request)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def close(self) -> None:
        """End the servers that were started, and remove the weights that were written for them."""
        self._closed = True
        for server in (*self._fleet.retired, *(replica.server for replica in self._fleet.replicas)):
            await server.close()
        await asyncio.to_thread(self._fleet.close)
        if self._weights_dir is not None:
            shutil.rmtree(self._weights_dir, ignore_errors=True)

    async def _generate(self, request: Request) -> Completion:
        lost: EngineError | None = None
        for _ in range(2 * len(self._fleet.replicas) + 1):
            replica = await self._pick(request)
            assert replica.facts is not None
            body = request_body(request, replica.facts.model)
            version = self._version if self._delivered is None else self._delivered.version
            try:
                answer = await self._ask(replica, body)
            except ReplicaLost as error:
                lost = error
                self._repeated += 1
                continue
            return read_completion(
                answer, request, version=version, vocab_size=self._vocab_size, where=replica.server.name
            )
        raise lost or EngineError("no replica is left")

    async def _ask(self, replica: Replica, body: dict[str, object]) -> object:
        """Ask one server. Raises ReplicaLost when it is lost, EngineError when only this request fails."""
        again = False
        while True:
            try:
                return await replica.server.generate(body, self._settings.request_timeout_s)
            except ReplicaLost as error:
                if self._closed:
                    raise _closed() from error
                if not replica.alive or not await self._works(replica):
                    if replica.alive:
                        self._fleet.lose(replica, error)
                        self._moved += sum(place == replica.index for place in self._placed.values())
                    raise
                if error.silent or again:  # it works, so the fault is with this request
                    raise EngineError(
                        error.what,
                        where=error.where,
                        got=error.got,
                        next_step="raise engine.vllm.request_timeout_s if answers are this long"
                        if error.silent
                        else "look into the server's log",
                    ) from error
                again = True  # a connection that was closed just then
                self._repeated += 1

    async def _works(self, replica: Replica) -> bool:
        """It samples a token. A server whose engine hangs still answers when it is asked for its health."""
        if replica.process is not None and not replica.process.is_alive:
            return False
        assert replica.facts is not None
        token = Request(prefix=(0,), sampling=Sampling(max_tokens=1), stop_ids=(), seed=0)
        try:
            await replica.server.generate(request_body(token, replica.facts.model), _WORK_S)
        except EngineError:
            return False
        return True

    async def _pick(self, request: Request) -> Replica:
        """The session's server; when all are lost, after some have come back."""
        if self._closed:
            raise _closed()
        live = {replica.index: replica for replica in self._fleet.live}
        if not live:
            snapshot, probe = self._held()
            await asyncio.to_thread(self._fleet.revive, snapshot, probe)
            live = {replica.index: replica for replica in self._fleet.live}
        index = choose(request.session or str(request.seed), sorted(live))
        if request.session:
            self._placed[request.session] = index
        return live[index]

    def _write(self, version: int) -> tuple[Snapshot, Probe]:
        if self._weights_dir is None:
            self._weights_dir = self._make_weights_dir()
        old = self._snapshot
        self._snapshot = write_snapshot(self._policy, self._weights_dir, version)
        if old not in (None, self._delivered, self._snapshot) and old.folder != self._snapshot.folder:
            old.remove()
        self._probe = Probe.of(self._policy, self._context_length)
        return self._snapshot, self._probe

    def _make_weights_dir(self) -> Path:
        shared = self._settings.weights_dir
        if not shared:
            mine = self._folder / "weights"
            shutil.rmtree(mine, ignore_errors=True)  # of a process that was killed
            return mine
        try:
            return Path(tempfile.mkdtemp(prefix="askesis-weights-", dir=Path(shared).resolve(strict=True)))
        except OSError as error:
            raise EngineError(
                "the folder for weights cannot be used",
                where="engine.vllm.weights_dir",
                got=str(error),
                expected="a folder that exists, here and where the servers run",
            ) from error

    def _push(self) -> None:
        began = time.monotonic()
        snapshot, probe = self._held()
        old = self._delivered
        self._fleet.push(snapshot, probe, self._before)
        self._delivered, self._before = snapshot, probe
        if old is not None and old.folder != snapshot.folder:
            old.remove()
        self._update_s = time.monotonic() - began

    def _held(self) -> tuple[Snapshot, Probe]:
        if self._snapshot is None or self._probe is None:
            raise EngineError("the engine has not been started", next_step="await start() first")
        return self._snapshot, self._probe

    def _check(self, request: Request) -> None:
        """Refuse what the model cannot continue."""
        length = len(request.prefix) + request.sampling.max_tokens
        if not request.prefix or length > self._context_length:
            raise ContextOverflow(
                "a prompt does not fit into the model's context",
                where=self._policy.name,
                got=f"{len(request.prefix)} prompt tokens + {request.sampling.max_tokens} to sample",
                expected=f"at least one and at most {self._context_length} tokens in all",
                next_step="shorten the prompt, lower sampling.max_tokens, or raise sampling.max_context",
            )
        if not 0 <= min(request.prefix) <= max(request.prefix) < self._vocab_size:
            raise EngineError(
                "a prompt holds an id that the model does not know",
                where=self._policy.name,
                got=f"ids {min(request.prefix)} to {max(request.prefix)}",
                expected=f"0 to {self._vocab_size - 1}",
                next_step="use the tokenizer that belongs to the model",
            )


def _closed() -> EngineError:
    return EngineError("the engine is closed")
