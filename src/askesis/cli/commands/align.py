"""askesis align"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from askesis.alignment import EmbeddingAligner, GapReport
from askesis.alignment.checks import AlignmentError, Source
from askesis.alignment.files import SUFFIXES, open_embeddings, writing
from askesis.alignment.report import measure_all, write_report
from askesis.cli import output

__all__ = ["apply", "embed", "fit", "report"]


def fit(images: Path, texts: Path, out: Path, *, method: str, encoder: str, sigma: float, json_output: bool) -> None:
    """Fit a transform on two files of embeddings and write it."""
    if out.suffix != ".safetensors":
        raise AlignmentError("a transform is a .safetensors file", got=str(out), next_step="--out NAME.safetensors")
    aligner = EmbeddingAligner(method, encoder=encoder, sigma=sigma)
    pictures, words = open_embeddings(images), open_embeddings(texts)
    with _bar("reading rows", None) as advance:  # how often texts are read depends on the method
        aligner.fit(_Counted(pictures, advance), _Counted(words, advance))
    aligner.save(out)
    numbers = {name: value.item() for name, value in aligner.statistics_.items() if value.ndim == 0}
    if json_output:
        output.emit({"transform": str(out), "method": method, **numbers})
        return
    output.table(("statistic", "value"), [(name, f"{value:.6g}") for name, value in numbers.items()])
    print(f"transform: {out}")


def apply(transform: Path, texts: Path, out: Path, *, json_output: bool) -> None:
    """Move a file of text embeddings, block by block."""
    aligner, source = EmbeddingAligner.load(transform), open_embeddings(texts)
    if out.suffix not in SUFFIXES or out.resolve() == texts.resolve():
        raise AlignmentError(
            "the moved texts need a file of their own",
            got=str(out),
            expected=f"another name, ending in one of {', '.join(SUFFIXES)}",
        )
    num, size = source.shape
    with _bar("moving texts", num) as advance, writing(out, (num, size)) as rows:
        aligner.transform(source, out=rows, notify=advance)
    if json_output:
        output.emit({"embeddings": str(out), "rows": num, "size": size})
    else:
        print(f"{num} embeddings: {out}")


def report(images: Path, texts: Path, transform: Path | None, out: Path, *, limit: int, json_output: bool) -> None:
    """Measure the gap, before and after a transform, and draw it."""
    pictures, words = open_embeddings(images), open_embeddings(texts)
    clouds: dict[str, Source] = {"texts": words}
    if transform is not None:
        aligner = EmbeddingAligner.load(transform)
        clouds[f"texts, {aligner.method}"] = aligner.transform(words)
    found = measure_all(pictures, clouds, original="texts", limit=limit)
    path = write_report(out, pictures, clouds, found)
    if json_output:
        output.emit({"report": str(path), **{name: one.as_dict() for name, one in found.items()}})
    else:
        _show(found)
        print(f"report: {path}")


def embed(recipe: Path, overrides: Sequence[str], *, out: Path, json_output: bool) -> None:
    """Make two files of embeddings from a recipe."""
    from askesis.alignment.embedding import EmbedRecipe
    from askesis.alignment.embedding import embed as make
    from askesis.recipe.load import resolve

    resolved = resolve(EmbedRecipe, recipe, overrides)
    made = make(resolved.recipe, out, notify=lambda line: print(line, file=sys.stderr, flush=True))
    if json_output:
        output.emit({**made._asdict(), "recipe_hash": resolved.hash})
        return
    print(f"{made.num_images} images and {made.num_texts} texts of size {made.size}")
    print(f"next: askesis align fit {made.images} {made.texts} --out {out / 'realign.safetensors'}")


def _show(found: dict[str, GapReport]) -> None:
    keys = list(next(iter(found.values())).as_dict())
    rows = [
        (key, *("–" if (value := one.as_dict()[key]) is None else f"{value:.4g}" for one in found.values()))
        for key in keys
    ]
    output.table(("measure", *found), rows)


class _Counted:
    """A source that tells how many rows are read from it."""

    def __init__(self, source: Source, advance: Callable[[int], None]) -> None:
        self._source, self._advance = source, advance
        self.shape = source.shape

    def __getitem__(self, rows: slice) -> Any:
        found = self._source[rows]
        self._advance(len(found))
        return found


@contextmanager
def _bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda rows: progress.advance(task, rows)
