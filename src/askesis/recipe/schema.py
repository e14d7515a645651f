"""What a training recipe can say. Each field has a default, a unit, a range and one line of why.

The ``options`` tables of ``environment`` and ``algorithm`` belong to the named environment and preset, which refuse
unknown keys in the same way when they are built.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from askesis.recipe.asynchronous import AsynchronousSection
from askesis.recipe.places import (
    ClusterSection,
    EngineSection,
    ObserveSection,
    StoreSection,
    VllmSection,
    without_secrets,
)
from askesis.recipe.section import Option, Section
from askesis.recipe.vllm import refuse_what_vllm_cannot

__all__ = [
    "NOT_HASHED",
    "AgentSection",
    "AlgorithmSection",
    "AsynchronousSection",
    "ClusterSection",
    "CriticSection",
    "EngineSection",
    "EnvironmentSection",
    "EvaluationSection",
    "EvolutionSection",
    "LearnerSection",
    "ObserveSection",
    "Option",
    "PolicySection",
    "Recipe",
    "RolloutSection",
    "RunSection",
    "SamplingSection",
    "Section",
    "StatesSection",
    "StoreSection",
    "TrainingSection",
    "VllmSection",
    "without_secrets",
]

NOT_HASHED = frozenset(
    {
        "engine.vllm.devices",
        "engine.vllm.max_gap",
        "engine.vllm.python",
        "engine.vllm.replicas",
        "engine.vllm.request_timeout_s",
        "engine.vllm.restarts",
        "engine.vllm.start_timeout_s",
        "engine.vllm.update_timeout_s",
        "engine.vllm.urls",
        "engine.vllm.weights_dir",
        *(f"cluster.{name}" for name in ("address", "cpus_per_worker", "gpus_per_worker", "keep_sessions", "kind")),
        *(f"cluster.{name}" for name in ("cpus_per_environment_worker", "environment_workers", "groups_per_worker")),
        *(f"cluster.{name}" for name in ("timeout_s", "workers")),
        *(f"cluster.{name}" for name in ("learner_device", "learner_keep_every", "learner_ranks")),
        "observe.metrics_host",
        "observe.metrics_port",
        "observe.traces",
        "rollout.max_failed",
        "run.dir",
        "run.log_format",
        "store.outage_s",
        "store.url",
        "training.checkpoint_every",
        "training.keep_checkpoints",
        "training.max_drift",
        "training.self_check_every",
        "training.tensorboard",
    }
)
"""Keys that cannot change a result: they may differ when a run is resumed."""


class RunSection(Section):
    """Where a run lives and which random streams it draws from."""

    dir: str = ""
    """Folder of the run. Empty: ``runs/NAME-HASH`` from the recipe's file name and hash."""
    seed: int = Field(default=0, ge=0)
    """Root of all random streams."""
    threads: int = Field(default=0, ge=0, le=4096)
    """CPU threads for the tensors; 0 means all cores. Bit-exact resume needs the same number."""
    log_format: Literal["text", "json"] = "text"
    """``text``: a live region on a terminal, plain lines elsewhere; ``json``: one JSON object per line."""


class PolicySection(Section):
    """The model that is trained."""

    name: str = "nano"
    """``nano`` (built in), a folder in the Hugging Face layout, or a name on the Hugging Face Hub."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    """``auto`` takes CUDA when there is one; otherwise a torch device such as ``cpu`` or ``cuda:0``."""
    lora_rank: int = Field(default=0, ge=0)
    """0 trains all parameters; above 0 trains LoRA adapters of this rank (extra ``lora``)."""
    lora_alpha: float = Field(default=32.0, gt=0)
    """Scale of the adapters: updates are multiplied by alpha / rank."""


class SamplingSection(Section):
    """How training answers are drawn."""

    temperature: float = Field(default=1.0, ge=0)
    """0 is greedy, which only evolution can learn from."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, le=1_000_000)
    """0 means no limit."""
    max_tokens: int = Field(default=96, ge=1)
    """Tokens per model call."""
    max_context: int = Field(default=0, ge=0)
    """Longest prompt plus answer in tokens; 0 means what the model was built for."""


class EnvironmentSection(Section):
    """The world that the policy acts in."""

    name: str = "reasoning"
    family: str = "chain_sum"
    """Task family within the environment; for ``reasoning``, a reasoning-gym dataset."""
    level: Literal["nano", "default"] = "nano"
    """``nano``: the difficulty that the built-in policy was trained at, where it knows the family; ``default``: the
    environment's own.
    """
    instruction: str | None = None
    """System message. None: the environment's default; empty: none."""
    options: dict[str, Option] = Field(default_factory=dict)
    """Options of the family, checked by the environment."""


class AgentSection(Section):
    """The harness around the policy, in worlds with tools or several turns."""

    format: Literal["tags", "json", "none"] = "tags"
    """How tools are called: ``<tool>argument</tool>``, or ``<tool_call>{...}</tool_call>``; ``none``: not at all. A
    world without tools needs none.
    """
    context: Literal["full", "window", "compact_memory"] = "full"
    """What the policy sees at each call: everything; the task and the last ``window`` exchanges; the task and a memory
    that it writes itself.
    """
    window: int = Field(default=4, ge=1)
    """Exchanges, each a reply with what came back on it."""
    instruction: str | None = None
    """Explains the format and the tools. None: the format's own text; empty: none."""
    memory_request: str | None = None
    """Asks for the memory after each result. None: a text of our own; empty: nothing is said."""
    memory_tokens: int = Field(default=1024, ge=1)
    """Longest memory."""
    max_tool_calls: int = Field(default=4, ge=0)
    """Calls of tools per session."""
    calls_per_reply: int = Field(default=4, ge=1)
    """Calls in one reply that are run."""
    answers_at_cap: bool = True
    """After the last call of a tool the policy may speak once more. False ends the session there."""
    result_tokens: int = Field(default=500, ge=1)
    """Of what a tool gave back, as the policy sees it; the rest is cut off."""


class AlgorithmSection(Section):
    """From rewards to a loss."""

    name: str = "grpo"
    """A preset; ``askesis algorithms`` lists them."""
    options: dict[str, Option] = Field(default_factory=dict)
    """Stages and constants that differ from the preset, checked by it."""


class StatesSection(Section):
    """What the states of an episode are worth, in worlds whose task can be answered at any point; see `oases`."""

    evaluator: Literal["none", "policy", "frozen", "oracle", "random"] = "none"
    """Who says it: the policy, by answers that it is also trained on; the policy as it was at the start; the world
    itself, where it knows; chance (a control).
    """
    answers: int = Field(default=1, ge=1)
    """Drawn from each state; its value is their mean score."""
    max_tokens: int = Field(default=128, ge=1)
    """Of an answer from a state."""
    request: str | None = None
    """What the policy is asked in a state. None: the world's own words; empty: nothing is said."""
    answer_loss_weight: float = Field(default=1.0, ge=0)
    """Of a token of such an answer, beside a token of the episode. 0: they are not trained on."""


class RolloutSection(Section):
    """How sessions are run."""

    groups_per_step: int = Field(default=16, ge=1)
    """Tasks per training step."""
    group_size: int = Field(default=16, ge=1)
    """Sessions per task and step. For evolution: one for each member of the step's populations."""
    max_concurrent: int = Field(default=1024, ge=1)
    """Sessions that are open at once."""
    call_timeout_s: float = Field(default=30.0, gt=0)
    """Deadline of one call to the environment or the evaluator, seconds."""
    max_turns: int = Field(default=16, ge=1)
    max_session_tokens: int = Field(default=4096, ge=1)
    """Sampled tokens per session."""
    max_session_s: float = Field(default=600.0, gt=0)
    """Wall-clock seconds per session."""
    max_resamples: int = Field(default=4, ge=0)
    """Rounds in which an algorithm with dynamic sampling may replace groups whose rewards are all equal."""
    missing_members: Literal["use_rest", "drop_group", "retry"] = "use_rest"
    """What becomes of a group with failed sessions: train on the others (at least two), drop it, or run the failed
    ones again once.
    """
    max_failed: float = Field(default=0.5, ge=0, le=1)
    """Share of a step's sessions that may fail. Above it the run stops and says why: means over what is left would be
    those of the sessions that happen to survive. 1: only when all fail.
    """


class EvolutionSection(Section):
    """Learning from rewards alone, by perturbed weights; for ``learner.kind = "evolution"``."""

    method: Literal["es", "essam", "essam_f"] = "essam"
    """``es``: evolution strategy; ``essam``: with a sharpness-aware step; ``essam_f``: its faster variant."""
    sigma: float = Field(default=1e-3, gt=0)
    """Standard deviation of the noise that makes a member, in units of the weights. Small models need more."""
    alpha: float | None = Field(default=None, ge=0)
    """Step size. None: half of ``sigma``."""
    rho: float = Field(default=5e-4, ge=0)
    """How far the sharpness-aware step goes. ``essam``: factor of a direction that is not normalised; ``essam_f``: norm
    of the displacement.
    """
    first_population: int = Field(default=0, ge=0)
    """Members, of the ``rollout.group_size`` in all, that find the displacement. 0: half (``essam``) or a fifth
    (``essam_f``) of them. ``es`` has none.
    """
    antithetic: bool = False
    """Members come in pairs of opposite noise."""
    side_by_side: int = Field(default=1, ge=1)
    """Members that are sampled from in one batch. Each takes the memory of one more model; small models gain time.
    """
    compares: bool = True
    """Members are scored against each other. False takes rewards as they are: an ablation, which hardly learns."""


class CriticSection(Section):
    """Predicts the rewards that follow, for algorithms that compare rewards with what was expected (`ppo`, `oases`)."""

    kind: Literal["none", "linear"] = "none"
    """``linear``: a linear map of the policy's last hidden state, saved beside the model."""
    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate of the map itself; it follows ``training.schedule``."""
    loss_weight: float = Field(default=0.1, ge=0)
    """Of the critic's loss in the policy's weights, beside the policy's own. 0: the critic only reads."""
    clip: float | None = Field(default=0.5, gt=0)
    """How far a prediction may move within a step before its loss stops falling; None: no such bound."""

    @model_validator(mode="after")
    def _is_read(self) -> CriticSection:
        fields = CriticSection.model_fields
        given = [name for name in ("lr", "loss_weight", "clip") if getattr(self, name) != fields[name].default]
        if self.kind == "none" and given:
            raise ValueError(f"{', '.join(given)}: there is no critic; set learner.critic.kind=linear, or leave it out")
        return self


class LearnerSection(Section):
    """Who changes the weights, and how."""

    kind: Literal["gradient", "evolution"] = "gradient"
    """``gradient``: ``algorithm`` and AdamW; ``evolution``: no gradient, and the memory of sampling."""
    evolution: EvolutionSection = Field(default_factory=EvolutionSection)
    critic: CriticSection = Field(default_factory=CriticSection)
    packed: bool = True
    """Read every distinct token once (tree attention). False trains each branch on its own, by the model's own
    attention: slower, and works for models that tree attention refuses.
    """


class TrainingSection(Section):
    """The optimiser and its schedule."""

    steps: int = Field(default=60, ge=1)
    max_sampled_tokens: int = Field(default=0, ge=0)
    """Training ends after the step in which this many tokens have been sampled for it, or after ``steps``; 0 means no
    such limit. Schedules follow ``steps``.
    """
    lr: float = Field(default=1e-5, gt=0)
    """Peak learning rate of AdamW."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Course of the learning rate after warm-up; linear and cosine end at zero."""
    warmup_steps: int = Field(default=0, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm."""
    epochs: int = Field(default=1, ge=1)
    """Passes over each batch of rollouts."""
    updates_per_step: int = Field(default=1, ge=1)
    """Optimiser steps per pass; the batch is cut into this many parts by group."""
    staleness: int = Field(default=1, ge=1)
    """Steps between renewals of the weights that sample. 1: every batch is sampled by the weights that learn from it;
    N: by weights that are up to N - 1 steps old.
    """
    micro_batch_tokens: int = Field(default=2048, ge=1)
    """Tokens per forward and backward pass; does not change the result. More of them need more memory; on a CPU they
    are not faster, on a GPU they are.
    """
    checkpoint_every: int = Field(default=20, ge=0)
    """Steps between checkpoints; 0 means only at the end."""
    keep_checkpoints: int = Field(default=2, ge=1)
    max_drift: float = Field(default=1e-2, gt=0)
    """Alarm: largest mean absolute difference between the learner's and the engine's log-probabilities, in nats."""
    self_check_every: int = Field(default=50, ge=0)
    """Steps between self-checks; 0 means only at the start."""
    tensorboard: bool = False
    """Also write TensorBoard event files (extra ``tensorboard``)."""

    @model_validator(mode="after")
    def _warmup_fits(self) -> TrainingSection:
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} leaves no step at the full learning rate of steps={self.steps}; "
                "lower training.warmup_steps or raise training.steps"
            )
        return self


class EvaluationSection(Section):
    """Held-out evaluation, before the first and after the last step."""

    num_tasks: int = Field(default=500, ge=0)
    """Distinct held-out tasks; fewer when the family has fewer. 0 switches evaluation off."""
    samples: int = Field(default=1, ge=1)
    """Answers per task; more than one gives pass@k."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    every: int = Field(default=0, ge=0)
    """Steps between evaluations during training; 0 means none."""
    pass_k: list[int] = Field(default_factory=lambda: [1])
    """The k of pass@k; none may exceed ``samples``."""

    @model_validator(mode="after")
    def _k_fits(self) -> EvaluationSection:
        if any(k < 1 or k > self.samples for k in self.pass_k):
            raise ValueError(
                f"pass_k={self.pass_k} asks for a k that is not between 1 and samples={self.samples}; "
                "raise evaluation.samples"
            )
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples={self.samples} at temperature=0 draws the same answer every time; "
                "set evaluation.temperature=1.0"
            )
        return self


class Recipe(Section):
    """One training run."""

    run: RunSection = Field(default_factory=RunSection)
    store: StoreSection = Field(default_factory=StoreSection)
    observe: ObserveSection = Field(default_factory=ObserveSection)
    policy: PolicySection = Field(default_factory=PolicySection)
    engine: EngineSection = Field(default_factory=EngineSection)
    cluster: ClusterSection = Field(default_factory=ClusterSection)
    sampling: SamplingSection = Field(default_factory=SamplingSection)
    environment: EnvironmentSection = Field(default_factory=EnvironmentSection)
    agent: AgentSection = Field(default_factory=AgentSection)
    algorithm: AlgorithmSection = Field(default_factory=AlgorithmSection)
    states: StatesSection = Field(default_factory=StatesSection)
    rollout: RolloutSection = Field(default_factory=RolloutSection)
    learner: LearnerSection = Field(default_factory=LearnerSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    asynchronous: AsynchronousSection = Field(default_factory=AsynchronousSection)
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)

    @model_validator(mode="after")
    def _learner_fits(self) -> Recipe:
        """A value that the chosen learner would ignore is a mistake of whoever gave it."""
        refuse_what_vllm_cannot(self)
        kind = self.learner.kind
        if kind == "gradient" and self.sampling.temperature == 0:
            raise ValueError(
                "sampling.temperature=0 gives all answers to a task alike, and learner.kind=gradient learns from their "
                "differences; set sampling.temperature=1.0, or learner.kind=evolution"
            )
        ignored = _GRADIENT_ONLY if kind == "evolution" else ("learner.evolution", "cluster.keep_sessions")
        given = [key for key in ignored if _at(self, key) != _at(Recipe.model_construct(), key)]
        if given:
            raise ValueError(f"{', '.join(given)}: learner.kind={kind} does not use this; leave it out")
        return self

    @model_validator(mode="after")
    def _asynchronous_fits(self) -> Recipe:
        """What cannot overlap, or has another way to say how old samples may be."""
        section = self.asynchronous
        if not section.enabled:
            return self
        if self.learner.kind != "gradient":
            raise ValueError(
                "asynchronous.enabled=true needs learner.kind=gradient: each step of an evolution is sampled from "
                "weights of its own"
            )
        if self.cluster.kind == "ray" and (section.partial_rollouts or self.engine.kind != "embedded"):
            raise ValueError(
                "with cluster.kind=ray a group ends with the weights that it began with, which are its worker's own: "
                "asynchronous.enabled=true needs asynchronous.partial_rollouts=false and engine.kind=embedded there"
            )
        if self.training.staleness > 1:
            raise ValueError(
                f"training.staleness={self.training.staleness} plans how old samples are, and "
                "asynchronous.enabled=true lets them be as old as they turn out; leave it out and set "
                "asynchronous.max_staleness"
            )
        if section.max_ahead and section.max_ahead < self.rollout.groups_per_step:
            raise ValueError(
                f"asynchronous.max_ahead={section.max_ahead} groups never make a step of "
                f"rollout.groups_per_step={self.rollout.groups_per_step}; raise it"
            )
        sampling = self.sampling
        if section.max_staleness and (sampling.top_p < 1 or sampling.top_k):
            raise ValueError(
                "sampling.top_p and top_k cut the distribution, so the importance ratio of a stale token is not known; "
                "set asynchronous.max_staleness=0, or sampling.top_p=1 and top_k=0"
            )
        return self

    @model_validator(mode="after")
    def _states_fit(self) -> Recipe:
        """Options of states that nobody scores, and contexts that have no states."""
        judge, fields = self.states.evaluator, StatesSection.model_fields
        if judge != "none" and self.agent.context != "full":
            raise ValueError(
                f"states.evaluator={judge} needs agent.context=full: in the context {self.agent.context} a state is "
                "not the beginning of what follows"
            )
        given = [f"states.{name}" for name in fields if getattr(self.states, name) != fields[name].default]
        if judge == "none" and given:
            raise ValueError(f"{', '.join(given)}: states.evaluator=none does not use this; leave it out")
        return self


_GRADIENT_ONLY = (
    "algorithm.name",
    "algorithm.options",
    "learner.packed",
    "learner.critic",
    "states.evaluator",
    "cluster.learner_ranks",
    "cluster.learner_device",
    "cluster.learner_keep_every",
    "cluster.environment_workers",
    "cluster.groups_per_worker",
    *(
        f"training.{name}"
        for name in (
            "lr",
            "schedule",
            "warmup_steps",
            "beta1",
            "beta2",
            "weight_decay",
            "max_grad_norm",
            "epochs",
            "updates_per_step",
            "staleness",
            "micro_batch_tokens",
        )
    ),
)


def _at(recipe: Recipe, key: str) -> object:
    """The value of a dotted key."""
    value: object = recipe
    for name in key.split("."):
        value = getattr(value, name)
    return value
