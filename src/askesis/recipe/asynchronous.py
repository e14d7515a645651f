"""The section of a recipe that lets sampling and learning overlap."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from askesis.recipe.section import Section

__all__ = ["AsynchronousSection"]


class AsynchronousSection(Section):
    """Sampling goes on while the learner computes, from weights that may be older; see docs/asynchronous.md."""

    enabled: bool = False
    max_staleness: int = Field(default=2, ge=0)
    """Versions: how many updates may lie between the oldest weights that sampled a token of a group and those that
    learn from it. 0: sampling waits for every update.
    """
    admission: Literal["strict", "bounded", "corrected"] = "bounded"
    """What becomes of a group that grew too old while its sessions lasted. ``strict``: it is counted, and not trained
    on; ``bounded``: the learner waits for slow groups before they can grow too old; ``corrected``: it is trained on,
    with truncated importance weights.
    """
    partial_rollouts: bool = True
    """New weights are taken between two tokens, and sessions go on with them. False: they are taken when no session is
    in play, and no group is begun before that; by workers of a cluster, before their next group.
    """
    max_ahead: int = Field(default=0, ge=0)
    """Groups in play or waiting at most. 0: rollout.groups_per_step * (max_staleness + 1), more than which could not be
    used in time.
    """
    max_weight: float = Field(default=2.0, gt=0)
    """Largest importance weight of a token, for ``admission = "corrected"``; 2 as in truncated importance sampling
    (Yao et al. 2025).
    """

    @model_validator(mode="after")
    def _is_used(self) -> AsynchronousSection:
        """A value that would be ignored is a mistake of whoever gave it."""
        fields = AsynchronousSection.model_fields
        given = [name for name in fields if name != "enabled" and getattr(self, name) != fields[name].default]
        if not self.enabled and given:
            raise ValueError(f"{', '.join(given)}: set asynchronous.enabled=true, or leave it out")
        if self.admission != "corrected" and self.max_weight != fields["max_weight"].default:
            raise ValueError(
                f"max_weight={self.max_weight}: admission={self.admission} weighs nothing; set "
                "asynchronous.admission=corrected, or leave it out"
            )
        return self
