"""``askesis plan``: what fits, what does not and the field to change, without a model being loaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from askesis.cli import main

QUICKSTART = str(Path(__file__).parents[3] / "recipes" / "quickstart.toml")


def plan(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["askesis", "plan", QUICKSTART, *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code, *capsys.readouterr()


def test_what_fits_and_what_does_not(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = plan(capsys, monkeypatch, "--memory", "64")
    assert code == 0 and "It fits" in out and "activations" in out
    code, out, _ = plan(capsys, monkeypatch, "--memory", "1")
    assert code == 1 and "It fits" not in out and "engine." in out


def test_the_last_line_is_one_object(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = plan(capsys, monkeypatch, "--memory", "64", "--json")
    assert code == 0 and isinstance(json.loads(out.splitlines()[-1]), dict)


def test_a_misspelt_key_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = plan(capsys, monkeypatch, "training.stps=3")
    assert code == 2 and "training.steps" in err


VLLM = ["engine.kind=vllm", "--gpu-memory", "8"]


def test_servers_beside_the_learner(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = plan(capsys, monkeypatch, *VLLM)
    assert code == 1 and "the learner and replica 0 together" in out and "Change engine.vllm.arguments" in out
    advice = out.splitlines()[-1].removeprefix("What would help: ").split("'")
    code, out, _ = plan(capsys, monkeypatch, *VLLM, advice[0] + advice[1])
    assert code == 0 and "It fits, learner and servers together" in out and "contexts at once" in out
    code, out, _ = plan(capsys, monkeypatch, *VLLM, 'engine.vllm.devices=["1"]', "--json")
    record = json.loads(out.splitlines()[-1])
    assert code == 0 and record["fits"] is True and set(record["servers"]["taken"]) == {"0", "1"}
    code, out, _ = plan(capsys, monkeypatch, "engine.kind=vllm", "--gpus", "1")
    assert code == 0 and "say it with --gpu-memory" in out
