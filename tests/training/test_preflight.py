"""What is checked before a model is loaded, and how fast."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from askesis.errors import PolicyError, RecipeError
from askesis.recipe import load_recipe
from askesis.training.preflight import prepare, versions


def test_a_run_is_prepared_once_and_found_again(tmp_path: Path, tiny_folder: Path) -> None:
    resolved = load_recipe(None, [f'run.dir="{tmp_path / "r"}"', f'policy.name="{tiny_folder}"'])
    prepared = prepare(resolved)
    assert prepared.run.identity()["run_id"].startswith("recipe-")
    assert prepared.world.name == "reasoning"
    assert prepare(resolved).run.path == prepared.run.path


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("environment.family=chainsum", RecipeError),
        ("policy.name=./none", PolicyError),
        ("environment.name=x", RecipeError),
    ],
)
def test_wrong_names_leave_no_folder_behind(override: str, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error):
        prepare(load_recipe(None, [f'run.dir="{tmp_path / "r"}"', override]))
    assert not (tmp_path / "r").exists()


def test_nothing_heavy_is_loaded_to_say_no() -> None:
    code = (
        "import sys\nfrom askesis.recipe import load_recipe\nfrom askesis.training.preflight import prepare\n"
        "try: prepare(load_recipe(None, ['environment.family=chainsum']))\nexcept ValueError as e: print(e)\n"
        "print([m for m in ('torch', 'transformers', 'reasoning_gym') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "chain_sum" in out and out.splitlines()[-1] == "[]"


def test_versions_name_what_results_depend_on() -> None:
    found = versions()
    assert {"python", "torch", "transformers", "numpy", "askesis"} <= found.keys()
    assert found["torch"].startswith("2.")
