"""Question-answering data sets in their published forms, read by the package ``datasets``.

Known: Natural Questions, HotpotQA, 2WikiMultihopQA, MuSiQue, Bamboogle, PopQA and TriviaQA, as their authors publish
them or as FlashRAG republishes them (``question``, ``golden_answers``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from askesis.environments.search.tasks import Question
from askesis.errors import MissingExtra, RecipeError

__all__ = ["QUESTION_SETS", "load_questions", "question_of"]

_FLASHRAG = "RUC-NLPIR/FlashRAG_datasets"
QUESTION_SETS: Mapping[str, tuple[str, str]] = {
    "nq": (f"{_FLASHRAG}:nq:train", f"{_FLASHRAG}:nq:test"),
    "hotpotqa": (f"{_FLASHRAG}:hotpotqa:train", f"{_FLASHRAG}:hotpotqa:dev"),
    "triviaqa": (f"{_FLASHRAG}:triviaqa:train", f"{_FLASHRAG}:triviaqa:test"),
    "popqa": ("", f"{_FLASHRAG}:popqa:test"),
    "2wikimultihopqa": (f"{_FLASHRAG}:2wikimultihopqa:train", f"{_FLASHRAG}:2wikimultihopqa:dev"),
    "musique": (f"{_FLASHRAG}:musique:train", f"{_FLASHRAG}:musique:dev"),
    "bamboogle": ("", f"{_FLASHRAG}:bamboogle:test"),
}
"""Name of a data set -> where its training and its evaluation questions are, if nothing else is said."""

_BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


def load_questions(name: str, source: str) -> list[Question]:
    """The questions of ``source``: a file (JSON, JSONL, CSV, TSV, Parquet), or ``NAME:CONFIGURATION:SPLIT`` on the Hub.

    Questions that their authors mark as unanswerable are left out.

    Raises:
        MissingExtra: the package ``datasets`` is not installed.
        RecipeError: the source cannot be read, or a record is of no known form.
    """
    found = []
    for number, record in enumerate(_records(source)):
        if record.get("answerable") is False:
            continue
        found.append(question_of(record, where=f"{source}, record {number}", fallback_id=f"{name}-{number}"))
    if not found:
        raise RecipeError("there is no question", where=source)
    return found


def _records(source: str) -> Iterator[Mapping[str, Any]]:
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtra("datasets", "search", "reading question sets") from error
    path = Path(source)
    try:
        # Streamed: nothing is copied into a cache, and a file that has changed is read anew.
        if path.suffix in _BUILDERS:
            options: dict[str, Any] = {"sep": "\t"} if path.suffix == ".tsv" else {}
            files = {"data_files": str(path), "split": "train", "streaming": True}
            yield from datasets.load_dataset(_BUILDERS[path.suffix], **files, **options)
            return
        hub = source.split(":")
        if len(hub) != 3:
            raise RecipeError(
                "a source of questions is neither a file nor a data set",
                where="environment.options",
                got=source,
                expected=f"a file ending in {', '.join(_BUILDERS)}, or NAME:CONFIGURATION:SPLIT",
            )
        yield from datasets.load_dataset(hub[0], hub[1] or None, split=hub[2], streaming=True)
    except RecipeError:
        raise
    except Exception as error:  # the package's readers raise many types for a missing or a broken file
        raise RecipeError(
            "the questions cannot be read", where=source, got=f"{type(error).__name__}: {error}"
        ) from error


def question_of(record: Mapping[str, Any], *, where: str, fallback_id: str) -> Question:
    """One record of any known form. A question that does not end in a question mark gets one (Search-R1).

    Raises RecipeError for a record without a question or without an answer.
    """
    text = record.get("question", record.get("Question"))
    golds = _golds(record)
    if not isinstance(text, str) or not text.strip() or not golds:
        raise RecipeError(
            "a record holds no question with an answer",
            where=where,
            got=sorted(record),
            expected="question and golden_answers, or the form in which the data set's authors publish it",
        )
    text = text.strip()
    identifier = next((record[key] for key in ("id", "_id", "question_id") if record.get(key) is not None), fallback_id)
    kind = record.get("type")
    return Question(
        id=str(identifier),
        text=text if text.endswith("?") else f"{text}?",
        golds=tuple(golds),
        tags=(kind,) if isinstance(kind, str) else (),
    )


def _golds(record: Mapping[str, Any]) -> list[str]:
    """All answers that count, the main one first, without repetition."""
    if "golden_answers" in record:
        found = _texts(record["golden_answers"])
    elif "possible_answers" in record:
        found = _listed(record["possible_answers"])
    else:
        found = _texts(record.get("answer", record.get("Answer")))
    return list(dict.fromkeys([*found, *_texts(record.get("answer_aliases"))]))


def _listed(value: object) -> list[str]:
    """PopQA keeps its answers as a JSON list in a text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    return _texts(value)


def _texts(value: object) -> list[str]:
    """The answers in a text, a number, a list of them, or TriviaQA's mapping of a value and its aliases."""
    if isinstance(value, Mapping):
        return [*_texts(value.get("value")), *_texts(value.get("aliases"))]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [text for entry in value for text in _texts(entry)]
    if isinstance(value, str) and value.strip():
        return [value.strip()]
    return [str(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []
