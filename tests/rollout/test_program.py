"""Black-box programs: recorded token-exact, judged, and failed with a cause; never a reward of 0 for a failure."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import openai.resources.chat.completions  # or the first session would pay for it with its time
import pytest

from askesis.clock import SystemClock
from askesis.engines import Sampling
from askesis.engines.scripted import ScriptedEngine
from askesis.environments import World, make_world
from askesis.environments.program.spec import AgentFunction, Assignment, Command, Program
from askesis.errors import EngineError
from askesis.gateway import Gateway
from askesis.policy.loading import Policy
from askesis.rollout import GroupSpec, RolloutRunner, RolloutSettings
from askesis.rollout.program import open_programs
from askesis.store import Member
from askesis.trace import Budgets, FailureOrigin, StopReason, VerdictStatus

FEW = Budgets(turns=3)
ROOT = Path(__file__).parents[2]
CALLING = """
import json, os, sys, urllib.request
def ask(**fields):
    body = {"model": os.environ["OPENAI_MODEL"], "messages": [{"role": "user", "content": sys.stdin.read()}], **fields}
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions", json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": "Bearer " + os.environ["OPENAI_API_KEY"]})
    return json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"]
"""
"""A client of the standard library: it starts faster than OpenAI's."""


def right(text: str, seed: int) -> str:
    """The answer to a sum."""
    question = text.rpartition("problem:")[2].partition("=")[0]
    return (
        f"<answer>{sum(int(part) for part in question.replace('-', '+-').replace(' ', '').split('+') if part)}</answer>"
    )


def play(
    policy: Policy,
    agent: Command | AgentFunction,
    script: Callable[[str, int], str | Exception] = lambda text, seed: f"<answer>{seed % 7}</answer>",
    *,
    size: int = 1,
    budgets: Budgets = FEW,
    delay_s: float = 0.0,
    context_length: int = 500,
    judge: str = "reply",
    **program: Any,
) -> list[Member]:
    world = make_world(
        "program", family="chain_sum", level="nano", instruction="", options={"command": ["true"], "judge": judge}
    )
    world = replace(world, program=Program(agent=agent, **program))
    engine = ScriptedEngine(policy.template, script, delay_s=delay_s)
    gateway = Gateway(engine, policy.template, sampling=Sampling(max_tokens=40), context_length=context_length)
    runner = RolloutRunner(world, gateway, RolloutSettings(budgets=budgets))
    spec = GroupSpec(
        group_id="g", run_id="r", purpose="train", step=0, task=world.tasks.task("train", 0), size=size, seed=0
    )

    async def main() -> list[Member]:
        async with asyncio.timeout(60):
            (group,) = await runner.run([spec], policy_version=0)
        return list(group.members)

    return asyncio.run(main())


def script(tmp_path: Path, code: str, **options: Any) -> Command:
    path = tmp_path / "agent.py"
    path.write_text(CALLING + code)
    return Command(argv=(sys.executable, str(path)), **options)


async def ask(assignment: Assignment, times: int = 1, **fields: Any) -> str:
    """What an agent in our process does: calls over HTTP, with nothing but its assignment."""
    async with httpx.AsyncClient(timeout=30) as client:
        for _ in range(times):
            answer = await client.post(
                f"{assignment.base_url}/chat/completions",
                json={
                    "model": assignment.model,
                    "messages": [{"role": "user", "content": assignment.prompt}],
                    **fields,
                },
                headers={"authorization": f"Bearer {assignment.api_key}", "x-stainless-retry-count": "0"},
            )
            if answer.status_code != 200:
                raise RuntimeError(answer.text)
    return str(answer.json()["choices"][0]["message"]["content"])


def test_the_example_that_knows_only_openais_client_is_recorded_and_judged(tiny: Policy) -> None:
    command = Command(
        argv=(sys.executable, str(ROOT / "recipes/programs/agent.py")), preload=("openai.resources.chat.completions",)
    )
    members = play(tiny, command, right, size=3)
    for member in members:
        assert member.trace.stop is StopReason.TERMINATED, member.verdict
        (call,) = member.trace.calls
        branch = member.trace.branches()[0]
        assert branch.tokens.tolist() == [*call.context.tolist(), *call.sampled.tolist()]
        assert member.verdict.reward == 1.0
        (event,) = member.trace.events
        assert call.reply is not None and event["output"] == call.reply.content + "\n" and event["status"] == 0


def test_sessions_of_a_group_sample_differently(tiny: Policy) -> None:
    members = play(tiny, ask, size=6)
    assert len({tuple(m.trace.calls[0].sampled.tolist()) for m in members}) > 1


def test_a_function_is_a_program_too_and_its_output_can_be_judged(tiny: Policy) -> None:
    async def agent(assignment: Assignment) -> str:
        wrong = await ask(assignment)
        assert wrong == "wrong"
        return right(assignment.prompt, 0)

    (member,) = play(tiny, agent, lambda text, seed: "wrong", judge="output")
    assert member.verdict.reward == 1.0
    (member,) = play(tiny, agent, lambda text, seed: "wrong")
    assert member.verdict.reward == 0.0


def test_the_program_sees_the_question_and_not_the_answer(tiny: Policy, tmp_path: Path) -> None:
    code = "ask()\nprint(json.dumps([sys.argv, dict(os.environ), os.getcwd(), os.listdir()]))"
    (member,) = play(tiny, script(tmp_path, code), right)
    _, environment, folder, files = json.loads(member.trace.events[-1]["output"])
    assert files == [] and not Path(folder).exists()  # a folder of its own, gone afterwards
    assert environment.keys() >= {"OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"}
    assert not [name for name in environment if "ASKESIS" in name]


def test_the_prompt_can_be_an_argument(tiny: Policy, tmp_path: Path) -> None:
    command = script(tmp_path, "sys.stdin = __import__('io').StringIO(sys.argv[1])\nask()\nprint(sys.argv[1:])")
    command = replace(command, argv=(*command.argv, "Q: {prompt}", "{model}"))
    (member,) = play(tiny, command)
    assert member.trace.events[-1]["output"].startswith("['Q: State") or "Q: " in member.trace.events[-1]["output"]
    assert "'policy']" in member.trace.events[-1]["output"]


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        ("ask(); sys.exit(3)", "exit_status", "status 3"),
        ("ask(); raise ValueError('lost')", "exit_status", "ValueError: lost"),
        ("ask(); os.kill(os.getpid(), 11)", "killed", "SIGSEGV"),
        ("print('I say nothing')", "no_call", "without a word from the policy"),
        ("ask(); import time; time.sleep(1000)", "timeout", "worked for 1.5 s"),
        ("ask(temperature=0.3)", "exit_status", "HTTP Error 400"),
        ("ask(model='gpt-9')", "exit_status", "HTTP Error 404"),
    ],
)
def test_a_program_that_fails_has_a_cause_and_no_reward(
    tiny: Policy, tmp_path: Path, code: str, kind: str, text: str
) -> None:
    (member,) = play(tiny, script(tmp_path, code), right, timeout_s=1.5 if kind == "timeout" else 30.0)
    error = member.verdict.error
    assert member.verdict.status is VerdictStatus.ERROR and member.verdict.reward is None and error is not None
    assert (error.origin, error.kind) == (FailureOrigin.ENVIRONMENT, kind) and text in error.message
    assert member.trace.stop is StopReason.FAILED


def test_a_command_that_is_not_there_fails_its_session(tiny: Policy) -> None:
    (member,) = play(tiny, Command(argv=("no-such-program-anywhere",)))
    assert member.verdict.error is not None and member.verdict.error.kind == "exit_status"
    assert "No such file" in member.verdict.error.message


def test_a_function_that_raises_exits_or_hangs_fails_its_session(tiny: Policy) -> None:
    async def raises(assignment: Assignment) -> None:
        raise ValueError("lost")

    async def leaves(assignment: Assignment) -> None:
        sys.exit(3)

    async def hangs(assignment: Assignment) -> None:
        await ask(assignment)
        await asyncio.sleep(1e6)

    kinds = []
    for agent, timeout_s in ((raises, 30.0), (leaves, 30.0), (hangs, 0.5)):
        (member,) = play(tiny, agent, timeout_s=timeout_s)
        assert member.verdict.error is not None and member.verdict.reward is None
        kinds.append(member.verdict.error.kind)
    assert kinds == ["ValueError", "RuntimeError", "timeout"]


def test_time_that_the_policy_takes_does_not_count(tiny: Policy) -> None:
    (member,) = play(tiny, ask, right, delay_s=3.0, timeout_s=2.5)
    assert member.trace.stop is StopReason.TERMINATED


def test_a_spent_budget_cuts_the_session_which_is_still_judged(tiny: Policy) -> None:
    async def agent(assignment: Assignment) -> str:
        return await ask(assignment, times=9)

    for budgets, stop in (
        (Budgets(turns=2), StopReason.MAX_TURNS),
        (Budgets(tokens=20), StopReason.MAX_TOKENS),
    ):
        (member,) = play(tiny, agent, right, budgets=budgets)
        assert member.trace.stop is stop and member.verdict.reward == 1.0

    async def slow(assignment: Assignment) -> None:
        await ask(assignment)
        await asyncio.sleep(1e6)

    (member,) = play(tiny, slow, right, budgets=Budgets(seconds=3.0))
    assert member.trace.stop is StopReason.MAX_SECONDS and member.verdict.reward == 1.0


def test_a_full_context_before_the_first_word_is_no_reward(tiny: Policy) -> None:
    (member,) = play(tiny, ask, context_length=10)
    assert member.trace.stop is StopReason.CONTEXT_OVERFLOW and member.verdict.reward is None


def test_an_engine_that_fails_is_the_engines_fault(tiny: Policy) -> None:
    (member,) = play(tiny, ask, lambda text, seed: EngineError("out of order"))
    assert member.verdict.error is not None
    assert member.verdict.error.origin is FailureOrigin.ENGINE and "out of order" in member.verdict.error.message


def test_one_bad_program_does_not_disturb_the_others(tiny: Policy) -> None:
    count = 0

    async def agent(assignment: Assignment) -> str:
        nonlocal count
        count += 1
        if count == 2:
            raise ValueError("the second one")
        return await ask(assignment)

    members = play(tiny, agent, right, size=4)
    assert sorted(m.verdict.reward is None for m in members) == [False, False, False, True]


def test_a_key_opens_its_own_session_only_and_for_its_time_only(tiny: Policy) -> None:
    seen: list[Assignment] = []
    tried: list[bool] = []

    async def agent(assignment: Assignment) -> str:
        seen.append(assignment)
        while len(seen) < 2:
            await asyncio.sleep(0.01)
        if seen[0] is not assignment:
            while not tried:  # an ended session would be unknown, whatever the key
                await asyncio.sleep(0.01)
            return await ask(assignment)
        other = replace(seen[1], api_key=assignment.api_key)
        client = openai.AsyncOpenAI(base_url=other.base_url, api_key=other.api_key)
        async with client:
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
        tried.append(True)
        return await ask(assignment)

    members = play(tiny, agent, right, size=2)
    assert [len(m.trace.calls) for m in members] == [1, 1]


def test_a_world_without_a_program_opens_nothing(tiny: Policy) -> None:
    world: World = make_world("reasoning", family="chain_sum", level="nano")
    gateway = Gateway(ScriptedEngine(tiny.template, right), tiny.template, sampling=Sampling(), context_length=99)

    async def main() -> object:
        async with open_programs(world, gateway) as host:
            return host

    assert asyncio.run(main()) is None


def test_the_shipped_recipe_trains_the_example_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from askesis.recipe import load_recipe
    from askesis.store import Store
    from askesis.training.loop import train
    from askesis.training.preflight import prepare
    from askesis.training.progress import PlainProgress

    monkeypatch.chdir(ROOT)
    small = ["rollout.groups_per_step=1", "rollout.group_size=3", "training.steps=1", "training.warmup_steps=0"]
    resolved = load_recipe(
        ROOT / "recipes/programs/quickstart.toml", [*small, "evaluation.num_tasks=2", f"run.dir={tmp_path}/run"]
    )
    prepared = prepare(resolved)
    result = train(resolved, prepared.run, prepared.world, PlainProgress(io.StringIO(), clock=SystemClock()))
    assert result.after is not None and result.after.n == 2 and result.after.errors == 0
    with Store.open(prepared.run.store) as store:
        group = store.group(f"{result.run}/train/000000/0000")
    assert group is not None
    assert [m.trace.stop for m in group.members] == [StopReason.TERMINATED] * 3
    assert all("OPENAI" not in json.dumps(dict(e)) for m in group.members for e in m.trace.events)
    again = train(resolved, prepared.run, prepared.world, PlainProgress(io.StringIO(), clock=SystemClock()))
    assert again.after == result.after
