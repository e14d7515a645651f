"""Pretraining of the built-in policy ``nano`` on generated demonstrations. Importing this package loads torch."""

from askesis.training.pretraining.evaluate import FamilyScore, evaluate, table
from askesis.training.pretraining.loop import PretrainResult, Progress, pretrain
from askesis.training.pretraining.recipe import PretrainRecipe, load_pretrain_recipe

__all__ = [
    "FamilyScore",
    "PretrainRecipe",
    "PretrainResult",
    "Progress",
    "evaluate",
    "load_pretrain_recipe",
    "pretrain",
    "table",
]
