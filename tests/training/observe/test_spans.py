"""Spans of steps, phases and sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from askesis.errors import MissingExtra
from askesis.training.observe import observer as observer_module
from askesis.training.observe import spans as spans_module
from askesis.training.observe.spans import NoSpans, OtelSpans, open_spans
from small_run import small, start


def remembering() -> tuple[Any, OtelSpans]:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    return memory, OtelSpans(provider)


def test_switched_off_there_is_nothing() -> None:
    spans = open_spans(is_on=False, run_id="R")
    assert isinstance(spans, NoSpans) and spans.on_session is None
    with spans.span("step", step=1) as nothing:
        assert nothing is None
    spans.close()


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans_module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="opentelemetry-sdk") as caught:
        open_spans(is_on=True, run_id="R")
    assert "askesis[otel]" in str(caught.value)


def test_of_an_error_only_its_type_is_kept() -> None:
    memory, spans = remembering()
    with pytest.raises(ValueError, match="a tool"), spans.span("step", step=3):
        raise ValueError("a tool wrote this")
    (span,) = memory.get_finished_spans()
    assert span.attributes == {"step": 3, "error.type": "ValueError"} and not span.events
    assert span.status.status_code.name == "ERROR" and "tool" not in span.to_json()


def test_a_run_sends_one_span_per_step_phase_and_session(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, open_ones = remembering()
    monkeypatch.setattr(observer_module, "open_spans", lambda *, is_on, run_id: open_ones)
    start(small(tiny_folder, tmp_path / "run", "training.steps=2", "observe.traces=true"))
    spans: list[Any] = list(memory.get_finished_spans())
    by_id = {s.context.span_id: s for s in spans}

    def above(span: Any) -> str | None:
        return None if span.parent is None else by_id[span.parent.span_id].name

    steps = [s for s in spans if s.name == "step"]
    assert [s.attributes["step"] for s in steps] == [0, 1] and {above(s) for s in steps} == {None}
    for name in ("rollout", "learner", "store"):
        assert {above(s) for s in spans if s.name == name} <= {"step", "evaluation"}
    assert sum(s.name == "learner" for s in spans) == 2
    assert [s.attributes["label"] for s in spans if s.name == "evaluation"] == ["before", "after"]
    sessions = [s for s in spans if s.name == "session"]
    assert len(sessions) == 2 * 6 + 2 * 4 and {above(s) for s in sessions} == {"rollout"}
    for session in sessions:
        rollout = by_id[session.parent.span_id]
        assert rollout.start_time - 1_000_000 <= session.start_time < session.end_time <= rollout.end_time
        assert session.attributes["askesis.sampled_tokens"] > 0 and session.attributes["askesis.verdict"] == "ok"
    said = " ".join(str(value) for s in spans for value in s.attributes.values())
    assert "<|" not in said  # nothing that a model or a template wrote


def test_a_session_that_failed_says_whose_fault_it_was(tiny_folder: Path) -> None:
    from askesis.clock import VirtualClock
    from askesis.gateway import Session
    from askesis.rollout.session import Outcome
    from askesis.trace import Budgets, Failure, FailureOrigin, StopReason, Task, TraceBuilder, Verdict, VerdictStatus

    memory, spans = remembering()
    failure = Failure(origin=FailureOrigin.TOOL, kind="timeout", message="secret text")
    task = Task(key="sum/1", environment="sums", payload={})
    session = Session(
        id="g/0", task=task, group_id="g", member_index=0, seed=1, policy_version=0, budgets=Budgets(),
        clock=VirtualClock(),
    )  # fmt: skip
    spans.on_session(
        Outcome(
            session=session,
            trace=TraceBuilder().finish(StopReason.FAILED, failure=failure),
            verdict=Verdict(status=VerdictStatus.ERROR, evaluator="e/1", error=failure),
            duration_s=2.0,
        )
    )
    (span,) = memory.get_finished_spans()
    assert span.end_time - span.start_time == 2_000_000_000
    assert span.attributes["error.type"] == "tool/timeout" and "askesis.reward" not in span.attributes
    assert "secret text" not in str(span.attributes)
