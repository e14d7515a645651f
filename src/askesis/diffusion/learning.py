"""ART-RL: learn how fast the clock should run, then keep only the list of noise levels."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from askesis.diffusion.actor_critic import (
    Actor,
    Critic,
    Features,
    Rollout,
    actor_loss,
    advantages,
    critic_loss,
    make_network,
)
from askesis.diffusion.environment import SamplingEnvironment
from askesis.diffusion.fields import Denoiser
from askesis.diffusion.schedules import SIGMA_MAX, SIGMA_MIN, DiffusionError, Schedule
from askesis.recipe import Section
from askesis.streams import generator

__all__ = ["Learned", "LearnerSection", "Progress", "Spread", "learn_schedule"]


_LARGEST_MISS = 0.05
"""Of sigma_max, for a clock that only its price brings to the end."""


class LearnerSection(Section):
    """How a schedule is learned. Sizes and rates are inferred: the paper's were not available."""

    num_steps: int = Field(default=20, ge=2, le=1000)
    """K, the steps that are trained on. Fewer than about 10 let the cost of a step be far from its error."""
    sigma_max: float = Field(default=SIGMA_MAX, gt=0)
    """Noise at the start, in units of the data."""
    sigma_min: float = Field(default=SIGMA_MIN, gt=0)
    """The model is never asked below this level."""
    sigma_data: float = Field(default=0.5, gt=0)
    """Standard deviation of the data; scales what the networks see of a sample."""
    iterations: int = Field(default=300, ge=1)
    batch: int = Field(default=256, ge=2)
    """Trajectories per iteration."""
    noise: float = Field(default=0.2, gt=0, le=1)
    """Exploration as a share of the best speed; falls to half. The paper's lambda is its square times C^2."""
    actor_lr: float = Field(default=1e-2, gt=0)
    """Adam; falls linearly to 0."""
    critic_lr: float = Field(default=6e-3, gt=0)
    hidden: int = Field(default=32, ge=1)
    """Width of both networks."""
    trace: float = Field(default=1.0, ge=0, le=1)
    """0 credits a step with its own martingale increment, as the paper's conditions are written (slow); 1 with all that
    follows."""
    budget: Literal["landing", "multiplier"] = "landing"
    """``landing`` sends the last step to 0; ``multiplier`` is the paper's way: a price on speed that is adapted until
    the clock arrives, less exact."""
    multiplier_step: float = Field(default=0.05, gt=0)
    """Change of the price per iteration, as a share of it, for an overshoot of sigma_max / 80 or more."""
    cost: Literal["both_ends", "left_end"] = "both_ends"
    """Where the cost of a step takes |Q|; ``left_end`` is the paper's."""
    state: Literal["time", "full"] = "time"
    """``full`` shows the sample to actor and critic, too."""
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _range_is_one(self) -> LearnerSection:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min = {self.sigma_min} must be below sigma_max = {self.sigma_max}")
        return self


class Progress(NamedTuple):
    """One iteration: its place, the mean cost of its trajectories, and psi(1) - sigma_max, the mean overshoot."""

    iteration: int
    cost: float
    overshoot: float


class Spread(NamedTuple):
    """Over samples, the relative standard deviation of the learned speed: its mean and its largest over the steps."""

    mean: float
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What learning gives.

    Args:
        schedule: of ``num_steps`` steps.
        spread: how much the speed still depends on the sample; the schedule is the mean.
        history: every iteration.
        gamma: the final price of speed; 0 with ``landing``.
        cpu_s: processor seconds that learning took.
    """

    schedule: Schedule
    spread: Spread
    history: tuple[Progress, ...]
    gamma: float
    cpu_s: float


def learn_schedule(
    denoiser: Denoiser,
    settings: LearnerSection,
    *,
    shape: tuple[int, ...],
    notify: Callable[[Progress], None] = lambda progress: None,
) -> Learned:
    """Learn a schedule for ``denoiser``, whose samples have ``shape``, and distil it into a list of levels.

    Works in float64 on the CPU. Draws only from streams of ``settings.seed``.

    Raises:
        DiffusionError: the flow or a cost is not finite, or the clock did not arrive (budget ``multiplier``).
    """
    started = time.process_time()
    learner = _Learner(denoiser, settings, shape)
    history = []
    for iteration in range(settings.iterations):
        history.append(learner.update(iteration))
        notify(history[-1])
    schedule, spread = learner.distil()
    return Learned(
        schedule=schedule,
        spread=spread,
        history=tuple(history),
        gamma=learner.gamma * learner.unit,
        cpu_s=time.process_time() - started,
    )


class _Learner:
    """Actor, critic and price, in units in which the first batch costs 1."""

    def __init__(self, denoiser: Denoiser, settings: LearnerSection, shape: tuple[int, ...]) -> None:
        self.settings, self.shape = settings, shape
        self.landing = settings.budget == "landing"
        self.env = SamplingEnvironment(
            denoiser=denoiser,
            num_steps=settings.num_steps,
            sigma_max=settings.sigma_max,
            sigma_min=settings.sigma_min,
            landing=self.landing,
            both_ends=settings.cost == "both_ends",
        )
        self.features = Features(
            sigma_max=settings.sigma_max,
            sigma_min=settings.sigma_min,
            sigma_data=settings.sigma_data,
            full=settings.state == "full",
        )
        # The start is the geometric grid; with landing its last positive level is sigma_min.
        num = settings.num_steps
        ratio = (settings.sigma_min / settings.sigma_max) ** (1 / (num - 1))
        networks = [
            make_network(self.features.num, settings.hidden, generator(settings.seed, "art", name))
            for name in ("actor", "critic")
        ]
        self.actor = Actor(self.features, networks[0], base=num * (1 - ratio))
        self.critic = Critic(networks[1])
        self.optimisers = [
            torch.optim.Adam(networks[0].parameters(), lr=settings.actor_lr),
            torch.optim.Adam(networks[1].parameters(), lr=settings.critic_lr),
        ]
        self.unit = 0.0
        self.gamma = 0.0
        self._measure_unit()

    def _measure_unit(self) -> None:
        """C^2 from the starting grid, whose cost is a small multiple of it; and the first price of speed."""
        landed = SamplingEnvironment(
            denoiser=self.env.denoiser,
            num_steps=self.env.num_steps,
            sigma_max=self.env.sigma_max,
            sigma_min=self.env.sigma_min,
        )
        state = landed.reset(self._noise("unit"))
        root = torch.zeros(())
        for _ in range(landed.num_steps):
            before = state
            speed_B = self.actor.mean(self.features(state), state.sigma_B).detach()
            _, _, state = landed.step(state, speed_B)
            ends_B = (before.difficulty_B.sqrt() + state.difficulty_B.sqrt()) / 2
            root = root + (ends_B * (before.sigma_B - state.sigma_B)).mean()
        self.unit = float(root) ** 2
        if not self.landing:
            # At the optimum gamma = -2 C sqrt(Qbar) at the end, if the value did not depend on psi there.
            self.gamma = -2 * float(root) * float(state.difficulty_B.sqrt().mean()) / self.unit

    def update(self, iteration: int) -> Progress:
        """One batch: a rollout, then a step of critic, actor and price."""
        settings = self.settings
        left = 1 - iteration / settings.iterations
        temperature = (settings.noise * (0.5 + 0.5 * left)) ** 2
        rollout = self._roll(f"iteration {iteration}", temperature)
        num, batch = rollout.reward_KB.shape
        clock_KB = (torch.arange(num, dtype=torch.float64) / num)[:, None].expand(num, batch)
        flat_NF = rollout.features_KBF.flatten(0, 1)
        terminal = self.gamma * settings.sigma_max + temperature
        value_KB = self.critic.value(flat_NF, clock_KB.reshape(-1), terminal).reshape(num, batch)
        advantage_KB = advantages(rollout.reward_KB, value_KB.detach(), terminal, trace=settings.trace)
        self._descend(1, critic_loss(value_KB, advantage_KB), settings.critic_lr)
        # A step that is forced to land is nobody's choice.
        chosen = num - 1 if self.landing else num
        mean_KB = self.actor.mean(flat_NF, rollout.sigma_KB.reshape(-1)).reshape(num, batch)
        scaled_KB = advantage_KB[:chosen]
        scaled_KB = (scaled_KB - scaled_KB.mean(1, keepdim=True)) / scaled_KB.std(1, keepdim=True).clamp_min(1e-12)
        part = Rollout(*(value if value.dim() < 2 else value[:chosen] for value in rollout))
        self._descend(0, actor_loss(mean_KB[:chosen], part, scaled_KB.clamp(-3, 3)), settings.actor_lr * left)
        overshoot = -float(rollout.final_sigma_B.mean())
        if not self.landing:
            gap = max(-1.0, min(1.0, 80 * overshoot / settings.sigma_max))
            self.gamma += settings.multiplier_step * gap * abs(self.gamma)
        return Progress(iteration, -float(rollout.reward_KB.sum(0).mean()) * self.unit, overshoot)

    def _roll(self, name: str, temperature: float) -> Rollout:
        rng = generator(self.settings.seed, "art", "actions", name)
        state = self.env.reset(self._noise(name))
        rows = []
        for _ in range(self.env.num_steps):
            # lambda in the environment's units: the policy's spread is a share of C / sqrt|Q|.
            drawn_B, std_B = self.actor.act(state, temperature * self.unit, rng)
            _, reward_B, after = self.env.step(state, drawn_B, self.gamma * self.unit)
            rows.append((self.features(state), state.sigma_B, drawn_B, std_B, reward_B / self.unit))
            state = after
        features, sigma, drawn, std, reward = (torch.stack(list(column)) for column in zip(*rows, strict=True))
        rollout = Rollout(features, sigma, drawn, std, reward, state.sigma_B)
        if not bool(rollout.reward_KB.isfinite().all()):
            raise DiffusionError("the cost of a trajectory is not finite", where=name)
        return rollout

    def _descend(self, which: int, loss: Tensor, rate: float) -> None:
        optimiser = self.optimisers[which]
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 1.0)
        optimiser.step()

    def _noise(self, name: str) -> Tensor:
        rng = generator(self.settings.seed, "art", "noise", name)
        drawn = torch.from_numpy(rng.standard_normal((self.settings.batch, *self.shape)))
        return self.settings.sigma_max * drawn

    @torch.no_grad()
    def distil(self) -> tuple[Schedule, Spread]:
        """Run the mean policy, average its steps over samples, and make them sum to sigma_max."""
        state = self.env.reset(self._noise("distil"))
        taken, spreads = [], []
        for step in range(self.env.num_steps):
            speed_B = self.actor.mean(self.features(state), state.sigma_B)
            if step < self.env.num_steps - 1 or not self.landing:
                spreads.append(float(speed_B.std() / speed_B.mean()))
            speed_B, _, state = self.env.step(state, speed_B)
            taken.append(float(speed_B.mean()))
        self._check_arrival(float(np.sum(taken)) / self.env.num_steps)
        shares = np.asarray(taken) / np.sum(taken)
        levels = self.settings.sigma_max * (1 - np.concatenate([[0.0], np.cumsum(shares)]))
        levels[-1] = 0.0
        made = {"made_by": "art_rl", "learner": self.settings.model_dump(), "sample_shape": list(self.shape)}
        schedule = Schedule(name="art_rl", sigmas=tuple(map(float, levels)), provenance=made)
        return schedule, Spread(float(np.mean(spreads)), float(np.max(spreads)))

    def _check_arrival(self, covered: float) -> None:
        """Rescaling hides a clock that is far off: refuse it."""
        if abs(covered / self.settings.sigma_max - 1) > _LARGEST_MISS:
            raise DiffusionError(
                "the clock did not arrive at the end: the price of speed did not settle",
                got=f"noise of {covered:.4g} covered",
                expected=f"{self.settings.sigma_max:g}, at most {_LARGEST_MISS:.0%} off",
                next_step="learner.budget=landing, or more steps; cost=left_end needs a fine clock",
            )
