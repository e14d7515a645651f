"""A rank as a process of its own on this machine: it reads requests from a socket, and ends when that does.

    python -m askesis.learners.ranks.process FD

The socket is one end of a pair, whose other end the driver holds. When the driver is gone, for whatever reason, the
socket ends and so does the process at once, whatever it is doing.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import traceback

from askesis.errors import AskesisError
from askesis.learners.ranks.rank import Rank
from askesis.learners.ranks.wire import HEADER, Message, pack_message, unpack_message

__all__ = ["answer_of", "main"]


def main() -> None:
    """Answer requests until the socket ends."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    requests: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, requests), daemon=True).start()
    rank = Rank()
    while True:
        answer = answer_of(rank, requests.get())
        for part in pack_message(answer):
            connection.sendall(part)


def answer_of(rank: Rank, request: Message) -> Message:
    """The rank's answer, or what went wrong instead."""
    try:
        return rank.handle(request)
    except AskesisError as error:
        known = {"what": error.what, "where": error.where, "got": error.got, "expected": error.expected}
        return Message({"error": type(error).__name__, **known, "next_step": error.next_step}, {})
    except Exception as error:  # whatever it is, the driver must hear of it; it restarts the ranks
        traceback.print_exc()
        line = next((line for line in str(error).splitlines() if line.strip()), "")
        return Message({"failed": f"{type(error).__name__}: {line}"}, {})


def _read(connection: socket.socket, requests: queue.SimpleQueue[Message]) -> None:
    """Requests into the queue, while others are being answered: only so is the end of the socket seen at any time."""
    try:
        with connection.makefile("rb") as stream:
            while len(header := stream.read(HEADER.size)) == HEADER.size:
                head, body = (stream.read(size) for size in HEADER.unpack(header))
                requests.put(unpack_message(head, body))
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
