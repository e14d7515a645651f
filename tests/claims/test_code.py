"""Finished runs belong to the code that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from askesis.claims import study as studies
from askesis.claims.code import code_digest, digest_of_folder


def test_every_change_of_the_package_shows(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "notes.txt").write_text("nothing")
    found = [digest_of_folder(tmp_path)]
    (tmp_path / "notes.txt").write_text("no code")
    assert digest_of_folder(tmp_path) == found[0]
    (tmp_path / "a.py").write_text("x = 2")
    found.append(digest_of_folder(tmp_path))
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    found.append(digest_of_folder(tmp_path))
    assert len(set(found)) == 3 and code_digest() == code_digest()


def test_changed_code_does_not_meet_the_runs_of_the_old_one(
    make_study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study()
    before, again = (study.plans(study.scale("smoke"), seeds=1, folder=tmp_path) for _ in range(2))
    monkeypatch.setattr(studies, "code_digest", lambda: "other code")
    after = study.plans(study.scale("smoke"), seeds=1, folder=tmp_path)
    assert [plan.path for plan in before] == [plan.path for plan in again]
    assert not {plan.path for plan in before} & {plan.path for plan in after}
