"""How a stage announces itself: its function, its parameters with ranges, and what it needs.

A third-party package offers a stage by an entry point in the group ``askesis.shapings``, ``askesis.estimators``,
``askesis.modulators``, ``askesis.credits`` or ``askesis.objectives``. The object that it points to is a
:class:`ShapingStage`, :class:`EstimatorStage`, ... of the same name.

All functions are pure. They see finite numbers wherever a mask is True, and everything that the stage needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

from askesis.algorithms.types import CreditReport, LossTerms
from askesis.errors import RecipeError

__all__ = [
    "Coupling",
    "CreditStage",
    "EstimatorStage",
    "ModulatorStage",
    "ObjectiveStage",
    "Param",
    "ShapingStage",
    "Stage",
    "Value",
]

Value = float | int | bool | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """A parameter of a stage, as a recipe may set it."""

    name: str
    kind: type[float] | type[int] | type[bool] | type[StrEnum]
    default: Value
    why: str
    """One line: what it does."""
    minimum: float | None = None
    above: float | None = None
    """Like ``minimum``, but the bound itself is refused."""
    maximum: float | None = None
    is_optional: bool = False
    """None is accepted, and switches the feature off."""

    def check(self, value: object, where: str) -> Value:
        """``value`` as a value of this parameter's type; RecipeError when it is none, or out of range."""
        if value is None and self.is_optional:
            return None
        typed = self._typed(value)
        if typed is None or not self._is_in_range(typed):
            raise RecipeError(
                f"{self.name} has a value that cannot be used",
                where=where,
                got=value if value is not None else "None",
                expected=self.expected,
                next_step=f"{self.name}: {self.why}; its default is {_plain(self.default)!r}",
            )
        return typed

    @property
    def expected(self) -> str:
        """The accepted values, in words."""
        if issubclass(self.kind, StrEnum):
            return "one of " + ", ".join(repr(member.value) for member in self.kind)
        words = {float: "a finite number", int: "a whole number", bool: "true or false"}[self.kind]
        if self.minimum is not None:
            words += f" of at least {self.minimum:g}"
        if self.above is not None:
            words += f" above {self.above:g}"
        if self.maximum is not None:
            words += f" and at most {self.maximum:g}"
        return words

    def _typed(self, value: object) -> Value:
        if issubclass(self.kind, StrEnum):
            known = {member.value: member for member in self.kind}
            return known.get(value) if isinstance(value, str) else None
        if isinstance(value, bool) or self.kind is bool:
            return value if isinstance(value, bool) and self.kind is bool else None
        if self.kind is float and isinstance(value, (int, float)):
            return float(value) if math.isfinite(value) else None
        return value if isinstance(value, int) else None

    def _is_in_range(self, value: Value) -> bool:
        if isinstance(value, (str, bool)) or value is None:
            return True
        is_above = (self.minimum is None or value >= self.minimum) and (self.above is None or value > self.above)
        return is_above and (self.maximum is None or value <= self.maximum)


def _plain(value: Value) -> Value:
    return value.value if isinstance(value, StrEnum) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapingStage:
    """Changes rewards before the estimator sees them.

    ``function(batch: RewardBatch, **params) -> reward_B``.
    """

    name: str
    function: Callable[..., Tensor]
    summary: str
    params: tuple[Param, ...] = ()
    needs: frozenset[str] = frozenset()
    """Optional fields of :class:`~askesis.algorithms.types.RewardBatch`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatorStage:
    """Turns rewards into advantages.

    ``function(batch: RewardBatch, **params) -> advantage_B``. An estimator whose advantages differ between the turns
    of a trajectory also has ``spread(advantage_B, batch: RewardBatch, tokens: TokenBatch, **params) -> advantage_BT``;
    without it, every token gets the advantage of its trajectory. One with a critic also has ``returns`` of the same
    signature: what the critic is to predict at each token.
    """

    name: str
    function: Callable[..., Tensor]
    summary: str
    params: tuple[Param, ...] = ()
    spread: Callable[..., Tensor] | None = None
    returns: Callable[..., Tensor] | None = None
    needs: frozenset[str] = frozenset()
    """Optional fields of :class:`~askesis.algorithms.types.RewardBatch`."""
    credit_needs: frozenset[str] = frozenset()
    """Optional fields of :class:`~askesis.algorithms.types.TokenBatch` that ``spread`` and ``returns`` read."""
    is_relative: bool = False
    """It compares the answers to one prompt with each other, so a group of one teaches nothing or the wrong thing."""
    judges_success: bool = False
    """It reads a reward as right or wrong, so nothing may be added to rewards before it."""
    penalises: bool = True
    """It can give negative advantages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModulatorStage:
    """Scales the advantages of whole turns.

    ``function(advantage_BT, batch: RewardBatch, tokens: TokenBatch, **params) -> CreditReport``.
    """

    name: str
    function: Callable[..., CreditReport]
    summary: str
    params: tuple[Param, ...] = ()
    needs: frozenset[str] = frozenset()
    """Optional fields of :class:`~askesis.algorithms.types.TokenBatch`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditStage:
    """Says how much each token deserves of its advantage; the signature is that of a :class:`ModulatorStage`."""

    name: str
    function: Callable[..., CreditReport]
    summary: str
    params: tuple[Param, ...] = ()
    needs: frozenset[str] = frozenset()
    """Optional fields of :class:`~askesis.algorithms.types.TokenBatch`."""
    replaces_kl: bool = False
    """It uses the distance from the reference as a guide, so it refuses a KL penalty that fights that distance."""
    only_penalties: bool = False
    """It changes negative advantages only, so it refuses an estimator that gives none."""


class Coupling(StrEnum):
    """What the loss of a token depends on."""

    TOKEN = "token"
    """The token itself: a micro-batch may hold any rows."""
    SEQUENCE = "sequence"
    """All tokens of its trajectory: a micro-batch must hold all rows of each trajectory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveStage:
    """Turns log-probabilities and advantages into a loss per token.

    ``function(logp_new_BT, logp_behaviour_BT, advantage_BT, mask_BT, **needs, **params) -> LossTerms``: no model, no
    distributed call, no division by a batch size; no waiting for the device, but to find which rows form a sequence.
    """

    name: str
    function: Callable[..., LossTerms]
    summary: str
    params: tuple[Param, ...] = ()
    needs: frozenset[str] = frozenset()
    """Optional fields of :class:`~askesis.algorithms.types.LossInputs` that are passed on by name."""
    couples: Coupling = Coupling.TOKEN
    corrects: bool | None = None
    """It allows for samples of older weights itself, by new / behaviour. False: its gradient is that of REINFORCE, so
    weights may be put before it. None: nothing is known, and nothing is put before it.
    """


Stage = ShapingStage | EstimatorStage | ModulatorStage | CreditStage | ObjectiveStage
