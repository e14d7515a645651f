"""HTTP to one vLLM server: JSON both ways, a deadline on every call, no proxies, no redirects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from askesis.engines.vllm.answers import read_scores, score_body
from askesis.engines.vllm.process import is_too_old, too_old
from askesis.errors import EngineError, MissingExtra, RecipeError

__all__ = ["Facts", "ReplicaLost", "Server", "check_url"]

_LOOK_S = 30.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ReplicaLost(EngineError):
    """A server does not answer. ``silent``: it took the request and let the time run out."""

    silent = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a server says of itself; None where it does not say."""

    version: str
    model: str
    max_model_len: int
    has_door: bool
    """Our extension runs in it: it takes weights by itself and tells their hash."""
    vocab_size: int | None = None
    logprobs_mode: str | None = None
    dtype: str | None = None
    architectures: tuple[str, ...] = ()


def check_url(url: str, key: str) -> str:
    """The address without a trailing slash. RecipeError when it is none, carries a secret, or would need a key."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise RecipeError(
            "this is not the address of a server",
            where="engine.vllm.urls",
            got=url,
            expected="http://HOST:PORT or https://HOST:PORT",
        )
    if parts.username or parts.password:
        raise RecipeError(
            "a secret in an address would be kept with the recipe",
            where="engine.vllm.urls",
            next_step="give the key in the environment variable ASKESIS_VLLM_KEY",
        )
    if not key and parts.hostname not in _LOOPBACK:
        raise RecipeError(
            "a server on another machine needs a key",
            where="engine.vllm.urls",
            got=url,
            next_step="set ASKESIS_VLLM_KEY here and there; docs/engines.md says how the server is started",
        )
    return url.rstrip("/")


class Server:
    """One server. Plain calls are for any thread, ``generate`` for one event loop.

    Args:
        name: for messages.
        url: without a path.
        key: sent with every request; empty: none.
    """

    def __init__(self, name: str, url: str, key: str) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingExtra("httpx", "vllm", "engine.kind=vllm") from error
        self._httpx = httpx
        self.name, self.url = f"{name} at {url}", url
        self._options: dict[str, Any] = {
            "base_url": url,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "trust_env": False,  # a proxy has no business between us and an engine
            "follow_redirects": False,
            "verify": url.startswith("https:"),  # certificates take long to read, and plain HTTP needs none
        }
        # No connection is kept between plain calls: the server would close it at a moment of its own.
        self._plain = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), **self._options)
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def look(self) -> Facts:
        """What it serves. Raises ReplicaLost when nobody answers, EngineError when it is too old or serves nothing."""
        version = str(self._call("GET", "/version", None, _LOOK_S).get("version", ""))
        if is_too_old(version):
            raise too_old(version, self.name)
        cards = self._call("GET", "/v1/models", None, _LOOK_S).get("data")
        card = cards[0] if isinstance(cards, list) and cards and isinstance(cards[0], dict) else {}
        if not isinstance(card.get("id"), str) or type(card.get("max_model_len")) is not int:
            raise EngineError("the server serves no model", where=self.name, got=cards, expected="a vLLM server")
        state = self._call("GET", "/askesis/state", None, _LOOK_S, missing_ok=True)
        return Facts(
            version=version,
            model=card["id"],
            max_model_len=card["max_model_len"],
            has_door=bool(state),
            vocab_size=state.get("vocab_size"),
            logprobs_mode=state.get("logprobs_mode"),
            dtype=state.get("dtype"),
            architectures=tuple(state.get("architectures", ())),
        )

    def load(self, file: Path, version: int, *, has_door: bool, timeout_s: float) -> str | None:
        """Have it read ``file``; the hash of what it read, None from a server without the door."""
        if has_door:
            order = {"file": str(file), "version": version}
            return str(self._call("POST", "/askesis/load", order, timeout_s).get("content"))
        order = {"method": "reload_weights", "kwargs": {"weights_path": str(file.parent)}, "timeout": timeout_s}
        try:
            self._call("POST", "/collective_rpc", order, timeout_s, empty_ok=True)
            self._call("POST", "/reset_prefix_cache", {}, timeout_s, empty_ok=True)
        except ReplicaLost:
            raise
        except EngineError as error:
            raise EngineError(
                "the server cannot be given new weights",
                where=self.name,
                got=str(error.got),
                next_step="start it with the extension of Askesis (docs/engines.md), which also tells the hash of the "
                "weights; or with VLLM_SERVER_DEV_MODE=1, on a trusted network only",
            ) from error
        return None

    def held(self, timeout_s: float) -> tuple[int, str, bool]:
        """Version and hash of the weights that were loaded last, and whether nobody has changed them since."""
        state = self._call("GET", "/askesis/state", None, timeout_s)
        return int(state["version"]), str(state["content"]), bool(state["intact"])

    def score(self, sequences: Sequence[Sequence[int]], model: str, timeout_s: float) -> list[float]:
        """Log-probabilities of each sequence from its second token on, one after the other, nats."""
        found = []
        for sequence in sequences:
            answer = self._call("POST", "/inference/v1/generate", score_body(sequence, model), timeout_s)
            found += read_scores(answer, sequence, self.name)
        return found

    def draw(self, body: dict[str, Any], timeout_s: float) -> Any:
        """One answer, outside of any event loop."""
        return self._call("POST", "/inference/v1/generate", body, timeout_s)

    async def generate(self, body: dict[str, Any], timeout_s: float) -> Any:
        """One answer. Raises ReplicaLost when none comes, EngineError when the request is refused."""
        try:
            async with asyncio.timeout(timeout_s):  # httpx counts from byte to byte
                response = await self._session().post("/inference/v1/generate", json=body, timeout=timeout_s)
        except (self._httpx.HTTPError, TimeoutError) as error:
            raise self._lost(error, timeout_s) from error
        return self._content(response)

    async def close(self) -> None:
        """Close its connections. Plain calls still work."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _session(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            limits = self._httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2.0)
            self._client, self._loop = self._httpx.AsyncClient(limits=limits, **self._options), loop
        return self._client

    def _call(
        self,
        method: str,
        path: str,
        body: Any,
        timeout_s: float,
        *,
        missing_ok: bool = False,
        empty_ok: bool = False,
    ) -> dict[str, Any]:
        try:
            response = self._plain.request(method, path, json=body, timeout=timeout_s)
        except self._httpx.HTTPError as error:
            raise self._lost(error, timeout_s) from error
        if missing_ok and response.status_code == 404:
            return {}
        if empty_ok and response.status_code == 200 and not response.content:
            return {}
        content = self._content(response)
        if not isinstance(content, dict):
            raise EngineError("the server does not speak vLLM's protocol", where=self.name, got=content)
        return content

    def _content(self, response: Any) -> Any:
        """The JSON of an answer. Raises EngineError for a refusal, ReplicaLost when the engine behind it is broken."""
        try:
            content = response.json()
        except ValueError:
            content = response.text
        status = response.status_code
        if status == 200:
            return content
        got = f"{status}: {content}"
        if status == 401:
            raise EngineError(
                "the server refuses our key",
                where=self.name,
                next_step="set ASKESIS_VLLM_KEY to the key that the server was started with",
            )
        if status in (403, 404):
            raise EngineError(
                "the server lacks a route that sampling needs",
                where=f"{self.name}, {response.url.path}",
                got=got,
                next_step="start it with --tokens-only, by a vLLM that this was tested with (docs/engines.md)",
            )
        if status >= 500 and response.url.path == "/inference/v1/generate":
            raise ReplicaLost("the server failed", where=self.name, got=got)
        raise EngineError("the server refuses a request", where=f"{self.name}, {response.url.path}", got=got)

    def _lost(self, error: Exception, timeout_s: float) -> ReplicaLost:
        silent = isinstance(error, (self._httpx.ReadTimeout, TimeoutError))
        lost = ReplicaLost(
            "the server does not answer" if silent else "the server cannot be reached",
            where=self.name,
            got=f"nothing within {timeout_s:g} s" if silent else f"{type(error).__name__}: {error}",
            next_step="see whether it runs, and what it logged last",
        )
        lost.silent = silent
        return lost
