"""Rows join and leave at any token; nothing that is sampled depends on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askesis.engines import Completion, Request, Sampling
from askesis.engines.cache import RowCache
from askesis.engines.decoder import FusedDecoder
from askesis.engines.modules import ModuleDecoder
from askesis.engines.scheduler import Call, Scheduler
from askesis.errors import EngineError
from askesis.policy.loading import Policy

STOPS = (1, 2, 3)


@pytest.fixture(scope="module")
def policy(random_policy: Callable[..., Policy]) -> Policy:
    return random_policy("Qwen3", num_hidden_layers=1)


def request(prefix: Sequence[int], seed: int, max_tokens: int = 6, **sampling: Any) -> Request:
    return Request(
        prefix=tuple(prefix), sampling=Sampling(max_tokens=max_tokens, **sampling), stop_ids=STOPS, seed=seed
    )


def make(policy: Policy, *, kind: type = FusedDecoder, max_batch: int = 64, kv_tokens: int = 0) -> Scheduler:
    return Scheduler(kind(policy.model), max_batch=max_batch, prefill_tokens=32, kv_tokens=kv_tokens)


def finish(scheduler: Scheduler) -> dict[int, Completion]:
    """Completions by seed."""
    done: dict[int, Completion] = {}
    while scheduler.busy:
        for call, result in scheduler.step():
            assert isinstance(result, Completion)
            done[call.request.seed] = result
    return done


def sample(scheduler: Scheduler, requests: Sequence[Request]) -> dict[int, Completion]:
    scheduler.submit(Call(r) for r in requests)
    return finish(scheduler)


def assert_same(found: dict[int, Completion], expected: dict[int, Completion]) -> None:
    assert {seed: c.tokens for seed, c in found.items()} == {seed: c.tokens for seed, c in expected.items()}
    for seed, completion in found.items():
        assert completion.logprobs == pytest.approx(expected[seed].logprobs, abs=1e-5)
        assert completion.finish == expected[seed].finish


HEAD = tuple(5 + i % 60 for i in range(70))  # long enough to be shared
prefixes = st.builds(
    lambda head, tail: (*HEAD[:head], *tail),
    st.sampled_from([0, 3, 66, 70]),
    st.lists(st.integers(5, 7), min_size=1, max_size=4),
)


@pytest.mark.parametrize("kind", [FusedDecoder, ModuleDecoder])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_neither_company_nor_order_nor_reuse_changes_an_answer(policy: Policy, kind: type, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.tuples(prefixes, st.integers(1, 9)), min_size=1, max_size=7))
    requests = [request(prefix, seed, n) for seed, (prefix, n) in enumerate(chosen)]
    expected: dict[int, Completion] = {}
    for one in requests:
        expected |= sample(make(policy), [one])
    scheduler = make(
        policy, kind=kind, max_batch=data.draw(st.integers(1, 8)), kv_tokens=data.draw(st.sampled_from([0, 40, 999]))
    )
    found: dict[int, Completion] = {}
    for one in data.draw(st.permutations(requests)):
        scheduler.submit([Call(one)])
        for _ in range(data.draw(st.integers(0, 3))):
            found |= {call.request.seed: r for call, r in scheduler.step() if isinstance(r, Completion)}
    found |= finish(scheduler)
    assert_same(found, expected)


def test_the_next_turn_reads_only_its_new_tokens(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, fresh = make(policy, kv_tokens=999), make(policy)
    contexts: list[int] = []
    read = FusedDecoder.read

    def counting(self: FusedDecoder, ids: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        contexts.extend(rest[0].tolist())
        return read(self, ids, *rest)

    monkeypatch.setattr(FusedDecoder, "read", counting)
    first = sample(kept, [request((9, 8, 7), 0, 5)])[0]
    history = (9, 8, 7, *first.tokens)
    assert kept.num_kept == len(history) - 1  # the last token has not been read yet
    contexts.clear()
    turns = [request((*history, 11, 12), 1), request((*history[:5], 13), 2)]  # goes on, and forks inside the answer
    found = sample(kept, turns)
    assert sorted(contexts) == sorted([len(history) - 1, 5])  # what was not read again
    assert_same(found, sample(fresh, turns))


def test_many_turns_of_many_sessions_with_and_without_reuse(policy: Policy) -> None:
    results = []
    for kv_tokens in (0, 60, 5000):
        scheduler = make(policy, kv_tokens=kv_tokens, max_batch=5)
        histories = [(*HEAD, 5 + i % 2) for i in range(6)]
        said: dict[int, Completion] = {}
        for turn in range(3):
            done = sample(scheduler, [request(h, 10 * turn + i) for i, h in enumerate(histories)])
            histories = [(*h, *done[10 * turn + i].tokens, 9, turn) for i, h in enumerate(histories)]
            said |= done
            assert scheduler.num_kept <= kv_tokens
        results.append(said)
    assert_same(results[1], results[0])
    assert_same(results[2], results[0])


def test_renewal_lets_rows_end_then_forgets(policy: Policy) -> None:
    scheduler = make(policy, kv_tokens=999)
    sample(scheduler, [request((9, 8, 7), 0)])
    assert scheduler.num_kept
    scheduler.submit([Call(request((9, 8, 7), 1, 4))])
    scheduler.step()
    scheduler.renew(3)
    scheduler.submit([Call(request((9, 8, 7), 2, 4))])
    done = finish(scheduler)
    assert (done[1].version, done[2].version) == (0, 3)
    assert_same({2: done[2]}, sample(make(policy), [request((9, 8, 7), 2, 4)]))
    scheduler.renew(4)
    assert scheduler.num_kept == 0


def test_changed_weights_are_taken_over_announced_or_not(random_policy: Callable[..., Policy]) -> None:
    policy = random_policy("Llama")
    scheduler = make(policy, kv_tokens=999)
    before = sample(scheduler, [request((9, 8, 7), 0)])
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(0.7)
    after = sample(scheduler, [request((9, 8, 7), 0)])
    assert after[0].logprobs != before[0].logprobs
    assert_same(after, sample(make(policy), [request((9, 8, 7), 0)]))
    parameters = list(policy.model.parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    torch.optim.AdamW(parameters, lr=0.1, fused=True).step()  # leaves no mark that could be seen
    scheduler.renew(1)
    assert_same(sample(scheduler, [request((9, 8, 7), 0)]), sample(make(policy), [request((9, 8, 7), 0)]))


def test_a_cancelled_call_leaves_its_row_and_the_others_stay(policy: Policy) -> None:
    scheduler = make(policy, max_batch=3)
    requests = [request((9, 8, seed), seed, 9) for seed in range(5)]
    calls = [Call(r) for r in requests]
    scheduler.submit(calls)
    scheduler.step()
    scheduler.cancel(calls[1])
    scheduler.cancel(calls[4])
    done = finish(scheduler)
    assert set(done) <= {0, 2, 3}
    assert_same(done, {s: c for s, c in sample(make(policy), requests).items() if s in done})


def test_a_failing_prompt_fails_alone_and_a_failing_step_fails_all_rows(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = make(policy, kv_tokens=999)
    scheduler.submit([Call(request((9, 8), 0, 9))])
    assert scheduler.step() == []
    scheduler.submit([Call(request((500,), 1))])  # no such id
    ((call, error),) = scheduler.step()
    assert call.request.seed == 1 and isinstance(error, EngineError) and "IndexError" in str(error)
    with monkeypatch.context() as patch:
        patch.setattr(FusedDecoder, "step", lambda *_: torch.zeros(1, 96) / 0)
        ((call, error),) = scheduler.step()
    assert call.request.seed == 0 and isinstance(error, EngineError) and "not finite" in str(error)
    assert scheduler.num_kept == 0
    assert_same(sample(scheduler, [request((9, 8), 0)]), sample(make(policy), [request((9, 8), 0)]))


def test_a_failure_while_rows_are_laid_out_fails_them_all(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = make(policy)
    scheduler.submit([Call(request((9, 8), 0, 9))])
    scheduler.step()
    scheduler.submit([Call(request((9, 7), 1, 9))])
    with monkeypatch.context() as patch:
        patch.setattr(RowCache, "_assign", lambda *_: 1 / 0)
        results = scheduler.step()
    assert [call.request.seed for call, _ in results] == [0, 1] and not scheduler.busy
    assert all("ZeroDivisionError" in str(error) for _, error in results)
    scheduler.submit([Call(request((9, 8), 0, 9)), Call(request((9, 8), 1))])
    scheduler.step()
    assert {call.request.seed for call, _ in scheduler.abandon(EngineError("over"))} <= {0, 1}
    assert_same(sample(scheduler, [request((9, 8), 0)]), sample(make(policy), [request((9, 8), 0)]))


def test_every_way_of_drawing_works_side_by_side(policy: Policy) -> None:
    ways: list[dict[str, Any]] = [{}, {"temperature": 0.0}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.5}]
    requests = [request((9, 8), seed, **way) for seed, way in enumerate(ways)]
    expected: dict[int, Completion] = {}
    for one in requests:
        expected |= sample(make(policy), [one])
    assert_same(sample(make(policy), requests), expected)


@pytest.mark.parametrize("kind", [FusedDecoder, ModuleDecoder])
@pytest.mark.parametrize("kv_tokens", [0, 999])
def test_answers_go_on_with_new_weights_from_their_next_token(
    random_policy: Callable[..., Policy], kind: type, kv_tokens: int
) -> None:
    """Each part has the log-probabilities of the weights that drew it, given all that was drawn before."""
    policy = random_policy("Qwen3", num_hidden_layers=1)
    before = [parameter.detach().clone() for _, parameter in policy.trainable()]
    scheduler = make(policy, kind=kind, max_batch=3, kv_tokens=kv_tokens)
    requests = [request((*HEAD, 5 + i), seed=i, max_tokens=8) for i in range(4)]
    scheduler.submit(Call(r) for r in requests)
    results = [result for _ in range(3) for result in scheduler.step()]
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    scheduler.swap(7)
    while scheduler.busy:
        results += scheduler.step()
    done = {call.request.seed: result for call, result in results}
    assert sorted(done) == [0, 1, 2, 3]
    swapped = [c for c in done.values() if c.swaps]
    assert swapped and all(c.version == 0 and c.swaps == ((3, 7),) for c in swapped)
    assert any(c.version == 7 and not c.swaps for c in done.values()), "one waited for a row until the new weights came"
    new = {r.seed: _logprobs(policy, r.prefix, done[r.seed].tokens) for r in requests}
    with torch.no_grad():
        for (_, parameter), old in zip(policy.trainable(), before, strict=True):
            parameter.copy_(old)
    for one in requests:
        drawn = done[one.seed]
        cut = drawn.swaps[0][0] if drawn.swaps else len(drawn.tokens) * (drawn.version == 0)
        expected = _logprobs(policy, one.prefix, drawn.tokens)[:cut] + new[one.seed][cut:]
        assert drawn.logprobs == pytest.approx(expected, abs=1e-4)


def _logprobs(policy: Policy, prefix: tuple[int, ...], tokens: tuple[int, ...]) -> list[float]:
    ids = torch.tensor([[*prefix, *tokens]])
    with torch.no_grad():
        logits = policy.model(input_ids=ids).logits[0, len(prefix) - 1 : -1].float()
    return logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0].tolist()


def test_a_change_to_equal_weights_changes_no_token(policy: Policy) -> None:
    """The random numbers of an answer go on where they were."""
    requests = [request(HEAD[: 5 + i], seed=i, max_tokens=9) for i in range(3)]
    expected = sample(make(policy), requests)
    scheduler = make(policy)
    scheduler.submit(Call(r) for r in requests)
    results: list[Any] = []
    version = 0
    while scheduler.busy:
        results += scheduler.step()
        version += 1
        scheduler.swap(version)
    assert_same({call.request.seed: result for call, result in results}, expected)
    for _, completion in results:
        assert [place for place, _ in completion.swaps] == list(range(1, len(completion.tokens)))


def test_a_cancelled_call_does_not_go_on(policy: Policy) -> None:
    scheduler = make(policy)
    calls = [Call(request((5, 6), seed=i, max_tokens=9)) for i in range(2)]
    scheduler.submit(calls)
    scheduler.step()
    scheduler.cancel(calls[0])
    scheduler.swap(1)
    assert finish(scheduler).keys() == {1}
