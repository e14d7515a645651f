"""Sessions of a small chain world, played by a script that also answers from states: for tests of these."""

from __future__ import annotations

from collections.abc import Callable

from askesis.agents import make_harness
from askesis.clock import VirtualClock
from askesis.engines import Sampling
from askesis.engines.scripted import ScriptedEngine
from askesis.environments import World, make_world
from askesis.gateway import Gateway
from askesis.policy.loading import Policy
from askesis.recipe.schema import AgentSection
from askesis.rollout import GroupSpec, RolloutRunner, RolloutSettings, StateEvaluator
from askesis.store import Group

Script = Callable[[str, int], str | Exception]


def chain(**options: object) -> World:
    return make_world("search", family="chain", level="nano", options={"retriever": "fts5", **options})


def index_of(world: World, hops: int) -> int:
    """The first training task of so many hops."""
    return next(i for i in range(200) if world.tasks.task("train", i).payload["hops"] == hops)


def solver(world: World, index: int, *, searches: int | None = None) -> Script:
    """Follows the task's facts, or fewer; from a state it answers with the last name that it was told.

    Right answers are read out of what the script was told, never out of the task.
    """
    facts = [fact.split() for fact in world.tasks.task("train", index).payload["facts"]]
    asked = [fact[1] for fact in facts][:searches]

    def script(prompt: str, seed: int) -> str:
        person, known = facts[0][3], 0
        seen = prompt[prompt.rindex("Who is") :]
        for relation in asked:
            mark = f"The {relation} of {person} is "
            if mark not in seen:
                break
            person, known = seen.split(mark, 1)[1].split(".")[0].strip(), known + 1
        if prompt.endswith("<answer>"):
            return f"{person}</answer> and more"
        return f"<answer>{person}</answer>" if known == len(asked) else f"<search>{person} {asked[known]}</search>"

    return script


def play(
    policy: Policy,
    world: World,
    index: int,
    script: Script,
    *,
    evaluator: StateEvaluator | None,
    size: int = 2,
    context_length: int = 4096,
    section: AgentSection | None = None,
    states_script: Script | None = None,
) -> Group:
    """One group of sessions with their states scored."""
    sampling = Sampling(max_tokens=120)

    def gateway(script: Script) -> Gateway:
        engine = ScriptedEngine(policy.template, script)
        return Gateway(engine, policy.template, sampling=sampling, context_length=context_length)

    clock = VirtualClock()
    runner = RolloutRunner(
        world,
        gateway(script),
        RolloutSettings(call_timeout_s=2.0),
        harness=make_harness(section or AgentSection(instruction="Search."), world.environment.tools()),
        clock=clock,
        states=evaluator,
        states_gateway=None if states_script is None else gateway(states_script),
    )
    spec = GroupSpec(
        group_id=f"r/train/0/{index}",
        run_id="r",
        purpose="train",
        step=0,
        task=world.tasks.task("train", index),
        size=size,
        seed=index,
    )
    (group,) = clock.run(runner.run([spec], policy_version=0))
    return group
