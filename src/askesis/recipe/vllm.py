"""What a run on vLLM servers cannot do, said before a server is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from askesis.recipe.schema import Recipe

__all__ = ["COLDEST", "HOTTEST", "is_sampled_by_vllm", "refuse_what_vllm_cannot"]

COLDEST = 0.01
"""vLLM raises lower temperatures to this one, all but 0."""
HOTTEST = 2.0
"""vLLM refuses higher temperatures."""


def is_sampled_by_vllm(temperature: float) -> bool:
    """Whether vLLM samples at this temperature and not at another one."""
    return temperature == 0 or COLDEST <= temperature <= HOTTEST


def refuse_what_vllm_cannot(recipe: Recipe) -> None:
    """Raises ValueError where a recipe with ``engine.kind=vllm`` asks for what only the embedded engine does."""
    if recipe.engine.kind != "vllm":
        return
    if recipe.training.staleness > 1:
        raise ValueError(
            f"training.staleness={recipe.training.staleness} needs two sets of weights, and engine.kind=vllm keeps "
            "one; set training.staleness=1, or engine.kind=embedded"
        )
    elsewhere = recipe.cluster.kind != "local" or recipe.learner.evolution.side_by_side > 1
    if recipe.learner.kind == "evolution" and elsewhere:
        raise ValueError(
            "the members of an evolution are sampled by the embedded engine with cluster.kind=ray or "
            "learner.evolution.side_by_side > 1; set engine.kind=embedded"
        )
    if recipe.cluster.kind == "ray" and recipe.states.evaluator == "frozen":
        raise ValueError(
            "states.evaluator=frozen samples from the first weights, which with engine.kind=vllm the workers of "
            "cluster.kind=ray do not hold; set engine.kind=embedded, or cluster.kind=local"
        )
    for name, section in (("sampling", recipe.sampling), ("evaluation", recipe.evaluation)):
        if not is_sampled_by_vllm(section.temperature):
            raise ValueError(
                f"{name}.temperature={section.temperature}: vLLM samples at 0 and from {COLDEST} to {HOTTEST}; "
                "set one of these, or engine.kind=embedded"
            )
