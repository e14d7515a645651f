"""A run's name stands for its final model."""

from __future__ import annotations

from pathlib import Path

import pytest

from askesis.cli.policies import policy_name
from askesis.errors import PolicyError


def test_runs_folders_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    with pytest.raises(PolicyError, match="no final model"):
        policy_name("one")
    (run / "model").mkdir()
    assert policy_name("one") == "runs/one/model" and policy_name(str(run)) == str(run / "model")
    assert policy_name("nano") == "nano"
