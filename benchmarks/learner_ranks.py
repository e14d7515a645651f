"""Memory of a learner over several processes against that of one: `python -m benchmarks.learner_ranks`.

A random decoder in float32, all of it trained, two updates on eight short answers. Resident memory at its highest, as
the system counts it, of one process, and of the driver and each of two ranks. What the libraries take is in all.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

MIB = 1 << 20
SIZES = {
    "hidden_size": 640,
    "intermediate_size": 2560,
    "num_hidden_layers": 8,
    "head_dim": 64,
    "num_attention_heads": 10,
}


def main() -> None:
    """Measure each in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--ranks", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ranks is not None:
        print(json.dumps(_measure(Path(options.folder), options.ranks)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = [_run(folder, ranks) for ranks in (1, 2)]
    if options.json:
        print(json.dumps(found))
        return
    for one in found:
        ranks = ", ".join(f"{size:,}" for size in one["ranks"]) or "none"
        print(f"{one['parameters'] / 1e6:.0f} M parameters: driver {one['driver']:,} MiB, ranks {ranks} MiB")


def _run(folder: str, ranks: int) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.learner_ranks", "--ranks", str(ranks), "--folder", folder]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(folder: Path, ranks: int) -> dict[str, object]:
    from functools import partial

    import torch

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from askesis.algorithms import build
    from askesis.learners import GradientLearner, LearnerSettings, Sample
    from askesis.learners.ranks import RankedLearner
    from askesis.learners.ranks.group import start_here
    from askesis.policy.loading import load_policy
    from askesis.trace import Call, StopReason, TraceBuilder
    from tiny_model import write_tiny_model

    torch.set_num_threads(1)
    if not (folder / "config.json").exists():
        write_tiny_model(folder, **SIZES)
    policy = load_policy(str(folder), device="cpu")
    samples = []
    for number in range(8):
        tokens = [(7 * number + i) % 200 for i in range(16)]
        call = Call(key=0, context=[1, 2, 3, number // 4], sampled=tokens, logprobs=[-5.0] * 16)
        trace = TraceBuilder([call]).finish(StopReason.TERMINATED)
        samples.append(Sample(trace_id=str(number), trace=trace, reward=number % 2, group=number // 4))
    settings = LearnerSettings(lr=1e-5, micro_batch_tokens=64)
    algorithm = build("grpo", {"kl_beta": 0.0})
    start = partial(start_here, ranks, device="cpu", threads=1, timeout_s=600)
    if ranks == 1:
        learner = GradientLearner(policy, algorithm, settings)
    else:
        learner = RankedLearner(policy, algorithm, settings, start=start)
    for _ in range(2):
        learner.update(samples)
    held = [one["rss"] // MIB for one in learner.ranked.memory()] if isinstance(learner, RankedLearner) else []
    driver = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    learner.close()
    return {"parameters": policy.num_parameters, "driver": driver, "ranks": held}


if __name__ == "__main__":
    main()
