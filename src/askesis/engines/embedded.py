"""Sampling in the process of the learner, on CPU or CUDA: the asyncio side.

Calls wait on the event loop; an admission rule decides when they go to the thread that samples, token by token.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Literal

from askesis.engines.decoder import Decoder
from askesis.engines.protocol import Capabilities, Completion, Request
from askesis.engines.scheduler import Call, Result, Scheduler
from askesis.engines.verify import open_decoder
from askesis.errors import ContextOverflow, EngineError
from askesis.metering import Activity, Meter, current_meter
from askesis.policy.loading import Policy, weights_hash

__all__ = ["Admission", "EmbeddedEngine", "sample_batch"]

Admission = Literal["lockstep", "continuous"]

_SETTLE_ROUNDS = 16
"""Turns of the event loop without news after which those that want to join have joined. A session that takes another's
place in a rollout needs about five."""
_PREFILL_TOKENS = 2048
_KEPT_BYTES = {"cpu": 512 << 20, "cuda": 4 << 30}


class EmbeddedEngine:
    """An engine around a policy's own tensors. Use it from one event loop; ``close`` ends its thread.

    Args:
        policy: whose model samples. Change its weights only while nothing is sampled, then ``publish``.
        max_batch: sequences sampled side by side at most.
        admission: ``lockstep``: calls of sessions are begun together, once every open session waits or has left, so
            that what is sampled does not depend on how long environments take, not even in its low-order bits;
            ``continuous``: a call joins at the next token.
        prefill_tokens: tokens of prompts read in one pass at most.
        kv_tokens: tokens whose keys and values are kept for later turns; by default what fits into 512 MiB on a CPU,
            4 GiB on another device.
        thread: where to sample; a thread of its own by default. Whoever gives one ends it.
        decoder: another one than the fastest that agrees with the model.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        max_batch: int = 512,
        admission: Admission = "lockstep",
        prefill_tokens: int = _PREFILL_TOKENS,
        kv_tokens: int | None = None,
        thread: Executor | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        self._policy = policy
        self._admission = admission
        decoder, kernel = open_decoder(policy) if decoder is None else (decoder, type(decoder).__name__)
        self._num_variants = decoder.num_variants
        layout = decoder.layout
        kept = _KEPT_BYTES.get(layout.device.type, _KEPT_BYTES["cuda"]) // layout.token_bytes
        self._scheduler = Scheduler(
            decoder,
            max_batch=max_batch,
            prefill_tokens=prefill_tokens,
            kv_tokens=kept if kv_tokens is None else kv_tokens,
        )
        self._capabilities = Capabilities(token_exact=True, shares_weights=True, kernel=kernel, meters_itself=True)
        self._version = 0
        self._waiting: list[Call] = []
        self._live: Counter[str] = Counter()
        self._news = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump: asyncio.Task[None] | None = None
        self._orders: deque[Callable[[], None]] = deque()
        self._busy = False
        self._meter: Meter | None = None
        self._closed = False
        self._own_thread = None
        if thread is None:
            thread = self._own_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="askesis-engine")
        self._thread = thread

    @property
    def version(self) -> int:
        """Version of the weights that sample now."""
        return self._version

    @property
    def capabilities(self) -> Capabilities:
        """Token-exact, on the learner's tensors."""
        return self._capabilities

    def publish(self, version: int) -> None:
        """The learner has changed the shared tensors to ``version``; what was kept is forgotten."""
        self._version = version
        self._order(lambda: self._scheduler.renew(version))

    async def swap(self, version: int, load: Callable[[], None]) -> None:
        """See :class:`askesis.engines.Swaps`."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def order() -> None:
            try:
                load()
                self._scheduler.swap(version)
            except Exception as error:
                loop.call_soon_threadsafe(_fail, done, error)
            else:
                loop.call_soon_threadsafe(_succeed, done)

        self._order(order)
        await done
        self._version = version

    def weights_hash(self) -> str:
        """Hash of the weights that sample."""
        return weights_hash(self._policy.model)

    def begin(self) -> None:
        """See :class:`askesis.engines.TracksSessions`."""
        version = self._version
        self._order(lambda: self._scheduler.renew(version))

    def enter(self, session: str) -> None:
        """See :class:`askesis.engines.TracksSessions`."""
        self._live[session] += 1
        self._news += 1

    def leave(self, session: str) -> None:
        """See :class:`askesis.engines.TracksSessions`."""
        self._live[session] -= 1
        if self._live[session] <= 0:
            del self._live[session]
        self._wake()

    async def close(self) -> None:
        """Refuse what waits or is being sampled, and end the thread."""
        self._closed = True
        calls, self._waiting = self._waiting, []
        self._deliver([(call, _closed()) for call in calls])
        if self._own_thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._own_thread.shutdown)
        while self._busy:  # until the token that is being sampled is done
            await asyncio.sleep(0.001)

    async def generate(self, request: Request) -> Completion:
        """Continue one prefix; see :class:`askesis.engines.Engine`."""
        _check(self._policy, request, self._num_variants)
        if self._closed:
            raise _closed()
        self._loop = asyncio.get_running_loop()
        if not self._busy:  # what has begun to be charged ends there
            self._meter = current_meter()
        future: asyncio.Future[Completion] = self._loop.create_future()
        call = Call(request, owner=future)
        self._waiting.append(call)
        self._wake()
        try:
            return await future
        except asyncio.CancelledError:
            if call in self._waiting:
                self._waiting.remove(call)
            else:
                self._order(lambda: self._scheduler.cancel(call))
            raise

    def _wake(self) -> None:
        """Something has happened that may let calls begin. From any thread: sessions may leave by being collected."""
        self._news += 1
        if self._waiting and self._loop is not None:
            self._loop.call_soon_threadsafe(self._start_pump)

    def _start_pump(self) -> None:
        if self._waiting and not self._closed and (self._pump is None or self._pump.done()):
            self._pump = asyncio.get_running_loop().create_task(self._admit())

    async def _admit(self) -> None:
        """Hand over the calls whose time has come."""
        if not (self._busy and self._admission == "continuous"):
            await self._settle()
        calls = self._ready()
        if not calls:
            return
        chosen = set(map(id, calls))
        self._waiting = [call for call in self._waiting if id(call) not in chosen]
        self._order(lambda: self._scheduler.submit(calls))
        self._start()

    async def _settle(self) -> None:
        """Wait until nobody joins or leaves any more."""
        known, quiet = self._news, 0
        while quiet < _SETTLE_ROUNDS:
            await asyncio.sleep(0)
            known, quiet = (known, quiet + 1) if known == self._news else (self._news, 0)

    def _ready(self) -> list[Call]:
        """The calls that begin now, in an order that does not depend on when they came."""
        if self._admission == "continuous":
            return self._waiting
        if self._busy:
            return []
        asking = {call.request.session for call in self._waiting}
        inside = [call for call in self._waiting if call.request.session in self._live]
        outside = [call for call in self._waiting if call.request.session not in self._live]
        # Calls from outside do not wait for sessions: one may come from a session's own environment.
        calls = inside if inside and self._live.keys() <= asking else outside
        return sorted(calls, key=lambda call: (call.request.session, call.request.seed, call.request.prefix))

    def _order(self, order: Callable[[], None]) -> None:
        """Change the scheduler: between two tokens if it works, else now."""
        if self._busy:
            self._orders.append(order)
        else:
            order()

    def _start(self) -> None:
        if not self._busy:
            self._busy = True
            if self._meter is not None:
                self._meter.enter(Activity.SAMPLING)
            self._thread.submit(self._work, asyncio.get_running_loop())

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sample until nothing is left. Runs in the engine's thread."""
        while self._scheduler.busy and not self._closed:
            results = self._step()
            if results:
                loop.call_soon_threadsafe(self._deliver, results)
        loop.call_soon_threadsafe(self._rest)

    def _step(self) -> list[Result]:
        """One token of each row, then what was ordered meanwhile."""
        try:
            results = self._scheduler.step()
            while self._orders:
                self._orders.popleft()()
        except Exception as error:  # whatever it is, nobody may wait for ever
            return self._scheduler.abandon(error)
        return results

    def _rest(self) -> None:
        """The thread has nothing left to do."""
        self._busy = False
        if self._meter is not None:
            self._meter.leave(Activity.SAMPLING)
        while self._orders:  # given since the thread looked
            self._orders.popleft()()
        if self._closed:
            self._deliver(self._scheduler.abandon(_closed()))
        elif self._scheduler.busy:
            self._start()
        else:
            self._wake()

    def _deliver(self, results: Sequence[Result]) -> None:
        for call, result in results:
            if call.owner.done():
                continue
            if isinstance(result, EngineError):
                call.owner.set_exception(result)
            else:
                call.owner.set_result(result)


def sample_batch(policy: Policy, requests: Sequence[Request], version: int = 0) -> list[Completion]:
    """Sample all ``requests`` side by side. Each distinct prefix passes through the model once.

    Args:
        policy: whose model samples.
        requests: at least one; prefixes may differ in length, sampling parameters may differ by request.
        version: written into the completions.
    """
    for request in requests:
        _check(policy, request, 1)
    decoder, _ = open_decoder(policy)
    scheduler = Scheduler(decoder, max_batch=len(requests), prefill_tokens=_PREFILL_TOKENS, kv_tokens=0)
    calls = [Call(request) for request in requests]
    scheduler.renew(version)
    scheduler.submit(calls)
    done: dict[int, Completion] = {}
    while scheduler.busy:
        for call, result in scheduler.step():
            if isinstance(result, EngineError):
                raise result
            done[id(call)] = result
    return [done[id(call)] for call in calls]


def _check(policy: Policy, request: Request, num_variants: int) -> None:
    """Refuse what the model cannot continue."""
    if not 0 <= request.variant < num_variants:
        raise EngineError(
            "the engine has no such weights",
            where=f"session {request.session}",
            got=f"variant {request.variant}",
            expected=f"0 to {num_variants - 1}",
        )
    length, limit = len(request.prefix) + request.sampling.max_tokens, policy.context_length
    if not request.prefix or length > limit:
        raise ContextOverflow(
            "a prompt does not fit into the model's context",
            where=policy.name,
            got=f"{len(request.prefix)} prompt tokens + {request.sampling.max_tokens} to sample",
            expected=f"at least one and at most {limit} tokens in all",
            next_step="shorten the prompt, lower sampling.max_tokens, or take a model with a longer context",
        )
    size = int(policy.model.get_input_embeddings().num_embeddings)
    if not 0 <= min(request.prefix) <= max(request.prefix) < size:
        raise EngineError(
            "a prompt holds an id that the model does not know",
            where=policy.name,
            got=f"ids {min(request.prefix)} to {max(request.prefix)}",
            expected=f"0 to {size - 1}",
            next_step="use the tokenizer that belongs to the model",
        )
    _refuse_sliding_windows(policy, length)


def _refuse_sliding_windows(policy: Policy, length: int) -> None:
    """Layers that see only a window would be given a full mask; that is right only while the window is not exceeded."""
    config = policy.model.config
    window = getattr(config, "sliding_window", None)
    windowed = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    if windowed and window is not None and length > window:
        raise EngineError(
            "the embedded engine does not sample beyond a sliding attention window",
            where=policy.name,
            got=f"{length} tokens",
            expected=f"at most the window of {window} tokens",
            next_step="shorten prompts or sampling.max_tokens, or use a model without sliding attention",
        )


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _closed() -> EngineError:
    return EngineError("the engine is closed")
