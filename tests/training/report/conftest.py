"""A made-up run of 200 steps that reads like a real one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from askesis.evaluation import Interval, wilson_interval
from askesis.streams import generator
from askesis.training.report import (
    Estimate,
    Evaluation,
    FailureCount,
    RecipeRow,
    ReportData,
    SampleGroup,
    SampleTrace,
    SelfCheck,
    TokenView,
)

STEPS = 200


def passing(value: float) -> Estimate:
    return Estimate(value=value, interval=Interval(max(0.0, value - 0.03), min(1.0, value + 0.03)))


def evaluation(label: str, successes: int, *, thinks: float, temperature: float = 0.0, n: int = 500) -> Evaluation:
    share = successes / n
    return Evaluation(
        label=label,
        n=n,
        successes=successes,
        interval=wilson_interval(successes, n),
        temperature=temperature,
        best_constant=0.034,
        pass_at_k={k: passing(1 - (1 - share) ** k) for k in (1, 4)},
        format_share=0.981,
        think_share=thinks,
        errors=3 if label == "before" else 0,
    )


def tokens(prompt: str, answer: str, rng: np.random.Generator) -> list[TokenView]:
    """Words and signs as tokens; the first sampled one and the digits are the least certain."""
    views = [
        TokenView(text=t, sampled=False, id=1)
        for t in ("<|user|>", *prompt.replace(" ", "\x00 ").split("\x00"), "<|end|>", "<|assistant|>")
    ]
    pieces = (
        answer.replace("<", "\x00<")
        .replace(">", ">\x00")
        .replace(" ", "\x00 ")
        .replace("\n", "\x00\n\x00")
        .split("\x00")
    )
    for place, piece in enumerate(p for p in pieces if p):
        doubt = 1.2 if place == 0 else float(rng.exponential(0.5 if piece.strip().isdigit() else 0.04))
        views.append(TokenView(text=piece, sampled=True, id=int(rng.integers(3, 768)), logprob=-doubt))
    return views


def trace(label: str, prompt: str, answer: str, right: bool, rng: np.random.Generator, **more: float) -> SampleTrace:
    stop = "max_tokens" if "</answer>" not in answer else "terminated"
    return SampleTrace(
        label=label, reward=float(right), completed=right, stop=stop, tokens=tokens(prompt, answer, rng), **more
    )


def pair(a: int, b: int, c: int, d: int, guess: int, rng: np.random.Generator) -> SampleGroup:
    question = f"State the final answer to the following arithmetic problem: {a} + {b} - {c} + {d} ="
    total = a + b - c + d
    steps = f"<think>{a} + {b} = {a + b}\n{a + b} - {c} = {a + b - c}\n{a + b - c} + {d} = {total}</think>"
    return SampleGroup(
        title=f"chain_sum/held-out/{a}",
        question=question,
        expected=str(total),
        members=[
            trace("before", question, f"<answer>{guess}</answer>", guess == total, rng),
            trace("after", question, f"{steps}<answer>{total}</answer>", True, rng),
        ],
    )


def training_group(rng: np.random.Generator) -> SampleGroup:
    question = "State the final answer to the following arithmetic problem: 71 - 14 + 9 ="
    good = "<think>71 - 14 = 57\n57 + 9 = 66</think><answer>66</answer>"
    answers = [good, "<answer>64</answer>", good, good, "<answer>66</answer>", good, "<think>71 - 14 = 57\n57 + 9 ="]
    rights = ["<answer>66" in a for a in answers]
    mean, spread = float(np.mean(rights)), float(np.std(rights))
    members = [
        trace(f"answer {i + 1}", question, a, right, rng, advantage=(right - mean) / spread)
        for i, (a, right) in enumerate(zip(answers, rights, strict=True))
    ]
    return SampleGroup(title="training group, step 120", question=question, expected="66", members=members)


def curves(rng: np.random.Generator, steps: int = STEPS) -> dict[str, list[tuple[int, float | None]]]:
    at = np.arange(1, steps + 1)
    rise = 1 / (1 + np.exp(-(at / steps * 10 - 4)))
    noise = rng.normal(size=(12, steps))
    values = {
        "reward_mean": 0.30 + 0.55 * rise + 0.03 * noise[0],
        "accuracy": np.clip(0.28 + 0.56 * rise + 0.03 * noise[1], 0, 1),
        "held_out_accuracy": np.where(at % 50 == 0, 0.31 + 0.52 * rise, np.nan),
        "response_tokens": 14 + 30 * rise + 1.2 * noise[2],
        "entropy": 0.42 - 0.3 * rise + 0.015 * noise[3],
        "drift": np.abs(2e-7 + 5e-8 * noise[4]),
        "grad_norm": np.exp(-0.6 + 0.3 * noise[5]),
        "kl": 0.02 * rise + 0.001 * np.abs(noise[6]),
        "clipped_share": np.clip(0.01 + 0.004 * noise[7], 0, 1),
        "tokens_per_second": 8200 + 400 * noise[8],
        "step_seconds": 0.7 + 0.05 * np.abs(noise[9]),
        "failures": (noise[10] > 1.8).astype(float),
        "zero_variance_groups": np.clip(0.2 + 0.4 * rise + 0.05 * noise[11], 0, 1),
    }
    return {
        name: [(int(s), None if math.isnan(v) else float(v)) for s, v in zip(at, column, strict=True)]
        for name, column in values.items()
    }


RECIPE = [
    ("policy.source", "nano", "nano", "default"),
    ("environment.name", "reasoning", None, "quickstart.toml"),
    ("environment.family", "chain_sum", None, "quickstart.toml"),
    ("algorithm.preset", "grpo", "grpo", "default"),
    ("algorithm.clip_high", "0.28", "0.2", "quickstart.toml"),
    ("training.steps", "200", "100", "command line"),
    ("training.learning_rate", "3e-4", "1e-4", "quickstart.toml"),
    ("training.group_size", "16", "16", "default"),
    ("training.weight_decay", "0.0", "0.0", "default"),
    ("rollout.temperature", "1.0", "1.0", "default"),
    ("rollout.max_new_tokens", "128", "128", "default"),
    ("evaluation.n", "500", "500", "default"),
]


def make_report(**changes: object) -> ReportData:
    rng = generator(7, "report")
    fields: dict[str, object] = {
        "run_id": "chain-sum-7f3a91",
        "status": "finished",
        "summary": "nano learns chain_sum with GRPO",
        "started": 1_795_250_000.0,
        "finished": 1_795_250_164.0,
        "steps_done": STEPS,
        "steps_planned": STEPS,
        "wall_s": 163.4,
        "peak_rss_mb": 612.0,
        "versions": {
            "askesis": "0.1.0",
            "python": "3.11.9",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "numpy": "2.4.6",
        },
        "seed": 1,
        "recipe_hash": "b1946ac92492d2347c6235b4d2611184",
        "command": "askesis train recipes/quickstart.toml training.steps=200 seed=1",
        "recipe": [RecipeRow(key=k, value=v, default=d, origin=o) for k, v, d, o in RECIPE],
        "algorithm": {
            "preset": "grpo",
            "estimator": {"name": "group_mean", "scale": "std", "advantage_eps": 1e-6},
            "objective": {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28, "dual_clip": None},
            "kl": {"name": "none"},
            "aggregation": {"name": "token_mean"},
        },
        "evaluations": [
            evaluation("before", 156, thinks=0.242),
            evaluation("step 100", 318, thinks=0.71),
            evaluation("after", 410, thinks=0.988),
            evaluation("after, sampled", 396, thinks=0.97, temperature=1.0),
        ],
        "series": curves(rng),
        "self_checks": [
            SelfCheck(name="sampler weights equal trainer weights", passed=True, detail="200 of 200 versions, SHA-256"),
            SelfCheck(
                name="log-probabilities agree on a probe batch", passed=True, detail="largest difference 4.2e-7 nats"
            ),
            SelfCheck(name="masks cover exactly the sampled tokens", passed=True, detail="51,200 branches"),
            SelfCheck(
                name="loss does not depend on the micro-batch split", passed=True, detail="1, 2 and 8 parts, 3e-8 apart"
            ),
        ],
        "failures": [
            FailureCount(
                origin="evaluator", kind="timeout", count=3, example="score() took longer than 5.0 s\non '12 +'"
            ),
            FailureCount(
                origin="policy", kind="ContextOverflow", count=1, example="a prompt of 259 tokens, at most 256"
            ),
        ],
        "groups": [
            pair(17, 48, 9, 23, 71, rng),
            pair(62, 15, 38, 4, 45, rng),
            training_group(rng),
            pair(90, 7, 55, 31, 73, rng),
            pair(28, 81, 64, 12, 51, rng),
        ],
        "warnings": ["3 of 503 answers before training could not be graded; see Failures."],
    }
    return ReportData(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture(name="make_report", scope="session")
def make_report_fixture() -> Callable[..., ReportData]:
    """``make_report(**changes)``: the made-up run with some fields replaced."""
    return make_report
