"""Which code makes a run: finished runs are used again only by the code that made them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path

__all__ = ["code_digest", "digest_of_folder"]

_KINDS = {".py", ".json", ".jinja", ".safetensors", ".toml"}


def digest_of_folder(folder: Path) -> str:
    """SHA-256 of the names and bytes of what lies in a package's folder: modules, weights, tables."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in _KINDS and path.is_file():
            name = path.relative_to(folder).as_posix().encode()
            whole.update(len(name).to_bytes(8, "big") + name + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


@cache
def code_digest() -> str:
    """Of this package as it is installed. A recipe's hash says what is asked for, and not what the answer was made by:
    without this, a claim would mix runs from before a fault was mended with runs from after it.
    """
    return digest_of_folder(Path(str(files("askesis"))))
