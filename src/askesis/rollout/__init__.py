"""Many sessions at once: groups, deadlines, typed failures."""

from askesis.rollout.runner import GroupSpec, RolloutRunner, RolloutSettings, usable_members
from askesis.rollout.session import Outcome, run_session

__all__ = ["GroupSpec", "Outcome", "RolloutRunner", "RolloutSettings", "run_session", "usable_members"]
