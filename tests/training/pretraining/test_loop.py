from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM

from askesis.training.pretraining import loop
from askesis.training.pretraining.data import encode, pack
from askesis.training.pretraining.loop import PretrainResult, Progress, learning_rate, pretrain, recipe_hash
from askesis.training.pretraining.recipe import PretrainRecipe, TrainingSection

RECIPE = PretrainRecipe.model_validate(
    {
        "model": {
            "vocab_size": 400,
            "layers": 2,
            "hidden": 32,
            "heads": 2,
            "kv_heads": 1,
            "head_dim": 16,
            "mlp": 64,
            "max_positions": 256,
        },
        "data": {"families": {"chain_sum": 1.0, "spell_backward": 1.0}, "tokenizer_items": 40},
        "training": {"tokens": 16_000, "rows": 5, "row_tokens": 160, "lr_peak": 1e-2, "warm_up_tokens": 800},
        "evaluation": {"items": 3, "max_new_tokens": 6},
    }
)


def run(folder: Path) -> tuple[PretrainResult, list[Progress]]:
    reports: list[Progress] = []
    return pretrain(RECIPE, folder, reports.append), reports


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[PretrainResult, list[Progress]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_PROGRESS_STEPS", 5)
        return run(tmp_path_factory.mktemp("nano") / "model")


def test_a_short_run_lowers_the_loss(finished: tuple[PretrainResult, list[Progress]]) -> None:
    result, reports = finished
    assert [report.step for report in reports[:3]] == [5, 10, 15]
    assert reports[-1].step >= 20
    assert reports[-1].tokens == result.tokens >= 16_000
    assert reports[-1].loss < reports[0].loss - 1.0
    assert reports[-1].lr < reports[1].lr


def test_the_folder_loads_in_transformers_with_the_same_logits_as_its_twin(
    finished: tuple[PretrainResult, list[Progress]], tmp_path: Path
) -> None:
    first, _ = finished
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    second, _ = run(tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    models = [AutoModelForCausalLM.from_pretrained(result.folder) for result in (first, second)]
    assert all(isinstance(model, Qwen3ForCausalLM) and model.dtype == torch.float32 for model in models)
    tokens = torch.tensor([AutoTokenizer.from_pretrained(first.folder).encode("12 + 34 = ")])
    with torch.no_grad():
        left, right = (model(tokens).logits for model in models)
    assert torch.equal(left, right)
    names = ("model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja", "generation_config.json")
    assert all((first.folder / name).read_bytes() == (second.folder / name).read_bytes() for name in names)


def test_provenance(finished: tuple[PretrainResult, list[Progress]]) -> None:
    result, _ = finished
    written = json.loads((result.folder / "nano.json").read_text())
    assert written["weights_sha256"] == hashlib.sha256((result.folder / "model.safetensors").read_bytes()).hexdigest()
    assert PretrainRecipe.model_validate(written["recipe"]) == RECIPE
    assert written["recipe_sha256"] == recipe_hash(RECIPE)
    assert written["tokens"] == result.tokens
    assert [score["family"] for score in written["scores"]] == ["chain_sum", "spell_backward"]
    model = AutoModelForCausalLM.from_pretrained(result.folder)
    assert written["parameters"] == result.parameters == sum(p.numel() for p in model.parameters())
    assert not list(result.folder.parent.glob("model.*"))


def test_going_on_from_a_policy_keeps_its_tokenizer_and_shows_searches(
    finished: tuple[PretrainResult, list[Progress]], tmp_path: Path
) -> None:
    folder = str(finished[0].folder)
    recipe = PretrainRecipe.model_validate(
        {
            "model": {"policy": folder},
            "data": {"families": {"chain_sum": 1.0}},
            "search": {"share": 0.5, "evaluated_hops": [1], "evaluated_tasks": 2},
            "training": {"tokens": 3_000, "rows": 2, "row_tokens": 400, "warm_up_tokens": 400},
            "evaluation": {"items": 2, "max_new_tokens": 4},
        }
    )
    result = pretrain(recipe, tmp_path / "on")
    assert (result.folder / "tokenizer.json").read_bytes() == (finished[0].folder / "tokenizer.json").read_bytes()
    before, after = (AutoModelForCausalLM.from_pretrained(f) for f in (folder, result.folder))
    moved = [float((a - b).detach().abs().max()) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert 0 < max(moved) < 0.5
    written = json.loads((result.folder / "nano.json").read_text())
    assert written["recipe"]["model"] == {"policy": folder}
    assert PretrainRecipe.model_validate(written["recipe"]) == recipe
    assert [(s["context"], s["hops"]) for s in written["searching"]] == [("full", 1), ("compact_memory", 1)]


def test_packed_demonstrations_have_the_loss_of_lone_ones(finished: tuple[PretrainResult, list[Progress]]) -> None:
    result, _ = finished
    model = AutoModelForCausalLM.from_pretrained(result.folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(result.folder)
    made = [
        encode(tokenizer, [{"role": "user", "content": text}, {"role": "assistant", "content": text[::-1]}])
        for text in ("abc", "12 + 7 =", "spelling")
    ]
    filler = dataclasses.replace(made[0], tokens=[0] * 96, weights=[0.0] * 96)
    batch = next(pack(iter([*made, *[filler] * 9]), rows=1, row_tokens=96, pad=0))
    total = weight = 0.0
    with torch.no_grad():
        for example in made:
            logits = model(torch.tensor([example.tokens])).logits[0, :-1]
            losses = torch.nn.functional.cross_entropy(logits, torch.tensor(example.tokens[1:]), reduction="none")
            weights = torch.tensor(example.weights[1:])
            total += float((losses * weights).sum())
            weight += float(weights.sum())
        packed = float(loop._loss(model, model.model, batch))
    assert packed == pytest.approx(total / weight, rel=1e-5)


def test_learning_rate_by_hand() -> None:
    training = TrainingSection(tokens=1100, lr_peak=1.0, lr_end=0.1, warm_up_tokens=100)
    assert learning_rate(training, 0) == pytest.approx(0.01)
    assert learning_rate(training, 49) == pytest.approx(0.5)
    assert learning_rate(training, 100) == pytest.approx(1.0)
    assert learning_rate(training, 600) == pytest.approx(0.55)
    assert learning_rate(training, 1100) == pytest.approx(0.1)
    assert learning_rate(training, 5000) == pytest.approx(0.1)


def test_the_recipe_hash_sees_every_value() -> None:
    changed = RECIPE.model_copy(update={"training": RECIPE.training.model_copy(update={"lr_end": 2e-5})})
    assert recipe_hash(changed) != recipe_hash(RECIPE)


def test_checkpoints_replace_each_other_whole(tmp_path: Path) -> None:
    hurried = RECIPE.model_copy(
        update={"training": RECIPE.training.model_copy(update={"tokens": 2_000, "checkpoint_minutes": 1e-9})}
    )
    seen: list[list[str]] = []

    def look(progress: Progress) -> None:
        folders = sorted(path.name for path in tmp_path.iterdir())
        seen.append([*folders, str((tmp_path / "model" / "model.safetensors").exists())])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_PROGRESS_STEPS", 2)
        pretrain(hurried, tmp_path / "model", look)
    assert seen == [["model", "True"]] * len(seen) != []
    assert (tmp_path / "model" / "nano.json").exists()
