"""From what a policy wrote to a reward: the rules of Search-R1 and of MemSearcher, as functions of texts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from askesis.agents.parsing import balanced, blocks, last_boxed
from askesis.environments.reasoning.extract import extract_answer
from askesis.environments.search.scoring import exact_match, f1, normalise

__all__ = ["Segment", "is_well_structured", "memory_format_problem", "memory_reward", "structured_reward"]

_TAG = re.compile(r"<(/?)(think|search|information|answer)>")
_NEXT = {"start": {"think"}, "think": {"search", "answer"}, "search": {"information"}, "information": {"think"}}


class Segment(NamedTuple):
    """A stretch of an episode: what the policy wrote, or what it was told in return."""

    text: str
    by_policy: bool


def is_well_structured(segments: Sequence[Segment]) -> bool:
    """think, then any number of (search, information, think), then answer; nothing but space between the tags.

    Search-R1 v0.3, arXiv 2505.15117. Unlike there, an ``information`` is what really came back, whatever stands in it,
    and one that the policy wrote itself is a fault.
    """
    state = "start"
    for segment in segments:
        if not segment.by_policy:
            if state != "search":
                return False
            state = "information"
            continue
        for name in _tags(segment.text):
            if name == "information" or name not in _NEXT.get(state, ()):
                return False
            state = name
    return state == "answer"


def _tags(text: str) -> list[str]:
    """Names of the blocks of a text in order; a name that fits nowhere stands for a fault."""
    names, place, is_open = [], 0, ""
    for mark in _TAG.finditer(text):
        closes, name = bool(mark[1]), mark[2]
        if not is_open and text[place : mark.start()].strip():
            return ["stray"]
        if closes != bool(is_open) or (closes and name != is_open):
            return ["stray"]
        if closes:
            names.append(name)
        is_open, place = ("" if closes else name), mark.end()
    return ["stray"] if is_open or text[place:].strip() else names


def structured_reward(
    segments: Sequence[Segment],
    golds: Sequence[str],
    *,
    answer: str | None,
    format_weight: float = 0.2,
    final_weight: float = 0.1,
    retrieval_weight: float = 0.0,
) -> float:
    """Search-R1 v0.3's reward: exact match, softened by the structure of the episode.

    Args:
        segments: of the episode.
        golds: right answers.
        answer: the policy's, None without one.
        format_weight: what a right answer loses without structure, and what a wrong one gets with it.
        final_weight: for a wrong answer without structure.
        retrieval_weight: further, for a wrong answer with structure after a right passage was seen.
    """
    is_valid = is_well_structured(segments)
    if answer is not None and exact_match(answer, golds):
        return 1.0 if is_valid else 1.0 - format_weight
    if is_valid:
        told = [normalise(s.text) for s in segments if not s.by_policy]
        has_gold = any(normalise(gold) in text for gold in golds for text in told)
        return format_weight + retrieval_weight * has_gold
    return 0.0 if answer is None else final_weight


def memory_format_problem(replies: Sequence[str], *, thinks: bool, boxed: bool) -> str | None:
    r"""What is wrong with the policy's messages in the last conversation, or None.

    MemSearcher, arXiv 2511.02805, released code: equal counts of think tags in each, and one in the first; equal counts
    of the tags of calls; every ``<tool_call>`` of the first is JSON and names "name" and "arguments"; the last holds
    ``\box``. With ``boxed`` False it must hold ``<answer>`` in its place; with ``thinks`` False no thought is needed.
    """
    if not replies:
        return "nothing was said"
    for tag in ("think", "tool_call", "search"):
        if any(text.count(f"<{tag}>") != text.count(f"</{tag}>") for text in replies):
            return f"unbalanced <{tag}>"
    if thinks and "<think>" not in replies[0]:
        return "no <think> in the first message"
    if any(not _is_call(block) for block in blocks(replies[0], "tool_call")) or not balanced(replies[0], "tool_call"):
        return "a tool call is not JSON with a name and arguments"
    if ("\\box" if boxed else "<answer>") not in replies[-1]:
        return "no answer in the last message"
    return None


def _is_call(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return "name" in text and "arguments" in text


def memory_reward(
    replies: Sequence[str],
    golds: Sequence[str],
    *,
    ended: bool,
    thinks: bool = True,
    boxed: bool = True,
    floor: float = 0.1,
) -> float:
    """MemSearcher's reward: 0 for a broken form, else F1 of the last message's answer, or ``floor`` when F1 is 0.

    An F1 between 0 and ``floor`` stays as it is, as in the released code: there it is worse than a wrong answer.

    Args:
        replies: what the policy wrote in the last conversation, in order.
        golds: right answers.
        ended: the last message ended by itself, and not by a limit.
        thinks: thinking is asked for.
        boxed: how the answer is marked; False means by ``<answer>``.
        floor: for a wrong answer in the right form.
    """
    if not ended or memory_format_problem(replies, thinks=thinks, boxed=boxed) is not None:
        return 0.0
    answer = last_boxed(replies[-1]) if boxed else extract_answer(replies[-1])
    return f1(answer or "", golds) or floor
