"""A claim from its name to its verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from askesis.claims.checking import check, claim_folder
from askesis.claims.code import code_digest
from askesis.errors import RecipeError


def test_a_claim_leaves_its_runs_and_its_result(make_study: Any, tmp_path: Path) -> None:
    study = make_study()
    result = check(study, "smoke", folder=tmp_path / "c")
    record = json.loads((tmp_path / "c" / "result.json").read_text())
    assert record["versions"]["code"] == code_digest()[:12]
    assert result.holds is None and record["claim"] == "tiny" and record["wall_s"] == round(result.wall_s, 1)
    names = {p.name for p in (tmp_path / "c").iterdir()}
    assert {"result.json", "result.svg", "store.db", "clock.json"} <= names
    assert sum((p / "run.json").is_file() for p in (tmp_path / "c").iterdir()) == 3
    again = check(study, "smoke", folder=tmp_path / "c")
    assert again.arms == result.arms and again.wall_s > result.wall_s


@pytest.mark.parametrize(("scale", "seeds"), [("laptop", 2), ("smoke", 0)])
def test_too_few_seeds_are_refused(make_study: Any, tmp_path: Path, scale: str, seeds: int) -> None:
    with pytest.raises(RecipeError, match="too few seeds"):
        check(make_study(), scale, seeds=seeds, folder=tmp_path)


def test_where_a_claim_lives(make_study: Any) -> None:
    assert claim_folder(make_study(), "laptop") == Path("runs/claims/tiny-laptop")
