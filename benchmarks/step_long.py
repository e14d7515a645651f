"""A GRPO step against TRL: 0.8 million parameters, 8 prompts of 512 tokens x 16 answers of 32 tokens."""

from __future__ import annotations

from benchmarks.steps import LONG, run

if __name__ == "__main__":
    run("step_long", LONG, 10.0, __doc__)
