"""Judging an answer with reasoning-gym's scorer of its family."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from askesis.environments.reasoning.client import Worker, WorkerFailure
from askesis.environments.reasoning.extract import extract_answer
from askesis.environments.reasoning.families import default_scorer, make_dataset
from askesis.environments.reasoning.scorers import IN_PROCESS, judge, screened
from askesis.environments.reasoning.tasks import DRAW_SECONDS
from askesis.trace.tree import Trace
from askesis.trace.types import Failure, FailureOrigin, Task, Verdict, VerdictStatus

__all__ = ["SCORE_SECONDS", "ReasoningEvaluator"]

SCORE_SECONDS = 5.0
"""Deadline of a scorer that runs in the worker process."""
_SHOWN = 500  # characters of an answer or a message that are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class _Score:
    value: float
    reason: str


@dataclass
class ReasoningEvaluator:
    """Scores the last answer of a trace.

    The answer is the text inside the last ``<answer>…</answer>`` of the last reply. Without one the reward is 0:
    the policy missed the format. The reward is 1 for a right answer and 0 for any other; with ``partial_credit`` a
    wrong answer gets what the family's scorer gives it. A scorer that raises, hangs or dies gives a verdict with
    status ERROR.
    """

    worker: Worker
    partial_credit: bool = False
    version: str = field(default_factory=lambda: f"reasoning-gym/{version('reasoning-gym')}")
    _datasets: dict[str, Any] = field(default_factory=dict, init=False)
    # A thread of its own: its one worker takes one request at a time, and the default pool is not for waiting in.
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "reasoning-scorer"), init=False)

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """A verdict on what the policy generated in ``trace``; never raises because of it."""
        reply = trace.calls[-1].reply if trace.calls else None
        if reply is None:
            return self._failed("no_reply", "the trace holds no reply of the policy")
        answer = extract_answer(reply.content)
        if answer is None:
            return self._verdict(None, _Score(value=0.0, reason="no closed <answer> tag"))
        refused = screened(task.payload["family"], answer)
        if refused is not None:
            return self._verdict(answer, _Score(value=0.0, reason=refused))
        try:
            value = await self._score(task.payload, answer)
        except WorkerFailure as failure:
            return self._failed(failure.kind, failure.message, answer)
        except Exception as error:  # whatever a family's scorer raises about a model's text
            return self._failed(type(error).__name__, str(error), answer)
        if not (math.isfinite(value) and 0.0 <= value <= 1.0):
            return self._failed("bad_score", f"the scorer returned {value}, not a number in [0, 1]", answer)
        return self._verdict(answer, _Score(value=value, reason="scored"))

    async def _score(self, payload: Mapping[str, Any], answer: str) -> float:
        family = payload["family"]
        if family in IN_PROCESS or default_scorer(family):
            return judge(self._dataset(payload), family, answer, payload)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask_worker, payload, answer)

    def _dataset(self, payload: Mapping[str, Any]) -> Any:
        """A data set to score with; which items it would draw does not matter."""
        key = f"{payload['family']} {payload['options']!r}"
        if key not in self._datasets:
            self._datasets[key] = make_dataset(payload["family"], payload["options"], seed=0, size=1)
        return self._datasets[key]

    def _ask_worker(self, payload: Mapping[str, Any], answer: str) -> float:
        item = {
            "family": payload["family"],
            "options": payload["options"],
            "seed": payload["dataset_seed"],
            "index": payload["dataset_index"],
        }
        # Making the item anew may take long and is not the answer's fault, so it has a deadline of its own.
        self.worker.request("prepare", deadline_s=DRAW_SECONDS, **item)
        return float(self.worker.request("score", deadline_s=SCORE_SECONDS, answer=answer, **item))

    def _verdict(self, answer: str | None, score: _Score) -> Verdict:
        right = score.value == 1.0
        reward = score.value if self.partial_credit else float(right)
        return Verdict(
            status=VerdictStatus.OK,
            evaluator=self.version,
            rewards={"correct": (reward, 1.0)},
            completed=right,
            evidence={"answer": answer and _shown(answer), "score": score.value, "reason": score.reason},
        )

    def _failed(self, kind: str, message: str, answer: str | None = None) -> Verdict:
        return Verdict(
            status=VerdictStatus.ERROR,
            evaluator=self.version,
            error=Failure(origin=FailureOrigin.EVALUATOR, kind=kind, message=_shown(message)),
            evidence={"answer": answer and _shown(answer)},
        )


def _shown(text: str) -> str:
    """The start of a text, as it can be stored: half characters of UTF-16 become question marks."""
    return text[:_SHOWN].encode("utf-8", "replace").decode()
