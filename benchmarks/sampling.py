"""Sampling a GRPO batch: the embedded engine against ``generate`` of transformers.

Same weights, prompts and length limits: 16 sums x 16 answers at temperature 1 with nano. Both stop at the end token;
tokens per second count sampled tokens only.
"""

from __future__ import annotations

import argparse
import json

import torch

from askesis.engines import Request, Sampling
from askesis.engines.embedded import sample_batch
from askesis.environments import make_world
from askesis.policy.loading import load_policy
from askesis.trace import Message
from benchmarks.side_by_side import compare

PROMPTS, SAMPLES, MAX_TOKENS = 16, 16, 96


def main() -> None:
    """Print a table, and with ``--json`` one object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    policy = load_policy("nano", device="cpu")
    tasks = make_world("reasoning", family="chain_sum", level="nano", instruction="").tasks
    prompts = [
        policy.template.encode_prompt([Message(role="user", content=tasks.task("train", i).payload["question"])])
        for i in range(PROMPTS)
    ]
    requests = [
        Request(
            prefix=tuple(prompt),
            sampling=Sampling(max_tokens=MAX_TOKENS),
            stop_ids=policy.template.stop_ids,
            seed=1000 * p + s,
        )
        for p, prompt in enumerate(prompts)
        for s in range(SAMPLES)
    ]
    longest = max(len(p) for p in prompts)
    pad = policy.tokenizer.pad_token_id
    padded = [[pad] * (longest - len(p)) + p for p in prompts for _ in range(SAMPLES)]
    ids = torch.tensor(padded)
    mask = torch.tensor([[int(t != pad) for t in row] for row in padded])
    counts: dict[str, list[int]] = {"ours": [], "peer": []}

    def ours() -> None:
        counts["ours"].append(sum(len(c.tokens) for c in sample_batch(policy, requests)))

    def peer() -> None:
        with torch.inference_mode():
            out = policy.model.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, max_new_tokens=MAX_TOKENS, pad_token_id=pad, top_k=0
            )
        counts["peer"].append(int((out[:, longest:] != pad).sum()))

    result = compare(ours, peer, rounds=options.rounds)
    # Draws differ, so lengths do; the ratio is of tokens per second, not of seconds.
    rates = {name: sum(n[1:]) / len(n[1:]) for name, n in counts.items()}
    ours_rate, peer_rate = rates["ours"] / result.ours_s, rates["peer"] / result.peer_s
    record = {
        "benchmark": "sampling",
        "ratio": ours_rate / peer_rate,
        "ours_tokens_per_s": ours_rate,
        "peer_tokens_per_s": peer_rate,
        "ours_s": result.ours_s,
        "peer_s": result.peer_s,
        "rounds": result.rounds,
        "threads": options.threads,
    }
    print(f"embedded engine   {ours_rate:8.0f} sampled tokens/s   median {result.ours_s:.3f} s")
    print(f"generate          {peer_rate:8.0f} sampled tokens/s   median {result.peer_s:.3f} s")
    print(f"ratio             {record['ratio']:8.2f}")
    if options.json:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
