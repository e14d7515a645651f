"""The sweep and the steadiness of gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from askesis.algorithms import build
from askesis.claims.dgpo import STUDY, unsteadiness


def test_unsteadiness_is_relative(make_run: Any) -> None:
    run = make_run("dgpo", 0, [0])
    assert unsteadiness(replace(run, series={"grad_norm": [(1, 1.0), (2, None), (3, 3.0)]})) == [0.5]
    assert unsteadiness(replace(run, series={"grad_norm": [(1, 10.0), (2, 30.0)]})) == [0.5]
    assert unsteadiness(replace(run, series={"grad_norm": [(1, 0.0), (2, 0.0)]})) == [0.0]


def test_the_sweep_has_the_temperatures_of_the_specification_and_grpo_with_and_without_kl() -> None:
    arms = {arm.name: dict(arm.overrides) for arm in STUDY.arms}
    taus = {a["algorithm.options.dgpo_tau"] for a in arms.values() if a["algorithm.name"] == "dgpo_hellinger"}
    kls = {a["algorithm.options.kl_beta"] for a in arms.values() if a["algorithm.name"] == "grpo"}
    assert taus == {0.5, 0.1, 0.05} and kls == {0.0, 0.04}
    assert build("dgpo_hellinger", {}).describe()["params"]["dgpo_tau"] == 0.5
