"""Servers that give one and the same answer in the shape of vLLM's, after a while. Run by path: it imports nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any


class _Stub(asyncio.Protocol):
    """Just enough of HTTP to give one answer again and again."""

    def __init__(self, answer: bytes, seconds: float) -> None:
        self._answer, self._seconds, self._buffer = answer, seconds, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        (size,) = (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(body) >= size:
            self._buffer = body[size:]
            asyncio.get_running_loop().call_later(self._seconds, self._write)

    def _write(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._answer)


def _answer(tokens: int) -> bytes:
    """An answer of vLLM 0.32, with its log-probabilities."""
    ids = list(range(100, 100 + tokens))
    drawn = [{"token_id": token, "logprob": -0.22563078999519348 - token / 1e4, "rank": 1} for token in ids]
    content = [{**one, "top_logprobs": [one]} for one in drawn]
    choice = {"index": 0, "token_ids": ids, "finish_reason": "length", "logprobs": {"content": content}}
    body = json.dumps({"request_id": "0", "choices": [choice], "prompt_logprobs": None}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def main() -> None:
    """``stub_vllm.py SERVERS TOKENS SECONDS``: prints the ports, and serves until its input ends."""
    count, tokens, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    answer = _answer(tokens)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        servers = [
            await loop.create_server(lambda: _Stub(answer, seconds), "127.0.0.1", 0, backlog=4096) for _ in range(count)
        ]
        print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
        await asyncio.to_thread(sys.stdin.read)

    asyncio.run(serve())


if __name__ == "__main__":
    main()
