"""What a set of graded answers says, with how sure one can be: accuracy, pass@k and their intervals."""

from __future__ import annotations

from askesis.evaluation.metrics import (
    BestConstant,
    Interval,
    MetricError,
    best_constant,
    bootstrap_interval,
    mean_pass_at_k,
    pass_at_k,
    wilson_interval,
)

__all__ = [
    "BestConstant",
    "Interval",
    "MetricError",
    "best_constant",
    "bootstrap_interval",
    "mean_pass_at_k",
    "pass_at_k",
    "wilson_interval",
]
