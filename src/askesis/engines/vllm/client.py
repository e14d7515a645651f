"""Sampling by servers that somebody else starts, gives weights to and verifies: for processes without the weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from askesis.engines.protocol import Capabilities, Completion, Request
from askesis.engines.vllm.answers import read_completion, request_body
from askesis.engines.vllm.routing import choose
from askesis.engines.vllm.wire import ReplicaLost, Server
from askesis.errors import ContextOverflow, EngineError

__all__ = ["Address", "Servers", "VllmClient"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a replica answers. ``key`` opens it: this record travels on trusted channels only."""

    index: int
    url: str
    key: str
    model: str

    def __repr__(self) -> str:
        return f"Address(index={self.index}, url={self.url!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """The replicas that hold the weights of ``version``."""

    version: int
    replicas: tuple[Address, ...]


class VllmClient:
    """An engine in front of servers that it is told of. Use it from one event loop; ``use`` before anything else.

    A session stays with its server; one that does not answer is left out until the next ``use``, and its sessions move.

    Args:
        name: of the policy, for messages.
        context_length: tokens of prompt and answer that must fit.
        vocab_size: ids that the model knows.
        request_timeout_s: for one answer, seconds.
    """

    def __init__(self, *, name: str, context_length: int, vocab_size: int, request_timeout_s: float) -> None:
        self._name, self._context_length, self._vocab_size = name, context_length, vocab_size
        self._timeout_s = request_timeout_s
        self._version = 0
        self._servers: dict[int, tuple[Address, Server]] = {}
        self._lost: set[int] = set()

    @property
    def version(self) -> int:
        """Version of the weights that the servers were said to hold."""
        return self._version

    @property
    def capabilities(self) -> Capabilities:
        """Token-exact, on a copy of the weights."""
        return Capabilities(token_exact=True, shares_weights=False, kernel="vllm")

    async def use(self, servers: Servers) -> None:
        """Ask these from now on. Only while nothing is sampled."""
        kept = {address.index: (address, server) for address, server in self._servers.values()}
        self._servers = {}
        for address in servers.replicas:
            old = kept.get(address.index)
            if old is not None and old[0] == address:
                self._servers[address.index] = kept.pop(address.index)
            else:
                server = Server(f"replica {address.index}", address.url, address.key)
                self._servers[address.index] = (address, server)
        for _, server in kept.values():
            await server.close()
        self._lost.clear()
        self._version = servers.version

    def publish(self, version: int) -> None:
        """Refused: who gives the servers their weights says so by :meth:`use`."""
        raise EngineError("this engine is told of weights by whoever delivers them", got=f"version {version}")

    def weights_hash(self) -> str:
        """Refused: the weights are verified by whoever delivers them."""
        raise EngineError("this engine does not know the weights of its servers")

    async def generate(self, request: Request) -> Completion:
        """Continue one prefix; see :class:`askesis.engines.Engine`."""
        self._check(request)
        lost: ReplicaLost | None = None
        while live := sorted(self._servers.keys() - self._lost):
            index = choose(request.session or str(request.seed), live)
            address, server = self._servers[index]
            try:
                answer = await server.generate(request_body(request, address.model), self._timeout_s)
            except ReplicaLost as error:
                logging.getLogger(__name__).warning("%s is left out: %s", server.name, error)
                self._lost.add(index)
                lost = error
                continue
            return read_completion(
                answer, request, version=self._version, vocab_size=self._vocab_size, where=server.name
            )
        raise lost or EngineError("no server is left", next_step="the next update of the weights starts them again")

    async def close(self) -> None:
        """Close the connections; the servers are somebody else's."""
        for _, server in self._servers.values():
            await server.close()

    def _check(self, request: Request) -> None:
        """Refuse what does not fit."""
        length = len(request.prefix) + request.sampling.max_tokens
        if not request.prefix or length > self._context_length:
            raise ContextOverflow(
                "a prompt does not fit into the model's context",
                where=self._name,
                got=f"{len(request.prefix)} prompt tokens + {request.sampling.max_tokens} to sample",
                expected=f"at least one and at most {self._context_length} tokens in all",
                next_step="shorten the prompt, lower sampling.max_tokens, or raise sampling.max_context",
            )
