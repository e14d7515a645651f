"""The losses against those of an independent library, TRL, on random tensors. Skipped where TRL is not installed.

TRL's loss is a method of its trainer. It is called on a stand-in that has the settings it reads and returns our
log-probabilities in place of a model's.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from algorithms.cases import gradient
from askesis.algorithms import Algorithm, LossInputs, build

pytest.importorskip("trl", minversion="1.16", reason="TRL is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

ROWS, COLUMNS = 6, 7


def random_batch(algorithm: Algorithm, seed: int) -> tuple[LossInputs, torch.Tensor]:
    """One row per answer, padded on the right, ratios from about 0.4 to 2.5."""
    generator = torch.Generator().manual_seed(seed)
    new, gap, far = torch.randn(3, ROWS, COLUMNS, dtype=torch.float64, generator=generator)
    length = torch.randint(1, COLUMNS + 1, (ROWS, 1), generator=generator)
    mask = torch.arange(COLUMNS) < length
    leaf = (-new.abs()).requires_grad_()
    advantage = torch.randn(ROWS, 1, dtype=torch.float64, generator=generator)
    sequence = torch.arange(ROWS)
    inputs = LossInputs(
        logp_new_BT=leaf,
        logp_behaviour_BT=leaf.detach() + 0.4 * gap,
        advantage_BT=advantage.expand(ROWS, COLUMNS),
        mask_BT=mask,
        weight_BT=algorithm.token_weights(mask, sequence),
        logp_ref_BT=leaf.detach() + 0.5 * far,
        sequence_B=sequence,
    )
    return inputs, leaf


def trl_loss(
    inputs: LossInputs, loss_type: str, *, level: str = "token", beta: float = 0.0, **settings: Any
) -> torch.Tensor:
    from trl.trainer.grpo_trainer import GRPOTrainer

    args = SimpleNamespace(
        delta=settings.get("delta"),
        use_bias_correction_kl=False,
        sapo_temperature_pos=1.0,
        sapo_temperature_neg=1.05,
        vespo_k_pos=settings.get("k_pos", 2.0),
        vespo_lambda_pos=settings.get("lambda_pos", 3.0),
        vespo_k_neg=settings.get("k_neg", 3.0),
        vespo_lambda_neg=settings.get("lambda_neg", 2.0),
    )
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (inputs.logp_new_BT, torch.zeros(ROWS, COLUMNS), None),
        get_gamma_weights=GRPOTrainer.get_gamma_weights,
        model=SimpleNamespace(training=False),
        accelerator=SimpleNamespace(gather=lambda x: x, reduce=lambda x, reduction: x, num_processes=1),
        args=args,
        loss_type=loss_type,
        importance_sampling_level=level,
        beta=beta,
        epsilon_low=settings.get("low", 0.2),
        epsilon_high=settings.get("high", 0.2),
        max_completion_length=COLUMNS,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        _metrics={"eval": defaultdict(list)},
    )
    nothing = torch.zeros(ROWS, 1, dtype=torch.int64)
    mask = inputs.mask_BT.to(torch.float64)
    loss: torch.Tensor = GRPOTrainer._compute_loss(
        trainer,
        None,
        {
            "prompt_ids": nothing,
            "prompt_mask": nothing,
            "completion_ids": torch.zeros(ROWS, COLUMNS, dtype=torch.int64),
            "completion_mask": mask,
            "advantages": inputs.advantage_BT[:, 0],
            "old_per_token_logps": inputs.logp_behaviour_BT,
            "ref_per_token_logps": inputs.logp_ref_BT,
            "num_items_in_batch": mask.sum(),
        },
    )
    return loss


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("name", "overrides", "loss_type", "settings"),
    [
        ("grpo", {}, "grpo", {"beta": 0.04}),
        ("grpo", {"kl_beta": 0, "dual_clip": 1.5}, "grpo", {"delta": 1.5}),
        ("dapo", {}, "dapo", {"high": 0.28}),
        ("dr_grpo", {"norm_length": COLUMNS}, "dr_grpo", {}),
        ("gspo", {}, "grpo", {"level": "sequence", "low": 3e-4, "high": 4e-4}),
        ("gspo", {"clip_low": 0.2, "clip_high": 0.2}, "grpo", {"level": "sequence"}),
        ("cispo", {"cap": "absolute", "clip_high": 1.3}, "cispo", {"high": 1.3}),
        ("cispo", {"cap": "absolute", "clip_high": 5}, "cispo", {"high": 5.0}),
        ("sapo", {}, "sapo", {}),
        ("vespo", {}, "vespo", {}),
        ("vespo_docstring", {}, "vespo", {"k_pos": 2.0, "lambda_pos": 1.5, "k_neg": 4.0, "lambda_neg": 2.5}),
    ],
)
def test_loss_and_gradient_agree(
    name: str, overrides: dict[str, object], loss_type: str, settings: dict[str, Any], seed: int
) -> None:
    algorithm = build(name, overrides)
    inputs, leaf = random_batch(algorithm, seed)
    if algorithm.needs.isdisjoint({"logp_ref_BT"}):
        inputs = replace(inputs, logp_ref_BT=None)
    ours, theirs = algorithm.loss(inputs).loss, trl_loss(inputs, loss_type, **settings)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5, abs=1e-7)
    assert torch.allclose(gradient(ours, leaf), gradient(theirs, leaf), rtol=1e-5, atol=1e-7)
