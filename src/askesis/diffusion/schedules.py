"""A schedule is the list of noise levels at which a diffusion sampler calls its model; here are the hand-made ones.

Noise levels are standard deviations in the units of the data (the variance-exploding form of Karras et al. 2022,
arXiv 2206.00364, "EDM"), from ``sigma_max`` down to 0. A schedule of K steps has K + 1 of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from askesis.errors import AskesisError, did_you_mean

__all__ = [
    "HAND_MADE",
    "SIGMA_MAX",
    "SIGMA_MIN",
    "DiffusionError",
    "Schedule",
    "arctan_schedule",
    "check_sigmas",
    "make_schedule",
]

SIGMA_MAX = 80.0
SIGMA_MIN = 0.002
"""EDM's range."""

_FORMAT = "askesis.schedule"
_VERSION = 1
_RHO = 7.0


class DiffusionError(AskesisError, ValueError):
    """Noise levels, samples or a model that do not fit together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The K + 1 noise levels of K steps, strictly falling, the last one 0.

    Args:
        name: who made it.
        sigmas: noise levels.
        provenance: JSON-ready facts on how it was made.

    Raises:
        DiffusionError: the levels are not those of a schedule.
    """

    name: str
    sigmas: tuple[float, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_sigmas(self.sigmas, where=f"schedule {self.name}")

    @property
    def num_steps(self) -> int:
        """K."""
        return len(self.sigmas) - 1

    def resampled(self, num_steps: int) -> Schedule:
        """The same clock read ``num_steps`` times: log-linear between the levels, linear on the way to 0.

        The paper's transfer rule interpolates log-linearly in the step; how it reaches 0 is inferred.
        """
        _check_steps(num_steps, at_least=1)
        place = np.arange(num_steps + 1) * (self.num_steps / num_steps)
        last = self.num_steps - 1
        known = np.asarray(self.sigmas)
        falling = np.exp(np.interp(place, np.arange(last + 1), np.log(known[:-1])))
        landing = known[-2] * (self.num_steps - place)
        sigmas = np.where(place <= last, falling, landing)
        sigmas[0], sigmas[-1] = known[0], 0.0
        made = {**self.provenance, "resampled_from": self.num_steps}
        return Schedule(name=self.name, sigmas=tuple(map(float, sigmas)), provenance=made)

    def save(self, path: Path) -> None:
        """Write a small JSON file."""
        document = {
            "format": _FORMAT,
            "version": _VERSION,
            "name": self.name,
            "sigmas": list(self.sigmas),
            "provenance": dict(self.provenance),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Schedule:
        """Read what :meth:`save` wrote.

        Raises:
            DiffusionError: there is no such file, or it holds no schedule.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DiffusionError(
                "the schedule cannot be read",
                where=str(path),
                got=str(error),
                next_step="`askesis schedule learn --out FILE.json` makes one",
            ) from error
        if not isinstance(document, dict) or (document.get("format"), document.get("version")) != (_FORMAT, _VERSION):
            raise DiffusionError(
                "the file holds no schedule of this format",
                where=str(path),
                expected=f"a JSON object with format {_FORMAT!r}, version {_VERSION}",
            )
        sigmas = document.get("sigmas")
        if not isinstance(sigmas, list) or any(type(value) not in (int, float) for value in sigmas):
            raise DiffusionError(
                "the noise levels of the file are not numbers", where=str(path), got=sigmas, expected="a list of floats"
            )
        provenance = document.get("provenance")
        return cls(
            name=str(document.get("name")),
            sigmas=tuple(map(float, sigmas)),
            provenance=provenance if isinstance(provenance, dict) else {},
        )


def check_sigmas(sigmas: Sequence[float], *, where: str) -> None:
    """Raise DiffusionError unless ``sigmas`` are finite, fall strictly and end at 0."""
    values = np.asarray(sigmas, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise DiffusionError(
            "a schedule needs at least one step", where=where, got=f"{values.size} noise levels", expected="2 or more"
        )
    bad = np.flatnonzero(~np.isfinite(values))
    if not len(bad):
        bad = np.flatnonzero(np.diff(values) >= 0) + 1
    if not len(bad) and values[-1] != 0:
        bad = np.array([len(values) - 1])
    if len(bad):
        place = int(bad[0])
        raise DiffusionError(
            "noise levels do not run down to 0",
            where=f"{where}, level {place}",
            got=[float(value) for value in values[max(0, place - 1) : place + 2]],
            expected="finite, strictly falling, the last one 0",
        )


def make_schedule(name: str, num_steps: int, *, sigma_max: float = SIGMA_MAX, sigma_min: float = SIGMA_MIN) -> Schedule:
    """One of :data:`HAND_MADE`: K levels from ``sigma_max`` to ``sigma_min``, then 0.

    With u = i / (K - 1): ``uniform`` is linear in u, ``dpm`` is uniform in log sigma (so in log-SNR), ``edm`` is linear
    in sigma^(1/7) (Karras et al. 2022, eq. 5), ``cosine`` is ``dpm`` with u replaced by (1 - cos(pi u)) / 2.

    Raises:
        DiffusionError: no such schedule, fewer than 2 steps, or a range that is none.
    """
    if name not in _RAMPS:
        raise DiffusionError(
            f"there is no schedule called {name!r}",
            got=name,
            expected=", ".join(HAND_MADE),
            next_step=did_you_mean(name, HAND_MADE),
        )
    _check_steps(num_steps, at_least=2)
    if not 0 < sigma_min < sigma_max < math.inf:
        raise DiffusionError(
            "this is no range of noise levels",
            got=f"sigma_min = {sigma_min}, sigma_max = {sigma_max}",
            expected="0 < sigma_min < sigma_max",
        )
    ramp = np.arange(num_steps) / (num_steps - 1)
    levels = _RAMPS[name](ramp, sigma_max, sigma_min)
    levels[0] = sigma_max  # powers and logarithms come back a rounding away
    return Schedule(
        name=name,
        sigmas=(*map(float, levels), 0.0),
        provenance={"made_by": name, "sigma_max": sigma_max, "sigma_min": sigma_min},
    )


def arctan_schedule(num_steps: int, *, data_std: float, sigma_max: float = SIGMA_MAX) -> Schedule:
    """The best Euler grid for data that are one Gaussian of standard deviation s: equal steps of arctan(sigma / s).

    One Euler step from a to b scales a sample by cos(arctan(a/s) - arctan(b/s)) relative to the exact flow, so the
    global error is s (1 - product of cosines), and equal angles minimise it (derived here, not in the paper).
    """
    _check_steps(num_steps, at_least=1)
    angle = math.atan(sigma_max / data_std)
    inner = [data_std * math.tan(angle * (1 - k / num_steps)) for k in range(1, num_steps)]
    return Schedule(
        name="arctan",
        sigmas=(sigma_max, *inner, 0.0),
        provenance={"made_by": "arctan", "data_std": data_std, "sigma_max": sigma_max},
    )


def _check_steps(num_steps: int, *, at_least: int) -> None:
    if num_steps < at_least:
        raise DiffusionError("these are too few steps", got=num_steps, expected=f"at least {at_least}")


_Ramp = Callable[[np.ndarray, float, float], np.ndarray]


def _log_linear(ramp: np.ndarray, top: float, bottom: float) -> np.ndarray:
    return np.asarray(top * (bottom / top) ** ramp)


def _power(ramp: np.ndarray, top: float, bottom: float) -> np.ndarray:
    return np.asarray((top ** (1 / _RHO) + ramp * (bottom ** (1 / _RHO) - top ** (1 / _RHO))) ** _RHO)


_RAMPS: Mapping[str, _Ramp] = {
    "uniform": lambda ramp, top, bottom: top + ramp * (bottom - top),
    "dpm": _log_linear,
    "edm": _power,
    "cosine": lambda ramp, top, bottom: _log_linear((1 - np.cos(np.pi * ramp)) / 2, top, bottom),
}

HAND_MADE = tuple(_RAMPS)
"""Names for :func:`make_schedule`."""
