"""Bad tensors are named before they reach a stage."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from algorithms.cases import random_batch
from askesis.algorithms import LossInputs, RewardBatch
from askesis.algorithms.checks import check_loss_inputs, check_rewards, check_tokens, required
from askesis.errors import AlgorithmError

NOTHING: frozenset[str] = frozenset()
REWARDS = RewardBatch(reward_B=torch.tensor([1.0, 0.0]), group_B=torch.tensor([0, 0]))
MASK = torch.tensor([[True, True, False]])
ROW = torch.tensor([[-1.0, -2.0, float("nan")]])
INPUTS = LossInputs(logp_new_BT=ROW, logp_behaviour_BT=ROW, advantage_BT=ROW, mask_BT=MASK, weight_BT=ROW)


def test_good_tensors_pass_and_rubbish_under_the_mask_is_not_looked_at() -> None:
    assert check_rewards(REWARDS, NOTHING) is None
    assert check_loss_inputs(INPUTS, NOTHING) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_no_number_is_named_with_its_place(value: float) -> None:
    with pytest.raises(AlgorithmError, match="reward_B is NaN or infinite") as caught:
        check_rewards(replace(REWARDS, reward_B=torch.tensor([0.0, value])), NOTHING)
    assert caught.value.where == "reward_B[1]" and "1 of 2" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward_B": torch.zeros(0), "group_B": torch.zeros(0, dtype=torch.int64)}, "no rewards"),
        ({"reward_B": torch.zeros(2, 1)}, "reward_B has the wrong shape"),
        ({"reward_B": torch.tensor([1, 0])}, "reward_B has the wrong shape or dtype"),
        ({"group_B": torch.tensor([0])}, "group_B has the wrong shape"),
        ({"group_B": torch.tensor([0.0, 0.0])}, "group_B has the wrong shape or dtype"),
        ({"length_B": torch.tensor([4.0, 5.0])}, "length_B has the wrong shape or dtype"),
        ({"num_turns_B": torch.tensor([4])}, "num_turns_B has the wrong shape"),
        ({"truncated_B": torch.tensor([0, 1])}, "truncated_B has the wrong shape or dtype"),
        ({"kl_B": torch.tensor([0.0])}, "kl_B has the wrong shape"),
        ({"kl_B": torch.tensor([0.0, float("nan")])}, "kl_B is NaN"),
    ],
)
def test_reward_batches_of_the_wrong_form_are_refused(change: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(AlgorithmError, match=message):
        check_rewards(replace(REWARDS, **change), NOTHING)


@pytest.mark.parametrize("name", ["logp_new_BT", "logp_behaviour_BT", "advantage_BT", "weight_BT", "logp_ref_BT"])
def test_each_tensor_of_a_loss_is_checked_at_sampled_tokens(name: str) -> None:
    with pytest.raises(AlgorithmError, match=f"{name} is NaN or infinite") as caught:
        check_loss_inputs(
            replace(INPUTS, **{name: torch.tensor([[-1.0, float("-inf"), 0.0]], requires_grad=True)}), NOTHING
        )
    assert caught.value.where == f"{name}[0, 1]" and "-inf" in str(caught.value)
    with pytest.raises(AlgorithmError, match=f"{name} has the wrong shape"):
        check_loss_inputs(replace(INPUTS, **{name: torch.zeros(3)}), NOTHING)
    with pytest.raises(AlgorithmError, match=f"{name} has the wrong shape or dtype"):
        check_loss_inputs(replace(INPUTS, **{name: ROW.bfloat16()}), NOTHING)


@pytest.mark.parametrize("mask", [MASK.float(), MASK[0]])
def test_a_mask_must_be_a_bool_matrix(mask: torch.Tensor) -> None:
    with pytest.raises(AlgorithmError, match="mask_BT has the wrong shape or dtype"):
        check_loss_inputs(replace(INPUTS, mask_BT=mask), NOTHING)


def test_a_missing_field_is_named_with_the_way_out() -> None:
    with pytest.raises(AlgorithmError, match="needs logp_ref_BT, sequence_B") as caught:
        check_loss_inputs(INPUTS, frozenset({"sequence_B", "logp_ref_BT"}))
    assert "kl_beta = 0" in str(caught.value)
    with pytest.raises(AlgorithmError, match="needs kl_B"):
        check_rewards(REWARDS, frozenset({"kl_B"}))


@pytest.mark.parametrize("progress", [-0.01, 1.01, float("nan")])
def test_progress_is_a_share(progress: float) -> None:
    assert check_rewards(replace(REWARDS, progress=1.0), NOTHING) is None
    with pytest.raises(AlgorithmError, match="progress is the share"):
        check_rewards(replace(REWARDS, progress=progress), NOTHING)


TOKENS = random_batch(0)[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_BT": TOKENS.mask_BT.float()}, "mask_BT has the wrong shape or dtype"),
        ({"sequence_B": TOKENS.sequence_B[1:]}, "sequence_B has the wrong shape"),
        ({"sequence_B": TOKENS.sequence_B.int()}, "sequence_B has the wrong shape or dtype"),
        ({"sequence_B": TOKENS.sequence_B + 1}, "a row of tokens belongs to no reward"),
        ({"sequence_B": TOKENS.sequence_B - 1}, "a row of tokens belongs to no reward"),
        ({"turn_BT": TOKENS.turn_BT.float()}, "turn_BT has the wrong shape or dtype"),
        ({"anchor_BT": TOKENS.turn_BT[:, 1:]}, "anchor_BT has the wrong shape"),
        ({"hellinger_BT": TOKENS.mask_BT}, "hellinger_BT has the wrong shape or dtype"),
    ],
)
def test_token_batches_of_the_wrong_form_are_refused(change: dict[str, torch.Tensor], message: str) -> None:
    assert check_tokens(TOKENS, NOTHING, 8) is None
    with pytest.raises(AlgorithmError, match=message):
        check_tokens(replace(TOKENS, **change), NOTHING, 8)


@pytest.mark.parametrize(
    "name", ["logp_behaviour_BT", "logp_old_BT", "entropy_BT", "logp_ref_BT", "hellinger_BT", "step_reward_BT"]
)
def test_each_number_of_a_token_batch_is_checked_at_sampled_tokens(name: str) -> None:
    values = getattr(TOKENS, name)
    rubbish = torch.where(TOKENS.mask_BT, values, float("nan"))
    assert check_tokens(replace(TOKENS, **{name: rubbish}), NOTHING, 8) is None
    with pytest.raises(AlgorithmError, match=f"{name} is NaN or infinite"):
        check_tokens(replace(TOKENS, **{name: values / 0}), NOTHING, 8)
    with pytest.raises(AlgorithmError, match=f"needs {name}"):
        check_tokens(replace(TOKENS, **{name: None}), frozenset({name}), 8)


def test_a_stage_called_by_itself_says_what_it_lacks() -> None:
    assert required(3, "x", "stage") == 3
    with pytest.raises(AlgorithmError, match="credit 'x' needs entropy_BT"):
        required(None, "entropy_BT", "credit 'x'")
