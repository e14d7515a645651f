"""One file per paper that sets its method against baselines, and the harness that runs and judges them."""

from askesis.claims.study import Arm, Direction, Metric, Part, Plan, Role, Scale, Setting, Study

__all__ = ["Arm", "Direction", "Metric", "Part", "Plan", "Role", "Scale", "Setting", "Study"]
