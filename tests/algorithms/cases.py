"""Random batches, and the losses of the papers written out token by token, for the suites that cover every stage."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, NamedTuple

import torch

from askesis.algorithms import Algorithm, LossInputs, RewardBatch, TokenBatch, objective_names

# One for each objective that there is, so that a new one is covered without a word, and settings that take other paths.
VARIANTS: list[tuple[str, dict[str, object]]] = [
    *(("ppo_mean", {"objective": name}) for name in objective_names()),
    ("grpo", {"dual_clip": 3, "clip_high": 0.28, "aggregation": "token_mean", "kl_estimator": "k2"}),
    ("dr_grpo", {}),
    ("rloo", {"importance_weighted": True}),
    ("gspo", {"clip_low": 0.2, "clip_high": 0.1}),
    ("cispo", {"cap": "absolute", "clip_high": 1.5, "clip_low": 0.3}),
    ("vespo_docstring", {"aggregation": "seq_mean_token_sum"}),
]


def random_inputs(
    algorithm: Algorithm, seed: int, rows: int = 5, columns: int = 4, spread: float = 0.4
) -> tuple[LossInputs, torch.Tensor]:
    """A batch in float64 whose sequences span rows, and the leaf that receives its gradient."""
    generator = torch.Generator().manual_seed(seed)
    new, behaviour, ref, advantage = torch.randn(4, rows, columns, dtype=torch.float64, generator=generator)
    mask = torch.rand(rows, columns, generator=generator) < 0.7
    sequence = torch.randint(0, 3, (rows,), generator=generator)
    leaf = (-new.abs()).requires_grad_()
    inputs = LossInputs(
        logp_new_BT=leaf,
        logp_behaviour_BT=leaf.detach() + spread * behaviour,
        advantage_BT=advantage,
        mask_BT=mask,
        weight_BT=algorithm.token_weights(mask, sequence),
        logp_ref_BT=leaf.detach() + ref if "logp_ref_BT" in algorithm.needs else None,
        sequence_B=sequence,
    )
    return inputs, leaf


def take(inputs: LossInputs, rows: torch.Tensor) -> LossInputs:
    """Some of the rows."""
    tensors = {f.name: getattr(inputs, f.name) for f in fields(inputs)}
    return LossInputs(**{name: None if x is None else x[rows] for name, x in tensors.items()})


def gradient(loss: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    """Of a loss that may be differentiated again."""
    return torch.autograd.grad(loss, leaf, retain_graph=True)[0]


def random_batch(seed: int, dtype: torch.dtype = torch.float64) -> tuple[RewardBatch, TokenBatch]:
    """Two groups of four trajectories of one to three turns, some of which lie in rows of their own; all fields given.

    The first trajectory of each group succeeds and the second fails, so that every estimator has something to say.
    """
    generator = torch.Generator().manual_seed(seed)
    reward = torch.randint(0, 2, (8,), generator=generator).to(dtype)
    reward[::4], reward[1::4] = 1.0, 0.0
    rows: list[tuple[int, list[int]]] = []
    num_turns = [1 + (i + seed) % 3 for i in range(8)]
    for i, num in enumerate(num_turns):
        drawn = [t for t in range(num) for _ in range(int(torch.randint(1, 4, (1,), generator=generator)))]
        split = drawn.index(int(torch.randint(0, num, (1,), generator=generator)))
        rows += [(i, part) for part in (drawn[:split], drawn[split:]) if part]
    width = max(len(turns) for _, turns in rows) + 1
    mask = torch.tensor([[t < len(turns) for t in range(width)] for _, turns in rows])
    turn = torch.tensor([turns + [-7] * (width - len(turns)) for _, turns in rows])
    sequence = torch.tensor([i for i, _ in rows])
    noise = torch.rand(5, len(rows), width, dtype=dtype, generator=generator)
    is_last = turn == torch.tensor(num_turns)[sequence][:, None] - 1
    rewards = RewardBatch(
        reward_B=reward,
        group_B=torch.tensor([9, 9, 9, 9, -4, -4, -4, -4]),
        kl_B=0.1 * torch.rand(8, dtype=dtype, generator=generator),
        progress=0.3,
        length_B=torch.tensor([sum(len(turns) for j, turns in rows if j == i) for i in range(8)]),
        truncated_B=torch.rand(8, generator=generator) < 0.2,
        num_turns_B=torch.tensor(num_turns),
    )
    tokens = TokenBatch(
        mask_BT=mask,
        sequence_B=sequence,
        turn_BT=turn,
        logp_behaviour_BT=-2 * noise[0],
        logp_old_BT=-2 * noise[0],
        entropy_BT=2 * noise[1],
        logp_ref_BT=-2 * noise[2],
        hellinger_BT=noise[3],
        anchor_BT=torch.where(turn == 0, 0, turn + 10 * (sequence[:, None] % 2)),
        step_reward_BT=torch.where(is_last, reward[sequence][:, None], 0.0),
        value_BT=noise[4],
        state_BT=torch.where(mask, turn, 0),
        gain_BT=torch.where(is_last, 0.0, (0.4 * turn + 0.3 * (sequence[:, None] % 3) - 0.2).to(dtype)),
        vocab_size=12,
    )
    return rewards, tokens


def token_table(
    turns: list[list[int]],
    sequence: list[int] | None = None,
    vocab_size: int | None = None,
    **columns: list[list[float]],
) -> TokenBatch:
    """A token batch in float64 from rows of different length; behaviour log-probabilities are 0 unless given."""
    width = max(len(row) for row in turns)

    def pad(rows: list[list[float]], filler: float) -> torch.Tensor:
        return torch.tensor([row + [filler] * (width - len(row)) for row in rows], dtype=torch.float64)

    whole = {"turn": [[float(t) for t in row] for row in turns], "anchor": columns.pop("anchor", None)}
    floats = {"logp_behaviour": [[0.0] * len(row) for row in turns]} | columns
    return TokenBatch(
        mask_BT=torch.tensor([[t < len(row) for t in range(width)] for row in turns]),
        sequence_B=torch.tensor(list(range(len(turns))) if sequence is None else sequence),
        vocab_size=vocab_size,
        **{f"{name}_BT": pad(rows, -1).long() for name, rows in whole.items() if rows is not None},
        **{f"{name}_BT": pad(rows, float("nan")) for name, rows in floats.items()},
    )


def rewards_of(values: list[float], groups: list[int] | None = None, **more: Any) -> RewardBatch:
    """A reward batch in float64, one group unless told."""
    return RewardBatch(
        reward_B=torch.tensor(values, dtype=torch.float64),
        group_B=torch.tensor([0] * len(values) if groups is None else groups),
        **more,
    )


def on_policy_loss(algorithm: Algorithm, rewards: RewardBatch, lengths: list[int]) -> float:
    """The loss of trajectories of one turn while the ratio is 1; log-probabilities are 0."""
    tokens = token_table([[0] * n for n in lengths])
    credit = algorithm.credit(algorithm.advantages(rewards), rewards, tokens)
    zeros = torch.zeros_like(credit.advantage_BT)
    weight_BT = algorithm.token_weights(tokens.mask_BT, tokens.sequence_B)
    inputs = LossInputs(
        logp_new_BT=zeros,
        logp_behaviour_BT=zeros,
        advantage_BT=credit.advantage_BT,
        mask_BT=tokens.mask_BT,
        weight_BT=weight_BT,
        sequence_B=tokens.sequence_B,
    )
    return algorithm.loss(inputs).loss.item()


class Token(NamedTuple):
    """What the loss of one token may read."""

    new: float
    fixed: float
    """The new log-probability where the paper detaches it."""
    behaviour: float
    ref: float
    advantage: float
    sequence: int


def slow_loss(algorithm: Algorithm, inputs: LossInputs, frozen: LossInputs | None = None) -> float:
    """The loss in plain Python floats. What the paper detaches is computed from ``frozen`` (default: ``inputs``).

    So the gradient of an objective must be the finite difference of this in ``inputs`` at a fixed ``frozen``.
    """
    assert inputs.sequence_B is not None
    ref = inputs.logp_new_BT if inputs.logp_ref_BT is None else inputs.logp_ref_BT
    columns = [
        x.detach()[inputs.mask_BT].tolist()
        for x in (
            inputs.logp_new_BT,
            (frozen or inputs).logp_new_BT,
            inputs.logp_behaviour_BT,
            ref,
            inputs.advantage_BT,
            inputs.sequence_B[:, None].expand_as(inputs.mask_BT),
        )
    ]
    tokens = [Token(*row) for row in zip(*columns, strict=True)]
    sequences = {id_: [t for t in tokens if t.sequence == id_] for id_ in {t.sequence for t in tokens}}
    divisor = {
        "token_mean": lambda _: len(tokens),
        "seq_mean_token_mean": lambda t: len(sequences[t.sequence]) * len(sequences),
        "seq_mean_token_sum": lambda _: len(sequences),
        "seq_mean_token_sum_norm": lambda _: len(sequences) * (algorithm.norm_length or 0),
    }[algorithm.aggregation.value]
    return math.fsum(
        (_slow_token(algorithm, t, sequences[t.sequence]) + _slow_kl(algorithm, t)) / divisor(t) for t in tokens
    )


def _slow_token(algorithm: Algorithm, token: Token, sequence: list[Token]) -> float:
    p = {k: v if isinstance(v, str) or v is None else float(v) for k, v in algorithm.objective_params.items()}
    a, ratio = token.advantage, math.exp(token.new - token.behaviour)
    log_weight = math.fsum(t.fixed - t.behaviour for t in sequence)
    match algorithm.objective.name:
        case "reinforce":
            return -a * (ratio if p["importance_weighted"] else token.new)
        case "ppo_clip":
            return _clipped(ratio, a, p["clip_low"], p["clip_high"], p["dual_clip"])
        case "gspo":
            s = math.exp(min(log_weight / len(sequence), 10.0) + token.new - token.fixed)
            return _clipped(s, a, p["clip_low"], p["clip_high"], None)
        case "cispo":
            low = 0.0 if p["clip_low"] is None else 1 - p["clip_low"]
            high = p["clip_high"] + (p["cap"] == "above_one")
            return -min(max(math.exp(token.fixed - token.behaviour), low), high) * a * token.new
        case "sapo":
            tau = p["tau_positive"] if a > 0 else p["tau_negative"]
            return -a * 4 / tau / (1 + math.exp(-tau * (ratio - 1)))
        case "vespo":
            sign = "negative" if math.fsum(t.advantage for t in sequence) < 0 else "positive"
            c1, c2, w = p[f"c1_{sign}"], p[f"c2_{sign}"], math.exp(log_weight)
            return -(w**c1) * math.exp(c2 * (1 - w)) * a * token.new
    raise AssertionError(f"write the loss of {algorithm.objective.name} down here, from its paper")


def _clipped(ratio: float, a: float, low: float, high: float, dual: float | None) -> float:
    loss = max(-a * ratio, -a * min(max(ratio, 1 - low), 1 + high))
    return min(loss, -a * dual) if dual is not None and a < 0 else loss


def _slow_kl(algorithm: Algorithm, token: Token) -> float:
    if not algorithm.kl.is_in_loss:
        return 0.0
    u = token.ref - token.new
    kl = {"k2": u * u / 2, "k3": min(math.exp(u) - u - 1, 10.0)}[algorithm.kl.estimator.value]
    return algorithm.kl.beta * kl
