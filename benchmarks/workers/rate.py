"""The rate of a matrix product: what the floors are computed from."""

from __future__ import annotations

import time

import torch

from benchmarks.workers.channel import Channel

__all__ = ["matmul_rate", "serve"]


def serve(channel: Channel) -> None:
    """A request ``matmul: [rows, inner, columns]`` is answered with a rate."""
    torch.set_num_threads(channel.job["threads"])
    channel.ready()
    while (request := channel.next()) is not None:
        channel.finish(rate=matmul_rate(*request["matmul"]))


def matmul_rate(rows: int, inner: int, columns: int) -> float:
    """Floating-point operations per second of a float32 product [rows, inner] x [inner, columns]; the best of 15."""
    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    repeats = max(1, int(2e8 / (rows * inner * columns)))
    times = []
    for _ in range(15):
        began = time.perf_counter()
        for _ in range(repeats):
            left @ right
        times.append(time.perf_counter() - began)
    return 2.0 * rows * inner * columns * repeats / min(times)
