"""Many sessions at once: groups, deadlines, typed failures."""

from askesis.rollout.runner import GroupSpec, RolloutRunner, RolloutSettings, usable_members
from askesis.rollout.session import Outcome, run_session
from askesis.rollout.states import ANSWER, StateEvaluator

__all__ = [
    "ANSWER",
    "GroupSpec",
    "Outcome",
    "RolloutRunner",
    "RolloutSettings",
    "StateEvaluator",
    "run_session",
    "usable_members",
]
