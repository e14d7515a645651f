"""From a step's stored groups to what the learner learns from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from askesis.learners import Sample
from askesis.recipe import Recipe
from askesis.rollout import ANSWER, usable_members
from askesis.store import Group, Member
from askesis.training.groups import is_constant

__all__ = ["samples_of"]


def samples_of(groups: Sequence[Group], recipe: Recipe, *, drops_constant: bool) -> list[Sample]:
    """One sample for the acts of each judged session, and one for each answer that the policy drew from its states.

    So a session of T searches gives 1 + (T + 1) * ``states.answers`` samples. Answers are compared with those from the
    same state; a single one with the answers from the same depth of its group's sessions.

    Args:
        groups: of one step.
        recipe: how sessions are grouped and answers weigh.
        drops_constant: leave out groups whose rewards are all equal (dynamic sampling).
    """
    rollout = recipe.rollout
    found: list[Sample] = []
    answer_groups: dict[tuple[int, ...], int] = {}
    for number, group in enumerate(groups):
        if drops_constant and is_constant(group):
            continue
        for member in usable_members(group, rollout.missing_members, size=rollout.group_size):
            acts = _acts(group, member, number)
            if acts is None:
                continue
            found.append(acts)
            for place, (state, key, score) in enumerate(_answers(member, recipe)):
                is_single = recipe.states.answers == 1
                name = (number, state) if is_single else (number, member.member_index, state)
                found.append(
                    Sample(
                        trace_id=f"{acts.trace_id}/state {state}, answer {place}",
                        trace=member.trace,
                        reward=score,
                        group=answer_groups.setdefault(name, len(groups) + len(answer_groups)),
                        answer=key,
                        weight=recipe.states.answer_loss_weight,
                    )
                )
    return found


def _acts(group: Group, member: Member, number: int) -> Sample | None:
    verdict = member.verdict
    if verdict.reward is None:
        return None
    return Sample(
        trace_id=group.trace_id(member),
        trace=member.trace,
        reward=verdict.reward,
        group=number,
        step_rewards=verdict.step_rewards,
        states=verdict.states,
    )


def _answers(member: Member, recipe: Recipe) -> Iterator[tuple[int, int, float]]:
    """State, call and score of the answers that are trained on."""
    if recipe.states.answer_loss_weight == 0:
        return
    own = {call.key for call in member.trace.calls if call.fork is not None and call.fork.mode == ANSWER}
    for state in member.verdict.states:
        for key, score in state.answers:
            if key in own:
                yield state.state, key, score
