"""live.json says what a run does now."""

from __future__ import annotations

from pathlib import Path

from askesis.training.observe.live import LiveFile, Told, read_live
from askesis.training.progress import Phase, StepEvent


def test_the_file_follows_the_events(tmp_path: Path) -> None:
    times = iter(range(100, 200))
    live = LiveFile(tmp_path / "live.json", now=lambda: next(times))
    told = Told([live])
    told.stage("evaluating (before)")
    told.tick("4 sessions of evaluation step 0")
    facts = read_live(tmp_path / "live.json")
    assert facts["stage"] == "evaluating (before)" and facts["awaited"] == "4 sessions of evaluation step 0"
    assert facts["time"] > facts["stage_since"] >= 100
    told.step(StepEvent(step=3, steps=9))
    told.step(StepEvent(step=0, steps=9, phase=Phase.EVALUATE))
    facts = read_live(tmp_path / "live.json")
    assert (facts["stage"], facts["step"], facts["steps"], facts["awaited"]) == ("training", 3, 9, None)
    assert [p.name for p in tmp_path.iterdir()] == ["live.json"]


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    LiveFile(tmp_path / "gone" / "live.json").stage("training")
    assert read_live(tmp_path / "gone" / "live.json") == {}


def test_half_a_file_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "live.json").write_text('{"step": ')
    assert read_live(tmp_path / "live.json") == {}
    (tmp_path / "live.json").write_text("[1]")
    assert read_live(tmp_path / "live.json") == {}
