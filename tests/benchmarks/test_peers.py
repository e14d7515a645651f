from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from benchmarks.peers import PEERS, ROOT, PeerMissing, python_of
from benchmarks.peers.setup import install


def make_root(root: Path, requirements: str = "nothing==1\n") -> Path:
    (root / "benchmarks" / "peers").mkdir(parents=True)
    (root / "benchmarks" / "peers" / "trl.txt").write_text(requirements)
    (root / "constraints.txt").write_text("torch==2.13.0\n")
    return root


def test_a_peer_that_is_not_installed_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(PeerMissing, match=r"python -m benchmarks\.peers trl"):
        python_of("trl", root=make_root(tmp_path))


def test_an_installed_peer_is_left_alone_until_its_pins_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_root(tmp_path, requirements="# nothing to install\n")
    made: list[Path] = []
    monkeypatch.setattr("venv.create", lambda folder, **_: (made.append(folder), folder.mkdir(exist_ok=True)))
    monkeypatch.setattr("subprocess.run", lambda command, **_: subprocess.CompletedProcess(command, 0, "", ""))
    first = install("trl", root=root)
    assert install("trl", root=root) == first == python_of("trl", root=root)
    assert made == [root / ".venv-trl"]
    (root / "benchmarks" / "peers" / "trl.txt").write_text("other==2\n")
    with pytest.raises(PeerMissing):
        python_of("trl", root=root)


def test_a_failed_installation_is_a_reason_and_leaves_no_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_root(tmp_path)
    monkeypatch.setattr("venv.create", lambda folder, **_: folder.mkdir())
    failed = "WARNING: noise\nERROR: No matching distribution found for nothing==1"
    monkeypatch.setattr("subprocess.run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", failed))
    with pytest.raises(PeerMissing, match="cannot be installed: ERROR: No matching distribution"):
        install("trl", root=root)
    with pytest.raises(PeerMissing, match="not installed"):
        python_of("trl", root=root)


@pytest.mark.parametrize("name", PEERS)
def test_every_pin_is_exact(name: str) -> None:
    lines = (ROOT / "benchmarks" / "peers" / f"{name}.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert all("==" in pin for pin in pins)
