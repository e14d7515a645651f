"""askesis plan"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from askesis.cli import output
from askesis.policy.shape import ModelShape, shape_of
from askesis.recipe import Recipe, load_recipe
from askesis.training.memory import MemoryPlan, Place, Workload, needed_gpus, plan_memory, remedy, whole_bytes
from askesis.training.pieces import check_learner, make_algorithm
from askesis.training.server_memory import ServersPlan, plan_servers, server_remedy

__all__ = ["run"]

_GIB = 1 << 30
_REFERENCE = frozenset({"logp_ref_BT", "kl_B", "hellinger_BT"})


def run(
    recipe_path: Path,
    overrides: Sequence[str],
    *,
    gpus: int | None,
    gpu_gib: float | None,
    host_gib: float | None,
    json_output: bool,
) -> int:
    """Print what the recipe needs of memory; exit code 1 when it does not fit."""
    recipe = load_recipe(recipe_path, overrides).recipe
    check_learner(recipe)
    shape = shape_of(recipe.policy.name)
    place = _place(recipe, gpus, gpu_gib, host_gib)
    workload = Workload(
        context=Workload.context_of(recipe, shape),
        has_reference=recipe.learner.kind == "gradient" and bool(make_algorithm(recipe).needs & _REFERENCE),
        threads=recipe.run.threads or os.cpu_count() or 1,
    )
    plan = plan_memory(recipe, shape, place, workload)
    servers = None
    if recipe.engine.kind == "vllm" and place.limit is not None:
        servers = plan_servers(recipe, shape, place, workload, plan.peak)
    fits = plan.fits and not (servers and servers.problems) if plan.fits is not None else None
    advice = None
    if plan.fits is False:
        advice = _advice(recipe, shape, place, workload)
    elif fits is False:
        change = server_remedy(recipe, shape, place, workload)
        advice = [] if change is None else [change]
    if json_output:
        record = {**_as_json(plan, shape, workload, advice), "fits": fits}
        output.emit(
            record | ({} if servers is None else {"servers": {**asdict(servers), "sequences": servers.sequences}})
        )
    else:
        _print(recipe, plan, shape, workload)
        if servers is not None:
            _print_servers(recipe, servers, workload)
        _print_end(plan, servers, advice)
    return output.EXIT_FAILED if fits is False else 0


def _place(recipe: Recipe, gpus: int | None, gpu_gib: float | None, host_gib: float | None) -> Place:
    """A GPU when the call or the recipe names one, or this machine has one and the recipe leaves the choice."""
    import torch

    asked = gpus is not None or gpu_gib is not None or recipe.policy.device.startswith("cuda")
    if asked or (recipe.policy.device == "auto" and host_gib is None and torch.cuda.is_available()):
        here = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
        return Place("cuda", gpus or 1, here if gpu_gib is None else round(gpu_gib * _GIB))
    return Place("cpu", 1, _memory_here() if host_gib is None else round(host_gib * _GIB))


def _memory_here() -> int:
    """Of this machine, or of the container that we are in."""
    known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdecimal():
        known.append(int(text))
    return min(known)


def _advice(recipe: Recipe, shape: ModelShape, place: Place, workload: Workload) -> list[str]:
    advice = []
    change = remedy(recipe, shape, place, workload)
    if change is not None:
        advice.append(change)
    if place.device == "cuda":
        count = needed_gpus(recipe, shape, place, workload)
        if count is not None:
            advice.append(f"--gpus {count}")
    return advice


def _as_json(plan: MemoryPlan, shape: ModelShape, workload: Workload, advice: list[str] | None) -> dict[str, object]:
    return {
        "shape": asdict(shape),
        "context": workload.context,
        "place": plan.place._asdict(),
        "needs": [asdict(need) for need in plan.needs],
        "worst": plan.worst,
        "peak_bytes": plan.peak,
        "fits": plan.fits,
        "advice": advice,
    }


def _print(recipe: Recipe, plan: MemoryPlan, shape: ModelShape, workload: Workload) -> None:
    place = plan.place
    each = "" if place.gpus == 1 else " each"
    where = "this machine's memory" if place.device == "cpu" else f"{place.gpus} GPU{'s' * (place.gpus > 1)}"
    print(
        f"{shape.name}: {shape.num_parameters:,} parameters, {shape.num_layers} layers; learner {recipe.learner.kind}, "
        f"contexts of {workload.context:,} tokens, on {where}"
    )
    if not recipe.sampling.max_context:
        print("Prompts of 512 tokens are taken; sampling.max_context says it closer.")
    rows = [(need.name, _gib(need.size), need.when.value, need.keys) for need in plan.needs]
    peak = "peak of the learner" if recipe.engine.kind == "vllm" else "peak"
    rows.append((f"{peak}{each}, at its {plan.worst.value}", _gib(plan.peak), "", ""))
    output.table(("what", "GiB", "held", "decided by"), rows)
    if place.gpus > 1:
        print(
            f"The learner is sharded over them by cluster.learner_ranks={place.gpus}; on GPUs that is arithmetic, not "
            "measured. This process holds the policy whole as well, and with engine.kind=embedded samples from it: "
            f"{_gib(whole_bytes(recipe, shape))} GiB more, on the first GPU, or in the machine's memory with "
            "policy.device=cpu."
        )


def _print_servers(recipe: Recipe, plan: ServersPlan, workload: Workload) -> None:
    """One column for each server, and what they sample at once."""
    parts = ("program", "weights", "passes", "cache", "asked", "longest")
    names = ("program", "weights", "one pass", "cache: what is left", "asks for", "one sequence of the longest length")
    rows = [(name, *(_gib(getattr(s, part)) for s in plan.servers)) for name, part in zip(names, parts, strict=True)]
    rows.append(("tokens in the cache", *(f"{server.tokens:,}" for server in plan.servers)))
    rows.append(("contexts at once", *(f"{server.sequences:,}" for server in plan.servers)))
    heads = [f"{server.name}, GPU {','.join(server.devices)}" for server in plan.servers]
    if plan.learner == ("cpu",):
        heads = [server.name for server in plan.servers]
    elif plan.elsewhere:
        heads = [server.name for server in plan.servers]
        print("The servers are reached by address: GPUs of the same size are taken, and the recipe's own arguments.")
    on_cpu = plan.learner == ("cpu",)
    output.table((f"vLLM servers, GiB{'' if on_cpu else ' of each GPU'}", *heads), rows)
    if on_cpu and not plan.elsewhere:
        print(
            "On a processor a server starts only while as much as it asks for is free; VLLM_CPU_KVCACHE_SPACE=4 in the "
            "environment has it ask for a cache of 4 GiB instead of a share."
        )
    if plan.unknown:
        print(f"Not reckoned: {', '.join(sorted(set(plan.unknown)))} in engine.vllm.arguments.")
    rollout = recipe.rollout
    wanted = min(rollout.groups_per_step * rollout.group_size, rollout.max_concurrent)
    print(
        f"{plan.sequences:,} contexts of {workload.context:,} tokens are sampled at once, of {wanted:,} sessions of a "
        f"step{'' if plan.sequences >= wanted else '; the others wait'}."
    )


def _print_end(plan: MemoryPlan, servers: ServersPlan | None, advice: list[str] | None) -> None:
    """Does it fit? Otherwise what does not, and what would help."""
    each = " each" * (plan.place.gpus > 1)
    limit = _gib(plan.place.limit or 0)
    if plan.fits is None:
        print("It is not known how much memory there is; say it with --gpu-memory GIB.")
        return
    for problem in servers.problems if servers is not None else ():
        print(f"It does not fit: {problem.what}. Change {problem.key}.")
    if plan.fits is False:
        print(f"It does not fit: {_gib(plan.peak)} GiB are needed, and there are {limit}{each}.")
    if advice is not None:
        print(f"What would help: {', or '.join(advice)}" if advice else "No change of this recipe makes it fit.")
        return
    if servers is None:
        print(f"It fits: {_gib(plan.peak)} of {limit} GiB{each}.")
    else:
        names = {name: "" if name == "cpu" else f"GPU {name}: " for name in servers.taken}
        taken = ", ".join(f"{names[name]}{_gib(size)}" for name, size in servers.taken.items())
        each = " each" * (len(servers.taken) > 1)
        print(f"It fits, learner and servers together: {taken} of {limit} GiB{each}.")


def _gib(size: int) -> str:
    return f"{size / _GIB:.2f}"
