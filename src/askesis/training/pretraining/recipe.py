"""What a pretraining run is made of. Every field has a unit and a range; unknown keys are errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from askesis.recipe.load import resolve

__all__ = [
    "DataSection",
    "EvaluationSection",
    "ModelSection",
    "PretrainRecipe",
    "SearchSection",
    "TrainingSection",
    "load_pretrain_recipe",
]

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSection(_Section):
    """The Qwen3 shape; embeddings are tied."""

    policy: str | None = None
    """Go on from this policy (built in, a folder, or a name on the Hugging Face Hub), which brings its shape and its
    tokenizer. None: from nothing.
    """
    vocab_size: Count = 768
    layers: Count = 4
    hidden: Count = 128
    heads: Count = 4
    kv_heads: Count = 2
    head_dim: Count = 32
    mlp: Count = 384
    max_positions: Count = 8192

    @model_validator(mode="after")
    def _policy_has_a_shape(self) -> ModelSection:
        given = sorted(self.model_fields_set - {"policy"})
        if self.policy is not None and given:
            raise ValueError(f"model.policy = {self.policy!r} has a shape of its own; leave out {', '.join(given)}")
        return self

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelSection:
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads must divide heads, got heads = {self.heads}, kv_heads = {self.kv_heads}")
        return self


class DataSection(_Section):
    """What is demonstrated, and how often."""

    seed: int = 0
    families: dict[str, Annotated[float, Field(gt=0)]] = Field(default={"chain_sum": 1.0}, min_length=1)
    """Family name -> relative number of items."""
    think_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """How often nano should choose to think. Drawn independently of the question."""
    think_items: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """The share of items that are demonstrated with steps. Thinking needs more practice than ``think_share`` alone
    would give; the loss weight of the first token, which makes the choice, corrects for the difference."""
    dialogue_share: Share = 0.05
    tokenizer_items: Count = 500
    """Items per family (and dialogues) that the tokenizer is trained on."""


class SearchSection(_Section):
    """Demonstrations of searching in chain worlds, with everything in the context or with a compact memory.

    See :class:`askesis.environments.search.demonstrations.SearchDemonstrations`.
    """

    share: Share = 0.0
    """Of all demonstrations. 0: none, and no search is evaluated."""
    hops: list[Count] = Field(default=[1, 2], min_length=1)
    """Facts that the questions take, drawn from with equal chance."""
    wrong_share: Share = 0.15
    """Look-ups of which a wrong name is taken."""
    early_share: Share = 0.25
    """Turns before the last fact that answer."""
    memory_share: Share = 0.5
    """Demonstrations with a compact memory."""
    max_searches: Count = 4
    """Shown of an episode with everything in its context; what comes after them is left out."""
    evaluated_hops: list[Count] = Field(default=[1, 2, 3], min_length=1)
    evaluated_tasks: Count = 200
    """Held-out questions for each number of hops and each context."""


class TrainingSection(_Section):
    """The optimiser's run. Rows are packed with whole demonstrations that do not see each other."""

    tokens: Count = 10_000_000
    """Tokens of demonstrations, prompts included and padding not."""
    rows: Count = 13
    row_tokens: Count = 160
    lr_peak: Annotated[float, Field(gt=0)] = 2e-3
    lr_end: Annotated[float, Field(gt=0)] = 1e-5
    warm_up_tokens: Annotated[int, Field(ge=0)] = 400_000
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    clip: Annotated[float, Field(gt=0)] = 1.0
    threads: Count = 1
    compile: bool = False
    """Fuse the model's small operations with torch.compile: a fifth faster on one thread; needs a C++ compiler."""
    seed: int = 0
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 5.0


class EvaluationSection(_Section):
    """The table that ends a run."""

    items: Count = 200
    """Held-out questions per family."""
    seed: int = 1
    max_new_tokens: Count = 112


class PretrainRecipe(_Section):
    """Everything that decides the weights, given the number of threads and the library versions."""

    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    search: SearchSection = SearchSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()


def load_pretrain_recipe(path: Path | None, overrides: Sequence[str] = ()) -> PretrainRecipe:
    """Merge defaults, a TOML file and ``section.key=value`` overrides, and check the result.

    Raises:
        RecipeError: the file is missing or not TOML, a key is unknown, or a value has the wrong type or range.
    """
    return resolve(PretrainRecipe, path, overrides).recipe
