"""TRL's ``rollout_func``: our gateway samples whole sessions from TRL's model, token-exact; TRL learns from them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from askesis.agents.harness import End, Harness
from askesis.clock import SystemClock
from askesis.environments.protocol import Done, Turn, World, validate_turn
from askesis.errors import BudgetExhausted, ContextOverflow, EnvironmentFault, RecipeError
from askesis.gateway.session import Session
from askesis.streams import seed_of
from askesis.trace.types import Budgets, StopReason

if TYPE_CHECKING:
    from askesis.gateway.gateway import Endpoint, Gateway
    from askesis.trace.tree import Trace

__all__ = ["rollout_func", "rollout_reward"]

_REWARD = "world_reward"


def rollout_func(
    world: World, *, split: str = "train", max_turns: int = 16, harness: Harness | None = None
) -> Callable[[Sequence[Any], Any], dict[str, list[Any]]]:
    """What ``GRPOTrainer(rollout_func=...)`` takes; give it ``reward_funcs=[rollout_reward]`` as well.

    The prompt of a row is the number of a task in ``split``, as a text: ``{"prompt": "3"}``. What the policy is shown
    is the world's. ``max_completion_length`` is what a session may sample, over all its turns, of which there are
    ``max_turns`` at most. What the world says in between comes with ``env_mask`` 0, so TRL does not learn from it.

    A session that fails has an empty answer and the reward None, which TRL leaves out. Mixed precision is refused
    (RecipeError): the log-probabilities would not be those of the model that learns.
    """
    leader = harness or Harness()

    def roll(prompts: Sequence[Any], trainer: Any) -> dict[str, list[Any]]:
        played = asyncio.run(_play_all(world, leader, split, max_turns, [_number(p) for p in prompts], trainer))
        return {
            "prompt_ids": [p.prompt for p in played],
            "completion_ids": [p.completion for p in played],
            "logprobs": [p.logprobs for p in played],
            "env_mask": [p.mask for p in played],
            _REWARD: [p.reward for p in played],
        }

    return roll


def rollout_reward(*, world_reward: Sequence[float | None], **_: object) -> list[float | None]:
    """The verdicts' rewards, a reward function for TRL."""
    return list(world_reward)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    prompt: list[int]
    completion: list[int]
    logprobs: list[float]
    mask: list[int]
    """1: sampled by the policy."""
    reward: float | None


def _number(prompt: Any) -> int:
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    if not text.strip().isdecimal():
        raise EnvironmentFault(
            "a prompt is no number of a task",
            where="rollout_func",
            got=text,
            expected='rows such as {"prompt": "3"}',
        )
    return int(text)


async def _play_all(
    world: World, leader: Harness, split: str, max_turns: int, numbers: Sequence[int], trainer: Any
) -> list[_Sample]:
    from askesis.engines.embedded import EmbeddedEngine  # torch
    from askesis.engines.protocol import Sampling
    from askesis.gateway.gateway import Gateway
    from askesis.policy.loading import Policy
    from askesis.policy.template import ChatTemplate

    args, tokenizer = trainer.args, trainer.processing_class
    if args.bf16 or args.fp16:
        raise RecipeError(
            "TRL would learn in another precision than the answers are sampled in",
            where="GRPOConfig",
            got=f"bf16={args.bf16}, fp16={args.fp16}",
            expected="bf16=False, fp16=False",
            next_step="for half precision load the model itself in it: dtype=torch.bfloat16",
        )
    model = trainer.accelerator.unwrap_model(trainer.model)
    template = ChatTemplate(tokenizer)
    policy = Policy(name="trl", model=model, tokenizer=tokenizer, template=template, device=model.device)
    sampling = Sampling(
        temperature=args.temperature,
        top_p=args.top_p,
        top_k=args.top_k or 0,
        max_tokens=args.max_completion_length,
    )
    was_training = model.training
    model.eval()
    engine = EmbeddedEngine(policy)
    gateway = Gateway(engine, template, sampling=sampling, context_length=policy.context_length)
    try:
        return await asyncio.gather(
            *(
                _play(
                    world,
                    gateway,
                    leader,
                    _session(world, split, number, place, max_turns, trainer),
                    filler=template.stop_ids[0],
                )
                for place, number in enumerate(numbers)
            )
        )
    finally:
        await engine.close()
        model.train(was_training)


def _session(world: World, split: str, number: int, place: int, max_turns: int, trainer: Any) -> Session:
    task = world.tasks.task(split, number)
    step = int(trainer.state.global_step)
    return Session(
        id=f"trl-{step}-{place}",
        task=task,
        group_id=f"trl-{step}-{number}",
        member_index=place,
        seed=seed_of(trainer.args.seed, "trl", step, place),
        policy_version=step,
        budgets=Budgets(turns=max_turns, tokens=trainer.args.max_completion_length),
        clock=SystemClock(),
    )


async def _play(world: World, gateway: Gateway, leader: Harness, session: Session, *, filler: int) -> _Sample:
    """One session as TRL wants it. Whatever goes wrong in it costs its reward only."""
    with gateway.holding(session):
        endpoint = gateway.open(session)
        try:
            stop = await _lead(world, endpoint, leader, session)
            trace = endpoint.close(stop)
            reward = (await world.evaluator.score(trace, session.task)).reward if trace.calls else None
        except Exception:  # of any world; TRL knows no other form of a failure
            trace, reward = endpoint.close(StopReason.FAILED), None
        finally:
            await world.environment.close(session)
    return _sample(trace, reward, filler)


async def _lead(world: World, endpoint: Endpoint, leader: Harness, session: Session) -> StopReason:
    turn = validate_turn(await world.environment.reset(session), where="reset")
    agent = None
    try:
        while isinstance(turn, Turn):
            if len(turn.seats) != 1:
                raise EnvironmentFault("TRL plays worlds for one seat", got=sorted(turn.seats))
            ((seat, fresh),) = turn.seats.items()
            if turn.info:
                endpoint.note({"event": "turn", "info": dict(turn.info)})
            if agent is None:
                agent = leader.seat(endpoint, partial(world.environment.call_tool, session, seat), name=seat)
            act = await agent.act(fresh)
            if isinstance(act, End):
                return act.stop
            turn = validate_turn(await world.environment.step(session, {seat: act}))
    except BudgetExhausted as error:
        return StopReason(error.reason)
    except ContextOverflow:
        return StopReason.CONTEXT_OVERFLOW
    assert isinstance(turn, Done)
    endpoint.note({"event": "done", "reason": turn.reason, "info": dict(turn.info)})
    return turn.stop


def _sample(trace: Trace, reward: float | None, filler: int) -> _Sample:
    branches = trace.branches()
    if len(branches) != 1:  # several contexts are no single sequence, and no call at all is none
        return _Sample(prompt=[filler], completion=[filler], logprobs=[0.0], mask=[0], reward=None)
    branch = branches[0]
    start = len(trace.calls[0].context)
    return _Sample(
        prompt=branch.tokens[:start].tolist(),
        completion=branch.tokens[start:].tolist(),
        logprobs=branch.logprobs[start:].tolist(),
        mask=branch.sampled[start:].astype(int).tolist(),
        reward=reward,
    )
