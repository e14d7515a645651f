"""The scripted engine."""

from __future__ import annotations

import asyncio

import pytest

from askesis.engines import Request, Sampling
from askesis.engines.scripted import ScriptedEngine
from askesis.errors import EngineError
from askesis.policy.loading import Policy


def ask(policy: Policy, engine: ScriptedEngine, max_tokens: int = 50) -> tuple[str, str]:
    prefix = tuple(policy.template.encode_text("ping"))
    request = Request(
        prefix=prefix, sampling=Sampling(max_tokens=max_tokens), stop_ids=policy.template.stop_ids, seed=3
    )
    done = asyncio.run(engine.generate(request))
    assert len(done.tokens) == len(done.logprobs)
    return policy.template.decode(done.tokens), done.finish


def test_it_says_what_the_script_says(tiny: Policy) -> None:
    engine = ScriptedEngine(tiny.template, lambda text, seed: f"{text}{seed}")
    assert ask(tiny, engine) == ("ping3", "stop")
    assert ask(tiny, engine, max_tokens=2) == ("pi", "length")
    engine.publish(7)
    assert engine.version == 7


def test_a_scripted_error_is_raised(tiny: Policy) -> None:
    with pytest.raises(EngineError, match="out of order"):
        ask(tiny, ScriptedEngine(tiny.template, lambda text, seed: EngineError("out of order")))
