"""Both displays, on a virtual clock."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from askesis.clock import VirtualClock
from askesis.training.progress import LiveProgress, Phase, PlainProgress, Progress, StepEvent, open_progress

VALUES = {"reward_mean": 0.25, "accuracy": 0.4, "tokens_per_second": 8123.0, "unheard_of": 1.0}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run_steps(progress: Progress, clock: VirtualClock, steps: int, seconds: float, planned: int) -> None:
    for step in range(1, steps + 1):
        clock.advance(seconds)
        progress.step(StepEvent(step=step, steps=planned, values=VALUES))


def plain(every_s: float = 10.0) -> tuple[PlainProgress, VirtualClock, io.StringIO]:
    clock, out = VirtualClock(), io.StringIO()
    return PlainProgress(out, clock=clock, every_s=every_s), clock, out


def live(width: int = 100) -> tuple[LiveProgress, VirtualClock, io.StringIO]:
    clock, out = VirtualClock(), io.StringIO()
    return LiveProgress(Console(file=out, force_terminal=True, width=width), clock=clock), clock, out


def test_plain_writes_every_ten_seconds_and_at_the_end() -> None:
    progress, clock, out = plain()
    run_steps(progress, clock, 25, 1.0, planned=25)
    lines = out.getvalue().splitlines()
    assert [line.split(" | ")[0] for line in lines] == ["step 1/25", "step 11/25", "step 21/25", "step 25/25"]
    assert lines[1] == "step 11/25 | reward 0.25 | accuracy 40.0 % | speed 8,123 tokens/s | 14 s left"
    assert "left" not in lines[-1]


def test_plain_has_stages_evaluations_and_no_control_codes() -> None:
    progress, clock, out = plain()
    with progress:
        progress.stage("loading \x1b[31mnano\r\n")
        clock.advance(3)
        progress.step(StepEvent(step=50, steps=200, values={"accuracy": 0.62}, phase=Phase.EVALUATE))
    assert out.getvalue() == "loading ?[31mnano??\nevaluation at step 50: accuracy 62.0 %\n"


def test_stall_is_told_at_twice_the_usual_step_and_then_ever_more_rarely() -> None:
    progress, clock, out = plain()
    run_steps(progress, clock, 5, 10.0, planned=100)
    out.truncate(0), out.seek(0)
    told = []
    for second in range(1, 101):
        clock.advance(1)
        progress.tick("the rollouts of step 6")
        told += [second] if out.getvalue() else []
        out.truncate(0), out.seek(0)
    assert told == [20, 40, 80]
    clock.advance(1)
    progress.step(StepEvent(step=6, steps=100))
    out.truncate(0), out.seek(0)
    clock.advance(20)
    progress.tick("the learner")
    assert out.getvalue() == "waiting for the learner: 20 s so far, a step usually takes 10 s\n"


def test_stall_before_the_first_step_is_told_too() -> None:
    progress, clock, out = plain()
    progress.stage("starting")
    clock.advance(29)
    progress.tick("the engine")
    assert out.getvalue() == "starting\n"
    clock.advance(1)
    progress.tick("the engine")
    assert out.getvalue().endswith("waiting for the engine: 30 s so far, no step has ended yet\n")


def test_an_evaluation_does_not_count_as_a_slow_step() -> None:
    progress, clock, out = plain(every_s=0.0)
    run_steps(progress, clock, 3, 1.0, planned=10)
    clock.advance(60)
    progress.step(StepEvent(step=3, steps=10, phase=Phase.EVALUATE))
    clock.advance(1)
    progress.step(StepEvent(step=4, steps=10))
    assert out.getvalue().splitlines()[-1].endswith("6.0 s left")


def test_live_shows_bar_numbers_time_left_and_the_last_evaluation() -> None:
    progress, clock, out = live()
    with progress:
        progress.stage("loading the policy")
        run_steps(progress, clock, 4, 5.0, planned=10)
        progress.step(StepEvent(step=4, steps=10, values={"accuracy": 0.62}, phase=Phase.EVALUATE))
        clock.advance(11)
        progress.tick("the rollouts of step 5")
    screen = Console(file=io.StringIO()).render_str(out.getvalue()).plain
    for shown in ("loading the policy", "4/10", "━", "30 s left", "8,123 tokens/s", "held out, step 4:", "62.0 %"):
        assert shown in screen
    assert "waiting for the rollouts of step 5: 11 s so far, a step usually takes 5.0 s" in screen
    assert "unheard_of" not in screen


def test_live_drops_the_stall_note_when_the_step_ends() -> None:
    progress, clock, out = live()
    with progress:
        run_steps(progress, clock, 2, 5.0, planned=3)
        clock.advance(30)
        progress.tick("the learner")
        before = len(out.getvalue())
        progress.step(StepEvent(step=3, steps=3, values=VALUES))
    assert "waiting for" in out.getvalue()[:before]
    assert "waiting for" not in out.getvalue()[before:]


def test_live_text_is_not_markup_and_names_are_shown_as_they_are() -> None:
    progress, _, out = live()
    with progress:
        progress.stage("[bold]weird[/nothing]")
    assert "[bold]weird[/nothing]" in out.getvalue()


def test_live_leaves_the_terminal_in_order_after_an_error() -> None:
    progress, _, out = live()
    with pytest.raises(RuntimeError, match="stop"), progress:
        raise RuntimeError("stop")
    assert out.getvalue().rstrip("\n").endswith("\x1b[?25h")  # the cursor is back


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    progress, clock, out = live()
    with progress:
        run_steps(progress, clock, 2, 5.0, planned=3)
    assert "\x1b[9" not in out.getvalue() and "\x1b[3" not in out.getvalue()


def test_the_display_suits_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(open_progress(stdout=Terminal()), LiveProgress)
    assert isinstance(open_progress(stdout=io.StringIO()), PlainProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_progress(stdout=Terminal()), PlainProgress)


def test_json_output_keeps_standard_output_clean() -> None:
    out, err = Terminal(), io.StringIO()
    with open_progress(json_output=True, clock=VirtualClock(), stdout=out, stderr=err) as progress:
        progress.stage("loading")
        progress.step(StepEvent(step=1, steps=1, values=VALUES))
    assert out.getvalue() == ""
    assert err.getvalue() == "loading\nstep 1/1 | reward 0.25 | accuracy 40.0 % | speed 8,123 tokens/s\n"
