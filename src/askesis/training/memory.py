"""What a run needs of memory, reckoned from its recipe and the shape of its model before anything is loaded.

The arithmetic follows this version's learner and engine; docs/scaling.md writes it out, and a test compares it with the
resident memory of a real run. Learners on several GPUs are those of ``cluster.learner_ranks``: parameters, gradients
and optimiser are shared out, the engine's copy is whole on each. Bytes throughout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from askesis.policy.shape import ModelShape
from askesis.recipe import Recipe

__all__ = ["MAX_GPUS", "MemoryPlan", "Need", "Place", "Workload", "needed_gpus", "plan_memory", "remedy", "whole_bytes"]

_BYTES = {"float32": 4, "bfloat16": 2}
_BASE = {"cpu": 560 << 20, "cuda": 1200 << 20}
"""Python with torch, transformers and the store; on a GPU the CUDA context, kernels and what the allocator strands."""
_KEPT = {"cpu": 512 << 20, "cuda": 4 << 30}
_CHUNK = 1 << 24
"""Logits that the learner holds at once."""
_CHUNK_COPIES = 4
"""Logits, their logarithms, probabilities, and the gradient."""
_ROOM, _STEP = 128, 16
"""Tokens of an answer for which the cache is made at first, and of which its width is a multiple."""
_SHARED_FROM = 64
"""A prompt of so many tokens is kept once for all answers to it."""
_DEFAULT_PROMPT = 512
MAX_GPUS = 1024


class When(StrEnum):
    """When something is held."""

    ALWAYS = "always"
    SAMPLING = "sampling"
    UPDATE = "update"
    CHECKPOINT = "checkpoint"
    DELIVERY = "delivery"
    """New weights go to servers that sample."""


class Place(NamedTuple):
    """Where a run is to live."""

    device: str
    """``cpu`` or ``cuda``."""
    gpus: int = 1
    """GPUs that share the learner."""
    limit: int | None = None
    """Memory of each; None when it is not known."""


class Workload(NamedTuple):
    """What the recipe alone does not say."""

    context: int
    """Longest prompt and answer together, tokens."""
    has_reference: bool = False
    """The algorithm compares with the weights that the run started from."""
    threads: int = 1
    """Cores that the learner uses on a CPU."""

    @staticmethod
    def context_of(recipe: Recipe, shape: ModelShape) -> int:
        """The recipe's limit, or a prompt of 512 tokens and the answer."""
        section = recipe.sampling
        return min(section.max_context or _DEFAULT_PROMPT + section.max_tokens, shape.context_length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One thing that takes memory on each device."""

    name: str
    size: int
    when: When
    keys: str
    """What of the recipe decides about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Needs of each device, and the moment that decides."""

    place: Place
    needs: tuple[Need, ...]

    def at(self, when: When) -> int:
        """Held at one kind of moment, together with what is held always."""
        return sum(need.size for need in self.needs if need.when in (When.ALWAYS, when))

    @property
    def worst(self) -> When:
        """The moment of the peak."""
        return max((When.SAMPLING, When.UPDATE, When.CHECKPOINT, When.DELIVERY), key=self.at)

    @property
    def peak(self) -> int:
        """Memory that each device must have."""
        return self.at(self.worst)

    @property
    def fits(self) -> bool | None:
        """None when the limit is not known."""
        return None if self.place.limit is None else self.peak <= self.place.limit


def plan_memory(recipe: Recipe, shape: ModelShape, place: Place, workload: Workload) -> MemoryPlan:
    """What each device must hold."""
    needs = [Need(name="program and libraries", size=_BASE[place.device], when=When.ALWAYS, keys="")]
    needs += _weights(recipe, shape, place, workload)
    needs += _delivery(recipe, shape, place) if _is_remote(recipe) else _sampling(recipe, shape, place, workload)
    if recipe.learner.kind == "gradient":
        needs += _learning(recipe, shape, place, workload)
    needs += _checkpoint(recipe, shape, place)
    return MemoryPlan(place=place, needs=tuple(need for need in needs if need.size))


def _is_remote(recipe: Recipe) -> bool:
    """Servers sample; what they need is in :mod:`askesis.training.server_memory`."""
    return recipe.engine.kind == "vllm"


def _delivery(recipe: Recipe, shape: ModelShape, place: Place) -> Iterator[Need]:
    """Adapters are merged into a copy where they lie; the bytes of the file are on the processor."""
    copies = int(bool(recipe.policy.lora_rank)) + int(place.device == "cpu")
    size = copies * shape.num_parameters * _BYTES[recipe.policy.dtype] // place.gpus
    yield Need(name="weights on their way to servers", size=size, when=When.DELIVERY, keys="engine.kind, policy.dtype")


def _trained(recipe: Recipe, shape: ModelShape) -> int:
    """Parameters that change."""
    rank = recipe.policy.lora_rank
    return rank * shape.lora_per_rank if rank else shape.num_parameters


def whole_bytes(recipe: Recipe, shape: ModelShape) -> int:
    """The policy, whole, as the process holds it that drives a learner over several."""
    return shape.num_parameters * _BYTES[recipe.policy.dtype] + recipe.policy.lora_rank * shape.lora_per_rank * 4


def _is_joint(recipe: Recipe, place: Place, shape: ModelShape) -> bool:
    """The learner makes joint weights of its own for every pass: float32, all parameters, on a CPU."""
    policy = recipe.policy
    return place.device == "cpu" and policy.dtype == "float32" and not policy.lora_rank and _is_family(shape)


def _is_family(shape: ModelShape) -> bool:
    from askesis.policy.weights import FAMILY

    return shape.architecture in FAMILY


def _weights(recipe: Recipe, shape: ModelShape, place: Place, workload: Workload) -> Iterator[Need]:
    policy, size = recipe.policy, _BYTES[recipe.policy.dtype]
    is_copied = _is_family(shape) and not (policy.lora_rank and size < 4) and not _is_remote(recipe)
    copied = shape.num_joint * size if is_copied else 0
    whole = shape.num_parameters * size
    adapters = policy.lora_rank * shape.lora_per_rank * 4
    key = "policy.name, policy.dtype"
    yield Need(name="parameters", size=(whole + adapters) // place.gpus, when=When.ALWAYS, keys=key)
    yield Need(name="engine's copy", size=copied, when=When.ALWAYS, keys=key)
    overlaps = recipe.asynchronous.enabled and recipe.engine.kind == "embedded"
    if overlaps or (recipe.learner.kind == "gradient" and recipe.training.staleness > 1):
        stale, key = whole + adapters + copied, "asynchronous.enabled" if overlaps else "training.staleness"
        yield Need(name="weights that sample, kept back", size=stale, when=When.ALWAYS, keys=key)
    if workload.has_reference and not policy.lora_rank:
        yield Need(name="reference", size=whole // place.gpus, when=When.ALWAYS, keys="algorithm")


def _sampling(recipe: Recipe, shape: ModelShape, place: Place, workload: Workload) -> Iterator[Need]:
    token = shape.kv_values * _BYTES[recipe.policy.dtype]
    engine, rollout, answer = recipe.engine, recipe.rollout, min(recipe.sampling.max_tokens, workload.context)
    most = min(rollout.max_concurrent * place.gpus, engine.max_batch * place.gpus)
    per_task = 1 if recipe.learner.kind == "evolution" else rollout.group_size
    rows = min(rollout.groups_per_step * per_task, most)
    held_out = min(recipe.evaluation.num_tasks * recipe.evaluation.samples, most)
    prompt = workload.context - answer
    is_shared = prompt >= _SHARED_FROM and per_task > 1
    groups = -(-rows // per_task) if is_shared else 0
    training = rows * _columns(0 if is_shared else prompt, answer) + groups * prompt
    tokens = -(-max(training, held_out * _columns(prompt, answer)) // place.gpus)
    all_kept = -(-max(rows, held_out) * workload.context // place.gpus) * token
    kept = min(engine.kv_tokens * token if engine.kv_tokens else _KEPT[place.device], all_kept)
    keys = "engine.max_batch, rollout.groups_per_step, sampling.max_tokens, evaluation.num_tasks"
    yield Need(name="keys and values being sampled", size=tokens * token, when=When.ALWAYS, keys=keys)
    yield Need(name="keys and values kept", size=kept, when=When.ALWAYS, keys="engine.kv_tokens")
    logits = 3 * -(-max(rows, held_out) // place.gpus) * shape.vocabulary * 4
    yield Need(name="distributions being sampled from", size=logits, when=When.SAMPLING, keys="engine.max_batch")


def _columns(prompt: int, answer: int) -> int:
    """Tokens of one row for which the cache has memory at its worst: it grows by half, beside the old one."""
    width = most = _rounded(prompt + min(answer, _ROOM))
    while width < prompt + answer:
        wider = _rounded(width + max(width // 2, _STEP))
        width, most = wider, width + wider
    return most


def _rounded(tokens: int) -> int:
    return -(-tokens // _STEP) * _STEP


def _learning(recipe: Recipe, shape: ModelShape, place: Place, workload: Workload) -> Iterator[Need]:
    trained = _trained(recipe, shape) * 4
    threads = workload.threads if _is_joint(recipe, place, shape) else 1
    tokens = max(recipe.training.micro_batch_tokens, workload.context)
    key = "policy.lora_rank"
    yield Need(name="gradients", size=trained // place.gpus, when=When.ALWAYS, keys=key)
    yield Need(name="optimiser (AdamW)", size=2 * trained // place.gpus, when=When.ALWAYS, keys=key)
    if _is_joint(recipe, place, shape):
        joint = threads * (shape.num_joint + shape.num_parameters) * 4
        yield Need(
            name="joint weights of a pass, and their gradients", size=joint, when=When.UPDATE, keys="run.threads"
        )
    elif place.gpus > 1:
        layer = shape.num_joint // shape.num_layers * _BYTES[recipe.policy.dtype]
        yield Need(name="layers gathered", size=2 * layer, when=When.UPDATE, keys="")
    # One layer more: what the layer that is being computed needs besides.
    activations = tokens * (shape.num_layers + 1) * layer_bytes(recipe, shape, place)
    key = "training.micro_batch_tokens"
    yield Need(name="activations", size=activations, when=When.UPDATE, keys=key)
    logits = threads * _CHUNK_COPIES * 4 * min(tokens // threads * shape.vocabulary, _CHUNK)
    yield Need(name="logits of the learner", size=logits, when=When.UPDATE, keys=key)


def layer_bytes(recipe: Recipe, shape: ModelShape, place: Place) -> int:
    """Kept of one token by one layer for the way back; counted with hooks on saved tensors, see docs/scaling.md."""
    hidden, inner, size = shape.hidden, shape.inner, _BYTES[recipe.policy.dtype]
    query, key = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    rank = recipe.policy.lora_rank
    if _is_joint(recipe, place, shape):
        return round(8 * hidden + 16 * inner + 12.5 * (query + key))
    if not rank:
        return round((8 + 4 * size) * hidden + 4 * size * inner + (4.5 + 3 * size) * (query + key))
    if size == 4:
        return round(16 * hidden + 16 * inner + 12.5 * (query + key) + 28 * rank)
    return round(28 * hidden + 10 * inner + 12.5 * query + 8.25 * key + 28 * rank)


def _checkpoint(recipe: Recipe, shape: ModelShape, place: Place) -> Iterator[Need]:
    """The optimiser is copied where it lies, then once more into the bytes of the file, which are on the processor."""
    trained = _trained(recipe, shape) * 4 // place.gpus
    copies = 4 if place.device == "cpu" else 2
    if recipe.learner.kind == "evolution":
        copies = 2 if place.device == "cpu" else 0
    yield Need(name="copies for a checkpoint", size=copies * trained, when=When.CHECKPOINT, keys="policy.lora_rank")


def _set(recipe: Recipe, section: str, **values: object) -> Recipe:
    return recipe.model_copy(update={section: getattr(recipe, section).model_copy(update=values)})


class _Change(NamedTuple):
    """Overrides, and how much they change: of the result first, then of the speed."""

    cost: tuple[int, int]
    overrides: tuple[str, ...]
    recipe: Recipe


def _methods(recipe: Recipe) -> Iterator[_Change]:
    yield _Change((0, 0), (), recipe)
    if recipe.learner.kind != "gradient":
        return
    if not recipe.policy.lora_rank:
        lora = _set(recipe, "policy", lora_rank=16, dtype="bfloat16")
        yield _Change((1, 0), ("policy.lora_rank=16", "policy.dtype=bfloat16"), lora)
    overrides = ["learner.kind=evolution"] + ["policy.lora_rank=0"] * bool(recipe.policy.lora_rank)
    evolves = _set(_set(recipe, "learner", kind="evolution"), "policy", lora_rank=0, dtype="bfloat16")
    yield _Change((2, 0), (*overrides, "policy.dtype=bfloat16"), evolves)


def _halved(change: _Change, section: str, name: str, least: int) -> Iterator[_Change]:
    """The change, and with it a setting that is halved again and again."""
    yield change
    value, times = int(getattr(getattr(change.recipe, section), name)), 0
    while value > least:
        value, times = max(value // 2, least), times + 1
        yield _Change(
            (change.cost[0], change.cost[1] + times),
            (*change.overrides, f"{section}.{name}={value}"),
            _set(change.recipe, section, **{name: value}),
        )


def remedy(recipe: Recipe, shape: ModelShape, place: Place, workload: Workload) -> str | None:
    """The overrides that make the run fit and change least; None when none of these does."""
    changes: list[_Change] = []
    for method in _methods(recipe):
        for smaller in _halved(method, "engine", "max_batch", 16):
            is_gradient = smaller.recipe.learner.kind == "gradient"
            changes += _halved(smaller, "training", "micro_batch_tokens", 256) if is_gradient else [smaller]
    for change in sorted(changes, key=lambda change: change.cost):
        if plan_memory(change.recipe, shape, place, workload).fits:
            return " ".join(change.overrides)
    return None


def needed_gpus(recipe: Recipe, shape: ModelShape, place: Place, workload: Workload) -> int | None:
    """The smallest power of two of such GPUs that suffices; None when more of them do not help."""
    count = 1
    while count <= MAX_GPUS:
        if plan_memory(recipe, shape, place._replace(gpus=count), workload).fits:
            return count
        count *= 2
    return None
