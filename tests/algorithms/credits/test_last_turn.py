"""The ablation that lets only the last response learn."""

from __future__ import annotations

import torch

from algorithms.cases import rewards_of, token_table
from askesis.algorithms import build


def test_only_the_last_response_keeps_its_advantage() -> None:
    # Trajectory 0 has calls 0 and 1 in its first row and 2 in another; trajectory 1 has calls 0 and 1.
    tokens = token_table([[0, 0, 1], [2, 2], [0, 1]], sequence=[0, 0, 1])
    algorithm = build("memsearcher", {"credit": "last_turn", "kl_beta": 0})
    rewards = rewards_of([1.0, 0.0])
    report = algorithm.advantages(rewards)
    credit = algorithm.credit(report, rewards, tokens)
    high = float(report.advantage_B[0])
    assert credit.advantage_BT.tolist() == [[0, 0, 0], [high, high, 0], [0, -high, 0]]
    assert credit.diagnostics["last_turn_share"] == float(torch.tensor(3) / 7)


def test_one_response_is_plain_grpo() -> None:
    tokens = token_table([[0, 0], [0]])
    rewards = rewards_of([1.0, 0.0])
    plain, only = (build("grpo", {"credit": name, "kl_beta": 0}) for name in ("none", "last_turn"))
    report = plain.advantages(rewards)
    assert torch.equal(
        plain.credit(report, rewards, tokens).advantage_BT, only.credit(report, rewards, tokens).advantage_BT
    )
