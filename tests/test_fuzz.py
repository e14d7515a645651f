"""A hundred thousand hostile answers through every parser that model text meets: only our own errors, and quickly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import numpy as np
import pytest

from askesis.environments import World, make_world
from askesis.environments.play import trace_of
from askesis.environments.reasoning.extract import extract_answer
from askesis.environments.reasoning.levels import load_levels
from askesis.errors import AskesisError
from askesis.policy.loading import Policy
from askesis.trace import Message

NUM_OUTPUTS = 100_000
PIECES = [
    *("<answer>", "</answer>", "<think>", "</think>", "<search>", "</search>", "<tool_call>", "</tool_call>"),
    *("<information>", "</information>", "<|end|>", "<|user|>", "<answer", "answer>", "</", "<<answer>>"),
    *('{"name":', "{", "}", "[", "]", '"', "'", "\\", "\n", "\x00", "\ud800", "\u202e", "𝕏", "é", " ", "-0", "1e999"),
    *("nan", "inf", "12", "3.5", "1/0", "9**9**9", "__import__('os')", "x" * 50, "0" * 400),
]


def outputs(count: int, seed: int) -> Iterator[str]:
    """Half tag soup, half random bytes read as text."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 14, count)
    for number, length in enumerate(lengths):
        if number % 2:
            yield rng.bytes(int(length) * 8).decode("utf-8", "surrogateescape" if number % 4 == 1 else "replace")
        else:
            yield "".join(PIECES[i] for i in rng.integers(0, len(PIECES), length))


some_and_all = pytest.mark.parametrize("size", [NUM_OUTPUTS // 20, pytest.param(NUM_OUTPUTS, marks=pytest.mark.opt_in)])
"""The first twentieth every time; all of them when they are asked for."""


@some_and_all
def test_the_extractor_takes_anything(size: int) -> None:
    found = 0
    for text in outputs(size, 1):
        answer = extract_answer(text)
        assert answer is None or (isinstance(answer, str) and answer in text)
        found += answer is not None
    assert found > size // 100  # the soup really meets the parser


@pytest.mark.parametrize("text", ["<answer>" * 8000, "</answer>" * 8000, "<" * 65_536, "<answer>" + "x" * 100_000])
def test_long_hostile_text_is_read_in_linear_time(text: str) -> None:
    began = time.perf_counter()
    extract_answer(text)
    assert time.perf_counter() - began < 0.5


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [make_world("reasoning", family=family, level="nano", instruction="") for family in sorted(load_levels())]


@some_and_all
def test_every_known_familys_evaluator_takes_anything(size: int, worlds: list[World]) -> None:
    """All outputs over the families that nano knows: each gets a verdict, none a reward it did not earn."""

    async def judge() -> tuple[int, int]:
        rewarded = judged = 0
        share = size // len(worlds)
        for number, world in enumerate(worlds):
            task = world.tasks.task("train", 0)
            for text in outputs(share, 100 + number):
                verdict = await world.evaluator.score(trace_of(task, [f"<answer>{text}</answer>"]), task)
                judged += 1
                if verdict.reward and str(task.payload["answer"]) not in text:
                    rewarded += 1
        return judged, rewarded

    judged, rewarded = asyncio.run(judge())
    assert judged > size - len(worlds) and rewarded == 0


def test_the_template_takes_anything(tiny: Policy) -> None:
    control = set(tiny.tokenizer.all_special_ids)
    for text in outputs(5000, 3):
        try:
            ids = tiny.template.encode_prompt([Message(role="user", content=text)])
        except AskesisError:
            continue
        assert sum(i in control for i in ids) == 3
