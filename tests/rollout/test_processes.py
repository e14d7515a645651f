"""Programs from asyncio: output is bounded, the environment is bare, failures are errors."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from askesis.errors import EnvironmentFault
from askesis.rollout import processes
from askesis.rollout.processes import Ended, Launcher


def run(check: Callable[[Launcher], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        async with asyncio.timeout(40), Launcher(**options) as launcher:
            return await check(launcher)

    return asyncio.run(main())


async def play(launcher: Launcher, *argv: str, stdin: str = "", limit: int = 1000, **options: Any) -> Ended:
    options = {"env": {}, "cwd": "/", "forks": False, **options}
    return await (await launcher.start(argv, stdin=stdin, limit=limit, **options)).ended


def test_input_output_errors_and_status() -> None:
    ended = run(lambda one: play(one, "sh", "-c", "cat; echo bad >&2; exit 3", stdin="wörd"))
    assert ended == Ended(status=3, output="wörd", errors="bad\n", num_output_bytes=5)


def test_many_run_side_by_side() -> None:
    async def check(launcher: Launcher) -> list[Ended]:
        return list(
            await asyncio.gather(*(play(launcher, "sh", "-c", f"cat; exit {i}", stdin=str(i)) for i in range(20)))
        )

    ended = run(check)
    assert [(e.status, e.output) for e in ended] == [(i, str(i)) for i in range(20)]


def test_a_flood_of_output_is_read_and_cut_and_errors_keep_their_end() -> None:
    code = "yes | head -c 3000000; yes n | head -c 100000 >&2; echo last >&2"
    ended = run(lambda one: play(one, "sh", "-c", code))
    assert ended.status == 0 and ended.num_output_bytes == 3_000_000
    assert len(ended.output) == 1000 and len(ended.errors) == 1000 and ended.errors.endswith("last\n")


def test_output_that_is_not_text_is_kept_readable() -> None:
    assert run(lambda one: play(one, "printf", r"\377a")).output == "\ufffda"


def test_the_environment_is_bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a real secret")
    monkeypatch.setenv("HTTP_PROXY", "http://elsewhere")
    names = {
        line.partition("=")[0] for line in run(lambda one: play(one, "env", env={"MINE": "1"})).output.splitlines()
    }
    assert "MINE" in names and "PATH" in names
    assert not names & {"OPENAI_API_KEY", "HTTP_PROXY"}


def test_a_killed_program_says_so_and_killing_twice_is_harmless() -> None:
    async def check(launcher: Launcher) -> Ended:
        process = await launcher.start(["sleep", "1000"], env={}, cwd="/", stdin="", limit=10, forks=False)
        process.kill()
        ended = await process.ended
        process.kill()
        return ended

    assert run(check).status == -9


def test_a_long_order_gets_through() -> None:
    text = "x" * 100_000
    ended = run(lambda one: play(one, "sh", "-c", 'printf %s "$1$2$3" | wc -c', "-", text, text, text))
    assert int(ended.output) == 300_000


def test_a_script_is_run_in_a_fork_with_its_imports_done(tmp_path: Path) -> None:
    script = tmp_path / "agent.py"
    script.write_text("import sys; print('decimal' in sys.modules, sys.stdin.read())")
    forked = run(lambda one: play(one, "python", str(script), stdin="hi", forks=True), preload=("decimal",))
    assert forked.output == "True hi\n"


def test_a_module_that_cannot_be_loaded_is_a_fault() -> None:
    with pytest.raises(EnvironmentFault, match="no_such_module"):
        run(lambda one: play(one, "true"), preload=("no_such_module",))


def gone(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_launcher_that_is_killed_takes_its_programs_along_and_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also what a program started, and a program that is on its way."""

    async def check(launcher: Launcher) -> tuple[list[Ended], list[int]]:
        code = f"sleep 1000 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/own; wait"
        running = await launcher.start(["sh", "-c", code], env={}, cwd="/", stdin="", limit=10, forks=False)
        while not (tmp_path / "own").exists() or not (tmp_path / "own").read_text():
            await asyncio.sleep(0.01)
        numbers = [int((tmp_path / name).read_text()) for name in ("child", "own")]
        launcher._process.kill()
        ended = [await running.ended]
        return [*ended, await play(launcher, "printf", "again")], numbers

    (killed, again), numbers = run(check)
    assert killed.status == -9 and killed.reason == "the launcher has died"
    assert again.status == 0 and again.output == "again" and again.reason == ""
    (message,) = caplog.messages
    assert "the launcher of programs has died (-9) and is started again" in message
    if Path("/proc/self/stat").exists():
        deadline = time.monotonic() + 20
        while not all(map(gone, numbers)):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_launcher_that_died_unseen_fails_one_start_and_not_the_next() -> None:
    async def check(launcher: Launcher) -> Ended:
        launcher._process.kill()
        launcher._process.wait()  # and its end has not been read yet
        with pytest.raises(EnvironmentFault, match="the launcher has died"):
            await play(launcher, "true")
        return await play(launcher, "true")

    assert run(check).status == 0


def test_a_launcher_that_does_not_answer_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_ANSWER_S", 0.3)

    async def check(launcher: Launcher) -> tuple[Ended, Ended]:
        process = await launcher.start(["sleep", "1000"], env={}, cwd="/", stdin="", limit=10, forks=False)
        launcher._process.send_signal(signal.SIGSTOP)
        process.kill()
        ended = await process.ended
        launcher._process.wait()
        return ended, await play(launcher, "true")

    ended, again = run(check)
    assert ended.status == -9 and again.status == 0


def test_descriptors_are_given_back() -> None:
    async def check(launcher: Launcher) -> tuple[int, int]:
        await play(launcher, "true")
        before = len(list(Path("/dev/fd").iterdir()))
        for _ in range(5):
            await play(launcher, "true")
        return before, len(list(Path("/dev/fd").iterdir()))

    before, after = run(check)
    assert before == after


def test_a_launcher_that_is_killed_while_it_starts_is_started_again(tmp_path: Path) -> None:
    interpreter = tmp_path / "python"
    seen = tmp_path / "seen"
    interpreter.write_text(f'#!/bin/sh\n[ -e {seen} ] && exec {sys.executable} "$@"\n: > {seen}\nkill -9 $$\n')
    interpreter.chmod(0o755)
    assert run(lambda one: play(one, "true"), python=str(interpreter)).status == 0
    interpreter.write_text("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(EnvironmentFault, match="dies while it starts") as caught:
        run(lambda one: play(one, "true"), python=str(interpreter))
    assert "3 times" in str(caught.value.got) and "-9" in str(caught.value.got)
