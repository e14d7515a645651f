"""A GRPO step against TRL: 0.8 million parameters, 8 prompts of 8 tokens x 16 answers of 32 tokens."""

from __future__ import annotations

from benchmarks.steps import SHORT, run

if __name__ == "__main__":
    run("step_short", SHORT, 2.0, __doc__)
