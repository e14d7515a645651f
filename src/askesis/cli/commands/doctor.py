"""askesis doctor"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

from askesis.cli import output
from askesis.errors import AskesisError

__all__ = ["run"]

_EXTRAS = {
    "lora": "peft",
    "tensorboard": "tensorboard",
    "parquet": "pyarrow",
    "search": "bm25s",
    "serve": "uvicorn",
    "postgres": "psycopg",
    "diffusion": "diffusers",
    "gymnasium": "gymnasium",
    "pettingzoo": "pettingzoo",
    "textarena": "textarena",
    "openenv": "websockets",
    "mcp": "mcp",
    "vllm": "httpx",
    "ray": "ray",
}


def run(*, json_output: bool) -> int:
    """Print what was found; exit code 1 when something that training needs is broken."""
    facts = {**_machine(), **_torch(), **_vllm(), **_extras()}
    checks = _checks()
    if json_output:
        output.emit({"facts": facts, "checks": checks, "ok": all(c["ok"] for c in checks)})
    else:
        output.table(("fact", "value"), list(facts.items()))
        output.table(
            ("check", "result", "detail"), [(c["check"], "ok" if c["ok"] else "BROKEN", c["detail"]) for c in checks]
        )
    return 0 if all(c["ok"] for c in checks) else output.EXIT_FAILED


def _machine() -> dict[str, Any]:
    from askesis.training.preflight import versions

    return {
        **versions(),
        "platform": platform.platform(),
        "python executable": sys.executable,
        "cores": os.cpu_count(),
        "sqlite": sqlite3.sqlite_version,
        "free disk (GB)": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
    }


def _torch() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "torch threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name(0) if cuda else "none",
    }


def _vllm() -> dict[str, Any]:
    """Where ``engine.vllm.python`` would have to point is not known here, so the environment may say."""
    from askesis.engines.vllm.process import find_vllm

    python = os.environ.get("ASKESIS_VLLM_PYTHON", "")
    try:
        return {"vllm": f"{find_vllm(python)} in {python or sys.executable}"}
    except AskesisError as error:
        return {"vllm": f"{error.what}: {python or sys.executable} (ASKESIS_VLLM_PYTHON names another interpreter)"}


def _extras() -> dict[str, Any]:
    return {
        f"extra {name}": "installed" if importlib.util.find_spec(package) else f"pip install 'askesis[{name}]'"
        for name, package in _EXTRAS.items()
    }


def _checks() -> list[dict[str, Any]]:
    return [_check("built-in policy", _built_in), _check("environments", _reasoning)]


def _check(name: str, check: Any) -> dict[str, Any]:
    try:
        return {"check": name, "ok": True, "detail": check()}
    except (AskesisError, OSError, ImportError) as error:
        return {"check": name, "ok": False, "detail": str(error)}


def _built_in() -> str:
    from askesis.policy.folder import BUILT_IN

    return ", ".join(f"{name} {_digest(name)[:12]}" for name in BUILT_IN) + " as shipped (sha256)"


def _digest(name: str) -> str:
    """The hash of a built-in policy's weights, compared with its record."""
    from askesis.policy.folder import resolve_name

    folder = Path(resolve_name(name))
    record = json.loads((folder / "nano.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != record["weights_sha256"]:
        raise AskesisError(
            f"the weights of {name} are not those that were shipped", got=digest, expected=record["weights_sha256"]
        )
    return digest


def _reasoning() -> str:
    from askesis.environments import make_world

    task = make_world("reasoning", family="chain_sum", level="nano").tasks.task("train", 0)
    return f"reasoning-gym answers: {task.payload['question']!r}"
