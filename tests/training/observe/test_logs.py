"""A log that programs read: every line is one JSON object."""

from __future__ import annotations

import io
import json
import logging
import math
import warnings
from datetime import UTC, datetime

import pytest

from askesis.clock import VirtualClock
from askesis.errors import RecipeError
from askesis.training.observe.logs import JsonLog
from askesis.training.progress import FIRST_STEP_S, Phase, StepEvent

NOON = datetime(2026, 11, 21, 12, 0, 0, 500_000, UTC)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in stream.getvalue().splitlines()]


def test_every_event_is_a_line() -> None:
    out, clock = io.StringIO(), VirtualClock()
    with JsonLog(out, "R", clock=clock, now=lambda: NOON) as log:
        log.stage('loading "the\npolicy"')
        log.step(StepEvent(step=1, steps=4, values={"loss": 0.5, "kl": math.inf}))
        log.step(StepEvent(step=1, steps=4, values={"held_out_accuracy": 0.25}, phase=Phase.EVALUATE))
    stage, step, evaluation = lines(out)
    assert stage == {
        "time": "2026-11-21T12:00:00.500Z",
        "level": "info",
        "event": "stage",
        "run": "R",
        "message": 'loading "the\npolicy"',
    }
    assert step["event"] == "step" and step["step"] == 1 and step["metrics"] == {"loss": 0.5, "kl": None}
    assert evaluation["event"] == "evaluation"


def test_an_unusual_wait_is_a_warning() -> None:
    out, clock = io.StringIO(), VirtualClock()
    with JsonLog(out, "R", clock=clock) as log:
        log.tick("6 sessions")
        clock.advance(2 * FIRST_STEP_S)
        log.tick("6 sessions")
    (line,) = lines(out)
    assert line["event"] == "waiting" and line["level"] == "warning" and line["awaited"] == "6 sessions"
    assert line["seconds"] == 2 * FIRST_STEP_S


def test_errors_and_what_libraries_say_are_lines_too() -> None:
    out = io.StringIO()
    with warnings.catch_warnings(action="always"), pytest.raises(RecipeError), JsonLog(out, "R"):
        logging.getLogger("some.library").warning("%d shards are missing", 3)
        logging.getLogger("some.library").info("nothing")
        warnings.warn("old", UserWarning, stacklevel=1)
        raise RecipeError("wrong", where="run.dir", next_step="mend it")
    said, warned, failed = lines(out)
    assert (said["event"], said["logger"], said["message"]) == ("log", "some.library", "3 shards are missing")
    assert "old" in str(warned["message"])
    assert (failed["event"], failed["level"], failed["type"]) == ("failed", "error", "RecipeError")
    assert (failed["message"], failed["where"], failed["next"]) == ("wrong", "run.dir", "mend it")
    before = len(lines(out))
    logging.getLogger("some.library").warning("afterwards")
    assert len(lines(out)) == before
