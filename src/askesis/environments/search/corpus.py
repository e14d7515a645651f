"""Passages that can be searched, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from askesis.errors import RecipeError

__all__ = ["Corpus", "Hit", "ListCorpus", "Passage", "read_jsonl_corpus", "render"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A titled text. ``contents`` is the form that retrieval services exchange: the title, a line break, the text."""

    id: str
    title: str
    text: str

    @property
    def contents(self) -> str:
        """Title line and text."""
        return f"{self.title}\n{self.text}"

    @classmethod
    def of_contents(cls, identifier: str, contents: str) -> Passage:
        """The inverse of :attr:`contents`; quotation marks around a title, as in the wiki-18 dump, are dropped."""
        title, _, text = contents.partition("\n")
        return cls(id=identifier, title=title.strip().strip('"'), text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage that was found. Higher scores fit better; scores of different retrievers cannot be compared."""

    passage: Passage
    score: float


class Corpus(Protocol):
    """Numbered passages. They may be made when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Passage: ...


class ListCorpus(tuple[Passage, ...]):
    """Passages in memory."""

    __slots__ = ()


def render(hits: Sequence[Hit]) -> str:
    """One line for each passage, best first, as in Search-R1: ``Doc 1(Title: T) text``."""
    lines = (f"Doc {rank}(Title: {h.passage.title}) {h.passage.text}" for rank, h in enumerate(hits, 1))
    return "\n".join(lines).strip()


def read_jsonl_corpus(path: Path) -> Corpus:
    """A corpus of one JSON object a line: ``id`` and ``contents``, or ``title`` and ``text``.

    Raises RecipeError, with the line, for a file that is missing or not of that form, and for an id that comes twice.
    """
    try:
        passages = ListCorpus(_passages(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError("the corpus cannot be read", where=str(path), got=str(error)) from error
    if not passages:
        raise RecipeError("the corpus is empty", where=str(path), expected="one JSON object a line")
    return passages


def _passages(path: Path) -> Iterator[Passage]:
    seen: set[str] = set()
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            passage = _passage(line, number, f"{path}, line {number}")
            if passage.id in seen:
                raise RecipeError("two passages have the same id", where=f"{path}, line {number}", got=passage.id)
            seen.add(passage.id)
            yield passage


def _passage(line: str, number: int, where: str) -> Passage:
    expected = 'an object with "contents", or "title" and "text", all strings'
    try:
        record = json.loads(line)
    except ValueError as error:
        raise RecipeError("a passage is not JSON", where=where, got=line, expected=expected) from error
    if not isinstance(record, dict):
        raise RecipeError("a passage is not an object", where=where, got=line, expected=expected)
    identifier = str(record.get("id", number - 1))
    if isinstance(record.get("contents"), str):
        return Passage.of_contents(identifier, record["contents"])
    if isinstance(record.get("text"), str) and isinstance(record.get("title", ""), str):
        return Passage(id=identifier, title=record.get("title", ""), text=record["text"])
    raise RecipeError("a passage has no text", where=where, got=line, expected=expected)
