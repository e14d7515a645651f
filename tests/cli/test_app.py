"""The command tree from outside: fast, lazy, with exit codes that mean something."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "reasoning_gym", "matplotlib", "sqlalchemy", "pydantic", "numpy")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = python(f"import sys, askesis; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_help_loads_nothing_heavy_and_lists_every_command() -> None:
    code = (
        "import sys; sys.argv = ['askesis', '--help']\nimport askesis.cli\n"
        "try: askesis.cli.main()\nexcept SystemExit as end: print(end.code)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = python(code)
    assert out.splitlines()[-1] == "[]" and out.splitlines()[-2] == "0"
    commands = (
        "doctor pretrain train evaluate chat serve runs show top plan report envs algorithms store align schedule"
    )
    for command in commands.split():
        assert command in out


@pytest.mark.parametrize("arguments", [["trian"], ["train"], ["train", "x.toml", "--wrong"]])
def test_usage_errors_leave_with_code_2(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "askesis", *arguments, "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert json.loads(done.stdout.splitlines()[-1])["error"]["what"]
