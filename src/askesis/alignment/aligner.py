"""The aligner: fit on unpaired images and texts, move texts, keep the transform in a safetensors file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from askesis.alignment.checks import AlignmentError, Array, Source, blocks, check_pair, check_source, unit_rows
from askesis.alignment.methods import METHODS, Options, find_method
from askesis.alignment.moments import moments_of
from askesis.alignment.stages import Stage, apply_fast, apply_stages

__all__ = ["METHODS", "EmbeddingAligner"]

FORMAT_VERSION = 1


class EmbeddingAligner:
    """Moves text embeddings to where image embeddings of the same encoder are.

    A transform is valid only for the encoder and the domain that it was fitted on.

    Args:
        method: one of :data:`METHODS`.
        encoder: what made the embeddings, in words; kept in the file.
        options: constants of the methods, see :class:`askesis.alignment.methods.Options`.

    After :meth:`fit`: ``stages_``, and ``statistics_``, the method's numbers by name: ``mu_x`` and ``mu_y`` [d],
    ``t_x``, ``t_y``, ``n_x``, ``n_y``, and for ReAlign ``scale`` and ``centroid`` [d].

    Raises:
        AlignmentError: no such method or option, embeddings that cannot be aligned.
    """

    def __init__(self, method: str = "realign", *, encoder: str = "", **options: Any) -> None:
        self.method = method
        self.encoder = encoder
        self._how = find_method(method)
        try:
            self.options = Options(**options)
        except TypeError:
            known = ", ".join(Options.__dataclass_fields__)
            raise AlignmentError("there is no such option", got=", ".join(options), expected=known) from None
        self.stages_: tuple[Stage, ...] = ()
        self.statistics_: dict[str, Array] = {}

    def fit(self, images: Source, texts: Source) -> Self:
        """Gather the statistics of images [n, d] and texts [m, d]; rows need not correspond, nor n and m be equal."""
        check_pair(images, texts)
        wanted = self._how.needs_covariance
        x = moments_of(images, name="images", covariance=wanted)
        y = moments_of(texts, name="texts", covariance=wanted)
        if wanted:
            _refuse_deficient(x.count, y.count, len(x.mean), self.method)
        self.stages_, found = self._how.fit(x, y, texts, self.options)
        plain = {"t_x": x.trace, "t_y": y.trace, "n_x": x.count, "n_y": y.count}
        self.statistics_ = {
            "mu_x": x.mean,
            "mu_y": y.mean,
            **{name: np.asarray(value, dtype=np.float64) for name, value in plain.items()},
            **found,
        }
        return self

    def transform(
        self,
        texts: Source,
        *,
        out: NDArray[np.float32] | None = None,
        notify: Callable[[int], None] = lambda rows: None,
    ) -> NDArray[np.float32]:
        """Texts [m, d], of any length, as unit vectors [m, d] among the images.

        Args:
            texts: embeddings of the encoder that the aligner was fitted on.
            out: where to write, for example a memory-mapped file; a new array by default.
            notify: told how many rows a finished block has.
        """
        if not self.stages_:
            raise AlignmentError("this aligner is not fitted", next_step="call fit(images, texts), or load a file")
        num, size = check_source(texts, "texts")
        if size != len(self.stages_[0].shift):
            raise AlignmentError(
                "this transform is for embeddings of another size",
                got=size,
                expected=len(self.stages_[0].shift),
                next_step="use the encoder that the transform was fitted on",
            )
        moved = np.empty((num, size), dtype=np.float32) if out is None else out
        simple = all(stage.is_simple for stage in self.stages_)
        for first, rows in blocks(texts):
            here = moved[first : first + len(rows)]
            if simple:
                apply_fast(self.stages_, rows, here, first)
            else:
                unit = unit_rows(rows, name="texts", first=first)
                here[:] = apply_stages(self.stages_, unit, first, seed=self.options.seed)
            notify(len(rows))
        return moved

    def fit_transform(self, images: Source, texts: Source) -> NDArray[np.float32]:
        """Fit, then move the same texts."""
        return self.fit(images, texts).transform(texts)

    def save(self, path: Path) -> None:
        """Write the transform as safetensors: float64 tensors, and its description as JSON in the header."""
        from safetensors.numpy import save_file

        if not self.stages_:
            raise AlignmentError("this aligner is not fitted", next_step="call fit(images, texts) first")
        tensors = {f"statistics.{name}": np.asarray(value) for name, value in self.statistics_.items()}
        for number, stage in enumerate(self.stages_):
            tensors[f"stages.{number}.shift"] = stage.shift
            if stage.matrix is not None:
                tensors[f"stages.{number}.matrix"] = stage.matrix
        about = {
            "format_version": FORMAT_VERSION,
            "method": self.method,
            "encoder": self.encoder,
            "options": asdict(self.options),
            "stages": [{"scale": stage.scale, "sigma": stage.sigma} for stage in self.stages_],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        ready = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        save_file(ready, path, metadata={"askesis.alignment": json.dumps(about, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> EmbeddingAligner:
        """Read a transform. AlignmentError when the file is no transform of this format."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {}).get("askesis.alignment", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        except (OSError, SafetensorError, json.JSONDecodeError) as error:
            raise AlignmentError(
                "the transform cannot be read",
                where=str(path),
                got=str(error),
                expected="a file of `askesis align fit`",
            ) from error
        if about.get("format_version") != FORMAT_VERSION:
            raise AlignmentError(
                "this file holds no transform of this format",
                where=str(path),
                got=about.get("format_version"),
                expected=FORMAT_VERSION,
                next_step="`askesis align fit` makes one",
            )
        aligner = cls(about["method"], encoder=about["encoder"], **about["options"])
        aligner.stages_ = tuple(
            Stage(
                scale=said["scale"],
                sigma=said["sigma"],
                shift=tensors[f"stages.{number}.shift"],
                matrix=tensors.get(f"stages.{number}.matrix"),
            )
            for number, said in enumerate(about["stages"])
        )
        prefix = "statistics."
        aligner.statistics_ = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        return aligner


def _refuse_deficient(num_x: int, num_y: int, size: int, method: str) -> None:
    """A covariance of d dimensions needs more than d rows; with fewer, whitening blows noise up."""
    if min(num_x, num_y) <= size:
        raise AlignmentError(
            f"{method} needs more rows than dimensions: the clouds are rank-deficient",
            got=f"{num_x} images and {num_y} texts of size {size}",
            expected=f"at least {size + 1} of each",
            next_step="embed more, or use realign, which needs no covariance",
        )
