"""Schedules in the real diffusers package: its schedulers, its UNet, and a model that was trained here."""

from __future__ import annotations

import builtins
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from askesis.diffusion.fields import EdmDenoiser, flow
from askesis.diffusion.learning import LearnerSection, learn_schedule
from askesis.diffusion.mixtures import circle_mixture
from askesis.diffusion.oracle import measure_difficulty, oracle_schedule
from askesis.diffusion.sampling import Solver, reference, root_mean_square_error, sample
from askesis.diffusion.schedules import DiffusionError, Schedule, make_schedule
from askesis.diffusion.stock import StockDenoiser, apply_schedule, sigma_range, stock_denoiser
from askesis.errors import MissingExtra
from askesis.streams import generator
from diffusion.models import quick_digits

# Schedulers of diffusers turn tensors into arrays in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TRAINED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "timestep_spacing": "linspace"}


@pytest.fixture(scope="module")
def unet() -> diffusers.UNet2DModel:
    model = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    rng = generator(0, "test", "unet")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.from_numpy(rng.standard_normal(tuple(parameter.shape))))
    return model.eval().requires_grad_(False)


def stock_loop(scheduler: Any, model: nn.Module, x: Tensor) -> Tensor:
    """The loop of every diffusers pipeline, untouched."""
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            seen = scheduler.scale_model_input(x, timestep)
            level = timestep.to(x.dtype).expand(len(x))
            answer = model(seen, level, return_dict=False)[0]
            x = scheduler.step(answer, timestep, x, return_dict=False)[0]
    return x


class Pixels(nn.Module):
    """A network of vectors with the call of a diffusers model."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, level: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        return (self.network(x, level),)


def start(num: int, sigma: float, *shape: int) -> Tensor:
    return sigma * torch.from_numpy(generator(0, "test", "stock").standard_normal((num, *shape))).float()


def within(scheduler: Any, num_steps: int) -> Schedule:
    low, high = sigma_range(scheduler)
    return make_schedule("cosine", num_steps, sigma_max=0.999 * high, sigma_min=1.2 * low)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_euler_discrete_with_a_unet_steps_through_the_schedule(unet: diffusers.UNet2DModel, prediction: str) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(**TRAINED, prediction_type=prediction)
    schedule = within(scheduler, 6)
    x = start(3, schedule.sigmas[0], 1, 8, 8)
    ours = sample(stock_denoiser(unet, scheduler), x, schedule.sigmas)  # type: ignore[arg-type]
    apply_schedule(scheduler, schedule)
    assert scheduler.sigmas.tolist() == pytest.approx(schedule.sigmas)
    assert torch.allclose(stock_loop(scheduler, unet, x), ours, rtol=1e-3, atol=1e-3 * float(ours.abs().max()))


def test_heun_discrete_with_a_unet_steps_through_the_schedule(unet: diffusers.UNet2DModel) -> None:
    scheduler = diffusers.HeunDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    schedule = within(scheduler, 5)
    x = start(3, schedule.sigmas[0], 1, 8, 8)
    apply_schedule(scheduler, schedule)
    assert len(scheduler.timesteps) == Solver.HEUN.evaluations(5)
    assert scheduler.sigmas[[0, 1, 3, 5, 7]].tolist() == pytest.approx(schedule.sigmas[:-1], rel=1e-4)
    # Between two training levels this scheduler is linear in sigma, others in its logarithm: compare on its own levels.
    calls: list[float] = []

    def recorded(seen: Tensor, level: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        calls.append(float(level[0]))
        return (0 * seen,)

    stock_loop(scheduler, recorded, x)  # type: ignore[arg-type]
    assert len(calls) == 9


def test_a_schedule_is_learned_through_a_unet_and_given_back_to_its_scheduler(unet: diffusers.UNet2DModel) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(**TRAINED)
    low, high = sigma_range(scheduler)
    settings = LearnerSection(num_steps=3, iterations=2, batch=2, sigma_max=high, sigma_min=low)
    learned = learn_schedule(stock_denoiser(unet.double(), scheduler), settings, shape=(1, 8, 8))  # type: ignore[arg-type]
    unet.float()
    apply_schedule(scheduler, learned.schedule.resampled(3))
    assert scheduler.sigmas[0].item() == pytest.approx(high) and len(scheduler.timesteps) == 3


def test_the_derivative_through_a_unet_with_attention_is_right(unet: diffusers.UNet2DModel) -> None:
    denoiser = stock_denoiser(unet.double(), diffusers.EulerDiscreteScheduler(**TRAINED))
    x, sigma, step = start(2, 1.0, 1, 8, 8).double(), torch.full((2,), 1.3, dtype=torch.float64), 1e-4
    found = flow(denoiser, x, sigma)  # type: ignore[arg-type]
    after = flow(denoiser, x + step * found.velocity, sigma - step).velocity  # type: ignore[arg-type]
    before = flow(denoiser, x - step * found.velocity, sigma + step).velocity  # type: ignore[arg-type]
    unet.float()
    # The model embeds its timestep in float32, which this quotient of differences magnifies.
    gap = found.curvature - (after - before) / (2 * step)
    assert float(gap.abs().max()) < 2e-3 * float(found.curvature.abs().max())


@pytest.mark.parametrize("name", ["edm", "cosine"])
def test_edm_euler_with_a_trained_model(name: str) -> None:
    denoiser = quick_digits()
    scheduler = diffusers.EDMEulerScheduler(sigma_data=denoiser.sigma_data)
    schedule = make_schedule(name, 9)
    x = start(16, 80.0, 64)
    apply_schedule(scheduler, schedule)
    assert scheduler.sigmas.tolist() == pytest.approx(schedule.sigmas, rel=1e-5)
    network = denoiser.network.float()
    ours = sample(EdmDenoiser(network, sigma_data=denoiser.sigma_data), x, schedule.sigmas)
    theirs = stock_loop(scheduler, Pixels(network), x)
    network.double()
    assert torch.allclose(theirs, ours, rtol=1e-3, atol=1e-3)


def test_a_fitted_schedule_makes_the_stock_scheduler_better() -> None:
    denoiser = quick_digits()
    noise = start(128, 80.0, 64).double()
    found = measure_difficulty(denoiser, noise[:64], sigma_max=80.0, sigma_min=0.002, num_levels=60)
    exact = reference(denoiser, noise[64:], sigma_max=80.0, sigma_min=0.002, num_steps=100)
    scheduler = diffusers.EDMEulerScheduler(sigma_data=denoiser.sigma_data)
    network = Pixels(denoiser.network)
    errors = {}
    for name in ("its own", "fitted"):
        scheduler.set_timesteps(5)
        if name == "fitted":
            apply_schedule(scheduler, oracle_schedule(found, 5))
        errors[name] = root_mean_square_error(stock_loop(scheduler, network, noise[64:]), exact)
    assert errors["fitted"] < 0.8 * errors["its own"]


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_takes_the_same_path(shift: float) -> None:
    """In the variables x / (1 + sigma) and sigma / (1 + sigma) an Euler step is the same step."""
    mixture = circle_mixture()
    schedule = make_schedule("edm", 8)
    x = start(32, 80.0, 2).double()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    apply_schedule(scheduler, schedule)
    y = x / 81
    for place, timestep in enumerate(scheduler.timesteps):
        time = float(scheduler.sigmas[place])
        sigma = time / (1 - time)
        clean = mixture(y * (1 + sigma), torch.full((32,), sigma, dtype=torch.float64))
        y = scheduler.step((y - clean) / time, timestep, y, return_dict=False)[0]
    assert torch.allclose(y.double(), sample(mixture, x, schedule.sigmas), atol=2e-3)


def test_levels_that_the_model_does_not_know_are_refused() -> None:
    with pytest.raises(DiffusionError, match=r"sigma_max = 14.6"):
        apply_schedule(diffusers.EulerDiscreteScheduler(**TRAINED), make_schedule("edm", 5))


def test_other_schedulers_are_refused_with_a_way_out() -> None:
    with pytest.raises(DiffusionError, match=r"EulerDiscreteScheduler\.from_config"):
        apply_schedule(diffusers.DDIMScheduler(), make_schedule("edm", 5))
    with pytest.raises(DiffusionError, match="no denoiser is known"):
        stock_denoiser(nn.Identity(), diffusers.FlowMatchEulerDiscreteScheduler())
    with pytest.raises(DiffusionError, match="Karras ramp"):
        apply_schedule(diffusers.EDMEulerScheduler(sigma_schedule="exponential"), make_schedule("edm", 5))
    with pytest.raises(DiffusionError, match="by image size"):
        apply_schedule(diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), make_schedule("edm", 5))
    with pytest.raises(DiffusionError, match="something unknown"):
        StockDenoiser(nn.Identity(), torch.tensor([0.9, 0.5]), prediction_type="sample")
    with pytest.raises(DiffusionError, match="something unknown"):
        stock_denoiser(nn.Identity(), diffusers.EDMEulerScheduler(prediction_type="v_prediction"))


def test_without_diffusers_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name == "diffusers":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra, match=r"askesis\[diffusion\]"):
        apply_schedule(object(), make_schedule("edm", 5))
