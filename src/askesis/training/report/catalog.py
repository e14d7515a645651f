"""The metrics that reports and progress displays know by name: title, unit and order."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["METRICS", "Metric", "format_brief", "format_number", "format_seconds", "metric", "ordered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """How a series is shown. ``share`` values lie between 0 and 1 and are shown in per cent."""

    name: str
    title: str
    short: str
    unit: str = ""
    share: bool = False
    note: str = ""
    """What a reader should know to judge the curve."""
    live: bool = True
    """Shown while the run goes on, too."""

    @property
    def known(self) -> bool:
        """The catalogue lists this metric."""
        return self.name in _KNOWN

    def show(self, value: float, *, unit: bool = True) -> str:
        """The value for a reader; a share is always in per cent."""
        if self.share:
            return f"{100 * value:.1f} %" if math.isfinite(value) else format_number(value)
        return f"{format_number(value)} {self.unit if unit else ''}".rstrip()


METRICS: tuple[Metric, ...] = (
    Metric(name="reward_mean", title="Reward", short="reward", note="mean over the batch, shaping included"),
    Metric(name="accuracy", title="Accuracy, training batch", short="accuracy", share=True, note="tasks solved"),
    Metric(name="held_out_accuracy", title="Accuracy, held out", short="held-out", share=True, note="tasks solved"),
    Metric(name="loss", title="Loss", short="loss"),
    Metric(name="response_tokens", title="Response length", short="length", unit="tokens", note="mean per session"),
    Metric(name="entropy", title="Entropy", short="entropy", unit="nats", note="near 0: the policy stopped exploring"),
    Metric(
        name="drift",
        title="Drift",
        short="drift",
        unit="nats",
        note="mean |learner − behaviour log-probability|, same weights: should be near 0",
    ),
    Metric(name="grad_norm", title="Gradient norm", short="grad norm", note="before clipping"),
    Metric(name="kl", title="KL", short="KL", unit="nats", note="per token"),
    Metric(name="clipped_share", title="Clipped tokens", short="clipped", share=True),
    Metric(
        name="ess_sequence",
        title="Effective sample size",
        short="ESS",
        share=True,
        note="share of the trajectories that the importance weights leave; falls as samples grow stale",
        live=False,
    ),
    Metric(
        name="kl_behaviour_new_k3",
        title="KL, behaviour to learner",
        short="staleness KL",
        unit="nats",
        note="per token: how far the learner has moved from the weights that sampled",
        live=False,
    ),
    Metric(
        name="explained_variance",
        title="Explained variance",
        short="explained",
        note="of the returns by the critic: 1 is perfect, 0 a constant",
        live=False,
    ),
    Metric(
        name="state_gain",
        title="Gain of a turn",
        short="gain",
        note="how much better the task can be answered after it",
        live=False,
    ),
    Metric(
        name="gain_auc",
        title="Gains find the right turns",
        short="gain AUC",
        note="chance that a turn that found a needed fact has the higher gain; 0.5 is blind",
        live=False,
    ),
    Metric(
        name="population_spread",
        title="Spread of the population",
        short="spread",
        note="standard deviation of the members' scores; near 0 the members do not differ",
    ),
    Metric(name="population_best", title="Best member", short="best", note="its mean reward", live=False),
    Metric(name="update_norm", title="Norm of the update", short="update", live=False),
    Metric(
        name="displacement_norm",
        title="Norm of the displacement",
        short="displacement",
        note="how far the sharpness-aware step goes",
        live=False,
    ),
    Metric(
        name="staleness_mean",
        title="Staleness",
        short="staleness",
        unit="versions",
        note="mean over the groups of a step: updates since the oldest weights that sampled a token of it",
    ),
    Metric(name="staleness_p50", title="Staleness, median", short="median staleness", unit="versions", live=False),
    Metric(name="staleness_p90", title="Staleness, 90 %", short="90 % staleness", unit="versions", live=False),
    Metric(name="staleness_max", title="Staleness, largest", short="oldest", unit="versions", live=False),
    Metric(
        name="stale_share",
        title="Groups too old",
        short="too old",
        share=True,
        note="of those consumed: not trained on",
        live=False,
    ),
    Metric(
        name="corrected_share",
        title="Groups corrected",
        short="corrected",
        share=True,
        note="of those trained on: older than the bound",
        live=False,
    ),
    Metric(name="groups_waiting", title="Groups waiting", short="waiting", note="complete, for the next step"),
    Metric(name="groups_in_play", title="Groups in play", short="in play", live=False),
    Metric(name="learner_waited_seconds", title="Learner waited", short="learner waited", unit="s"),
    Metric(
        name="sampler_held_seconds",
        title="Sampler held back",
        short="sampler held",
        unit="s",
        note="no session in play, because none may be begun before the learner has gone on",
    ),
    Metric(name="tokens_per_second", title="Throughput", short="speed", unit="tokens/s"),
    Metric(name="step_seconds", title="Step time", short="step time", unit="s"),
    Metric(name="failures", title="Failed sessions", short="failures", note="per step"),
    Metric(
        name="failed_share",
        title="Share of failed sessions",
        short="failed",
        note="above rollout.max_failed the run stops",
        live=False,
    ),
    Metric(
        name="engine_gap",
        title="Probe of the engine's weights",
        short="probe",
        unit="nats",
        note="largest mean |learner − server log-probability| over fixed sequences, after the last update",
        live=False,
    ),
    Metric(name="engine_update_seconds", title="Time of a weight update", short="update time", unit="s", live=False),
    Metric(name="engine_sessions_moved", title="Sessions moved", short="moved", note="so far", live=False),
    Metric(name="engine_repeated", title="Answers drawn again", short="repeated", note="so far", live=False),
    Metric(name="lost_ranks", title="Ranks of the learner lost", short="lost", note="so far", live=False),
    Metric(name="engine_restarts", title="Engine restarts", short="restarts", note="so far", live=False),
    Metric(name="workers_lost", title="Workers lost", short="workers lost", note="so far", live=False),
    Metric(name="groups_repeated", title="Groups played again", short="repeated groups", note="so far", live=False),
    Metric(
        name="environment_workers_lost", title="Environment workers lost", short="hosts lost", note="so far", live=False
    ),
)

_KNOWN = {m.name: m for m in METRICS}
_ORDER = {m.name: place for place, m in enumerate(METRICS)}


def metric(name: str) -> Metric:
    """The metric called ``name``; an unknown one is shown under its own name."""
    return _KNOWN.get(name) or Metric(name=name, title=name, short=name)


def ordered(names: Iterable[str]) -> list[str]:
    """Known names first, in the catalogue's order; then the others by name."""
    return sorted(names, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))


def format_number(value: float) -> str:
    """Three significant digits, thousands separated; whole numbers stay whole."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.3g}"


def format_brief(seconds: float) -> str:
    """A duration that may be short: ``0.3 ms``, ``42 ms``, ``1.25 s``, then as :func:`format_seconds`."""
    if seconds >= 9.95:
        return format_seconds(seconds)
    if seconds >= 0.9995:
        return f"{seconds:.2f} s"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.1f} ms"


def format_seconds(seconds: float) -> str:
    """A duration for a reader: ``0.4 s``, ``42 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
