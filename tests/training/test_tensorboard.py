"""The TensorBoard writer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from askesis.errors import MissingExtra
from askesis.training.tensorboard import open_writer


def test_points_are_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    writer = open_writer(tmp_path)
    writer.add_scalar("reward_mean", 0.5, 3)
    writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (point,) = events.Scalars("reward_mean")
    assert (point.step, point.value) == (3, 0.5)


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra) as caught:
        open_writer(tmp_path)
    assert "askesis[tensorboard]" in str(caught.value)
