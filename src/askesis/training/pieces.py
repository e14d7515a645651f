"""Building a run's parts from its recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from askesis.agents import make_harness
from askesis.algorithms import Algorithm, build
from askesis.clock import Clock
from askesis.engines import Engine, Sampling
from askesis.environments import World
from askesis.errors import RecipeError
from askesis.gateway import Gateway
from askesis.learners import CriticSettings, GradientLearner, LearnerSettings
from askesis.learners.evolution import EvolutionLearner, EvolutionSettings
from askesis.policy.loading import Policy, load_policy
from askesis.policy.voice import Voice
from askesis.recipe import PolicySection, Recipe
from askesis.recipe.schema import Option
from askesis.rollout import RolloutRunner, RolloutSettings, StateEvaluator
from askesis.streams import seed_of
from askesis.trace import Budgets

if TYPE_CHECKING:
    from askesis.learners.ranks.group import Ranks

__all__ = [
    "check_learner",
    "critic_settings",
    "describe",
    "evolution_settings",
    "make_algorithm",
    "make_evolution",
    "make_learner",
    "make_remote",
    "make_runner",
    "open_policy",
    "set_threads",
    "state_evaluator",
    "training_sampling",
]


def set_threads(threads: int) -> None:
    """CPU threads of the tensors; 0 leaves torch's own choice, which is one per core."""
    if threads:
        torch.set_num_threads(threads)


def make_runner(
    recipe: Recipe,
    policy: Policy | Voice,
    engine: Engine,
    world: World,
    sampling: Sampling | None = None,
    *,
    states: StateEvaluator | None = None,
    first: Engine | None = None,
    clock: Clock | None = None,
) -> RolloutRunner:
    """A rollout runner under the recipe's limits; ``sampling`` is the recipe's own unless given.

    ``states``: how states are scored, by answers of ``first`` where it is given, and else of ``engine``. ``clock``: of
    the sessions, by default the machine's.
    """

    def gateway(engine: Engine) -> Gateway:
        return Gateway(
            engine,
            policy.template,
            sampling=sampling or training_sampling(recipe),
            context_length=min(recipe.sampling.max_context or policy.context_length, policy.context_length),
        )

    rollout = recipe.rollout
    return RolloutRunner(
        world,
        gateway(engine),
        RolloutSettings(
            max_concurrent=rollout.max_concurrent,
            call_timeout_s=rollout.call_timeout_s,
            missing_members=rollout.missing_members,
            budgets=Budgets(turns=rollout.max_turns, tokens=rollout.max_session_tokens, seconds=rollout.max_session_s),
        ),
        harness=make_harness(recipe.agent, world.environment.tools()),
        clock=clock,
        states=states,
        states_gateway=None if first is None else gateway(first),
    )


def state_evaluator(recipe: Recipe) -> StateEvaluator | None:
    """How the states of training sessions are scored; None where they are not."""
    section = recipe.states
    if section.evaluator == "none":
        return None
    return StateEvaluator(
        judge=section.evaluator,
        answers=section.answers,
        sampling=replace(training_sampling(recipe), max_tokens=section.max_tokens),
        request=section.request,
    )


def make_remote(recipe: Recipe, policy: Policy, folder: Path) -> Engine | None:
    """The engine that samples in other processes, if the recipe wants one; its logs go to ``folder``. Nothing is
    started yet.

    Raises:
        EngineError: vLLM is not found, or too old.
        RecipeError: an address that cannot be used.
    """
    if recipe.engine.kind == "embedded":
        return None
    from askesis.engines.vllm import VllmEngine

    limit = recipe.sampling.max_context or policy.context_length
    return VllmEngine(
        policy,
        recipe.engine.vllm,
        max_batch=recipe.engine.max_batch,
        context_length=min(limit, policy.context_length),
        folder=folder,
    )


def open_policy(section: PolicySection, *, seed: int) -> Policy:
    """Load the policy that a recipe names."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "adapters") % (1 << 62))  # new LoRA adapters are drawn at random
        return load_policy(
            section.name,
            dtype=section.dtype,
            device=section.device,
            lora_rank=section.lora_rank,
            lora_alpha=section.lora_alpha,
        )


def training_sampling(recipe: Recipe) -> Sampling:
    """How training answers are drawn."""
    section = recipe.sampling
    return Sampling(
        temperature=section.temperature, top_p=section.top_p, top_k=section.top_k, max_tokens=section.max_tokens
    )


def check_learner(recipe: Recipe) -> None:
    """Refuse a recipe whose learner cannot be built, before a model is loaded. Raises RecipeError."""
    if recipe.learner.kind == "evolution":
        evolution_settings(recipe)
    else:
        make_algorithm(recipe)


def describe(learner: GradientLearner | EvolutionLearner) -> dict[str, Any]:
    """What learns, for the report."""
    return learner.describe() if isinstance(learner, EvolutionLearner) else learner.algorithm.describe()


def evolution_settings(recipe: Recipe) -> EvolutionSettings:
    """The constants of the evolution that a recipe describes. Raises RecipeError."""
    section, size = recipe.learner.evolution, recipe.rollout.group_size
    share = {"es": 0, "essam": size // 2, "essam_f": max(size // 5, 2)}[section.method]
    first = section.first_population or share
    if section.method == "es" and first:
        raise RecipeError(
            "an evolution strategy without a sharpness-aware step has one population",
            where="learner.evolution.first_population",
            got=first,
            expected="0, or learner.evolution.method = essam or essam_f",
        )
    return EvolutionSettings(
        method=section.method,
        population=size - first,
        first_population=first,
        sigma=section.sigma,
        alpha=section.sigma / 2 if section.alpha is None else section.alpha,
        rho=section.rho,
        antithetic=section.antithetic,
        compares=section.compares,
        seed=recipe.run.seed,
    )


def make_evolution(recipe: Recipe, policy: Policy, folder: Path) -> EvolutionLearner:
    """The evolution that a recipe describes; its centre lies in a nameless file in ``folder``."""
    return EvolutionLearner(policy, evolution_settings(recipe), folder=folder)


def make_learner(recipe: Recipe, policy: Policy) -> GradientLearner:
    """The gradient learner that a recipe describes. Raises RecipeError for a wrong algorithm or option."""
    training = recipe.training
    if recipe.policy.dtype == "bfloat16" and not recipe.policy.lora_rank:
        raise RecipeError(
            "bfloat16 parameters are too coarse for steps of a usual learning rate: most would be rounded away",
            where="policy.dtype",
            got="bfloat16, all parameters trained",
            expected="float32, or LoRA adapters (kept in float32) on a bfloat16 model",
            next_step="set policy.dtype=float32, or policy.lora_rank=16",
        )
    settings = LearnerSettings(
        lr=training.lr,
        schedule=training.schedule,
        warmup_steps=training.warmup_steps,
        total_steps=training.steps,
        beta1=training.beta1,
        beta2=training.beta2,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        epochs=training.epochs,
        updates_per_step=training.updates_per_step,
        packed=recipe.learner.packed,
        micro_batch_tokens=training.micro_batch_tokens,
        threads=torch.get_num_threads() if policy.device.type == "cpu" else 1,
        temperature=recipe.sampling.temperature,
        truncated=training_sampling(recipe).truncates,
        critic=critic_settings(recipe),
    )
    algorithm, cluster = make_algorithm(recipe), recipe.cluster
    if cluster.learner_ranks == 1:
        return GradientLearner(policy, algorithm, settings)
    from askesis.learners.ranks import RankedLearner

    device = policy.device.type if cluster.learner_device == "auto" else cluster.learner_device
    start = _rank_starter(recipe, device, max(settings.threads // cluster.learner_ranks, 1))
    return RankedLearner(policy, algorithm, settings, start=start, keep_every=cluster.learner_keep_every)


def _rank_starter(recipe: Recipe, device: str, threads: int) -> Callable[[], Ranks]:
    """What starts the learner's ranks. Raises RecipeError when this machine has too few GPUs for them."""
    cluster = recipe.cluster
    if cluster.kind == "ray":
        from askesis.training.ray_ranks import start_in_ray

        return partial(start_in_ray, cluster, device=device, threads=threads)
    from askesis.learners.ranks.group import start_here

    if device == "cuda" and torch.cuda.device_count() < cluster.learner_ranks:
        raise RecipeError(
            "each rank of the learner needs a GPU of its own",
            where="cluster.learner_ranks",
            got=cluster.learner_ranks,
            expected=f"at most {torch.cuda.device_count()}, the GPUs that this process sees",
            next_step="lower it, or set cluster.kind=ray to use other machines",
        )
    return partial(start_here, cluster.learner_ranks, device=device, threads=threads, timeout_s=cluster.timeout_s)


def critic_settings(recipe: Recipe) -> CriticSettings | None:
    """The constants of the critic that a recipe describes; None where there is none."""
    section = recipe.learner.critic
    if section.kind == "none":
        return None
    return CriticSettings(lr=section.lr, loss_weight=section.loss_weight, clip=section.clip)


def make_algorithm(recipe: Recipe) -> Algorithm:
    """The algorithm that a recipe names, checked against how the recipe trains. Raises RecipeError."""
    section = recipe.algorithm
    options: dict[str, Option] = dict(section.options)
    algorithm = build(section.name, options)
    # Constants that stand for the longest answer, which the recipe knows; DAPO's soft limit begins a fifth before it.
    longest = recipe.sampling.max_tokens
    known = {"norm_length": longest, "overlong_limit": longest, "overlong_cache": max(longest // 5, 1)}
    algorithm = build(section.name, {**{k: v for k, v in known.items() if k in algorithm.params}, **options})
    if recipe.rollout.group_size == 1 and algorithm.estimator.is_relative:
        raise RecipeError(
            f"{section.name} compares the answers to one task with each other, and there is only one",
            where="rollout.group_size",
            got=1,
            expected="at least 2, or an algorithm without groups",
            next_step="raise rollout.group_size, or set algorithm.name=reinforce",
        )
    _require_parts(algorithm, recipe)
    training, overlap = recipe.training, recipe.asynchronous
    if overlap.enabled and overlap.admission == "corrected":
        return _corrected(algorithm, overlap.max_weight)
    max_staleness = overlap.max_staleness if overlap.enabled else training.staleness - 1
    is_off_policy = training.updates_per_step * training.epochs > 1 or max_staleness > 0
    if is_off_policy and algorithm.params.get("importance_weighted") is False:
        raise RecipeError(
            "several updates per batch, or stale samples, need importance weights",
            where="algorithm.options.importance_weighted",
            got=f"updates_per_step={training.updates_per_step}, epochs={training.epochs}, samples that are up to "
            f"{max_staleness} updates old, with {section.name}",
            expected="importance_weighted = true, or fresh samples that are used once",
            next_step="add algorithm.options.importance_weighted=true",
        )
    return algorithm


def _corrected(algorithm: Algorithm, max_weight: float) -> Algorithm:
    """The algorithm with importance weights before an objective that has none of its own. Raises RecipeError."""
    if algorithm.corrects is None:
        raise RecipeError(
            f"whether the objective {algorithm.objective.name!r} allows for stale samples is not known",
            where="asynchronous.admission",
            got="corrected",
            expected="an objective that says so in ObjectiveStage.corrects",
            next_step="set asynchronous.admission=bounded or strict",
        )
    return algorithm if algorithm.corrects else replace(algorithm, max_weight=max_weight)


def _require_parts(algorithm: Algorithm, recipe: Recipe) -> None:
    """An algorithm without what it reads, and parts that nothing reads, are refused."""
    critic, judge = recipe.learner.critic.kind, recipe.states.evaluator
    if algorithm.has_critic != (critic != "none"):
        raise RecipeError(
            f"{algorithm.name} compares rewards with what a critic expected, and there is none"
            if algorithm.has_critic
            else f"{algorithm.name} does not look at a critic",
            where="learner.critic.kind",
            got=critic,
            expected="linear" if algorithm.has_critic else "none",
            next_step="set learner.critic.kind=linear"
            if algorithm.has_critic
            else "leave the critic out, or take an algorithm with one, such as ppo or oases",
        )
    if algorithm.has_states and judge == "none":
        raise RecipeError(
            f"{algorithm.name} pays for what states are worth, and nobody says it",
            where="states.evaluator",
            got=judge,
            expected="policy, frozen, oracle or random",
            next_step="set states.evaluator=policy",
        )
    if not algorithm.has_states and judge != "none" and (judge != "policy" or recipe.states.answer_loss_weight == 0):
        raise RecipeError(
            f"{algorithm.name} does not look at states, and no answer from them is trained on",
            where="states.evaluator",
            got=judge,
            expected="none, or policy with an answer_loss_weight above 0",
            next_step="leave the states out, or set algorithm.name=oases",
        )
