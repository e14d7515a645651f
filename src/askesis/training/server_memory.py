"""What vLLM servers need of memory, reckoned as vLLM does it, before any is started.

A server asks for a fixed share of its GPU's memory, puts weights and the work of one pass into it, and makes a cache of
the rest, in blocks. It does not start when that much is not free, or when one sequence of the longest length does not
fit. The rules are those of vLLM 0.32 (``cache_config.gpu_memory_utilization``, ``kv_cache_utils``); what a pass and the
program take is estimated here and measured there. Bytes throughout, of each GPU.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from askesis.errors import RecipeError
from askesis.policy.shape import ModelShape
from askesis.recipe import Recipe
from askesis.training.memory import MemoryPlan, Place, Workload, plan_memory

__all__ = ["Problem", "ServerPlan", "ServersPlan", "plan_servers", "server_remedy"]

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_INSIDE = {"cpu": 700 << 20, "cuda": 1600 << 20}
"""Of what a server asks for: the program; on a GPU its context and its graphs."""
_OUTSIDE = {"cpu": 900 << 20, "cuda": 0}
"""Beside it: on a CPU the process that answers requests takes memory of the same kind."""
_BLOCK = {"cpu": 128, "cuda": 16}
_SHARE = 0.92
_LARGE_GPU = 70 << 30
_LOGITS_COPIES = 3
"""Float32 logits of all sequences, their probabilities, and what sorting them takes."""
_UNKNOWN = (
    "--cpu-offload-gb",
    "--data-parallel-size",
    "--enable-lora",
    "--num-gpu-blocks-override",
    "--quantization",
    "--speculative-config",
)
"""Arguments that change the memory in ways that are not reckoned here."""
_SPARE = 0.02
"""Of a GPU: shares are advised with this much left over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """What ``engine.vllm.arguments`` say of memory; None: vLLM's own choice."""

    share: float = _SHARE
    cache: int | None = None
    block: int | None = None
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    sequences: int | None = None
    batched: int | None = None
    length: int | None = None
    cache_bytes: int | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlan:
    """One server, on each of its GPUs."""

    name: str
    devices: tuple[str, ...]
    """Names of its GPUs, as in CUDA_VISIBLE_DEVICES; ``cpu`` without any."""
    program: int
    weights: int
    passes: int
    """Activations and logits of the largest batch."""
    cache: int
    """What is left for keys and values; negative when nothing is."""
    longest: int
    """Cache that one sequence of the longest length takes."""
    tokens: int
    """That the cache holds, in whole blocks."""
    sequences: int
    """Of the recipe's context, sampled side by side."""
    asked: int
    """That it asks for, and takes."""
    beside: int
    """That it takes besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why something does not fit. ``key`` is what to change in the recipe."""

    what: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServersPlan:
    """All servers of a recipe, the learner beside them, and what does not fit."""

    servers: tuple[ServerPlan, ...]
    learner: tuple[str, ...]
    """Where the learner is."""
    taken: Mapping[str, int]
    """Bytes of each GPU, the learner's peak among them."""
    elsewhere: bool
    """They are reached by address: the GPUs are not those of the learner."""
    problems: tuple[Problem, ...]
    unknown: tuple[str, ...] = field(default=())
    """Arguments whose effect is not reckoned."""

    @property
    def sequences(self) -> int:
        """Sampled at once by all servers."""
        return sum(server.sequences for server in self.servers)


def plan_servers(recipe: Recipe, shape: ModelShape, place: Place, workload: Workload, learner: int) -> ServersPlan:
    """The servers of ``engine.kind=vllm`` on GPUs of the size that ``place`` says.

    Args:
        recipe: with that kind of engine.
        shape: of the model.
        place: ``limit`` must be known.
        workload: its context is what a session takes.
        learner: peak of the learner, see :func:`askesis.training.memory.plan_memory`.

    Raises:
        RecipeError: an argument that vLLM could not read either.
    """
    section, settings = recipe.engine.vllm, _settings(recipe, place)
    beside = _learner_devices(recipe, place)
    servers = tuple(
        _server(recipe, shape, place, workload, settings, name, devices)
        for name, devices in _placed(recipe, place, settings.tensor_parallel * settings.pipeline_parallel)
    )
    taken: dict[str, int] = defaultdict(int)
    for name in beside:
        taken[name] += learner
    for server in servers:
        for name in server.devices:
            taken[name] += server.asked + server.beside
    problems = [*_refused(recipe, shape, place, servers, settings), *_overfull(place, servers, beside, taken, settings)]
    return ServersPlan(
        servers=servers,
        learner=beside,
        taken=dict(taken),
        elsewhere=bool(section.urls),
        problems=tuple(problems),
        unknown=settings.unknown,
    )


def _learner_devices(recipe: Recipe, place: Place) -> tuple[str, ...]:
    if place.device == "cpu":
        return ("cpu",)
    first = recipe.policy.device.partition(":")[2]
    if first and place.gpus == 1:
        return (first,)
    return tuple(str(number) for number in range(place.gpus))


def _placed(recipe: Recipe, place: Place, width: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name and GPUs of each server. A server takes the first GPUs that it sees."""
    section = recipe.engine.vllm
    if section.urls:
        for url in section.urls:
            yield url, tuple(f"{url} GPU {number}" for number in range(width))
        return
    for index in range(section.replicas):
        name = f"replica {index}"
        if place.device == "cpu":
            yield name, ("cpu",)
            continue
        seen = section.devices[index].split(",") if section.devices else [str(number) for number in range(width)]
        yield name, tuple(part.strip() for part in seen[:width])


def _server(
    recipe: Recipe,
    shape: ModelShape,
    place: Place,
    workload: Workload,
    settings: _Settings,
    name: str,
    devices: tuple[str, ...],
) -> ServerPlan:
    section, limit = recipe.engine.vllm, place.limit
    assert limit is not None
    size = _BYTES[recipe.policy.dtype if section.dtype == "auto" else section.dtype]
    width = settings.tensor_parallel * settings.pipeline_parallel
    own = min(recipe.sampling.max_context or shape.context_length, shape.context_length)
    longest = settings.length or section.max_model_len or own
    heads = max(1, shape.kv_heads // settings.tensor_parallel)  # fewer heads than GPUs: each GPU keeps one
    layers = -(-shape.num_layers // settings.pipeline_parallel)
    token = 2 * layers * heads * shape.head_size * (settings.cache_bytes or size)
    block = settings.block or _BLOCK[place.device]
    weights = shape.num_parameters * size // width
    passes = _pass_bytes(recipe, shape, place, settings, longest, size)
    asked, cache = math.ceil(settings.share * limit), settings.cache
    if cache is None:
        cache = asked - _INSIDE[place.device] - weights - passes
    else:
        asked = _INSIDE[place.device] + weights + passes + cache
    blocks = max(cache, 0) // (block * token)
    sequences = settings.sequences or recipe.engine.max_batch
    return ServerPlan(
        name=name,
        devices=devices,
        program=_INSIDE[place.device],
        weights=weights,
        passes=passes,
        cache=cache,
        longest=-(-longest // block) * block * token,
        tokens=blocks * block,
        sequences=min(sequences, blocks // -(-workload.context // block)),
        asked=asked,
        beside=_OUTSIDE[place.device],
    )


def _pass_bytes(recipe: Recipe, shape: ModelShape, place: Place, settings: _Settings, longest: int, size: int) -> int:
    """Of the largest batch: hidden state twice, gate, up and their product; and the logits of every sequence."""
    sequences = settings.sequences or recipe.engine.max_batch
    batched = settings.batched
    if batched is None:
        usual = 8192 if place.device == "cuda" and (place.limit or 0) >= _LARGE_GPU else 2048
        batched = min(sequences * longest, max(usual, longest) if place.device == "cpu" else usual)
    token = (2 * shape.hidden + 3 * shape.inner // settings.tensor_parallel) * size
    return max(batched, sequences) * token + _LOGITS_COPIES * sequences * shape.vocabulary * 4


def _refused(
    recipe: Recipe, shape: ModelShape, place: Place, servers: Sequence[ServerPlan], settings: _Settings
) -> Iterator[Problem]:
    """What vLLM itself would refuse when a server starts."""
    width = settings.tensor_parallel
    if shape.heads % width:
        yield Problem(
            what=f"{shape.heads} heads of attention cannot be shared by {width} GPUs", key="engine.vllm.arguments"
        )
    for server in servers:
        wanted = width * settings.pipeline_parallel
        if place.device == "cuda" and len(server.devices) < wanted:
            yield Problem(
                what=f"{server.name} is to run on {wanted} GPUs and sees {len(server.devices)}",
                key="engine.vllm.devices",
            )
    if not servers:
        return
    worst = min(servers, key=lambda server: server.cache - server.longest)
    if worst.cache < worst.longest:
        section = recipe.engine.vllm
        yield Problem(
            what=f"{worst.name} has {_gib(max(worst.cache, 0))} GiB left for its cache, and one sequence of the "
            f"longest length takes {_gib(worst.longest)}: weights take {_gib(worst.weights)}, a pass "
            f"{_gib(worst.passes)}, of {_gib(worst.asked)} that it asks for",
            key="engine.vllm.arguments (--gpu-memory-utilization, --tensor-parallel-size), "
            + ("engine.vllm.max_model_len" if section.max_model_len else "sampling.max_context"),
        )


def _overfull(
    place: Place, servers: Sequence[ServerPlan], learner: Sequence[str], taken: Mapping[str, int], settings: _Settings
) -> Iterator[Problem]:
    for name, size in taken.items():
        there = [server for server in servers if name in server.devices]
        assert place.limit is not None
        if size <= place.limit or not there:  # the learner alone is said elsewhere
            continue
        who = ["the learner"] * (name in learner) + [server.name for server in there]
        on = "the memory of this machine" if name == "cpu" else f"GPU {name}"
        asks = f", of which each server asks for {settings.share:g}" if settings.cache is None else ""
        yield Problem(
            what=f"{on}: {' and '.join(who)} together take {_gib(size)} of {_gib(place.limit)} GiB{asks}",
            key="engine.vllm.arguments (--gpu-memory-utilization)" + ("" if name == "cpu" else ", engine.vllm.devices"),
        )


def server_remedy(recipe: Recipe, shape: ModelShape, place: Place, workload: Workload) -> str | None:
    """Overrides that make servers fit that did not, learner and servers together; None when none of these does."""
    for changed, overrides in _changes(recipe, shape, place, workload):
        learner = plan_memory(changed, shape, place, workload)
        if learner.fits and not plan_servers(changed, shape, place, workload, learner.peak).problems:
            return " ".join(overrides)
    return None


def _changes(recipe: Recipe, shape: ModelShape, place: Place, workload: Workload) -> Iterator[tuple[Recipe, list[str]]]:
    """From what changes least: another share; GPUs of their own; more of them for each server."""
    learner = plan_memory(recipe, shape, place, workload)
    yield from _shared(recipe, shape, place, workload, learner)
    section = recipe.engine.vllm
    if place.device == "cpu" or section.urls:
        return
    width = _settings(recipe, place).tensor_parallel
    while width <= min(shape.heads, 64):
        first = len(_learner_devices(recipe, place))
        devices = [
            ",".join(str(first + index * width + number) for number in range(width))
            for index in range(section.replicas)
        ]
        arguments = _with(section.arguments, "--tensor-parallel-size", str(width)) if width > 1 else section.arguments
        apart = _changed(recipe, devices=devices, arguments=arguments)
        said = [f"engine.vllm.devices={_shown(devices)}"]
        said += [f"engine.vllm.arguments={_shown(arguments)}"] * (list(arguments) != section.arguments)
        yield apart, said
        width *= 2


def _shared(
    recipe: Recipe, shape: ModelShape, place: Place, workload: Workload, learner: MemoryPlan
) -> Iterator[tuple[Recipe, list[str]]]:
    """The largest share that leaves room for everyone on the fullest GPU."""
    plan = plan_servers(recipe, shape, place, workload, learner.peak)
    limit = place.limit
    assert limit is not None
    shares = []
    for name in plan.taken:
        there = [server for server in plan.servers if name in server.devices]
        if there:
            room = limit - learner.peak * (name in plan.learner) - sum(server.beside for server in there)
            shares.append(room / limit / len(there) - _SPARE)
    share = math.floor(100 * min([_SHARE, *shares])) / 100
    if share > 0:
        arguments = _with(recipe.engine.vllm.arguments, "--gpu-memory-utilization", f"{share:g}")
        yield _changed(recipe, arguments=arguments), [f"engine.vllm.arguments={_shown(arguments)}"]


def _changed(recipe: Recipe, **values: object) -> Recipe:
    vllm = recipe.engine.vllm.model_copy(update=values)
    return recipe.model_copy(update={"engine": recipe.engine.model_copy(update={"vllm": vllm})})


def _shown(values: Sequence[str]) -> str:
    """As one word of a shell, and as a value of a recipe."""
    return "'" + json.dumps(list(values), separators=(",", ":")) + "'"


def _with(arguments: Sequence[str], name: str, value: str) -> list[str]:
    """``arguments`` with one of them set anew; a size of the cache would overrule a share."""
    dropped = {name, "--kv-cache-memory-bytes"} if name == "--gpu-memory-utilization" else {name}
    kept = [part for known, given in _pairs(arguments) if known not in dropped for part in given]
    return [*kept, name, value]


_NAMES = {
    "--gpu-memory-utilization": "share",
    "--kv-cache-memory-bytes": "cache",
    "--block-size": "block",
    "--tensor-parallel-size": "tensor_parallel",
    "--pipeline-parallel-size": "pipeline_parallel",
    "--max-num-seqs": "sequences",
    "--max-num-batched-tokens": "batched",
    "--max-model-len": "length",
}
_SHORT = {"-tp": "--tensor-parallel-size", "-pp": "--pipeline-parallel-size", "-q": "--quantization"}


def _settings(recipe: Recipe, place: Place) -> _Settings:
    """Of the arguments, of which the last counts, and of the environment that servers get."""
    found: dict[str, object] = {}
    unknown = []
    for name, given in _pairs(recipe.engine.vllm.arguments):
        value = given[0].partition("=")[2] if "=" in given[0] else (given[1] if len(given) > 1 else "")
        if name in _NAMES:
            found[_NAMES[name]] = _number(name, value)
        elif name == "--kv-cache-dtype" and value != "auto":
            found["cache_bytes"] = 1 if value.startswith("fp8") else _BYTES.get(value)
            unknown += [] if found["cache_bytes"] else [name]
        elif name in _UNKNOWN:
            unknown.append(name)
    space = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "")
    if place.device == "cpu" and space.isdecimal() and int(space):  # vLLM takes it before the argument
        found["cache"] = int(space) << 30
    return _Settings(**found, unknown=tuple(unknown))  # type: ignore[arg-type]


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Name of each argument, and the words that it takes."""
    place = 0
    while place < len(arguments):
        word = arguments[place]
        name = word.partition("=")[0].replace("_", "-")
        given = [word]
        while place + 1 < len(arguments) and "=" not in word and not arguments[place + 1].startswith("-"):
            place += 1
            given.append(arguments[place])
        yield _SHORT.get(name, name), given
        place += 1


_SUFFIXES: dict[str, int] = {letter: 10 ** (3 * power) for power, letter in enumerate("kmgt", 1)}
_SUFFIXES |= {letter: 1 << (10 * power) for power, letter in enumerate("KMGT", 1)}


def _number(name: str, text: str) -> float | int:
    """A share between 0 and 1, or a whole number, with a suffix as vLLM reads it: k is 1000 and K is 1024."""
    try:
        if name == "--gpu-memory-utilization":
            if 0 < (share := float(text)) <= 1:
                return share
        elif (number := round(float(text.rstrip("kmgtKMGT")) * _SUFFIXES.get(text[-1:], 1))) > 0:
            return number
    except ValueError:
        pass
    raise RecipeError(
        "an argument for vLLM that it could not read",
        where="engine.vllm.arguments",
        got=f"{name} {text}",
        expected="a number above 0 and up to 1" if name == "--gpu-memory-utilization" else "a number above 0",
    )


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.2f}"
