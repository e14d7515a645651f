"""Schedules for the schedulers of the diffusers package, and its models as denoisers to learn from.

A stock scheduler is only told at which noise levels to step; its code, and the model's, stay as they are.

| scheduler | told by |
|---|---|
| EulerDiscreteScheduler | ``sigmas`` |
| HeunDiscreteScheduler | ``timesteps``, between which it is linear in sigma |
| EDMEulerScheduler | places on its own ramp |
| FlowMatchEulerDiscreteScheduler | ``sigmas`` t = sigma / (1 + sigma), before its shift |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from askesis.diffusion.fields import EdmDenoiser, spread
from askesis.diffusion.schedules import DiffusionError, Schedule
from askesis.errors import MissingExtra

__all__ = ["StockDenoiser", "UNetOutput", "apply_schedule", "sigma_range", "stock_denoiser"]


class UNetOutput(nn.Module):
    """A model of diffusers, called as ``model(x, level)``, as a plain function of tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BR: Tensor, level_B: Tensor) -> Tensor:
        """The model's ``sample``."""
        # The attention kernels that are fast have no forward-mode derivative.
        with sdpa_kernel(SDPBackend.MATH), _contiguous_norms(self.model):
            out: Tensor = self.model(x_BR, level_B, return_dict=False)[0]
        return out


@contextmanager
def _contiguous_norms(model: nn.Module) -> Iterator[None]:
    """The forward-mode derivative of group_norm wants contiguous tangents, which only a clone is sure to have."""

    def cloned(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(value.clone(memory_format=torch.contiguous_format) for value in inputs)

    norms = [module for module in model.modules() if isinstance(module, nn.GroupNorm)]
    hooks = [module.register_forward_pre_hook(cloned) for module in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class StockDenoiser(nn.Module):
    """D(x; sigma) of a model that was trained on discrete timesteps (the variance-preserving form).

    The model sees x / sqrt(1 + sigma^2) at the timestep whose noise is sigma, log-linear between timesteps.

    Args:
        model: predicts the noise, or v.
        alphas_cumprod: of the scheduler, ``[T]``.
        prediction_type: ``epsilon`` or ``v_prediction``.
    """

    log_sigma_T: Tensor

    def __init__(self, model: nn.Module, alphas_cumprod: Tensor, *, prediction_type: str = "epsilon") -> None:
        super().__init__()
        if prediction_type not in ("epsilon", "v_prediction"):
            raise DiffusionError(
                "the model predicts something unknown", got=prediction_type, expected="epsilon, v_prediction"
            )
        self.output = UNetOutput(model)
        self.prediction_type = prediction_type
        self.register_buffer("log_sigma_T", _sigmas_of(alphas_cumprod).log())

    def forward(self, x_BR: Tensor, sigma_B: Tensor) -> Tensor:
        """The expected clean samples."""
        sigma = spread(sigma_B, x_BR)
        scale = (sigma**2 + 1).rsqrt()
        raw: Tensor = self.output(x_BR * scale, self._timestep(sigma_B).to(x_BR.dtype))
        is_noise = self.prediction_type == "epsilon"
        return x_BR - sigma * raw if is_noise else x_BR * scale**2 - raw * (sigma * scale)

    def _timestep(self, sigma_B: Tensor) -> Tensor:
        """The place among the training levels, log-linear in between, as diffusers has it."""
        levels_T = self.log_sigma_T.to(sigma_B.dtype)
        log_B = sigma_B.log()
        below_B = torch.searchsorted(levels_T, log_B.detach(), right=True).sub(1).clamp(0, len(levels_T) - 2)
        low_B, high_B = levels_T[below_B], levels_T[below_B + 1]
        return below_B + ((log_B - low_B) / (high_B - low_B)).clamp(0, 1)


def stock_denoiser(model: nn.Module, scheduler: Any) -> nn.Module:
    """The denoiser that ``scheduler`` makes of ``model``, to learn a schedule from.

    Raises:
        DiffusionError: a scheduler that this module does not know.
        MissingExtra: diffusers is not installed.
    """
    kind = _kind(scheduler)
    if kind == "EDMEulerScheduler":
        if scheduler.config.prediction_type != "epsilon":
            raise DiffusionError(
                "the model predicts something unknown", got=scheduler.config.prediction_type, expected="epsilon"
            )
        return EdmDenoiser(UNetOutput(model), sigma_data=scheduler.config.sigma_data)
    if kind in ("EulerDiscreteScheduler", "HeunDiscreteScheduler"):
        predicted = scheduler.config.prediction_type
        return StockDenoiser(model, scheduler.alphas_cumprod, prediction_type=predicted)
    raise DiffusionError(
        "no denoiser is known for a model of this scheduler",
        got=kind,
        expected="EulerDiscreteScheduler, HeunDiscreteScheduler, EDMEulerScheduler",
        next_step="write D(x; sigma) as a function; that is all a schedule is learned from",
    )


def sigma_range(scheduler: Any) -> tuple[float, float]:
    """The smallest and the largest noise that the scheduler's model was trained on; (0, inf) where it does not say."""
    kind = _kind(scheduler)
    if kind in ("EulerDiscreteScheduler", "HeunDiscreteScheduler"):
        levels_T = _sigmas_of(scheduler.alphas_cumprod)
        return float(levels_T[0]), float(levels_T[-1])
    if kind == "EDMEulerScheduler":
        return 0.0, float(scheduler.config.sigma_max)
    return 0.0, float("inf")


def apply_schedule(scheduler: Any, schedule: Schedule, *, device: str | torch.device | None = None) -> None:
    """Make ``scheduler`` step through ``schedule``, in place of its ``set_timesteps``.

    The loop (or pipeline) around it stays the same. Start from noise of standard deviation
    ``scheduler.init_noise_sigma``, or ``schedule.sigmas[0]`` for EDMEulerScheduler, whose own value is a little larger.

    Raises:
        DiffusionError: an unknown scheduler, or levels outside of the noise that its model knows.
        MissingExtra: diffusers is not installed.
    """
    setter = _SETTERS[_kind(scheduler)]
    low, high = sigma_range(scheduler)
    outside = [sigma for sigma in schedule.sigmas[:-1] if not low * (1 - 1e-3) <= sigma <= high * (1 + 1e-3)]
    if outside:
        raise DiffusionError(
            "the schedule has noise that the scheduler's model was not trained on",
            where=type(scheduler).__name__,
            got=f"sigma = {', '.join(f'{sigma:g}' for sigma in outside[:4])}",
            expected=f"{low:g} to {high:g}",
            next_step=f"learn the schedule with sigma_max = {high:.6g} and sigma_min = {max(low, 0.002):.6g}",
        )
    setter(scheduler, schedule, device)


def _set_euler(scheduler: Any, schedule: Schedule, device: Any) -> None:
    scheduler.set_timesteps(sigmas=list(schedule.sigmas), device=device)


def _set_heun(scheduler: Any, schedule: Schedule, device: Any) -> None:
    levels_T = _sigmas_of(scheduler.alphas_cumprod).numpy()
    places = np.interp(np.asarray(schedule.sigmas[:-1]), levels_T, np.arange(len(levels_T)))
    scheduler.set_timesteps(timesteps=places.tolist(), device=device)


def _set_edm(scheduler: Any, schedule: Schedule, device: Any) -> None:
    config = scheduler.config
    if config.sigma_schedule != "karras":
        raise DiffusionError(
            "this scheduler takes levels only on its Karras ramp", got=config.sigma_schedule, expected="karras"
        )
    top, bottom = config.sigma_max ** (1 / config.rho), config.sigma_min ** (1 / config.rho)
    levels = np.asarray(schedule.sigmas[:-1]) ** (1 / config.rho)
    scheduler.set_timesteps(sigmas=torch.from_numpy((top - levels) / (top - bottom)), device=device)
    scheduler.num_inference_steps = schedule.num_steps


def _set_flow_match(scheduler: Any, schedule: Schedule, device: Any) -> None:
    if scheduler.config.use_dynamic_shifting:
        raise DiffusionError("a scheduler that shifts by image size moves the levels", expected="a fixed shift")
    levels = np.asarray(schedule.sigmas[:-1])
    times = levels / (1 + levels)
    # The scheduler maps s to shift s / (1 + (shift - 1) s); this is the inverse.
    unshifted = times / (scheduler.shift - (scheduler.shift - 1) * times)
    scheduler.set_timesteps(sigmas=unshifted.tolist(), device=device)


_SETTERS: dict[str, Callable[[Any, Schedule, Any], None]] = {
    "EulerDiscreteScheduler": _set_euler,
    "HeunDiscreteScheduler": _set_heun,
    "EDMEulerScheduler": _set_edm,
    "FlowMatchEulerDiscreteScheduler": _set_flow_match,
}


def _kind(scheduler: Any) -> str:
    try:
        import diffusers
    except ImportError:
        raise MissingExtra("diffusers", "diffusion", "a schedule for a diffusers scheduler") from None
    for name in _SETTERS:
        if isinstance(scheduler, getattr(diffusers, name)):
            return name
    raise DiffusionError(
        "a schedule cannot be given to this scheduler",
        got=type(scheduler).__name__,
        expected=", ".join(_SETTERS),
        next_step="`EulerDiscreteScheduler.from_config(scheduler.config)` makes one from it",
    )


def _sigmas_of(alphas_cumprod: Tensor) -> Tensor:
    alphas = alphas_cumprod.double()
    return ((1 - alphas) / alphas).sqrt()
