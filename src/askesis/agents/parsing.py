"""Finding tags in what a policy wrote. Nothing here raises, and all of it takes time linear in the text."""

from __future__ import annotations

from itertools import pairwise

__all__ = ["balanced", "blocks", "first_block", "last_boxed"]


def balanced(text: str, tag: str) -> bool:
    """As many ``<tag>`` as ``</tag>``, and the k-th of the first before the k-th of the second."""
    openers, closers = _places(text, f"<{tag}>"), _places(text, f"</{tag}>")
    return len(openers) == len(closers) and all(o < c for o, c in zip(openers, closers, strict=True))


def blocks(text: str, tag: str) -> list[str]:
    """Contents of all ``<tag>…</tag>`` that hold no further ``<tag>``, stripped; none when the tags are unbalanced.

    As in MemSearcher's released code (arXiv 2511.02805).
    """
    if not balanced(text, tag):
        return []
    opener, closer = f"<{tag}>", f"</{tag}>"
    found = []
    marks = sorted([(place, True) for place in _places(text, opener)] + [(p, False) for p in _places(text, closer)])
    for (start, is_open), (end, still_open) in pairwise(marks):
        if is_open and not still_open:
            found.append(text[start + len(opener) : end].strip())
    return found


def first_block(text: str, tag: str) -> str | None:
    """Content of the first ``<tag>…</tag>`` of balanced tags, stripped; None without one or when it is empty."""
    found = blocks(text, tag)
    return (found[0] or None) if found else None


def last_boxed(text: str) -> str | None:
    r"""Content of the last ``\boxed{…}`` or ``\fbox{…}`` with balanced braces, or of ``\boxed x``; None without one."""
    place = text.rfind("\\boxed")
    if place < 0:
        place = text.rfind("\\fbox")
    if place < 0:
        return None
    rest = text[place:].removeprefix("\\boxed").removeprefix("\\fbox")
    if rest.startswith(" "):
        words = rest.split("$", 1)[0].strip()
        return words or None
    if not rest.startswith("{"):
        return None
    depth = 0
    for index, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:index].strip()
    return None


def _places(text: str, mark: str) -> list[int]:
    """Where ``mark`` begins in ``text``, ascending."""
    found = []
    place = text.find(mark)
    while place >= 0:
        found.append(place)
        place = text.find(mark, place + len(mark))
    return found
