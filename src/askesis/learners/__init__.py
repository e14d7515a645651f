"""Who changes the weights."""

from askesis.learners.batch import Row, Sample, rows_of
from askesis.learners.gradient import GradientLearner, LearnerSettings, UpdateReport

__all__ = ["GradientLearner", "LearnerSettings", "Row", "Sample", "UpdateReport", "rows_of"]
