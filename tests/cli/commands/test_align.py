"""askesis align from embeddings to a report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from askesis.alignment.synthetic import make_world
from askesis.cli import main

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    monkeypatch.chdir(tmp_path)
    pairs = make_world(0, size=16, rank=4, classes=5).draw(400, "pairs")
    np.save("images.npy", pairs.images.astype(np.float32))
    np.save("texts.npy", pairs.texts.astype(np.float32))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["askesis", "align", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capsys.readouterr()

    return run


def test_fit_apply_report(ask: Ask) -> None:
    code, out, err = ask("fit", "images.npy", "texts.npy", "--out", "t.safetensors", "--json")
    fitted = json.loads(out.splitlines()[-1])
    assert code == 0, err
    assert fitted["method"] == "realign" and fitted["n_x"] == 400 and fitted["scale"] > 1
    code, out, err = ask("apply", "t.safetensors", "texts.npy", "moved.safetensors", "--json")
    assert code == 0 and json.loads(out.splitlines()[-1])["rows"] == 400, err
    code, out, err = ask(
        "report", "images.npy", "texts.npy", "--transform", "t.safetensors", "--out", "r.html", "--json"
    )
    found = json.loads(out.splitlines()[-1])
    assert code == 0 and found["texts, realign"]["gap"] < 0.1 * found["texts"]["gap"], err
    code, out, _ = ask("report", "images.npy", "moved.safetensors", "--json")
    assert code == 0 and json.loads(out.splitlines()[-1])["texts"]["gap"] == pytest.approx(
        found["texts, realign"]["gap"], abs=1e-5
    )
    assert Path("r.html").is_file() and Path("runs/align/report.svg").is_file()


def test_what_people_see(ask: Ask) -> None:
    code, out, _ = ask("fit", "images.npy", "texts.npy")
    assert code == 0 and "scale" in out and "runs/align/transform.safetensors" in out
    code, out, _ = ask("apply", "runs/align/transform.safetensors", "texts.npy", "m.npy")
    assert code == 0 and "400 embeddings" in out and np.load("m.npy").shape == (400, 16)
    code, out, _ = ask("report", "images.npy", "texts.npy")
    assert code == 0 and "trace_ratio" in out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["fit", "images.npy", "text.npy"], "no such file"),
        (["fit", "images.npy", "texts.npy", "--method", "realing"], "realign"),
        (["fit", "images.npy", "texts.npy", "--out", "t.npy"], ".safetensors"),
        (["apply", "images.npy", "texts.npy", "m.npy"], "cannot be read"),
        (["report", "images.npy", "texts.npy", "--transform", "none.safetensors"], "none.safetensors"),
    ],
)
def test_mistakes_are_answered_with_what_to_do(arguments: list[str], hint: str, ask: Ask) -> None:
    code, _, err = ask(*arguments)
    assert code == 1 and hint in err and "Traceback" not in err


def test_a_file_is_not_moved_onto_itself(ask: Ask) -> None:
    ask("fit", "images.npy", "texts.npy")
    code, _, err = ask("apply", "runs/align/transform.safetensors", "texts.npy", "texts.npy")
    assert code == 1 and "file of their own" in err


def test_embed_says_what_comes_next(ask: Ask) -> None:
    recipe = Path("r.toml")
    recipe.write_text("[encoder]\nsteps = 2\n[data]\nnum = 120\n")
    code, out, _ = ask("embed", "r.toml", "--out", "e")
    assert code == 0 and "askesis align fit e/images.npy e/texts.npy" in out
    code, _, err = ask("embed", "r.toml", "encoder.step=3")
    assert code == 2 and "encoder.steps" in err
