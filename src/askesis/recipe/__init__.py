"""Recipes: typed configuration from a TOML file and dotted overrides; nothing unknown is ever accepted."""

from askesis.recipe.asynchronous import AsynchronousSection
from askesis.recipe.load import Resolved, Row, load_recipe, resolve
from askesis.recipe.schema import (
    NOT_HASHED,
    AlgorithmSection,
    EngineSection,
    EnvironmentSection,
    EvaluationSection,
    ObserveSection,
    PolicySection,
    Recipe,
    RolloutSection,
    RunSection,
    SamplingSection,
    Section,
    StatesSection,
    StoreSection,
    TrainingSection,
)

__all__ = [
    "NOT_HASHED",
    "AlgorithmSection",
    "AsynchronousSection",
    "EngineSection",
    "EnvironmentSection",
    "EvaluationSection",
    "ObserveSection",
    "PolicySection",
    "Recipe",
    "Resolved",
    "RolloutSection",
    "Row",
    "RunSection",
    "SamplingSection",
    "Section",
    "StatesSection",
    "StoreSection",
    "TrainingSection",
    "load_recipe",
    "resolve",
]
