"""The world ``program``: another world's tasks and judgement, and its own options."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from askesis.environments import World, make_world
from askesis.environments.fakes import make_echo_world
from askesis.environments.play import trace_of
from askesis.environments.program.spec import Command
from askesis.environments.program.world import OutputEvaluator
from askesis.errors import RecipeError
from askesis.trace import VerdictStatus


def make(**options: Any) -> World:
    return make_world("program", family="chain_sum", level="nano", instruction="", options=options)


def test_tasks_and_judgement_are_the_other_worlds() -> None:
    world = make(command=["sh", "-c", "true"], timeout_s=5, model="gpt-5", override_sampling=True, min_terms=2)
    assert world.name == "program" and world.program is not None
    assert (world.program.model, world.program.timeout_s, world.program.override_sampling) == ("gpt-5", 5.0, True)
    assert world.evaluator.version.startswith("reasoning-gym/")
    bare = make_world("reasoning", family="chain_sum", level="nano", instruction="", options={"min_terms": 2})
    assert world.tasks.task("train", 3) == bare.tasks.task("train", 3)


def test_files_become_full_paths_and_the_rest_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agent.py").write_text("")
    monkeypatch.chdir(tmp_path)
    world = make(
        command=["python", "agent.py", "--say", "{prompt}"], preload=["json"], env=["A=b=c"], cwd=".", max_output_kb=2
    )
    assert world.program is not None and isinstance(world.program.agent, Command)
    command = world.program.agent
    assert command.argv == (sys.executable, str(tmp_path / "agent.py"), "--say", "{prompt}")
    assert (command.env, command.cwd, command.max_output_bytes) == ({"A": "b=c"}, str(tmp_path), 2048)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "command"),
        ({"command": []}, "command"),
        ({"command": "python agent.py"}, "command"),
        ({"command": ["no-such-program-anywhere"]}, "not installed"),
        ({"command": ["python", "nowhere.py"]}, "does not exist"),
        ({"command": ["sh"], "preload": ["openai"]}, "Python scripts only"),
        ({"command": ["sh"], "timeout_s": 0}, "timeout_s"),
        ({"command": ["sh"], "timeout_s": True}, "timeout_s"),
        ({"command": ["sh"], "judge": "looks"}, "judge"),
        ({"command": ["sh"], "world": "program"}, "world"),
        ({"command": ["sh"], "env": ["nothing"]}, "env"),
        ({"command": ["sh"], "cwd": "/no/such/folder"}, "cwd"),
        ({"command": ["sh"], "override_sampling": "yes"}, "override_sampling"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        make(**options)


def test_a_misspelt_option_is_suggested() -> None:
    with pytest.raises(RecipeError) as caught:
        make(command=["sh"], timeouts=5)
    assert "did you mean 'timeout_s'" in str(caught.value)


def test_the_output_is_judged_in_the_place_of_the_last_reply() -> None:
    world = make(command=["sh"], judge="output")
    assert isinstance(world.evaluator, OutputEvaluator) and world.evaluator.version.endswith("of the output")
    task = world.tasks.task("train", 0)
    right = f"<answer>{task.payload['answer']}</answer>"

    def score(reply: str, events: tuple[dict[str, Any], ...]) -> Any:
        return asyncio.run(world.evaluator.score(replace(trace_of(task, [reply]), events=events), task))

    assert score("no idea", ({"event": "program", "output": right},)).reward == 1.0
    assert score(right, ({"event": "program", "output": "no idea"},)).reward == 0.0
    nothing = score(right, ())
    assert nothing.status is VerdictStatus.ERROR and nothing.reward is None


def test_other_worlds_have_no_program() -> None:
    assert make_echo_world().program is None
