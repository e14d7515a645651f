"""From judged traces to advantages per token: what an algorithm is given, and what it says.

Shape suffixes: B rows, T sampled tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from askesis.algorithms import (
    AdvantageReport,
    Algorithm,
    CreditReport,
    RewardBatch,
    TokenBatch,
    hellinger,
    reward_kl,
)
from askesis.errors import AlgorithmError
from askesis.learners.batch import Row, Sample, TokenTable, rows_of, stack
from askesis.learners.models import BatchScorer

__all__ = ["Batch", "prepare"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """A batch of a step, ready to be learned from."""

    rows: tuple[Row, ...]
    table: TokenTable
    advantages: AdvantageReport
    credit: CreditReport
    weight_B: Tensor
    """[B] of each row's tokens in the loss."""
    value_BT: Tensor | None
    """What the critic said before the step's first update."""


def prepare(
    samples: Sequence[Sample],
    algorithm: Algorithm,
    models: BatchScorer,
    device: torch.device,
    *,
    progress: float,
    moving_reward: float | None,
    rescore: bool,
) -> Batch:
    """Turn ``samples`` (whole groups) into advantages per sampled token.

    Args:
        samples: at least one.
        algorithm: whose ``needs`` say what is computed.
        models: policy and reference.
        device: of the result.
        progress: share of the training's steps that is done.
        moving_reward: :attr:`AdvantageReport.moving_reward` of the batch before.
        rescore: replace the recorded log-probabilities by the policy's own.

    Raises:
        AlgorithmError: no sample, or what an algorithm raises.
        TemplateError: a trace whose mask selects nothing or everything.
    """
    if not samples:
        raise AlgorithmError("there is nothing to learn from", next_step="give at least one judged trace")
    rows = rows_of(samples)
    table = TokenTable.of(rows, device)
    is_needed = algorithm.credit_needs.__contains__
    is_scored = rescore or any(map(is_needed, ("logp_old_BT", "entropy_BT", "value_BT")))
    scores = models.scores(rows) if is_scored else None
    if rescore and scores is not None:
        table = replace(table, behaviour_BT=scores.logp_BT)
    has_kl = "kl_B" in algorithm.needs
    reference_BT = models.reference_logp(rows) if has_kl or is_needed("logp_ref_BT") else None
    rewards = RewardBatch(
        reward_B=torch.tensor([s.reward for s in samples], dtype=torch.float32),
        group_B=torch.tensor([s.group for s in samples]),
        kl_B=_kl(table, reference_BT, len(samples)) if has_kl and reference_BT is not None else None,
        moving_reward=moving_reward,
        progress=progress,
        length_B=torch.tensor([s.num_sampled for s in samples]),
        truncated_B=torch.tensor([_is_truncated(s) for s in samples]),
        num_turns_B=torch.tensor([len(s.calls) for s in samples]),
        is_answer_B=_are_answers(samples),
    )
    report = algorithm.advantages(rewards)
    states = _states(samples, rows, device) if is_needed("state_BT") or is_needed("gain_BT") else (None, None)
    value_BT = None if scores is None else scores.value_BT
    tokens = TokenBatch(
        mask_BT=table.mask_BT,
        sequence_B=table.sequence_B,
        turn_BT=table.turn_BT,
        logp_behaviour_BT=table.behaviour_BT,
        logp_old_BT=scores.logp_BT if scores is not None else None,
        entropy_BT=scores.entropy_BT if scores is not None else None,
        logp_ref_BT=reference_BT,
        hellinger_BT=models.distance(rows, hellinger) if is_needed("hellinger_BT") else None,
        anchor_BT=_anchors(samples, rows, device) if is_needed("anchor_BT") else None,
        step_reward_BT=_step_rewards(samples, rows, device) if is_needed("step_reward_BT") else None,
        value_BT=value_BT,
        state_BT=states[0],
        gain_BT=states[1],
        vocab_size=models.vocabulary,
    )
    return Batch(
        rows=tuple(rows),
        table=table,
        advantages=report,
        credit=algorithm.credit(report, rewards, tokens),
        weight_B=torch.tensor([samples[row.sample].weight for row in rows], device=device),
        value_BT=value_BT,
    )


def _are_answers(samples: Sequence[Sample]) -> Tensor | None:
    flags = [sample.answer is not None for sample in samples]
    return torch.tensor(flags) if any(flags) else None


def _kl(table: TokenTable, reference_BT: Tensor, num_samples: int) -> Tensor:
    """[samples] KL to the reference, for a penalty in the reward."""
    return reward_kl(table.behaviour_BT, reference_BT, table.mask_BT, table.sequence_B, num_samples).cpu()


def _is_truncated(sample: Sample) -> bool:
    """A limit on length ended it: of the session, or of its last answer."""
    is_cut = sample.answer is None and sample.trace.stop.is_truncated
    return is_cut or sample.calls[-1].finish == "length"


def _anchors(samples: Sequence[Sample], rows: Sequence[Row], device: torch.device) -> Tensor:
    """[B, T] one number for each distinct observation: the messages that were new in a call's context."""
    known: dict[tuple[tuple[str, str], ...], int] = {}
    of_call = [
        {c.key: known.setdefault(tuple((m.role, m.content) for m in c.messages), len(known)) for c in s.calls}
        for s in samples
    ]
    return stack([np.array([of_call[row.sample][int(turn)] for turn in row.turn]) for row in rows], device)


def _step_rewards(samples: Sequence[Sample], rows: Sequence[Row], device: torch.device) -> Tensor:
    """[B, T] what was paid for each token's call; without step rewards, the reward at the last call."""
    of_call = []
    for sample in samples:
        keys = sorted(c.key for c in sample.calls)
        paid = sample.step_rewards or (*(0.0 for _ in keys[1:]), sample.reward)
        if len(paid) != len(keys):
            raise AlgorithmError(
                "a trace has another number of step rewards than of calls",
                where=sample.trace_id,
                got=f"{len(paid)} step rewards",
                expected=f"{len(keys)}, one for each call of the policy",
            )
        of_call.append(dict(zip(keys, paid, strict=True)))
    return stack(
        [np.array([of_call[row.sample][int(turn)] for turn in row.turn], dtype=np.float32) for row in rows], device
    )


def _states(samples: Sequence[Sample], rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor]:
    """[B, T] the state that each token acts in, and how much more the next one was worth."""
    state_of, gain_of = [], []
    for sample in samples:
        after = [score.after for score in sample.states[1:] if score.after is not None]
        value = [score.value for score in sample.states]
        if sample.answer is None and not (value and len(after) == len(value) - 1):
            raise AlgorithmError(
                "the states of a trace were not scored",
                where=sample.trace_id,
                got=f"{len(value)} states",
                expected="one for the task alone, and one after each act that led to another",
                next_step="set states.evaluator, or use an algorithm that does not look at states",
            )
        gains = [later - earlier for earlier, later in pairwise(value)] + [0.0]
        # An act that led to no state counts with the next one that did: its tokens act in the same state.
        states = {call.key: sum(key < call.key for key in after) for call in sample.calls}
        if sample.answer is not None:
            states = dict.fromkeys(states, 0)
            gains = [0.0]
        state_of.append(states)
        gain_of.append(gains)
    placed = [np.array([state_of[row.sample][int(turn)] for turn in row.turn]) for row in rows]
    gained = [np.array(gain_of[row.sample], np.float32)[at] for row, at in zip(rows, placed, strict=True)]
    return stack(placed, device), stack(gained, device)
