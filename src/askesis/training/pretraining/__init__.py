"""Pretraining of the built-in policies on generated demonstrations. Importing this package loads torch."""

from askesis.training.pretraining.evaluate import FamilyScore, evaluate, table
from askesis.training.pretraining.loop import PretrainResult, Progress, pretrain
from askesis.training.pretraining.recipe import PretrainRecipe, load_pretrain_recipe
from askesis.training.pretraining.search_scores import SearchScore, search_table

__all__ = [
    "FamilyScore",
    "PretrainRecipe",
    "PretrainResult",
    "Progress",
    "SearchScore",
    "evaluate",
    "load_pretrain_recipe",
    "pretrain",
    "search_table",
    "table",
]
