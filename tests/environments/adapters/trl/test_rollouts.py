"""TRL's ``rollout_func``: what TRL 1.16 gets from it, without TRL; the model is a tiny one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from askesis.environments.adapters.trl import rollout_func, rollout_reward
from askesis.environments.fakes import Fault, FlakyEnvironment, make_echo_world
from askesis.errors import EnvironmentFault, RecipeError

WORLD = make_echo_world(turns=2)


def trainer(tiny: Any, **changed: Any) -> Any:
    args = {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "max_completion_length": 12,
        "seed": 1,
        "bf16": False,
        "fp16": False,
    }
    return SimpleNamespace(
        args=SimpleNamespace(**{**args, **changed}),
        processing_class=tiny.tokenizer,
        accelerator=SimpleNamespace(unwrap_model=lambda model: model),
        model=tiny.model,
        state=SimpleNamespace(global_step=0),
    )


def test_every_prompt_has_a_token_exact_sample(tiny: Any) -> None:
    tiny.model.train()
    out = rollout_func(WORLD)(["3", [{"role": "user", "content": "4"}]], trainer(tiny))
    assert set(out) == {"prompt_ids", "completion_ids", "logprobs", "env_mask", "world_reward"}
    for prompt, completion, logprobs, mask in zip(
        out["prompt_ids"], out["completion_ids"], out["logprobs"], out["env_mask"], strict=True
    ):
        assert prompt and len(completion) == len(logprobs) == len(mask)
        assert 0 < sum(mask) <= 12  # max_completion_length is what may be sampled over all turns
        assert all(logp <= 0 and (m == 1 or logp == 0) for logp, m in zip(logprobs, mask, strict=True))
        assert set(mask) <= {0, 1} and mask[0] == 1
    words = [WORLD.tasks.task("train", number).payload["words"][0] for number in (3, 4)]
    texts = [tiny.tokenizer.decode(prompt) for prompt in out["prompt_ids"]]
    assert all(word in text for word, text in zip(words, texts, strict=True))
    assert rollout_reward(**out, completions=[]) == [0.0, 0.0]
    assert tiny.model.training


def test_the_same_step_samples_the_same(tiny: Any) -> None:
    roll = rollout_func(WORLD, max_turns=1)
    first, again = roll(["3", "3"], trainer(tiny)), roll(["3", "3"], trainer(tiny))
    assert first == again
    assert first["completion_ids"][0] != first["completion_ids"][1]


def test_the_probabilities_are_the_models_own(tiny: Any) -> None:
    import torch

    out = rollout_func(WORLD)(["3"], trainer(tiny))
    prompt, completion = out["prompt_ids"][0], out["completion_ids"][0]
    with torch.no_grad():
        logits = tiny.model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
    own = logits.log_softmax(-1).gather(-1, torch.tensor(completion)[:, None])[:, 0].tolist()
    for number, is_sampled in enumerate(out["env_mask"][0]):
        if is_sampled:
            assert out["logprobs"][0][number] == pytest.approx(own[number], abs=1e-4)


def test_a_session_that_fails_costs_only_its_reward(tiny: Any) -> None:
    flaky = replace(WORLD, environment=FlakyEnvironment(WORLD.environment, {Fault.CRASH_RESET: 1.0}))
    out = rollout_func(flaky)(["3"], trainer(tiny))
    assert (out["env_mask"], out["logprobs"], out["world_reward"]) == ([[0]], [[0.0]], [None])
    assert len(out["prompt_ids"][0]) == len(out["completion_ids"][0]) == 1


def test_a_prompt_that_is_no_number_and_mixed_precision_are_refused(tiny: Any) -> None:
    with pytest.raises(EnvironmentFault, match="no number of a task"):
        rollout_func(WORLD)(["What is 1 + 1?"], trainer(tiny))
    with pytest.raises(RecipeError, match="another precision"):
        rollout_func(WORLD)(["3"], trainer(tiny, bf16=True))
