"""Against the real package: two steps of GRPOTrainer through either door. TRL lives in an environment of its own:

ASKESIS_TRL_PYTHON=/path/bin/python pytest tests/environments/adapters/trl/test_real.py
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

PYTHON = os.environ.get("ASKESIS_TRL_PYTHON", "")
if not PYTHON:
    pytest.skip("ASKESIS_TRL_PYTHON names no Python with trl", allow_module_level=True)

SOURCES = Path(__file__).parents[4] / "src"
RUN_S = 600.0

TRAINING = """
import json, pathlib, sys
import torch
torch.set_num_threads(1)
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from askesis.environments.adapters.trl import environment_factory, environment_reward, rollout_func, rollout_reward
from askesis.environments.fakes import make_echo_world
from askesis.policy.folder import resolve_name

door, output = sys.argv[1:]
source, world = resolve_name("nano"), make_echo_world(turns=2)
tokenizer = AutoTokenizer.from_pretrained(source)
kept = []

def keeping(reward):
    def keep(**given):
        rewards = reward(**given)
        kept.append([len(given["completions"]), rewards])
        return rewards
    return keep

if door == "rollout_func":
    rows = [{"prompt": str(number)} for number in range(8)]
    more = {"rollout_func": rollout_func(world), "reward_funcs": [keeping(rollout_reward)]}
else:
    # The built-in policy's own template knows no calls of tools.
    folder = pathlib.Path(trl.__file__).parent / "chat_templates"
    tokenizer.chat_template = (folder / "qwen3.jinja").read_text()
    rows = [{"prompt": [{"role": "user", "content": ""}], "task": number} for number in range(8)]
    more = {"environment_factory": environment_factory(world), "reward_funcs": [keeping(environment_reward)]}
settings = trl.GRPOConfig(
    output_dir=output, per_device_train_batch_size=4, num_generations=2, max_completion_length=24, max_steps=2,
    report_to=[], use_cpu=True, bf16=False, beta=0.0, save_strategy="no", logging_steps=1,
)
model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
trainer = trl.GRPOTrainer(
    model=model, processing_class=tokenizer, args=settings, train_dataset=Dataset.from_list(rows), **more
)
trainer.train()
print(json.dumps([trainer.state.global_step, kept]))
"""


@pytest.mark.opt_in
@pytest.mark.timeout(RUN_S)
@pytest.mark.parametrize("door", ["rollout_func", "environment_factory"])
def test_two_steps_of_grpo(door: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(
        [PYTHON, "-c", TRAINING, door, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=RUN_S
    )
    assert done.returncode == 0, done.stderr[-3000:]
    steps, kept = json.loads(done.stdout.splitlines()[-1])
    assert steps == 2 and len(kept) == 2
    for count, rewards in kept:
        assert count == len(rewards) == 4
        assert all(reward in (0.0, 0.5, 1.0) for reward in rewards)
