"""ReAlign: bring text embeddings into the place of image embeddings, from unpaired statistics alone."""

from askesis.alignment.aligner import METHODS, EmbeddingAligner
from askesis.alignment.checks import AlignmentError
from askesis.alignment.gap import GapReport, measure_gap
from askesis.alignment.moments import Moments, moments_of

__all__ = ["METHODS", "AlignmentError", "EmbeddingAligner", "GapReport", "Moments", "measure_gap", "moments_of"]
