"""The gateway: exact recording, budgets with their own reasons, forks and rewritten contexts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from askesis.clock import VirtualClock
from askesis.engines import Sampling
from askesis.engines.scripted import ScriptedEngine
from askesis.errors import BudgetExhausted, ContextOverflow, TraceError
from askesis.gateway import Endpoint, Gateway, Session
from askesis.policy.loading import Policy
from askesis.trace import Budgets, Message, StopReason, Task

UNLIMITED = Budgets()


def open_endpoint(
    policy: Policy,
    script: Callable[[str, int], str | Exception] = lambda text, seed: f"r{seed % 1000}",
    *,
    budgets: Budgets = UNLIMITED,
    context_length: int = 256,
    clock: VirtualClock | None = None,
) -> Endpoint:
    engine = ScriptedEngine(policy.template, script)
    gateway = Gateway(engine, policy.template, sampling=Sampling(max_tokens=20), context_length=context_length)
    session = Session(
        id="s",
        task=Task(key="k", environment="e", payload={}),
        group_id="g",
        member_index=0,
        seed=5,
        policy_version=0,
        budgets=budgets,
        clock=clock or VirtualClock(),
    )
    return gateway.open(session)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def test_a_dialogue_is_recorded_as_one_path(tiny: Policy) -> None:
    endpoint = open_endpoint(tiny)

    async def talk() -> list[Message]:
        history = [user("one")]
        for text in ("two", "three"):
            history += [(await endpoint.chat(history)).message, user(text)]
        await endpoint.chat(history)
        return history

    history = asyncio.run(talk())
    trace = endpoint.close(StopReason.TERMINATED)
    assert len(trace.leaves()) == 1 and len(trace.calls) == 3
    branch = trace.branches()[0]
    last = trace.calls[-1]
    assert branch.tokens.tolist() == [*last.context.tolist(), *last.sampled.tolist()]
    assert last.context.tolist() == tiny.template.encode_prompt(history)
    assert [[m.content for m in c.messages] for c in trace.calls] == [["one"], ["two"], ["three"]]
    assert trace.calls[0].sampling["max_tokens"] == 20


def test_answers_to_one_prompt_fork_after_it(tiny: Policy) -> None:
    endpoint = open_endpoint(tiny)

    async def fork() -> None:
        first = (await endpoint.chat([user("q")])).message
        second = (await endpoint.chat([user("q")])).message
        assert first != second  # each call has its own stream
        await endpoint.chat([user("q"), first, user("more")])

    asyncio.run(fork())
    trace = endpoint.close(StopReason.TERMINATED)
    assert [n.parent for n in trace.nodes] == [None, 0, 1, 2, 0]
    assert [n.call for n in trace.nodes] == [None, 0, None, 2, 1]


def test_a_rewritten_context_opens_a_second_root(tiny: Policy) -> None:
    endpoint = open_endpoint(tiny)

    async def rewrite() -> None:
        await endpoint.chat([user("long story")])
        await endpoint.chat([Message(role="system", content="summary")])

    asyncio.run(rewrite())
    roots = [n for n in endpoint.close(StopReason.TERMINATED).nodes if n.parent is None]
    assert len(roots) == 2


def spend(endpoint: Endpoint, times: int, clock: VirtualClock | None = None) -> str | None:
    async def loop() -> str | None:
        for _ in range(times):
            try:
                await endpoint.chat([user("q")])
            except BudgetExhausted as error:
                return error.reason
            if clock is not None:
                clock.advance(10.0)
        return None

    return asyncio.run(loop())


def test_each_budget_has_its_own_stop_reason(tiny: Policy) -> None:
    assert spend(open_endpoint(tiny, budgets=Budgets(turns=2)), 2) is None
    assert spend(open_endpoint(tiny, budgets=Budgets(turns=2)), 3) == StopReason.MAX_TURNS
    clock = VirtualClock()
    assert spend(open_endpoint(tiny, budgets=Budgets(seconds=25.0), clock=clock), 5, clock) == StopReason.MAX_SECONDS
    assert spend(open_endpoint(tiny, lambda text, seed: "abcd", budgets=Budgets(tokens=12)), 9) == StopReason.MAX_TOKENS


def test_the_token_budget_cuts_the_last_answer(tiny: Policy) -> None:
    endpoint = open_endpoint(tiny, lambda text, seed: "abcd", budgets=Budgets(tokens=7))
    assert spend(endpoint, 9) == StopReason.MAX_TOKENS
    trace = endpoint.close(StopReason.MAX_TOKENS)
    assert [len(c.sampled) for c in trace.calls] == [5, 2]
    assert [c.finish for c in trace.calls] == ["stop", "length"]
    assert trace.num_sampled == 7


def test_side_by_side_calls_do_not_overspend(tiny: Policy) -> None:
    endpoint = open_endpoint(tiny, lambda text, seed: "a" * 30, budgets=Budgets(tokens=30))

    async def many() -> list[object]:
        return await asyncio.gather(*(endpoint.chat([user("q")]) for _ in range(4)), return_exceptions=True)

    results = asyncio.run(many())
    assert endpoint.close(StopReason.MAX_TOKENS).num_sampled <= 30
    assert sum(isinstance(r, BudgetExhausted) for r in results) == 2


def test_a_full_context_is_an_error_and_a_nearly_full_one_cuts(tiny: Policy) -> None:
    with pytest.raises(ContextOverflow, match="fills the model's context"):
        asyncio.run(open_endpoint(tiny, context_length=20).chat([user("q" * 30)]))
    endpoint = open_endpoint(tiny, lambda text, seed: "abcdefgh", context_length=12)
    reply = asyncio.run(endpoint.chat([user("q" * 5)]))
    assert (reply.finish, reply.num_tokens) == ("length", 4)


def test_a_stop_text_cuts_at_the_token_that_completes_it(tiny: Policy) -> None:
    endpoint = open_endpoint(tiny, lambda text, seed: "one END two END")
    reply = asyncio.run(endpoint.chat([user("q")], stop=["zzz", "END"]))
    (call,) = endpoint.close(StopReason.TERMINATED).calls
    assert reply.message.content == "one END" and reply.finish == "stop"
    assert len(reply.tokens) == len(reply.logprobs) == len(call.sampled) == len("one END")
    assert (reply.num_context, reply.version, reply.num_tokens) == (len(call.context), 0, 7)


def test_a_stop_text_at_the_edges_and_one_that_never_comes(tiny: Policy) -> None:
    def said(stop: str) -> tuple[str, int]:
        reply = asyncio.run(open_endpoint(tiny, lambda text, seed: "abc").chat([user("q")], stop=[stop]))
        return reply.message.content, reply.num_tokens

    assert said("a") == ("a", 1)
    assert said("abc") == ("abc", 3)  # the end token that followed was not needed
    assert said("x") == ("abc", 4)


def test_a_seed_names_the_stream_whenever_it_is_asked(tiny: Policy) -> None:
    endpoint = open_endpoint(tiny)

    async def ask(*seeds: int | None) -> list[str]:
        return [(await endpoint.chat([user("q")], seed=seed)).message.content for seed in seeds]

    first, other, again, fresh = asyncio.run(ask(7, 8, 7, None))
    assert first == again and len({first, other, fresh}) == 3


def test_a_closed_session_takes_no_calls(tiny: Policy) -> None:
    endpoint = open_endpoint(tiny)
    endpoint.note({"event": "x"})
    assert endpoint.close(StopReason.TERMINATED).events == ({"event": "x"},)
    with pytest.raises(TraceError, match="closed"):
        asyncio.run(endpoint.chat([user("q")]))


def test_a_text_is_shortened_to_tokens_and_never_in_the_middle_of_a_character(tiny: Policy) -> None:
    endpoint = open_endpoint(tiny)
    assert endpoint.sampling == Sampling(max_tokens=20)
    for text in ("a plain text", "日本語" * 50, "<|end|>" * 20, "\ud800", "", "x" * 10_000_000):
        for limit in (1, 5, 30):
            short = endpoint.shorten(text, limit)
            assert endpoint.count_tokens(short) <= limit and text.startswith(short)
    assert endpoint.shorten("a plain text", 30) == "a plain text"
    assert endpoint.count_tokens("<|end|>") > 1  # what looks like a control token is text
