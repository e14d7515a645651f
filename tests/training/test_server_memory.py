"""What vLLM servers need beside a learner: by hand, as vLLM's own rules have it, and what is advised."""

from __future__ import annotations

import shlex

import pytest

from askesis.errors import RecipeError
from askesis.policy.shape import ModelShape, shape_of
from askesis.recipe import Recipe, load_recipe
from askesis.training.memory import Place, Workload, plan_memory
from askesis.training.server_memory import ServersPlan, plan_servers, server_remedy

GIB = 1 << 30
SHAPE = ModelShape(
    name="toy",
    architecture="Qwen3ForCausalLM",
    num_parameters=1_000_000_000,
    num_joint=800_000_000,
    lora_per_rank=10_000,
    num_layers=4,
    hidden=1000,
    inner=3000,
    heads=8,
    kv_heads=2,
    head_size=128,
    vocabulary=10_000,
    context_length=4096,
)
GPU = Place("cuda", 1, 40 * GIB)
WORK = Workload(context=1000)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)


def recipe(*overrides: str) -> Recipe:
    known = ["engine.kind=vllm", "engine.max_batch=64", "sampling.max_context=1000", "policy.dtype=bfloat16"]
    return load_recipe(None, [*known, *overrides]).recipe


def servers(*overrides: str, place: Place = GPU, learner: int = 0) -> ServersPlan:
    return plan_servers(recipe(*overrides), SHAPE, place, WORK, learner)


def test_one_server_by_hand() -> None:
    (server,) = servers().servers
    assert server.devices == ("0",)
    assert server.asked == -(-92 * 40 * GIB // 100)
    assert server.weights == 2_000_000_000
    # 2,048 tokens of a pass: the hidden state twice, and three times the inner size, in two bytes; then logits of 64
    # sequences, three times in four bytes.
    assert server.passes == 2048 * (2 * 1000 + 3 * 3000) * 2 + 3 * 64 * 10_000 * 4
    assert server.cache == server.asked - (1600 << 20) - server.weights - server.passes
    # Keys and values: 4 layers of 2 heads of 128. A block has 16 tokens; 1,000 tokens take 63 blocks.
    block = 16 * (2 * 4 * 2 * 128 * 2)
    assert server.longest == 63 * block
    assert server.tokens == server.cache // block * 16
    assert server.sequences == 64  # as many as engine.max_batch: the cache would hold more


def test_arguments_are_read_as_vllm_reads_them() -> None:
    (server,) = servers(
        'engine.vllm.arguments=["--gpu_memory_utilization=0.5","--block-size","32","--max-num-seqs","8",'
        '"--kv-cache-dtype","fp8","--max-num-batched-tokens","1k","--max-model-len","2000","--quantization","awq"]'
    ).servers
    assert server.asked == 20 * GIB and server.sequences == 8
    assert server.passes == 1000 * 11_000 * 2 + 3 * 8 * 10_000 * 4
    assert server.longest == 63 * 32 * (2 * 4 * 2 * 128)  # 2,000 tokens in blocks of 32, a byte for a number
    plan = servers('engine.vllm.arguments=["--quantization","awq","--kv-cache-dtype","nvfp4"]')
    assert plan.unknown == ("--quantization", "--kv-cache-dtype")
    (server,) = servers('engine.vllm.arguments=["--kv-cache-memory-bytes","2G"]').servers
    assert server.cache == 2 * GIB and server.asked == (1600 << 20) + server.weights + server.passes + 2 * GIB
    for wrong in ('["--gpu-memory-utilization","2"]', '["--block-size","many"]', '["-tp"]'):
        with pytest.raises(RecipeError, match="could not read") as caught:
            servers(f"engine.vllm.arguments={wrong}")
        assert caught.value.where == "engine.vllm.arguments"


def test_tensor_parallel_shares_weights_and_heads() -> None:
    arguments = 'engine.vllm.arguments=["-tp","4"]'
    (server,) = servers(arguments, 'engine.vllm.devices=["4,5,6,7"]').servers
    assert server.devices == ("4", "5", "6", "7") and server.weights == 500_000_000
    assert server.longest == 63 * 16 * (2 * 4 * 1 * 128 * 2)  # two heads for four GPUs: each keeps one
    (problem,) = servers(arguments, 'engine.vllm.devices=["4,5"]').problems
    assert "4 GPUs and sees 2" in problem.what and problem.key == "engine.vllm.devices"
    problems = servers('engine.vllm.arguments=["-tp","3"]').problems
    assert any("8 heads" in problem.what and problem.key == "engine.vllm.arguments" for problem in problems)
    (server,) = servers('engine.vllm.arguments=["-pp","2"]', 'engine.vllm.devices=["1,2"]').servers
    assert server.longest == 63 * 16 * (2 * 2 * 2 * 128 * 2)


def test_servers_share_a_gpu_with_the_learner_unless_they_have_their_own() -> None:
    plan = servers(learner=10 * GIB)
    assert plan.learner == ("0",) and plan.taken == {"0": 10 * GIB + plan.servers[0].asked}
    (problem,) = plan.problems
    assert "GPU 0: the learner and replica 0 together take 46.80 of 40.00 GiB" in problem.what
    assert "--gpu-memory-utilization" in problem.key and "engine.vllm.devices" in problem.key
    apart = servers("engine.vllm.replicas=2", 'engine.vllm.devices=["1","2"]', learner=10 * GIB)
    assert not apart.problems and set(apart.taken) == {"0", "1", "2"} and apart.sequences == 128
    both = servers("engine.vllm.replicas=2", 'engine.vllm.devices=["1","1"]')
    assert "replica 0 and replica 1 together" in both.problems[0].what
    reached = servers('engine.vllm.urls=["http://127.0.0.1:1"]', learner=10 * GIB)
    assert reached.elsewhere and not reached.problems
    assert servers("policy.device=cuda:3", learner=GIB).learner == ("3",)


def test_a_cache_too_small_for_one_sequence_is_refused_as_vllm_does() -> None:
    place = Place("cuda", 1, round(3.7 * GIB))
    plan = servers(place=place)
    (problem,) = plan.problems
    assert "one sequence of the longest length" in problem.what and "sampling.max_context" in problem.key
    longer = servers("engine.vllm.max_model_len=2000", place=place).problems[0]
    assert "engine.vllm.max_model_len" in longer.key
    assert plan.servers[0].tokens == plan.sequences == 0


def test_on_a_processor_a_server_asks_for_a_share_of_all_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("cpu", 1, 40 * GIB)
    plan = servers(place=place, learner=10 * GIB)
    assert "the memory of this machine" in plan.problems[0].what
    assert plan.problems[0].key == "engine.vllm.arguments (--gpu-memory-utilization)"
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "2")
    (server,) = servers(place=place).servers
    assert server.cache == 2 * GIB and server.tokens % 128 == 0
    assert servers().servers[0].cache != 2 * GIB  # a GPU does not know it


def fits(chosen: Recipe, shape: ModelShape, place: Place, workload: Workload) -> bool:
    learner = plan_memory(chosen, shape, place, workload)
    return bool(learner.fits) and not plan_servers(chosen, shape, place, workload, learner.peak).problems


QWEN8 = shape_of("Qwen/Qwen3-8B")
LORA = ["policy.lora_rank=16", "training.micro_batch_tokens=1024"]


@pytest.mark.parametrize(
    ("gib", "more", "key"),
    [
        (120, LORA, "--gpu-memory-utilization"),
        (42, LORA, "engine.vllm.devices"),
        (60, [*LORA, "engine.vllm.replicas=2", 'engine.vllm.arguments=["--enforce-eager"]'], "engine.vllm.devices"),
    ],
)
def test_what_is_advised_makes_it_fit(gib: int, more: list[str], key: str) -> None:
    place, workload = Place("cuda", 1, gib * GIB), Workload(context=1000)
    assert not fits(recipe(*more), QWEN8, place, workload)
    change = server_remedy(recipe(*more), QWEN8, place, workload)
    assert change is not None and key in change
    assert fits(recipe(*more, *shlex.split(change)), QWEN8, place, workload)  # as a shell reads it
    assert "--enforce-eager" not in " ".join(more) or "--enforce-eager" in str(
        recipe(*more, *shlex.split(change)).engine.vllm.arguments
    )


def test_a_model_too_large_for_one_gpu_gets_several_for_each_server() -> None:
    shape = shape_of("Qwen/Qwen3-32B")
    place, workload = Place("cuda", 4, 74 * GIB), Workload(context=1000)
    chosen = recipe("policy.lora_rank=16", "engine.vllm.dtype=float32", "training.micro_batch_tokens=1024")
    change = server_remedy(chosen, shape, place, workload)
    assert change is not None and '"--tensor-parallel-size","2"' in change and '"4,5"' in change


def test_where_nothing_helps_nothing_is_advised() -> None:
    assert server_remedy(recipe(), SHAPE, Place("cuda", 1, 2 * GIB), WORK) is None
    assert server_remedy(recipe(), SHAPE, Place("cpu", 1, 4 * GIB), WORK) is None


def test_the_learner_beside_servers_keeps_no_cache_and_writes_its_weights() -> None:
    embedded = plan_memory(recipe("engine.kind=embedded"), SHAPE, GPU, WORK)
    needs = {need.name: need.size for need in plan_memory(recipe(), SHAPE, GPU, WORK).needs}
    assert {"engine's copy", "keys and values kept"} <= {need.name for need in embedded.needs}
    assert not {"engine's copy", "keys and values kept", "weights on their way to servers"} & needs.keys()
    lora = plan_memory(recipe("policy.lora_rank=4"), SHAPE, GPU, WORK)
    assert {need.name: need.size for need in lora.needs}["weights on their way to servers"] == 2_000_000_000
    host = plan_memory(recipe(), SHAPE, Place("cpu"), WORK)
    assert {need.name: need.size for need in host.needs}["weights on their way to servers"] == 2_000_000_000
