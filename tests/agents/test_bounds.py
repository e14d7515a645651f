"""The bound of a compact context: it holds for whatever policy and tools do, and it can fail."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.worlds import open_endpoint, play, say
from askesis.agents import CompactMemory, FullContext, Harness, JsonFormat, Limits, TagFormat, Toolbox
from askesis.agents.bounds import ContextBound
from askesis.errors import AskesisError
from askesis.policy.loading import Policy
from askesis.trace import Message

TASK = [Message(role="system", content="Search."), Message(role="user", content="Who?")]
NOISE = st.text(alphabet="ab <>/é\n0", max_size=300)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NOISE, min_size=1, max_size=4), st.lists(NOISE, min_size=1, max_size=4), st.booleans())
def test_no_call_is_longer_than_the_bound(tiny: Policy, results: list[str], memories: list[str], as_json: bool) -> None:
    count = 0

    def script(prompt: str, seed: int) -> str:
        nonlocal count
        count += 1
        if count % 2 == 0:
            return f"<memory>{memories[count % len(memories)]}m</memory>"
        call = '<tool_call>{"name": "search", "arguments": {"query": "q"}}</tool_call>'
        return call * 2 if as_json else "<search>q</search>"

    def search(query: str) -> str:
        """Find."""
        return results[count % len(results)]

    toolbox = Toolbox([search])
    harness = Harness(
        format=JsonFormat() if as_json else TagFormat(tools=("search",)),
        context=lambda: CompactMemory("update"),
        limits=Limits(tool_calls=12, calls_per_reply=2, result_tokens=40, memory_tokens=50),
        tools=toolbox.specs,
    )
    endpoint = open_endpoint(tiny, script, max_tokens=130)
    _, trace = play(endpoint, harness, toolbox, [TASK])
    first = len(trace.calls[0].context)
    bound = ContextBound.of(first, harness.limits, endpoint, CompactMemory("update"))
    acts, memory_calls = trace.calls[::2], trace.calls[1::2]
    assert max(len(call.context) for call in acts) <= bound.act
    assert max((len(call.context) for call in memory_calls), default=0) <= bound.memory


def test_a_prompt_beyond_the_bound_is_an_error() -> None:
    bound = ContextBound(act=10, memory=20)
    bound.check(10, after_act=False)
    bound.check(20, after_act=True)
    with pytest.raises(AskesisError, match="outgrown"):
        bound.check(11, after_act=False)
    with pytest.raises(AskesisError, match="21 tokens"):
        bound.check(21, after_act=True)


def test_memsearcher_7a_8_prompts_stay_level_while_a_full_history_grows_by_each_exchange(tiny: Policy) -> None:
    def search(query: str) -> str:
        """Find."""
        return "five hundred words " * 20

    toolbox = Toolbox([search])
    peaks = {}
    for name, context, script in (
        ("compact", lambda: CompactMemory("update"), say(*["<search>q</search>", "<memory>note</memory>"] * 6)),
        ("full", FullContext, say("<search>q</search>")),
    ):
        harness = Harness(
            format=TagFormat(tools=("search",)),
            context=context,
            limits=Limits(tool_calls=6, answers_at_cap=False),
            tools=toolbox.specs,
        )
        _, trace = play(open_endpoint(tiny, script), harness, toolbox, [TASK])
        peaks[name] = np.array([len(call.context) for call in trace.calls])
    exchange = np.diff(peaks["full"])
    assert len(exchange) == 5 and np.ptp(exchange) == 0 and exchange[0] > 100
    assert np.ptp(peaks["compact"][3::2]) == 0 and peaks["compact"].max() < peaks["full"][3]
