"""A run that many tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_run import small, start


@pytest.fixture(scope="session")
def unbroken(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small run that went through without an interruption."""
    run = tmp_path_factory.mktemp("unbroken") / "run"
    start(small(tiny_folder, run))
    return run
