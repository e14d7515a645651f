"""Extras are imported when they are needed, and an error names them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from askesis.environments.adapters.requiring import require
from askesis.errors import MissingExtra


def test_what_is_installed_is_imported() -> None:
    assert require("json.decoder", extra="x", purpose="y").__name__ == "json.decoder"


def test_what_is_not_installed_names_its_extra() -> None:
    with pytest.raises(MissingExtra, match="a test needs the package 'no_such_package'") as caught:
        require("no_such_package.part", extra="some", purpose="a test")
    assert caught.value.next_step == "pip install 'askesis[some]'"


def test_a_package_that_lacks_something_itself_is_not_called_missing(tmp_path, monkeypatch) -> None:
    (tmp_path / "half_a_package.py").write_text("import another_missing_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="another_missing_package") as caught:
        require("half_a_package", extra="some", purpose="a test")
    assert not isinstance(caught.value, MissingExtra)


def test_no_adapter_imports_its_library_with_itself() -> None:
    code = (
        "import sys, importlib\n"
        "for name in ('gymnasium', 'pettingzoo', 'textarena', 'openenv', 'mcp', 'trl'):\n"
        "    importlib.import_module(f'askesis.environments.adapters.{name}')\n"
        "foreign = {'gymnasium', 'pettingzoo', 'textarena', 'mcp', 'starlette', 'uvicorn', 'websockets', 'trl'}\n"
        "print(sorted(foreign & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
