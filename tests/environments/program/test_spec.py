"""Programs as data."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from askesis.environments.program.spec import Assignment, Command, Program


def test_an_assignment_holds_no_answer() -> None:
    assert {f.name for f in fields(Assignment)} == {"prompt", "base_url", "api_key", "model"}


def test_defaults_are_bounded_and_records_are_frozen() -> None:
    program = Program(agent=Command(argv=("true",)))
    assert program.timeout_s == 60.0 and program.model == "policy" and not program.override_sampling
    assert isinstance(program.agent, Command) and program.agent.max_output_bytes == 65536
    with pytest.raises(FrozenInstanceError):
        program.timeout_s = 1.0  # type: ignore[misc]
