"""Against the real package. It needs older releases than we do, so it lives in an environment of its own:

python -m venv /path && /path/bin/pip install openenv
ASKESIS_OPENENV_PYTHON=/path/bin/python pytest tests/environments/adapters/openenv/test_real.py
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

PYTHON = os.environ.get("ASKESIS_OPENENV_PYTHON", "")
if not PYTHON:
    pytest.skip("ASKESIS_OPENENV_PYTHON names no Python with openenv", allow_module_level=True)

from askesis.environments import check_environment, make_world  # noqa: E402
from askesis.environments.adapters.episode import Episode  # noqa: E402
from askesis.environments.adapters.openenv import make_app  # noqa: E402
from askesis.environments.fakes import make_echo_world  # noqa: E402
from askesis.errors import EnvironmentFault  # noqa: E402
from askesis.trace.types import StopReason  # noqa: E402

START_S = 300.0

GAME = '''
import sys
import uvicorn
from openenv.core.env_server import Action, Environment, Observation, State, create_app

class Guess(Action):
    number: int

class Seen(Observation):
    hint: str = ""

class Game(Environment):
    """Guess the last digit of the seed; the third wrong guess truncates."""
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self._state = State()

    def reset(self, seed=None, episode_id=None, **kwargs):
        self.number, self._state = (seed or 0) % 10, State()
        return Seen(hint="guess")

    def step(self, action, timeout_s=None, **kwargs):
        self._state.step_count += 1
        if action.number == self.number:
            return Seen(hint="right", reward=1.0, done=True)
        if self._state.step_count == 3:
            return Seen(hint="late", reward=0.0, done=True, metadata={"truncated": True})
        return Seen(hint="wrong", reward=-0.25)

    @property
    def state(self):
        return self._state

app = create_app(Game, Guess, Seen, max_concurrent_envs=2)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical")
'''

CLIENT = """
import json, sys
from openenv.core import GenericEnvClient

with GenericEnvClient(base_url=sys.argv[1]).sync() as env:
    first = env.reset(seed=3)
    words = [first.observation["text"].splitlines()[-1]]
    state = env.state()
    second = env.step({"text": words[0]})
    words.append(second.observation["text"])
    last = env.step({"text": words[1]})
    print(json.dumps([words, state["episode_id"], second.done, last.reward, last.done]))
"""


@pytest.fixture(scope="module")
def game() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([PYTHON, "-c", GAME, str(port)])
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_S
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
        yield url
    finally:
        server.kill()
        server.wait()


def test_our_world_on_its_server(game: str) -> None:
    world = make_world("openenv", family="game", options={"url": game})
    report = check_environment(world, num_tasks=1, reward_range=(-1, 1))
    assert report.ok, str(report)

    async def run(*acts: str) -> tuple[StopReason, float | None]:
        async with Episode(world, world.tasks.task("train", 0)) as episode:
            await episode.begin()
            for act in acts:
                if episode.done is None:
                    await episode.act({"agent": act})
            assert episode.done is not None
            return episode.done.stop, (await episode.judge()).reward

    number = world.tasks.task("train", 0).payload["seed"] % 10
    wrong = str((number + 1) % 10)
    assert asyncio.run(run(wrong, "{}", f'{{"number": {number}}}')) == (StopReason.TERMINATED, 0.75)
    assert asyncio.run(run(wrong, wrong, wrong)) == (StopReason.ENVIRONMENT_LIMIT, -0.5)


def test_its_server_is_full(game: str) -> None:
    world = make_world("openenv", family="game", options={"url": game})

    async def run() -> None:
        episodes = [Episode(world, world.tasks.task("train", index)) for index in range(3)]
        try:
            with pytest.raises(EnvironmentFault, match="CAPACITY_REACHED"):
                for episode in episodes:
                    await episode.begin()
        finally:
            for episode in episodes:
                await episode.close()

    asyncio.run(run())


def test_its_client_on_our_server(serving: Callable[[Any], str]) -> None:
    import json

    url = serving(make_app(make_echo_world(turns=2)))
    done = subprocess.run([PYTHON, "-c", CLIENT, url], capture_output=True, text=True, timeout=START_S)
    assert done.returncode == 0, done.stderr
    words = list(make_echo_world(turns=2).tasks.task("train", 3).payload["words"])
    assert json.loads(done.stdout.splitlines()[-1]) == [words, "echo/train/3", False, 1.0, True]
