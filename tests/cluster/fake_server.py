"""The fake vLLM server as a process of its own, started as the real one is, so that it can be killed like it."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path

__all__ = ["write_interpreter"]

_PYTHON = """#!/bin/sh
# An interpreter whose environment has "vLLM": it says a version when asked, and serves otherwise.
case "$1" in
    -I) echo 0.32.0 ;;
    *) shift 2; PYTHONPATH="$PYTHONPATH:{paths}" exec {python} {script} "$@" ;;
esac
"""


def write_interpreter(folder: Path) -> Path:
    """What to give as ``engine.vllm.python``."""
    import askesis

    paths = f"{Path(askesis.__file__).parents[1]}:{Path(__file__).parents[1]}"
    path = folder / "python"
    text = _PYTHON.format(paths=paths, python=shlex.quote(sys.executable), script=shlex.quote(__file__))
    path.write_text(text)
    path.chmod(0o755)
    return path


def main() -> None:
    """Serve the model of ``--model`` until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    given, _ = parser.parse_known_args()
    import torch

    from askesis.policy.loading import load_policy
    from fake_vllm import FakeVllm

    torch.set_num_threads(1)
    FakeVllm(load_policy(given.model, device="cpu"), port=given.port)
    signal.pause()


if __name__ == "__main__":
    main()
