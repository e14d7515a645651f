"""A run, groups of every shape, and stores to put them in."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from askesis.store import Group, Member, RunRecord, Store
from askesis.store.schema import metadata
from askesis.trace import (
    Call,
    Failure,
    FailureOrigin,
    Message,
    StopReason,
    Task,
    ToolCall,
    Trace,
    TraceBuilder,
    Verdict,
    VerdictStatus,
)
from cluster.postgres import PostgresServer

_numbers = itertools.count()
RUN = RunRecord(run_id="R", recipe_hash="abc", recipe={"lr": 0.1}, seed=7, versions={"torch": "2.13.0"})
NASTY = "answer \0 \ud800 'x' \U0001f600\n"


def simple_trace(seed: int, prompt: list[int]) -> Trace:
    rng = np.random.default_rng(seed)
    call = Call(
        key=0,
        context=prompt,
        sampled=rng.integers(0, 5000, 30),
        logprobs=-rng.random(30),
        policy_version=3,
        messages=(Message(role="user", content="How much is 1 + 2?"),),
        reply=Message(role="assistant", content=NASTY),
        sampling={"temperature": 1.0},
    )
    return TraceBuilder([call]).finish(StopReason.TERMINATED)


def tool_trace() -> Trace:
    """Two turns with a tool, then a fork at the first context, then a second root."""
    ask = (Message(role="system", content="Be brief."), Message(role="user", content="What time is it?"))
    tool = ToolCall(id="c1", name="clock", arguments='{"zone": "UTC"}')
    answer = Message(role="tool", content="noon", tool_call_id="c1")
    calls = [
        Call(
            key=0,
            context=[1, 2],
            sampled=[7, 8],
            logprobs=[-0.5, -0.25],
            messages=ask,
            reply=Message(role="assistant", content="", tool_calls=(tool,)),
        ),
        Call(
            key=1,
            context=[1, 2, 7, 8, 4],
            sampled=[9],
            logprobs=[-2.0],
            messages=(answer,),
            reply=Message(role="assistant", content="Noon."),
        ),
        Call(
            key=2,
            context=[1, 2, 7, 5],
            sampled=[6],
            logprobs=[-1.0],
            messages=(Message(role="user", content="Hurry."),),
            reply=Message(role="assistant", content="Late."),
        ),
        Call(key=3, context=[3], sampled=[4], logprobs=[-0.125], finish="length"),
    ]
    return TraceBuilder(calls).finish(StopReason.MAX_TURNS, events=[{"tool": "clock", "ok": True}])


def make_group(number: int, *, members: int = 3, purpose: str = "train", run_id: str = "R") -> Group:
    prompt = [int(x) for x in np.random.default_rng(number).integers(0, 5000, 20)]
    good = {"status": VerdictStatus.OK, "evaluator": "exact/1", "completed": True, "evidence": {"said": NASTY}}
    failure = Failure(origin=FailureOrigin.EVALUATOR, kind="timeout", message=NASTY)
    verdicts = [
        Verdict(rewards={"correct": (1.0, 1.0), "format": (0.5, 0.2)}, step_rewards=(0.0, 1.0), **good),
        Verdict(status=VerdictStatus.ERROR, evaluator="exact/1", error=failure),
        Verdict(status=VerdictStatus.PENDING, evaluator="later/1", due_at=12.5),
    ]
    failed = TraceBuilder().finish(StopReason.FAILED, failure=failure)
    traces = [simple_trace(100 * number, prompt), tool_trace(), failed]
    return Group(
        group_id=f"{run_id}/{purpose}/{number:06d}/000",
        run_id=run_id,
        purpose=purpose,
        step=number,
        task=Task(key=f"sum/{number}", environment="sums", payload={"q": NASTY, "n": number}, tags=("easy",)),
        members=tuple(
            Member(
                member_index=i,
                seed=2**62 + i,
                trace=traces[i] if i < 3 else simple_trace(100 * number + i, prompt),
                verdict=verdicts[i % 3],
                duration_s=None if i == 1 else 0.25 + i,
                policy_version=number,
            )
            for i in range(members)
        ),
    )


@pytest.fixture
def group() -> Callable[..., Group]:
    return make_group


@pytest.fixture
def run() -> RunRecord:
    return RUN


@pytest.fixture(scope="session")
def _templates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An empty store, and one with a bit of everything; copied, since making them costs more than a test."""
    folder = tmp_path_factory.mktemp("stores")
    Store.open(folder / "empty.db").close()
    with Store.open(folder / "full.db") as full:
        full.add_run(RUN)
        for number in range(4):
            full.append_group(make_group(number))
        full.append_group(make_group(9, purpose="evaluation"))
        full.append_verdict(
            "R/train/000000/000/2",
            Verdict(status=VerdictStatus.OK, evaluator="later/1", rewards={"r": (2.0, 1.0)}, completed=False),
        )
        full.consume("R", ["R/train/000000/000", "R/train/000001/000"], step=1)
        for step in range(5):
            full.log_metrics("R", step, {"loss": 1.0 / (step + 1), "reward": None})
        full.write_head(folder / "full.heads")
    return folder / "empty.db", folder / "full.db"


@pytest.fixture
def new_url(server: PostgresServer) -> Iterator[Callable[[], str]]:
    """Makes databases with an empty store; gives their URLs."""
    made: list[str] = []

    def make() -> str:
        made.append(f"store_{next(_numbers)}")
        server.sql(f"CREATE DATABASE {made[-1]} TEMPLATE empty")
        return server.url(made[-1])

    yield make
    for name in made:
        server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def _cleaning(server: PostgresServer) -> str:
    """Statements that make the database ``clean`` an empty store again; cheaper than a new database for each test."""
    server.sql("CREATE DATABASE clean TEMPLATE empty")
    tables = [t.name for t in reversed(metadata.sorted_tables) if t.name not in ("meta", "log_state")]
    statements = [f"DELETE FROM {name}" for name in tables]
    return "; ".join([*statements, "UPDATE log_state SET size = 0, frontier = ''"])


@pytest.fixture
def clean_url(server: PostgresServer, _cleaning: str) -> str:
    """The URL of an empty store; each test has it for itself."""
    server.sql(_cleaning, "clean")
    return server.url("clean")


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store with one run: in a file, or wherever an indirect parameter says."""
    target: Path | str
    if getattr(request, "param", "sqlite") == "postgresql":
        target = request.getfixturevalue("clean_url")
    else:
        target = tmp_path / "store.db"
        shutil.copy(request.getfixturevalue("_templates")[0], target)
    with Store.open(target) as opened:
        opened.add_run(RUN)
        yield opened


@pytest.fixture
def full(_templates: tuple[Path, Path], tmp_path: Path) -> Path:
    """A closed store with a bit of everything; its head lies in ``full.heads`` beside it."""
    shutil.copy(_templates[1], tmp_path / "full.db")
    shutil.copy(_templates[1].with_suffix(".heads"), tmp_path / "full.heads")
    return tmp_path / "full.db"
