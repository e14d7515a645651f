"""Sampled sessions as a page shows them: what to show, what to cut, and how probable each token was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import escape

from askesis.training.report.data import SampleGroup, SampleTrace, TokenView
from askesis.training.report.text import clip, visible

__all__ = ["GroupView", "MemberView", "Span", "group_views", "token_class"]

MAX_GROUPS = 24
MAX_MEMBERS = 16
HEAD_TOKENS = 400
TAIL_TOKENS = 200
TOKEN_CHARACTERS = 120
PROMPT_CHARACTERS = 4000
SAMPLES_BYTES = 1_500_000
"""What all samples may take of the page, after escaping."""
# What stands around a text: tags, tooltips, and the short texts that are cut in the template.
_SPAN_BYTES = 90
_MEMBER_BYTES = 1500
_GROUP_BYTES = 4000
_CLASSES = ((0.9, "p4"), (0.5, "p3"), (0.2, "p2"), (0.05, "p1"), (0.0, "p0"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A token that the policy sampled, or a run of text that it did not (``css`` is empty then)."""

    text: str
    css: str = ""
    title: str = ""
    cut: int = 0
    """Not text at all: this many tokens are left out here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberView:
    """One session: ``prompt`` is what preceded the first sampled token."""

    trace: SampleTrace
    prompt: str
    num_prompt: int
    num_sampled: int
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """A task with its sessions; ``left_out`` sessions are not shown."""

    group: SampleGroup
    question: str
    members: Sequence[MemberView]
    left_out: int


class _Budget:
    """Bytes that are left for samples."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, text: str, overhead: int = 0) -> bool:
        """Spend what ``text`` costs on the page; False if it does not fit any more."""
        cost = len(str(escape(visible(text))).encode()) + overhead
        if cost > self.left:
            self.left = 0
            return False
        self.left -= cost
        return True


def group_views(groups: Sequence[SampleGroup]) -> tuple[list[GroupView], int]:
    """The groups that fit, and how many do not."""
    budget, views = _Budget(SAMPLES_BYTES), []
    for group in groups[:MAX_GROUPS]:
        question = clip(group.question, PROMPT_CHARACTERS)
        if not budget.take(question, _GROUP_BYTES):
            break
        members = [_member(trace, budget) for trace in group.members[:MAX_MEMBERS] if budget.take("", _MEMBER_BYTES)]
        left_out = len(group.members) - len(members)
        views.append(GroupView(group=group, question=question, members=members, left_out=left_out))
    return views, len(groups) - len(views)


def _member(trace: SampleTrace, budget: _Budget) -> MemberView:
    tokens = list(trace.tokens)
    start = next((i for i, token in enumerate(tokens) if token.sampled), len(tokens))
    prompt = clip("".join(token.text for token in tokens[:start]), PROMPT_CHARACTERS)
    return MemberView(
        trace=trace,
        prompt=prompt if budget.take(prompt) else "(left out: the page is full)",
        num_prompt=start,
        num_sampled=sum(token.sampled for token in tokens),
        spans=_spans(tokens[start:], budget),
    )


def _spans(tokens: Sequence[TokenView], budget: _Budget) -> list[Span]:
    """The first and the last tokens; what lies between is counted, not shown. The answer usually stands at the end."""
    if len(tokens) <= HEAD_TOKENS + TAIL_TOKENS:
        return _fill(tokens, budget)
    middle = len(tokens) - HEAD_TOKENS - TAIL_TOKENS
    head, tail = tokens[:HEAD_TOKENS], tokens[-TAIL_TOKENS:]
    return [*_fill(head, budget), Span(text="", cut=middle), *_fill(tail, budget)]


def _fill(tokens: Sequence[TokenView], budget: _Budget) -> list[Span]:
    spans: list[Span] = []
    for place, token in enumerate(tokens):
        text = clip(token.text, TOKEN_CHARACTERS)
        if not budget.take(text, _SPAN_BYTES):
            return [*spans, Span(text="", cut=len(tokens) - place)]
        if token.sampled:
            spans.append(Span(text=text, css=token_class(token), title=_title(token)))
        elif spans and not spans[-1].css and not spans[-1].cut:
            spans[-1] = Span(text=spans[-1].text + text)
        else:
            spans.append(Span(text=text))
    return spans


def token_class(token: TokenView) -> str:
    """Style of a sampled token: from ``p4``, probability at least 0.9, to ``p0``, below 0.05; ``px`` if not known."""
    if token.logprob is None or not math.isfinite(token.logprob):
        css = "px"
    else:
        probability = math.exp(min(0.0, token.logprob))
        css = next(name for floor, name in _CLASSES if probability >= floor)
    return f"{css} nl" if "\n" in token.text and not token.text.strip() else css


def _title(token: TokenView) -> str:
    parts = [] if token.id is None else [f"id {token.id}"]
    if token.logprob is None or not math.isfinite(token.logprob):
        parts.append("log-prob not known")
    else:
        parts.append(f"log-prob {token.logprob:.3f}, {100 * math.exp(min(0.0, token.logprob)):.3g} %")
    return ", ".join(parts)
