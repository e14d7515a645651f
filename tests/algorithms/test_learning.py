"""Every named algorithm learns: a contextual bandit in which the sampled answer is a sequence of one token.

256 training and 256 held-out prompts with 24 features; of 32 answers the three best are right. The policy starts from a
noisy version of the true scores and trains a linear correction; its held-out accuracy is exact, not sampled.
"""

from __future__ import annotations

import pytest
import torch

from askesis.algorithms import LossInputs, RewardBatch, build


def train(name: str, steps: int = 150) -> tuple[float, float]:
    """Held-out accuracy before and after."""
    algorithm = build(name, {"kl_beta": 0})
    generator = torch.Generator().manual_seed(0)
    true, noise = torch.randn(2, 24, 32, generator=generator)
    x = 0.5 * torch.randn(512, 24, generator=generator)
    prior = x @ (true + 1.4 * noise)
    is_right = torch.zeros(512, 32, dtype=torch.bool).scatter_(1, (x @ true).topk(3).indices, True)
    correction = torch.zeros(24, 32, requires_grad=True)
    optimizer = torch.optim.Adam([correction], lr=0.02)

    def accuracy() -> float:
        probability = torch.softmax(prior[256:] + x[256:] @ correction.detach(), dim=1)
        return (probability * is_right[256:]).sum(dim=1).mean().item()

    before = accuracy()
    mask = torch.ones(512, 1, dtype=torch.bool)
    weight = algorithm.token_weights(mask, torch.arange(512))
    for _ in range(steps):
        prompt = torch.randperm(256, generator=generator)[:64].repeat_interleave(8)
        logp_all = torch.log_softmax(prior[prompt] + x[prompt] @ correction, dim=1)
        answer = torch.multinomial(logp_all.detach().exp(), 1, generator=generator)
        reward = 2.0 * is_right[prompt].gather(1, answer)[:, 0] - 1
        advantage = algorithm.advantages(RewardBatch(reward_B=reward, group_B=prompt)).advantage_B
        logp = logp_all.gather(1, answer)
        inputs = LossInputs(
            logp_new_BT=logp,
            logp_behaviour_BT=logp.detach(),
            advantage_BT=advantage[:, None],
            mask_BT=mask,
            weight_BT=weight,
        )
        optimizer.zero_grad()
        algorithm.loss(inputs).loss.backward()
        optimizer.step()
    return before, accuracy()


@pytest.mark.parametrize("name", ["reinforce", "rloo", "grpo", "dr_grpo"])
def test_held_out_accuracy_rises(name: str) -> None:
    before, after = train(name)
    # Over seeds 0 to 3 the four algorithms gain .167 to .211.
    assert after - before >= 0.16, f"{name}: {before:.3f} -> {after:.3f}"
