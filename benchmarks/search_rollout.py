"""A step on 256 search sessions with nano-search, sampling and update: ours against one sample per call.

Ours keeps what it read (radix tree) and trains on packed tokens; ``packed only`` and ``kept only`` say which half
gains what. The other side reads every call's context anew and trains on every call with its whole context.
"""

from __future__ import annotations

from benchmarks.reporting import compare, emit, options
from benchmarks.side_by_side import Side, measure

__all__ = ["sides"]

QUESTIONS, MEMBERS, FACTS = 32, 8, 8
OUR_MICRO_BATCH = 2048
PER_CALL_MICRO_BATCH = 8192
"""Tokens: that of ``step_multiturn``, where it was the fastest of those tried or level with it."""


def sides(*, questions: int = QUESTIONS, members: int = MEMBERS, facts: int = FACTS) -> dict[str, Side]:
    """Ours, each half of it, and one sample per call."""
    common = {
        "worker": "searching",
        "model": "nano-search",
        "questions": questions,
        "members": members,
        "facts": facts,
        "micro_batch_tokens": OUR_MICRO_BATCH,
    }
    per_call = {**common, "packed": False, "micro_batch_tokens": PER_CALL_MICRO_BATCH}
    return {
        "ours": ({**common, "packed": True, "reuse": True}, None),
        "packed only": ({**common, "packed": True, "reuse": False}, None),
        "kept only": ({**per_call, "reuse": True}, None),
        "one sample per call": ({**per_call, "reuse": False}, None),
    }


def main() -> None:
    """Print a table, and with ``--json`` one object."""
    chosen = options(__doc__).parse_args()
    measured = measure(sides(), rounds=chosen.rounds, threads=chosen.threads)
    record = compare(
        "search_rollout",
        measured,
        against="one sample per call",
        wanted=4.0,
        threads=chosen.threads,
        flops=0.0,
        rate=None,  # the sessions are the policy's own, so their operations are not known beforehand
    )
    record["samples_per_s"] = {
        name: side.median("samples") / side.median("wall_s") for name, side in measured.items() if side.reason is None
    }
    for name in ("samples", "distinct_tokens", "per_call_tokens"):
        record[name] = measured["ours"].median(name) if measured["ours"].reason is None else None
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in record["samples_per_s"].items())
    print(f"{QUESTIONS * MEMBERS} sessions, {FACTS} facts; trained calls per second: {rates}")
    emit(record, as_json=chosen.json)


if __name__ == "__main__":
    main()
