"""Scoring a policy that searches: every context and number of hops."""

from __future__ import annotations

from pathlib import Path

from askesis.training.preflight import open_world
from askesis.training.pretraining.search_scores import SearchScore, evaluate_searching, search_recipe, search_table


def test_every_context_and_number_of_hops(tiny_folder: Path) -> None:
    scores = evaluate_searching(tiny_folder, [1, 2], tasks=2, seed=1)
    assert [(s.context, s.hops) for s in scores] == [(c, h) for c in ("full", "compact_memory") for h in (1, 2)]
    assert all(s.tasks == 2 and 0 <= s.greedy <= 1 and 0 <= s.sampled <= 1 for s in scores)


def test_its_questions_have_that_many_facts_and_its_limits_leave_room_for_them() -> None:
    recipe = search_recipe("nano", context="compact_memory", hops=5, tasks=2, temperature=0.0, seed=0)
    assert open_world(recipe).tasks.task("held_out", 0).payload["hops"] == 5
    assert recipe.agent.max_tool_calls >= 5 and recipe.rollout.max_turns >= 2 * 5 + 1


def test_the_table_has_a_line_for_each() -> None:
    score = SearchScore(context="full", hops=2, tasks=10, greedy=0.5, sampled=0.25)
    header, line = search_table([score]).splitlines()
    assert header.split() == ["search,", "context", "hops", "greedy", "T=1"] and line.split()[-3:] == [
        "2",
        "50.0",
        "25.0",
    ]
