"""Every named algorithm learns, and a bound that a wrong sign or a wrong credit would fail."""

from __future__ import annotations

import pytest
import torch

from askesis.algorithms import (
    PRESETS,
    Algorithm,
    LossInputs,
    RewardBatch,
    TokenBatch,
    build,
    credit_names,
    entropy,
    estimator_names,
    hellinger,
    modulator_names,
    objective_names,
    shaping_names,
)

NUM_TASKS, NUM_MEMBERS, VOCAB = 8, 8, 5
TASK_B = torch.arange(NUM_TASKS).repeat_interleave(NUM_MEMBERS)
B = len(TASK_B)
TURN_BT = torch.tensor([0, 0, 1, 1]).expand(B, 4)
MASK_BT = torch.ones(B, 4, dtype=torch.bool)
SEQUENCE_B = torch.arange(B)
BOUND = 0.6
"""What right credit passes (.72 to .99) and credit to the wrong trajectory does not (.01 to .23)."""


class Table:
    """Eight tasks of two turns of two tokens from a table of logits. Reward 1 if the two middle tokens are right.

    The initial policy succeeds in a tenth of the trials.
    """

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.start = torch.randn(NUM_TASKS, 4, VOCAB, generator=self.generator)
        order = torch.rand(NUM_TASKS, 4, VOCAB, generator=self.generator).argsort(-1)
        self.is_right = torch.zeros(NUM_TASKS, 4, VOCAB, dtype=torch.bool).scatter_(2, order[..., :2], True)
        self.is_right[:, [0, 3]] = True
        self.logits = self.start.clone().requires_grad_()

    def success(self) -> float:
        """Exact, not sampled."""
        return float((self.logits.detach().softmax(-1) * self.is_right).sum(-1).prod(-1).mean())

    def logp(self, logits: torch.Tensor, drawn_BT: torch.Tensor) -> torch.Tensor:
        return logits.log_softmax(-1)[TASK_B].gather(2, drawn_BT[..., None])[..., 0]

    @torch.no_grad()
    def rollout(self, progress: float, moving_reward: float | None) -> tuple[torch.Tensor, RewardBatch, TokenBatch]:
        every = self.logits[TASK_B].reshape(-1, VOCAB)
        drawn_BT = torch.multinomial(every.softmax(-1), 1, generator=self.generator).view(B, 4)
        is_right_BT = self.is_right[TASK_B].gather(2, drawn_BT[..., None])[..., 0]
        reward_B = is_right_BT.all(1).float()
        behaviour_BT, ref_BT = (self.logp(logits, drawn_BT) for logits in (self.logits, self.start))
        rewards = RewardBatch(
            reward_B=reward_B,
            group_B=TASK_B,
            kl_B=(behaviour_BT - ref_BT).sum(1),
            moving_reward=moving_reward,
            progress=progress,
            length_B=torch.full((B,), 4),
            truncated_B=torch.zeros(B, dtype=torch.bool),
            num_turns_B=torch.full((B,), 2),
        )
        tokens = TokenBatch(
            mask_BT=MASK_BT,
            sequence_B=SEQUENCE_B,
            turn_BT=TURN_BT,
            logp_behaviour_BT=behaviour_BT,
            entropy_BT=entropy(every).view(B, 4),
            logp_ref_BT=ref_BT,
            hellinger_BT=hellinger(every, self.start[TASK_B].reshape(-1, VOCAB)).view(B, 4),
            anchor_BT=TURN_BT * (1 + is_right_BT[:, 1:2].long()),
            step_reward_BT=(TURN_BT == 1) * reward_B[:, None],
            value_BT=torch.zeros(B, 4),
            state_BT=TURN_BT,
            gain_BT=(TURN_BT == 0) * (0.5 * is_right_BT[:, 1:2] - 0.1),
            vocab_size=VOCAB,
        )
        return drawn_BT, rewards, tokens


def train(algorithm: Algorithm, *, sign: int = 1, credit_shift: int = 0, steps: int = 12) -> tuple[float, float]:
    """Success before and after ``steps`` rollouts, each used for two updates."""
    world, moving = Table(), None
    before = world.success()
    optimizer = torch.optim.Adam([world.logits], lr=0.25)
    weight_BT = algorithm.token_weights(MASK_BT, SEQUENCE_B)
    for step in range(steps):
        drawn_BT, rewards, tokens = world.rollout(step / steps, moving)
        report = algorithm.advantages(rewards)
        moving = report.moving_reward
        advantage_BT = sign * algorithm.credit(report, rewards, tokens).advantage_BT.roll(credit_shift, dims=0)
        for _ in range(2):
            inputs = LossInputs(
                logp_new_BT=world.logp(world.logits, drawn_BT),
                logp_behaviour_BT=tokens.logp_behaviour_BT,
                advantage_BT=advantage_BT,
                mask_BT=MASK_BT,
                weight_BT=weight_BT,
                logp_ref_BT=tokens.logp_ref_BT,
                sequence_B=SEQUENCE_B,
            )
            optimizer.zero_grad()
            algorithm.loss(inputs).loss.backward()
            optimizer.step()
    return before, world.success()


# Every preset, and each stage that no preset has, so that a new one is covered without a word.
IN_PRESETS = {(key, name) for preset in PRESETS for key, name in build(preset.name).stages.items()}
STAGES = {
    "shaping": shaping_names(),
    "estimator": estimator_names(),
    "modulator": modulator_names(),
    "credit": [name for name in credit_names() if name != "last_turn"],  # an ablation, see below
    "objective": objective_names(),
}
VARIANTS: list[tuple[str, dict[str, object]]] = [
    *((preset.name, {}) for preset in PRESETS),
    *(("ppo_mean", {key: name}) for key, names in STAGES.items() for name in names if (key, name) not in IN_PRESETS),
    ("a_nsr", {"negative_schedule": "cosine"}),
    ("a_nsr", {"negative_schedule": "accuracy"}),
    ("a_nsr", {"acting": "ratio"}),
]


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
def test_success_rises(name: str, overrides: dict[str, object]) -> None:
    before, after = train(build(name, overrides))
    assert before < 0.12 and after > BOUND, f"{before:.3f} -> {after:.3f}"


def test_the_ablation_that_teaches_only_the_last_turn_learns_less() -> None:
    _, after = train(build("ppo_mean", {"credit": "last_turn"}))
    assert after < BOUND


@pytest.mark.parametrize("name", [preset.name for preset in PRESETS])
def test_a_wrong_sign_makes_success_fall(name: str) -> None:
    before, after = train(build(name), sign=-1, steps=5)
    assert after < before


@pytest.mark.parametrize("name", ["grpo", "vespo", "gigpo", "a_cw_nsr", "grpo_aem", "dgpo_hellinger"])
def test_credit_to_the_wrong_trajectory_stays_below_the_bound(name: str) -> None:
    _, after = train(build(name), credit_shift=NUM_MEMBERS)
    assert after < BOUND


def train_bandit(name: str, steps: int = 150) -> tuple[float, float]:
    """Held-out accuracy before and after: a contextual bandit in which the answer is a sequence of one token.

    256 training and 256 held-out prompts with 24 features; of 32 answers the three best are right. The policy starts
    from a noisy version of the true scores and trains a linear correction; its held-out accuracy is exact, not sampled.
    """
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
    for step in range(steps):
        prompt = torch.randperm(256, generator=generator)[:64].repeat_interleave(8)
        logp_all = torch.log_softmax(prior[prompt] + x[prompt] @ correction, dim=1)
        answer = torch.multinomial(logp_all.detach().exp(), 1, generator=generator)
        reward = 2.0 * is_right[prompt].gather(1, answer)[:, 0] - 1
        rewards = RewardBatch(reward_B=reward, group_B=prompt, progress=step / steps)
        advantage = algorithm.advantages(rewards).advantage_B
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


@pytest.mark.parametrize("name", ["reinforce", "grpo", "nsr"])
def test_baselines_7_6_held_out_accuracy_rises(name: str) -> None:
    before, after = train_bandit(name)
    # The specification asks for a rise from .44 to .60.
    assert after - before >= 0.16, f"{name}: {before:.3f} -> {after:.3f}"
