"""Who changes the weights."""

from askesis.learners.batch import Row, Sample, TokenTable, rows_of
from askesis.learners.critic import CriticSettings
from askesis.learners.gradient import GradientLearner, LearnerSettings, UpdateReport

__all__ = [
    "CriticSettings",
    "GradientLearner",
    "LearnerSettings",
    "Row",
    "Sample",
    "TokenTable",
    "UpdateReport",
    "rows_of",
]
