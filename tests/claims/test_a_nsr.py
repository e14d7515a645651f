"""The arms that a claim about A-NSR needs."""

from __future__ import annotations

from askesis.algorithms import build
from askesis.claims import Role
from askesis.claims.a_nsr import STUDY


def test_the_decisive_control_has_the_scale_of_the_method_and_a_constant_ratio() -> None:
    control = next(arm for arm in STUDY.arms if arm.name == "w_reinforce_decay")
    assert control.role is Role.CONTROL and "w_reinforce_decay" in {part.against for part in STUDY.parts}
    ours, scale = (build(name, {}).describe()["params"] for name in ("a_nsr", "w_reinforce_decay"))
    same = ("negative_schedule", "negative_max", "negative_min", "negative_decay")
    assert [ours[key] for key in same] == [scale[key] for key in same] and scale["acting"] == "scale"


def test_baselines_and_metrics() -> None:
    assert {arm.name for arm in STUDY.arms if arm.role is Role.BASELINE} == {"nsr", "psr", "w_reinforce", "grpo"}
    assert [metric.name for metric in STUDY.metrics] == ["pass@1", "pass@4", "pass@16", "pass@64"]
