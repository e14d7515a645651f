"""Credit within a trajectory speeds learning up where its rule is right, and slows it down where it is wrong.

Small tabular worlds, many at once, so that a few updates decide. Plain SGD: Adam would hide the size of a gradient.
"""

from __future__ import annotations

import torch

from askesis.algorithms import Algorithm, LossInputs, RewardBatch, TokenBatch, build, entropy, hellinger

NUM_MEMBERS = 8


def update(
    algorithm: Algorithm,
    optimizer: torch.optim.Optimizer,
    logp_BT: torch.Tensor,
    rewards: RewardBatch,
    tokens: TokenBatch,
) -> None:
    """One on-policy step."""
    credit = algorithm.credit(algorithm.advantages(rewards), rewards, tokens)
    inputs = LossInputs(
        logp_new_BT=logp_BT,
        logp_behaviour_BT=tokens.logp_behaviour_BT,
        advantage_BT=credit.advantage_BT,
        mask_BT=tokens.mask_BT,
        weight_BT=algorithm.token_weights(tokens.mask_BT, tokens.sequence_B),
        logp_ref_BT=tokens.logp_ref_BT,
        sequence_B=tokens.sequence_B,
    )
    optimizer.zero_grad()
    algorithm.loss(inputs).loss.backward()
    optimizer.step()


def draw(logp: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One symbol from each distribution of the last dimension, which it keeps."""
    flat = torch.multinomial(logp.detach().exp().reshape(-1, logp.shape[-1]), 1, generator=generator)
    return flat.view(*logp.shape[:-1], 1)


def dialogue(overrides: dict[str, object], *, decisive_is_sharp: bool) -> float:
    """aem.md 7b. Six turns of two tokens of four symbols; three turns decide, the others accept anything.

    On sharp turns the policy is sure of a response, on decisive turns its favourite is wrong and the next four right.
    """
    tasks, turns, v = 128, 6, 4
    generator = torch.Generator().manual_seed(0)
    is_decisive = torch.arange(turns) < 3
    scale = torch.where(is_decisive == decisive_is_sharp, 3.0, 0.5)
    first = (scale[:, None] * torch.randn(tasks, turns, v, generator=generator)).requires_grad_()
    second = (scale[:, None, None] * torch.randn(tasks, turns, v, v, generator=generator)).requires_grad_()

    def joint() -> torch.Tensor:
        return (first.log_softmax(-1)[..., None] + second.log_softmax(-1)).flatten(2).detach()

    best = joint().argsort(-1, descending=True)[..., 1:5]
    is_right = torch.zeros(tasks, turns, v * v, dtype=torch.bool).scatter_(2, best, True)
    is_right[:, 3:] = True
    task_B = torch.arange(tasks).repeat_interleave(NUM_MEMBERS)
    num = len(task_B)
    algorithm = build("grpo", {"kl_beta": 0, "aggregation": "token_mean", **overrides})
    optimizer = torch.optim.SGD([first, second], lr=float(num))
    for _ in range(12):
        one = first.log_softmax(-1)[task_B]
        y1 = draw(one, generator)
        two = second.log_softmax(-1)[task_B].gather(2, y1[..., None].expand(num, turns, 1, v))[:, :, 0]
        y2 = draw(two, generator)
        logp_BT = torch.cat([one.gather(2, y1), two.gather(2, y2)], 2).view(num, 2 * turns)
        success_B = is_right[task_B].gather(2, y1 * v + y2).flatten(1).all(1)
        tokens = TokenBatch(
            mask_BT=torch.ones(num, 2 * turns, dtype=torch.bool),
            sequence_B=torch.arange(num),
            turn_BT=torch.arange(turns).repeat_interleave(2).expand(num, -1),
            logp_behaviour_BT=logp_BT.detach(),
            entropy_BT=torch.stack(
                [entropy(one.detach().reshape(-1, v)), entropy(two.detach().reshape(-1, v))], 1
            ).view(num, -1),
        )
        update(algorithm, optimizer, logp_BT, RewardBatch(reward_B=success_B.float(), group_B=task_B), tokens)
    return float((joint().exp() * is_right).sum(-1).prod(-1).mean())


def test_aem_7b_helps_where_confident_turns_decide_and_harms_where_uncertain_ones_do() -> None:
    methods: tuple[dict[str, object], ...] = ({}, {"modulator": "aem"}, {"modulator": "aem", "aem_lambda": -1})
    plain, aem, backwards = (dialogue(overrides, decisive_is_sharp=True) for overrides in methods)
    # Measured: .26, .35, .17.
    assert aem > 1.15 * plain and plain > 1.15 * backwards
    plain, aem, backwards = (dialogue(overrides, decisive_is_sharp=False) for overrides in methods)
    # Measured: .13, .10, .19.
    assert plain > 1.15 * aem and backwards > 1.15 * plain


def chain(overrides: dict[str, object]) -> tuple[float, float, float]:
    """dgpo.md 7b. Answers of 32 symbols of 8, of which three at hidden places decide.

    Returns success, the mean weight of decisive tokens, and the drift (KL) of the others.
    """
    tasks, length, v = 48, 32, 8
    generator = torch.Generator().manual_seed(0)
    start = 1.5 * torch.randn(tasks, length, v, generator=generator)
    pivots = torch.rand(tasks, length, generator=generator).argsort(1)[:, :3]
    is_pivot = torch.zeros(tasks, length, dtype=torch.bool).scatter_(1, pivots, True)
    is_right = torch.zeros(tasks, length, v, dtype=torch.bool)
    is_right.scatter_(2, start.argsort(-1, descending=True)[..., 1:4], True)[~is_pivot] = True
    logits = start.clone().requires_grad_()
    task_B = torch.arange(tasks).repeat_interleave(NUM_MEMBERS)
    num = len(task_B)
    algorithm = build("dgpo_hellinger", overrides)
    optimizer = torch.optim.SGD([logits], lr=5.0 * num)
    for _ in range(12):
        every = logits.log_softmax(-1)[task_B]
        y = draw(every, generator)
        success_B = is_right[task_B].gather(2, y)[..., 0].all(1)
        flat = logits.detach().view(-1, v)
        tokens = TokenBatch(
            mask_BT=torch.ones(num, length, dtype=torch.bool),
            sequence_B=torch.arange(num),
            turn_BT=torch.zeros(num, length, dtype=torch.int64),
            logp_behaviour_BT=every.gather(2, y)[..., 0].detach(),
            entropy_BT=entropy(flat).view(tasks, length)[task_B],
            logp_ref_BT=start.log_softmax(-1)[task_B].gather(2, y)[..., 0],
            hellinger_BT=hellinger(flat, start.view(-1, v)).view(tasks, length)[task_B],
            vocab_size=v,
        )
        rewards = RewardBatch(reward_B=success_B.float(), group_B=task_B)
        update(algorithm, optimizer, every.gather(2, y)[..., 0], rewards, tokens)
    report = algorithm.advantages(rewards)
    credit_BT = algorithm.credit(report, rewards, tokens).advantage_BT
    teaches_B = report.advantage_B != 0
    weight_BT = credit_BT[teaches_B] / report.advantage_B[teaches_B][:, None]
    new, old = logits.detach().log_softmax(-1), start.log_softmax(-1)
    success = (new.exp() * is_right).sum(-1).prod(-1).mean()
    drift = (new.exp() * (new - old)).sum(-1)[~is_pivot].mean()
    return float(success), float(weight_BT[is_pivot[task_B][teaches_B]].mean()), float(drift)


def test_dgpo_7b_finds_the_decisive_tokens_by_itself() -> None:
    plain, one, drift = chain({"credit": "none"})
    with_kl, _, _ = chain({"credit": "none", "kl_beta": 0.04})
    default, weight, _ = chain({})
    sharp, sharp_weight, sharp_drift = chain({"dgpo_tau": 0.1})
    assert one == 1.0 and sharp_weight > weight > 1.05
    # Measured: .56, .59, .61, .70.
    assert with_kl < plain < default and sharp > plain + 0.06
    assert sharp_drift < drift


def corridor(overrides: dict[str, object]) -> float:
    """Four states, of which the right one of four actions leads on and the others stay; eight turns. Success at end."""
    tasks, length, turns, v = 64, 4, 8, 4
    generator = torch.Generator().manual_seed(0)
    logits = (0.5 * torch.randn(tasks, length, v, generator=generator)).requires_grad_()
    right = torch.randint(v, (tasks, length), generator=generator)
    task_B = torch.arange(tasks).repeat_interleave(NUM_MEMBERS)
    num = len(task_B)
    algorithm = build("gigpo", {"kl_beta": 0, **overrides})
    optimizer = torch.optim.SGD([logits], lr=0.3 * num)
    for _ in range(12):
        every, at_B = logits.log_softmax(-1), torch.zeros(num, dtype=torch.int64)
        columns = []
        for _ in range(turns):
            is_on_B, state_B = at_B < length, at_B.clamp(max=length - 1)
            y = draw(every[task_B, state_B], generator)
            columns.append((is_on_B, state_B, every[task_B, state_B].gather(1, y)[:, 0]))
            at_B = at_B + ((y[:, 0] == right[task_B, state_B]) & is_on_B)
        mask_BT, state_BT, logp_BT = (torch.stack(column, 1) for column in zip(*columns, strict=True))
        reward_B, num_turns_B = (at_B == length).float(), mask_BT.sum(1)
        turn_BT = torch.arange(turns).expand(num, turns)
        tokens = TokenBatch(
            mask_BT=mask_BT,
            sequence_B=torch.arange(num),
            turn_BT=turn_BT,
            logp_behaviour_BT=logp_BT.detach(),
            anchor_BT=state_BT,
            step_reward_BT=(turn_BT == num_turns_B[:, None] - 1) * reward_B[:, None],
        )
        rewards = RewardBatch(reward_B=reward_B, group_B=task_B, num_turns_B=num_turns_B)
        update(algorithm, optimizer, logp_BT, rewards, tokens)
    return float(reward_B.mean())


def test_gigpo_learns_from_states_that_come_back() -> None:
    episode, both = corridor({"step_weight": 0}), corridor({})
    # Measured: .39 and .81.
    assert both > episode + 0.2
