"""askesis pretrain"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from askesis.cli import output
from askesis.errors import RecipeError

__all__ = ["run"]


def run(recipe: Path, overrides: Sequence[str], *, out: Path, json_output: bool) -> None:
    """Make a policy in ``out`` and print how good it is, family by family."""
    from askesis.training.pretraining.recipe import load_pretrain_recipe

    resolved = load_pretrain_recipe(recipe, overrides)
    if out.exists() and any(out.iterdir()):
        raise RecipeError("the folder is not empty", where=str(out), next_step="choose another folder with --out")
    from askesis.training.pretraining.evaluate import table
    from askesis.training.pretraining.loop import Progress, pretrain
    from askesis.training.pretraining.search_scores import search_table

    def show(progress: Progress) -> None:
        left_s = progress.elapsed_s * (progress.total_tokens / max(progress.tokens, 1) - 1)
        print(
            f"step {progress.step}  {progress.tokens / 1e6:.2f} of {progress.total_tokens / 1e6:.2f} M tokens  "
            f"loss {progress.loss:.4f}  lr {progress.lr:.1e}  {left_s / 60:.1f} min left",
            file=sys.stderr if json_output else sys.stdout,
            flush=True,
        )

    result = pretrain(resolved, out, show)
    if json_output:
        output.emit(json.loads((out / "nano.json").read_text(encoding="utf-8")))
    else:
        print(table(result.scores))
        if result.searching:
            print(search_table(result.searching))
        print(f"policy: {out}")
