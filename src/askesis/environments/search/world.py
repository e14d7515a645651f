"""The world ``search``: generated chains of facts, or a question-answering data set with a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from askesis.environments.protocol import TaskSource, World
from askesis.environments.search.chain import MAX_RELATIONS, ChainWorld
from askesis.environments.search.corpus import Corpus, read_jsonl_corpus
from askesis.environments.search.environment import SearchEnvironment
from askesis.environments.search.evaluator import Reward, SearchEvaluator
from askesis.environments.search.question_sets import QUESTION_SETS, load_questions
from askesis.environments.search.retrievers import make_retriever
from askesis.environments.search.states import SearchAnswers
from askesis.environments.search.tasks import ENVIRONMENT, ChainTasks, QuestionTasks
from askesis.errors import RecipeError, did_you_mean

__all__ = ["ChainOptions", "QuestionSetOptions", "SearchOptions", "make"]

Options = TypeVar("Options", bound="SearchOptions")

_NANO = {
    "num_entities": 400,
    "num_relations": MAX_RELATIONS,
    "distinct": True,
    "possessive": True,
    "max_hops": 2,
    "top_k": 2,
}
"""What the built-in policy ``nano-search`` was shown."""


class SearchOptions(BaseModel):
    """Options of every family."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    retriever: str = "bm25"
    """``bm25`` (extra ``search``), ``fts5``, ``dense`` or ``http``."""
    url: str = ""
    """Of the service, for ``http``."""
    encoder: str = ""
    """Model of ``dense``."""
    top_k: int = Field(default=3, ge=1, le=10)
    """Passages per search, when the policy does not say."""
    reward: Reward = "em"
    answer: Literal["tag", "boxed"] = "tag"
    r"""How the final answer is marked: ``<answer>…</answer>`` or ``\boxed{…}``."""
    thinks: bool = True
    """The reward ``memory`` asks for a thought."""


class ChainOptions(SearchOptions):
    """Options of the family ``chain``."""

    num_entities: int = 20_000
    """People; with 4 relations and 1 of noise there are five facts about each."""
    num_relations: int = Field(default=4, ge=1, le=MAX_RELATIONS)
    num_noise: int = 1
    """Kinds of facts that no question is about."""
    grouped: bool = False
    """One passage holds all facts of a person."""
    distinct: bool = False
    """No question asks for the same kind of fact twice."""
    possessive: bool = False
    """*Who is Kalimo's friend's boss?* in place of *Who is the boss of the friend of Kalimo?*"""
    min_hops: int = Field(default=1, ge=1)
    max_hops: int = Field(default=3, ge=1, le=32)
    """Facts that an answer takes."""

    @model_validator(mode="after")
    def _hops_fit(self) -> ChainOptions:
        if self.min_hops > self.max_hops:
            raise ValueError(f"min_hops={self.min_hops} is above max_hops={self.max_hops}")
        if self.distinct and self.max_hops > self.num_relations:
            raise ValueError(f"distinct: max_hops={self.max_hops} is above num_relations={self.num_relations}")
        return self


class QuestionSetOptions(SearchOptions):
    """Options of the data sets."""

    train: str = ""
    """File or ``NAME:CONFIGURATION:SPLIT`` of the Hub. Empty: FlashRAG's training questions, where there are any."""
    held_out: str = ""
    """The same for evaluation."""
    corpus: str = ""
    """JSONL file of passages; not for ``retriever = "http"``."""


def make(*, family: str, level: str, options: Mapping[str, Any], seed: int, instruction: str | None) -> World:
    """A world of one family; see :func:`askesis.environments.make_world`.

    Args:
        family: ``chain`` (generated), a name of :data:`QUESTION_SETS`, or ``questions`` (files of that form).
        level: ``nano`` makes chains small enough for the built-in policy.
        options: those of :class:`ChainOptions` or :class:`QuestionSetOptions`.
        seed: of the facts and of the order of tasks.
        instruction: system message before that of the harness (``agent.instruction``).
    """
    tasks: TaskSource
    corpus: Corpus | None
    chosen: SearchOptions
    if family == "chain":
        chain = _checked(ChainOptions, {**(_NANO if level == "nano" else {}), **options})
        world = ChainWorld(
            num_entities=chain.num_entities,
            num_relations=chain.num_relations,
            num_noise=chain.num_noise,
            is_grouped=chain.grouped,
            is_distinct=chain.distinct,
            is_possessive=chain.possessive,
            seed=seed,
        )
        hops = tuple(range(chain.min_hops, chain.max_hops + 1))
        chosen, corpus, tasks = chain, world, ChainTasks(world=world, hops=hops, seed=seed)
    elif family in QUESTION_SETS or family == "questions":
        files = _checked(QuestionSetOptions, dict(options))
        chosen, tasks = files, _questions(family, files, seed)
        corpus = read_jsonl_corpus(Path(files.corpus)) if files.corpus else None
    else:
        known = ("chain", "questions", *QUESTION_SETS)
        raise RecipeError(
            f"the world search has no family called {family!r}",
            where="environment.family",
            got=family,
            expected=", ".join(known),
            next_step=did_you_mean(family, known),
        )
    retriever = make_retriever(chosen.retriever, corpus, url=chosen.url, encoder=chosen.encoder)
    return World(
        name=ENVIRONMENT,
        environment=SearchEnvironment(retriever, top_k=chosen.top_k, instruction=instruction or ""),
        evaluator=SearchEvaluator(reward=chosen.reward, boxed=chosen.answer == "boxed", thinks=chosen.thinks),
        tasks=tasks,
        answer_mode=_answer_mode(chosen),
    )


def _answer_mode(options: SearchOptions) -> SearchAnswers | None:
    """Only where an answer by itself has a reward: the other rewards look at the whole episode."""
    if options.answer != "tag" or (options.reward != "em" and options.reward != "f1"):
        return None
    return SearchAnswers(reward=options.reward)


def _questions(family: str, files: QuestionSetOptions, seed: int) -> QuestionTasks:
    published = QUESTION_SETS.get(family, ("", ""))
    sources = {"train": files.train or published[0], "held_out": files.held_out or published[1]}
    if not any(sources.values()):
        raise RecipeError(
            "there is nothing to read questions from",
            where="environment.options",
            expected="train, held_out, or both",
        )
    found = {split: load_questions(family, source) if source else [] for split, source in sources.items()}
    return QuestionTasks(name=family, train=found["train"], held_out=found["held_out"], seed=seed)


def _checked(kind: type[Options], given: Mapping[str, Any]) -> Options:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise RecipeError(
            "an option of the world search is wrong",
            where=f"environment.options{'.' * bool(name)}{name}",
            got=first["input"],
            expected=", ".join(kind.model_fields) if first["type"] == "extra_forbidden" else first["msg"],
            next_step=did_you_mean(name, kind.model_fields),
        ) from error
