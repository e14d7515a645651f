"""A GRPO step of TRL's GRPOTrainer, in its own environment.

The trainer's loop is its own; callbacks hold it before each step until a round is asked for. What it does between two
steps (fetching texts, its logging, which is off) is not measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks.workers.channel import Channel, versions
from benchmarks.workload import Grpo, even_share

__all__ = ["serve", "train"]


def serve(channel: Channel) -> None:
    """Rounds of one step each; ``batch`` sequences pass through the model at a time."""
    load = Grpo.of(channel.job["load"])
    rounds = channel.job["rounds"]
    texts = [text for number in range(rounds) for text in load.texts(number)]
    train(channel, texts, load.prompts, load.group, load.new_tokens, load.prompts * load.group * load.new_tokens)


def train(
    channel: Channel,
    texts: list[str],
    prompts: int,
    group: int,
    new_tokens: int,
    tokens: int,
    rollout: Callable[..., Any] | None = None,
) -> None:
    """Run the trainer over ``texts``, ``prompts`` of them a step, ``group`` answers each; ``tokens`` is reported."""
    import torch
    from datasets import Dataset  # type: ignore[import-not-found]
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found]

    job = channel.job
    torch.set_num_threads(job["threads"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            max_steps=len(texts) // prompts,
            per_device_train_batch_size=job["batch"],
            gradient_accumulation_steps=prompts * group // job["batch"],
            num_generations=group,
            max_completion_length=new_tokens,
            generation_kwargs={"min_new_tokens": new_tokens},
            learning_rate=1e-4,
            lr_scheduler_type="constant",
            adam_beta2=0.99,
            loss_type="grpo",
            beta=0.0,
            num_iterations=1,
            shuffle_dataset=False,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to=[],
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=_reward,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": texts}),
            processing_class=AutoTokenizer.from_pretrained(job["model"], padding_side="left"),
            rollout_func=rollout,
        )
        trainer.add_callback(_held(channel, tokens))
        trainer.train()


def _reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [even_share(ids) for ids in completion_ids]


def _held(channel: Channel, tokens: int) -> Any:
    """A callback that starts each step when a round is asked for, and ends the training when none is."""
    from transformers import TrainerCallback

    class Held(TrainerCallback):  # type: ignore[misc]  # transformers is not typed in every environment
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            channel.ready(versions=versions("trl", "torch", "transformers"))

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if channel.next() is None:
                raise SystemExit(0)  # the trainer has no way to stop before a step

        def on_step_end(self, *_: Any, **__: Any) -> None:
            channel.finish(tokens=tokens)

    return Held()
