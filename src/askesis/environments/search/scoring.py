"""Comparing a short answer with the right ones, as the question-answering community does (SQuAD).

The rules are those of the search-agent papers (Search-R1, arXiv 2503.09516): punctuation is deleted and not replaced by
a space, so ``twenty-one`` is not ``twenty one``. They are kept because published figures use them.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence

__all__ = ["exact_match", "f1", "normalise", "sub_exact_match"]

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = frozenset({"a", "an", "the"})
_CLOSED = frozenset({"yes", "no", "noanswer"})


def normalise(text: str) -> str:
    """Lower case, ASCII punctuation deleted, the words a, an and the dropped, single spaces."""
    words = text.lower().translate(_NO_PUNCTUATION).split()
    return " ".join(word for word in words if word not in _ARTICLES)


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1 if ``prediction`` equals one of ``golds`` once both are normalised, else 0."""
    return float(normalise(prediction) in {normalise(gold) for gold in golds})


def sub_exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1 if one of ``golds`` occurs in ``prediction`` once both are normalised, else 0."""
    said = normalise(prediction)
    return float(any(normalise(gold) in said for gold in golds))


def f1(prediction: str, golds: Sequence[str]) -> float:
    """The best of the harmonic means of precision and recall over words, between 0 and 1.

    Yes, no and noanswer count only when they are the whole of both sides.
    """
    return max((_f1(normalise(prediction), normalise(gold)) for gold in golds), default=0.0)


def _f1(said: str, gold: str) -> float:
    if said != gold and (said in _CLOSED or gold in _CLOSED):
        return 0.0
    said_words, gold_words = said.split(), gold.split()
    common = sum((Counter(said_words) & Counter(gold_words)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(said_words), common / len(gold_words)
    return 2 * precision * recall / (precision + recall)
