"""Rewards that a foreign world paid, as a verdict.

The world's rewards are never a message: the environment hands them over beside its messages (``Turn.info`` and
``Done.info``), they are kept as events of the trace, and the evaluator here reads nothing else. So no text, neither
the policy's nor a tool's, can change a reward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from askesis.errors import EnvironmentFault
from askesis.trace.tree import Trace
from askesis.trace.types import Failure, FailureOrigin, Task, Verdict, VerdictStatus

__all__ = ["PAID", "ReturnEvaluator", "payment"]

PAID = "paid"
"""Key of the rewards in the info of a turn or of an end: ``{seat: reward since its last turn}``."""


def payment(rewards: Mapping[str, object], *, where: str) -> dict[str, Any]:
    """The info for ``rewards``. EnvironmentFault for one that is not a finite number."""
    paid: dict[str, float] = {}
    for seat, reward in rewards.items():
        try:
            value = float(reward)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise EnvironmentFault(
                "the foreign environment gave a reward that is not a finite number",
                where=where,
                got=reward,
                expected="int or float",
                next_step="mend or wrap the environment",
            )
        paid[seat] = value
    return {PAID: paid}


@dataclass(frozen=True)
class ReturnEvaluator:
    """The return of a trace: all rewards that were paid to the seats of the policy, their mean when there are several.

    A trace without a single payment gets status ERROR: that nothing is known is not a return of zero. A session that a
    limit cut keeps what was paid until then; its stop reason says that it was cut.
    """

    name: str
    """Of the world and its package's version."""
    solved_at: float | None = None
    """Return from which the task counts as solved; None: not known."""

    @property
    def version(self) -> str:
        """``return/1`` and the world's."""
        return f"return/1 {self.name}"

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """A verdict; never raises."""
        paid = [event["info"][PAID] for event in trace.events if PAID in event.get("info", {})]
        if not paid:
            return Verdict(
                status=VerdictStatus.ERROR,
                evaluator=self.version,
                error=Failure(
                    origin=FailureOrigin.EVALUATOR,
                    kind="NoReward",
                    message=f"the trace ({trace.stop.value}) holds no reward of the environment",
                ),
            )
        seats = sorted({seat for rewards in paid for seat in rewards})
        totals = {seat: math.fsum(rewards.get(seat, 0.0) for rewards in paid) for seat in seats}
        mean = math.fsum(totals.values()) / len(totals)
        # One payment for each reply: then credit can be given turn by turn.
        steps = (
            tuple(rewards[seats[0]] for rewards in paid) if len(seats) == 1 and len(paid) == len(trace.calls) else None
        )
        return Verdict(
            status=VerdictStatus.OK,
            evaluator=self.version,
            rewards={seat: (total, 1.0 / len(totals)) for seat, total in totals.items()},
            step_rewards=steps,
            completed=None if self.solved_at is None else mean >= self.solved_at,
            evidence={"return": mean, "stop": trace.stop.value},
        )
