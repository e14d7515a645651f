"""Servers are given weights, and each must prove that it holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from askesis.engines.vllm.fleet import Fleet
from askesis.engines.vllm.probing import Probe
from askesis.engines.vllm.weights import Snapshot, write_snapshot
from askesis.engines.vllm.wire import ReplicaLost
from askesis.errors import EngineError, RecipeError
from askesis.policy.loading import Policy
from askesis.recipe.schema import VllmSection
from fake_vllm import FakeProcess, FakeVllm, fakes


@pytest.fixture
def pair(tiny: Policy) -> Iterator[list[FakeVllm]]:
    with fakes(tiny, 2) as servers:
        yield servers


def fleet(policy: Policy, servers: list[FakeVllm], folder: Path, **settings: Any) -> Fleet:
    section = VllmSection(urls=[server.url for server in servers], **settings)
    return Fleet(policy, section, max_batch=8, context_length=256, folder=folder)


def change(policy: Policy, step: float = 1e-3) -> None:
    with torch.no_grad():
        for number, (_, tensor) in enumerate(policy.trainable()):
            tensor += step * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(number))


def shot(policy: Policy, folder: Path, version: int) -> tuple[Snapshot, Probe]:
    return write_snapshot(policy, folder / "weights", version), Probe.of(policy, 256)


def test_all_replicas_hold_each_version(tiny: Policy, pair: list[FakeVllm], tmp_path: Path) -> None:
    these = fleet(tiny, pair, tmp_path)
    assert these.describes == "vllm"
    first = shot(tiny, tmp_path, 0)
    these.start(*first)
    assert these.describes == "vllm 0.32.0, 2 replicas" and len(these.live) == 2
    change(tiny)
    second = shot(tiny, tmp_path, 1)
    with pytest.raises(EngineError, match="does not hold the learner's weights"):
        these.verify(*second)
    these.push(*second, first[1])
    these.verify(*second)
    own = dict(tiny.model.named_parameters())
    for server in pair:
        assert all(torch.equal(tensor, own[name]) for name, tensor in server.policy.model.named_parameters())
    assert 0 <= these.gap < 1e-5


def test_a_server_that_keeps_the_old_weights_is_named_although_its_hash_is_right(
    tiny: Policy, pair: list[FakeVllm], tmp_path: Path
) -> None:
    these = fleet(tiny, pair, tmp_path)
    first = shot(tiny, tmp_path, 0)
    these.start(*first)
    change(tiny, 1e-5)
    pair[1].keeps_old_weights = True
    with pytest.raises(EngineError, match="before the last update") as caught:
        these.push(*shot(tiny, tmp_path, 1), first[1])
    assert caught.value.where == f"replica 1 at {pair[1].url}"


def test_weights_that_somebody_else_changed_are_found(tiny: Policy, pair: list[FakeVllm], tmp_path: Path) -> None:
    these = fleet(tiny, pair, tmp_path)
    first = shot(tiny, tmp_path, 0)
    these.start(*first)
    change(pair[0].policy, 1e-9)
    with pytest.raises(EngineError, match="does not hold") as caught:
        these.verify(*first)
    assert "replica 0" in str(caught.value) and "intact: False" in str(caught.value)


def test_a_server_that_read_something_else_is_found(tiny: Policy, pair: list[FakeVllm], tmp_path: Path) -> None:
    these = fleet(tiny, pair, tmp_path)
    snapshot, probe = shot(tiny, tmp_path, 0)
    change(tiny)
    write_snapshot(tiny, tmp_path / "weights", 0)  # the file is another one by the time it is read
    with pytest.raises(EngineError, match="does not hold the learner's weights"):
        these.start(snapshot, probe)


def test_a_plain_server_is_verified_by_its_log_probabilities(tiny: Policy, tmp_path: Path) -> None:
    with fakes(tiny, has_door=False) as [plain]:
        these = fleet(tiny, [plain], tmp_path)
        first = shot(tiny, tmp_path, 0)
        these.start(*first)
        assert these.describes == "vllm 0.32.0, 1 replica, without extension"
        change(tiny)
        second = shot(tiny, tmp_path, 1)
        these.push(*second, first[1])
        these.verify(*second)
        plain.keeps_old_weights = True
        change(tiny, 1e-5)
        with pytest.raises(EngineError, match="before the last update"):
            these.push(*shot(tiny, tmp_path, 2), second[1])
        change(plain.policy, 1.0)
        with pytest.raises(EngineError, match="not those of the weights"):
            these.verify(*second)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"logprobs_mode": "raw_logprobs"}, "would not give the log-probabilities of what it samples from"),
        ({"architectures": ["LlamaForCausalLM"]}, "serves another model"),
        ({"vocab_size": 999}, "vocabulary is not the policy's"),
        ({"max_model_len": 128}, "context is too short"),
        ({"gives_raw": True}, "model's own log-probabilities"),
        ({"version": "0.20.0"}, "too old"),
    ],
)
def test_a_server_that_serves_something_else_is_refused(
    tiny: Policy, pair: list[FakeVllm], tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    for name, value in wrong.items():
        setattr(pair[1], name, value)
    with pytest.raises(EngineError, match=message) as caught:
        fleet(tiny, pair, tmp_path).start(*shot(tiny, tmp_path, 0))
    assert caught.value.where == f"replica 1 at {pair[1].url}" and caught.value.next_step


def test_a_server_that_is_not_there_is_named(tiny: Policy, pair: list[FakeVllm], tmp_path: Path) -> None:
    pair[1].stop()
    with pytest.raises(ReplicaLost, match="cannot be reached") as caught:
        fleet(tiny, pair, tmp_path).start(*shot(tiny, tmp_path, 0))
    assert "replica 1" in str(caught.value)


def test_a_server_that_is_gone_is_left_out_and_taken_back_with_the_newest_weights(
    tiny: Policy, pair: list[FakeVllm], tmp_path: Path
) -> None:
    these = fleet(tiny, pair, tmp_path)
    first = shot(tiny, tmp_path, 0)
    these.start(*first)
    pair[0].stop()
    change(tiny)
    second = shot(tiny, tmp_path, 1)
    these.push(*second, first[1])
    assert [replica.index for replica in these.live] == [1]
    pair[0].start()
    these.push(*second, second[1])
    assert [replica.index for replica in these.live] == [0, 1]
    these.verify(*second)
    for server in pair:
        server.stop()
    with pytest.raises(ReplicaLost):
        these.push(*second, second[1])
    with pytest.raises(EngineError, match="cannot be reached"):
        these.revive(*second)


def launching(policy: Policy, folder: Path) -> tuple[list[FakeProcess], Callable[[int], Any]]:
    started: list[FakeProcess] = []

    def launch(index: int) -> Any:
        started.append(FakeProcess(policy, folder / f"vllm-{index}.log"))
        return started[-1]

    return started, launch


def test_a_server_of_ours_that_died_is_started_again_a_limited_number_of_times(
    tiny: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKESIS_VLLM_KEY", "a key for tests")
    started, launch = launching(tiny, tmp_path)
    section = VllmSection(restarts=1)
    these = Fleet(tiny, section, max_batch=8, context_length=256, folder=tmp_path, launch=launch)
    first = shot(tiny, tmp_path, 0)
    these.start(*first)
    these.lose(these.live[0], EngineError("it died"))
    assert not started[0].is_alive and these.live == []
    these.revive(*first)
    assert len(started) == 2 and these.restarts == 1
    these.verify(*first)
    these.lose(these.live[0], EngineError("it died again"))
    with pytest.raises(EngineError, match="all replicas are lost") as caught:
        these.revive(*first)
    assert "engine.vllm.restarts=1" in str(caught.value)
    these.close()


def test_a_server_that_ends_or_hangs_while_it_starts(
    tiny: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKESIS_VLLM_KEY", "a key for tests")
    _, launch = launching(tiny, tmp_path)

    def dying(index: int) -> Any:
        process = launch(index)
        process.kill()
        return process

    first = shot(tiny, tmp_path, 0)
    with pytest.raises(EngineError, match="ended while it started") as caught:
        Fleet(tiny, VllmSection(), max_batch=8, context_length=256, folder=tmp_path, launch=dying).start(*first)
    assert "the last line of the log" in str(caught.value)

    def silent(index: int) -> Any:
        process = launch(index)
        process.fake.stop()
        return process

    late = VllmSection(start_timeout_s=0.5)
    with pytest.raises(EngineError, match="did not come up in time"):
        Fleet(tiny, late, max_batch=8, context_length=256, folder=tmp_path, launch=silent).start(*first)


def test_a_context_that_cannot_be_long_enough_is_refused_before_anything_starts(tiny: Policy, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="less room") as caught:
        Fleet(tiny, VllmSection(max_model_len=64), max_batch=8, context_length=256, folder=tmp_path)
    assert caught.value.where == "engine.vllm.max_model_len"
