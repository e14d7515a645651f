"""A world of one's own from three functions: one that asks, those that are tools, and one that judges.

For anything that does not fit here, write the protocol's classes (:mod:`askesis.environments.protocol`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from askesis.agents.tools import Toolbox
from askesis.environments.protocol import SEAT, Capabilities, Done, ToolResult, Turn, World
from askesis.environments.reasoning.extract import extract_answer
from askesis.environments.reasoning.split import split_of
from askesis.errors import EnvironmentFault, RecipeError
from askesis.gateway.session import Session
from askesis.streams import generator
from askesis.trace.tree import Trace
from askesis.trace.types import Failure, FailureOrigin, Message, Task, ToolCall, ToolSpec, Verdict, VerdictStatus

__all__ = ["Question", "QuestionEnvironment", "Tool", "is_same", "question_world"]

Tool = Callable[..., object]
"""A function with typed parameters, plain or async; see :class:`askesis.agents.Toolbox`."""

_SPLITS = ("train", "held_out")
_PATIENCE = 1000  # questions of the other split, or repeated ones, in a row after which there are taken to be no more
_SHOWN = 500  # characters of an answer that are kept


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the right answer."""

    text: str
    answer: str


def is_same(given: str, right: str) -> float:
    """1 when both texts are the same but for case and outer space, else 0."""
    return float(given.strip().casefold() == right.strip().casefold())


def question_world(
    name: str,
    ask: Callable[[np.random.Generator], Question],
    *,
    tools: Sequence[Tool] = (),
    score: Callable[[str, str], float] = is_same,
    instruction: str = "",
    seed: int = 0,
) -> World:
    """A world that asks a question, offers tools, and judges what stands in the last ``<answer>…</answer>``.

    Args:
        name: of the world; a recipe that trains in it has it as ``environment.name``.
        ask: draws a question from the generator and from nothing else. A quarter of the questions, by their text, is
            held out.
        tools: what the policy may call between its replies.
        score: ``score(given, right)`` from 0 to 1; 1 is solved. It is not called without an answer, which gets 0.
        instruction: system message before that of the harness.
        seed: of the stream of questions.
    """
    return World(
        name=name,
        environment=QuestionEnvironment(tools, instruction=instruction),
        evaluator=_Evaluator(score_of=score, version=f"{name}/1"),
        tasks=_Tasks(name=name, ask=ask, seed=seed),
    )


class QuestionEnvironment:
    """Shows ``task.payload["question"]``, below ``instruction`` unless that is empty, and ends with the first reply
    that the harness passes on.
    """

    capabilities = Capabilities()

    def __init__(self, tools: Sequence[Tool] = (), *, instruction: str = "") -> None:
        self._opening = (Message(role="system", content=instruction),) if instruction else ()
        self._open: set[str] = set()
        self._toolbox = Toolbox(tools)

    async def reset(self, session: Session) -> Turn:
        """The instruction and the question."""
        self._open.add(session.id)
        return Turn(seats={SEAT: (*self._opening, Message(role="user", content=session.task.payload["question"]))})

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """Always the end."""
        if session.id not in self._open:
            raise EnvironmentFault(
                "a step in a session that is not open",
                where=f"session {session.id}",
                expected="reset once, then one step",
                next_step="do not step after Done",
            )
        self._open.remove(session.id)
        return Done.terminated()

    def tools(self) -> tuple[ToolSpec, ...]:
        """In their order."""
        return self._toolbox.specs

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """Run a tool; wrong arguments and what it raises are shown to the policy."""
        return await self._toolbox.call(call)

    async def close(self, session: Session) -> None:
        """Forget the session."""
        self._open.discard(session.id)


@dataclass(frozen=True, kw_only=True)
class _Evaluator:
    score_of: Callable[[str, str], float]
    version: str

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """A verdict; ERROR when there is no reply."""
        said = [call.reply.content for call in trace.calls if call.reply is not None]
        if not said:
            failure = Failure(origin=FailureOrigin.EVALUATOR, kind="no_reply", message="the trace holds no reply")
            return Verdict(status=VerdictStatus.ERROR, evaluator=self.version, error=failure)
        answers = [answer for answer in map(extract_answer, said) if answer is not None]
        value = float(self.score_of(answers[-1], str(task.payload["answer"]))) if answers else 0.0
        shown = answers[-1][:_SHOWN].encode("utf-8", "replace").decode() if answers else None
        return Verdict(
            status=VerdictStatus.OK,
            evaluator=self.version,
            rewards={"score": (value, 1.0)},
            completed=value >= 1.0,
            evidence={"answer": shown},
        )


@dataclass(frozen=True, kw_only=True)
class _Tasks:
    name: str
    ask: Callable[[np.random.Generator], Question]
    seed: int

    def task(self, split: str, index: int) -> Task:
        """Question ``index``. RecipeError when ``ask`` hardly ever gives one of this split."""
        if split not in _SPLITS:
            raise RecipeError("unknown split", where=self.name, got=split, expected=" or ".join(_SPLITS))
        rng = generator(self.seed, "own", self.name, split, index)
        for _ in range(_PATIENCE):
            question = self.ask(rng)
            if split_of(question.text) == split:
                return Task(
                    key=f"{self.name}/{split}/{index}",
                    environment=self.name,
                    payload={"question": question.text, "answer": question.answer},
                    seed=self.seed,
                    split=split,
                )
        raise RecipeError(
            f"the world {self.name} has no question for the split {split}",
            where="ask",
            expected="many different questions: a quarter of them, by their text, is held out",
        )

    def num_tasks(self, split: str) -> int | None:
        """None: they are drawn on demand."""
        return None

    def distinct_tasks(self, split: str, n: int) -> list[Task]:
        """The first ``n`` with different questions; fewer when 1000 in a row bring no new one."""
        found: dict[str, Task] = {}
        index = repeats = 0
        while len(found) < n and repeats < _PATIENCE:
            task = self.task(split, index)
            question = task.payload["question"]
            repeats = repeats + 1 if question in found else 0
            found.setdefault(question, task)
            index += 1
        return list(found.values())
