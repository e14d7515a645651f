"""One self-contained HTML file, a Markdown summary and a JSON headline of a run.

All three come from one :class:`ReportData`. Nothing here reads a store or a model.
"""

from __future__ import annotations

from askesis.training.report.data import (
    Estimate,
    Evaluation,
    FailureCount,
    RecipeRow,
    ReportData,
    SampleGroup,
    SampleTrace,
    SelfCheck,
    TokenView,
)
from askesis.training.report.headline import headline_json
from askesis.training.report.html import to_html
from askesis.training.report.markdown import to_markdown

__all__ = [
    "Estimate",
    "Evaluation",
    "FailureCount",
    "RecipeRow",
    "ReportData",
    "SampleGroup",
    "SampleTrace",
    "SelfCheck",
    "TokenView",
    "headline_json",
    "to_html",
    "to_markdown",
]
