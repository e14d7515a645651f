"""What the documentation shows really runs."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from askesis.policy.folder import BUILT_IN
from askesis.recipe import load_recipe
from askesis.training.preflight import open_world

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/tutorials").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for number, text in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)):
            found.append((f"{page.name}-{number}", text))
    return found


@pytest.mark.parametrize(("name", "code"), blocks("python"), ids=lambda value: value if len(value) < 40 else "")
def test_python_blocks_run(name: str, code: str) -> None:
    namespace: dict[str, object] = {"__name__": name}
    exec(code, namespace)
    assert len(namespace) > 2


@pytest.mark.parametrize(("name", "text"), blocks("toml"), ids=lambda value: value if len(value) < 40 else "")
def test_toml_blocks_are_recipes(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    recipe, given = load_recipe(path).recipe, tomllib.loads(text)
    for section, values in given.items():
        plain = {key: value for key, value in values.items() if key == "options" or not isinstance(value, dict)}
        assert {key: getattr(getattr(recipe, section), key) for key in plain} == plain


@pytest.mark.skipif("nano-search" not in BUILT_IN, reason="its weights are not in this copy")
def test_the_tutorial_of_an_own_agent_runs_as_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a tiny size; the sizes of the page take minutes."""
    page = (ROOT / "docs/tutorials/train_your_own_agent.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (recipe,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(program.splitlines()) <= 40
    (tmp_path / "company.py").write_text(program)
    (tmp_path / "company.toml").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    tiny = ("training.steps=2", "rollout.groups_per_step=2", "rollout.group_size=4", "evaluation.num_tasks=8")
    monkeypatch.setattr("sys.argv", ["company.py", *tiny, "run.threads=1", "run.dir=run"])
    runpy.run_path("company.py", run_name="__main__")
    assert re.search(r"right answers: \d+% before, \d+% after; see run", capsys.readouterr().out)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.name)
def test_shipped_recipes_are_valid(path: Path) -> None:
    if path.stem in ("nano", "nano_search"):
        from askesis.training.pretraining.recipe import PretrainRecipe, load_pretrain_recipe

        assert isinstance(load_pretrain_recipe(path), PretrainRecipe)
        return
    assert open_world(load_recipe(path).recipe).tasks.task("train", 0).payload["question"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in t]
    targets += re.findall(r"`((?:tests|docs|recipes|benchmarks)/[\w./-]+)`", text)
    assert [t for t in targets if not ((page.parent / t).exists() or (ROOT / t).exists())] == []
    commands = set(re.findall(r"^askesis (\w+)", text, re.MULTILINE)) | set(re.findall(r"`askesis (\w+)", text))
    known = {
        "doctor",
        "pretrain",
        "train",
        "evaluate",
        "chat",
        "serve",
        "runs",
        "show",
        "top",
        "plan",
        "report",
        "envs",
        "algorithms",
        "claim",
        "store",
        "align",
        "schedule",
    }
    assert commands <= known


def test_the_tests_that_the_security_page_names_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/security.md").read_text())
    assert len(named) > 20
    assert [f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text()] == []


def test_the_security_page_knows_everything_that_listens() -> None:
    """A new module that opens a port has to be thought about, and written down."""
    known = {
        "gateway/http/listening.py",  # for the gateway and the metrics of a run
        "environments/search/server.py",
        "environments/adapters/openenv/serving.py",
        "environments/adapters/mcp/serving.py",
        "learners/ranks/rank.py",  # where the ranks of a learner meet
        "engines/vllm/process.py",  # asks the system for a free port; vLLM listens on it
    }
    sources = ROOT / "src" / "askesis"
    opens = re.compile(r"uvicorn\.(run|Config|Server)|\.bind\(|start_server\(|create_server\(|\.run\(.*transport=")
    listening = {str(p.relative_to(sources)) for p in sources.rglob("*.py") if opens.search(p.read_text())}
    assert listening <= known, "write it into docs/security.md, then here"
