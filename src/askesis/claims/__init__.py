"""One file per paper that sets its method against baselines, and the harness that runs and judges them."""

from askesis.claims.claim import Arm, Claim, CurveLabel, Direction, Metric, Part, Plan, Role, Scale, Setting, Trial
from askesis.claims.experiment import Experiment
from askesis.claims.study import Study

__all__ = [
    "Arm",
    "Claim",
    "CurveLabel",
    "Direction",
    "Experiment",
    "Metric",
    "Part",
    "Plan",
    "Role",
    "Scale",
    "Setting",
    "Study",
    "Trial",
]
