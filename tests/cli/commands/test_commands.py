"""Every command on a really trained tiny run: what it prints, its JSON, and its answer to plausible mistakes."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from askesis.cli import main
from askesis.training.rundir import RunDir

RECIPE = """\
[policy]
name = "{folder}"
[environment]
family = "spell_backward"
instruction = ""
[algorithm]
name = "rloo"
options = {{ kl_beta = 0.0 }}
[sampling]
max_tokens = 6
[rollout]
groups_per_step = 2
group_size = 2
[training]
steps = 2
lr = 1e-4
[evaluation]
num_tasks = 3
[run]
threads = 1
"""
Result = tuple[int, str, str, Any]
Ask = Callable[..., Result]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run the command in this process: exit code, standard output, standard error, JSON if asked for."""

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["askesis", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        value = json.loads(out.splitlines()[-1]) if "--json" in arguments else None
        assert isinstance(caught.value.code, int)
        return caught.value.code, out, err, value

    return run


@pytest.fixture(scope="module")
def place(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "r.toml").write_text(RECIPE.format(folder=tiny_folder))
    return folder


@pytest.fixture
def trained(place: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    code, _, err, value = ask("train", "r.toml", "run.dir=runs/one", "--json")
    assert code == 0, err
    assert value["run"]
    return place


def test_train_ends_with_the_promised_object(trained: Path, ask: Ask) -> None:
    code, out, _, value = ask("train", "r.toml", "run.dir=runs/one", "--json")
    assert code == 0 and "finished" in out
    promised = {"run", "accuracy_before", "accuracy_after", "ci_before", "ci_after", "n", "wall_s", "peak_rss_mb"}
    assert promised <= value.keys() and value["n"] == 3
    assert 0 <= value["ci_after"][0] <= value["accuracy_after"] <= value["ci_after"][1] <= 1
    code, out, _, _ = ask("train", "r.toml", "run.dir=runs/one")
    assert code == 0 and "best constant answer" in out and "report.html" in out


def test_explain(place: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    code, _, _, value = ask("train", "r.toml", "training.lr=3e-4", "--explain", "--json")
    assert code == 0 and value["values"]["training.lr"] == 3e-4
    assert value["origins"]["training.lr"] == "command line" and value["origins"]["training.steps"].startswith(
        "r.toml:"
    )
    code, out, _, _ = ask("train", "r.toml", "--explain")
    assert code == 0 and "training.beta1" in out and not (place / "runs" / "r").exists()


def test_looking_at_a_run(trained: Path, ask: Ask) -> None:
    assert ask("runs", "--json")[3]["runs"][0]["status"] == "finished"
    assert "one" in ask("runs")[1]
    shown = ask("show", "one", "--json")[3]
    assert shown["state"]["status"] == "finished" and shown["metrics"]["drift"] < 1e-4
    trace_id = shown["traces"][0]["trace_id"]
    record = ask("show", "one", "--trace", trace_id, "--json")[3]
    assert [m["role"] for m in record["branches"][0]] == ["user", "assistant"]
    assert ask("show", "one")[0] == 0 and ask("show", "one", "--trace", trace_id)[0] == 0
    code, _, err, _ = ask("show", "one", "--trace", "nothing/9")
    assert code == 2 and "no such trace" in err


def test_reports(trained: Path, ask: Ask) -> None:
    code, _, _, value = ask("report", "one", "--json")
    page = Path(value["report"]).read_text()
    assert code == 0 and page.startswith("<!doctype html>") and value["size_bytes"] < 5_000_000
    assert "http://" not in page.replace("http://www.w3.org", "") and "held out" in page
    assert "accuracy" in ask("report", "one", "--markdown")[1]
    assert ask("report", "one", "--out", "/dev/null/x.html")[0] == 1


def test_the_store_commands(trained: Path, ask: Ask, tmp_path: Path) -> None:
    assert ask("store", "verify", "one", "--json")[3]["ok"] is True
    assert "every record" in ask("store", "verify", "one")[1]
    answer = ask("store", "query", "one", "select count(*) as n from traces", "--json")[3]
    assert answer == {"columns": ["n"], "rows": [[2 * 2 * 2 + 2 * 3]]}
    assert ask("store", "query", "one", "delete from traces")[0] == 1
    out = tmp_path / "t.jsonl"
    assert ask("store", "export", "one", str(out), "--json")[3]["rows"] == 14
    assert json.loads(out.read_text().splitlines()[0])["messages"][0]["role"] == "user"
    assert ask("store", "export", "one", str(tmp_path / "t.csv"))[0] == 2
    assert "no such run" in ask("store", "export", "one", str(out), "--run-id", "two")[2]


def test_a_copied_store_has_the_same_head(trained: Path, ask: Ask, tmp_path: Path) -> None:
    target = str(tmp_path / "copy.db")
    copied = ask("store", "copy", "one", target, "--json")[3]
    assert copied["root"] == ask("store", "verify", "one", "--json")[3]["root"]
    assert (
        ask("store", "verify", target, "--heads", str(trained / "runs" / "one" / "heads.jsonl"), "--json")[3]["ok"]
        is True
    )
    assert "holds records already" in ask("store", "copy", "one", target)[2]


def test_an_altered_store_is_found_and_named(trained: Path, ask: Ask, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs" / "one", tmp_path / "copy")
    with sqlite3.connect(tmp_path / "copy" / "store.db") as connection:
        connection.execute("update traces set seed = seed + 1 where leaf = (select min(leaf) from traces)")
    connection.close()
    code, _, _, value = ask("store", "verify", str(tmp_path / "copy"), "--json")
    assert code == 1 and not value["ok"] and "trace" in value["findings"][0]["record"]


def test_evaluate_and_chat_take_a_run_or_a_folder(trained: Path, ask: Ask, tiny_folder: Path) -> None:
    value = ask("evaluate", "runs/one", "--recipe", "r.toml", "evaluation.num_tasks=5", "--json")[3]
    assert value["n"] == 5 and value["interval"][0] <= value["accuracy"] <= value["interval"][1]
    assert "best constant" in ask("evaluate", str(tiny_folder), "--recipe", "r.toml")[1]
    sampled = ["evaluation.samples=4", "evaluation.temperature=1.0", "evaluation.pass_k=[1,2]"]
    assert "2" in ask("evaluate", str(tiny_folder), "--recipe", "r.toml", *sampled, "--json")[3]["pass_at_k"]
    value = ask("chat", "one", "--say", "hello", "--max-tokens", "5", "--json")[3]
    assert [m["role"] for m in value["messages"]] == ["user", "assistant"] and value["num_sampled"] <= 5


def test_lists(ask: Ask) -> None:
    value = ask("algorithms", "--json")[3]
    assert {"reinforce", "rloo", "grpo", "dr_grpo"} <= value["presets"].keys()
    assert ask("algorithms", "grpo", "--json")[3]["objective"] == "ppo_clip"
    assert ask("algorithms")[0] == ask("algorithms", "rloo")[0] == 0
    value = ask("envs", "--json")[3]
    assert "chain_sum" in value["families"] and len(value["families"]) > 100 and len(value["nano_knows"]) >= 8
    assert "chain_sum*" in ask("envs")[1]
    assert ask("envs", "gcd", "--json")[3]["question"]
    assert ask("envs", "gcd", "--check", "--json")[3]["ok"] is True


def test_doctor(ask: Ask) -> None:
    code, _, _, value = ask("doctor", "--json")
    assert code == 0 and value["ok"] and value["facts"]["torch"]
    assert "built-in policy" in ask("doctor")[1]


def test_doctor_says_whether_vllm_is_found(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 0.32.0\n")
    python.chmod(0o755)
    monkeypatch.setenv("ASKESIS_VLLM_PYTHON", str(python))
    assert ask("doctor", "--json")[3]["facts"]["vllm"] == f"0.32.0 in {python}"
    monkeypatch.setenv("ASKESIS_VLLM_PYTHON", str(tmp_path / "absent"))
    assert "cannot be run" in ask("doctor", "--json")[3]["facts"]["vllm"]


def test_an_unfinished_run_says_so(place: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    from askesis.recipe import load_recipe

    RunDir(place / "runs" / "two").claim(load_recipe(None), {})
    assert [r["status"] for r in ask("runs", "--json")[3]["runs"] if r["run"] == "two"] == ["new"]
    for arguments in (["show", "two"], ["report", "two"], ["evaluate", "two"], ["store", "verify", "two"]):
        code, _, err, _ = ask(*arguments)
        assert code == 1 and "Traceback" not in err and err


MISTAKES = [
    (["training.stepz=3"], "training.steps"),
    (["training.steps=three"], "training.steps"),
    (["environment.family=chain_summ"], "chain_sum"),
    (["environment.options.min_term=3"], "min_word_len"),
    (["environment.name=reasonin"], "reasoning"),
    (["algorithm.name=grop"], "grpo"),
    (["algorithm.options.kl_bta=1"], "kl_beta"),
    (["policy.name=./nowhere"], "does not exist"),
    (["training.updates_per_step=2"], "importance_weighted"),
    (["run.dir=r.toml"], "cannot be written"),
    (["policy.device=cuda:7"], "cuda"),
]


@pytest.mark.parametrize(("overrides", "hint"), MISTAKES)
def test_mistakes_are_answered_with_what_to_do(
    overrides: list[str], hint: str, place: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(place)
    where = [] if overrides[0].startswith("run.dir") else [f"run.dir={tmp_path / 'x'}"]
    code, _, err, value = ask("train", "r.toml", *where, *overrides, "--json")
    assert code in (1, 2) and hint in err and "Traceback" not in err
    assert value["error"]["what"]


def test_resuming_with_another_recipe_is_refused(trained: Path, ask: Ask) -> None:
    code, _, err, _ = ask("train", "r.toml", "run.dir=runs/one", "training.lr=1.0")
    assert code == 2 and "another recipe" in err and "training.lr" in err


def test_pretrain_makes_a_policy_that_every_command_takes(ask: Ask, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        "[model]\nvocab_size = 400\nlayers = 1\nhidden = 16\nheads = 2\nkv_heads = 1\nhead_dim = 8\nmlp = 16\n"
        "[data]\ntokenizer_items = 20\n[data.families]\nspell_backward = 1.0\n"
        "[training]\ntokens = 2000\nrows = 2\n[evaluation]\nitems = 2\nmax_new_tokens = 3\n"
    )
    out = tmp_path / "policy"
    code, _, err, value = ask("pretrain", str(recipe), "training.lr_peak=1e-2", "--out", str(out), "--json")
    assert code == 0 and "tokens" in err and value["recipe"]["training"]["lr_peak"] == 1e-2
    assert ask("chat", str(out), "--say", "hi", "--max-tokens", "3", "--json")[0] == 0
    code, _, err, _ = ask("pretrain", str(recipe), "--out", str(out))
    assert code == 2 and "not empty" in err
    code, _, err, _ = ask("pretrain", str(recipe), "training.lr_peek=1", "--out", str(tmp_path / "other"))
    assert code == 2 and "lr_peak" in err
