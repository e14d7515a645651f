"""Looking at a model folder before anything heavy is loaded.

Weights are read from safetensors only. Pickle files (``.bin``, ``.pt``) run code when they are opened, so they are
refused.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from askesis.errors import PolicyError, did_you_mean

__all__ = ["BUILT_IN", "check_folder", "resolve_name"]

_SHIPPED = Path(str(resources.files("askesis.policy")))

BUILT_IN = tuple(sorted(record.parent.name for record in _SHIPPED.glob("*/nano.json")))
"""Names of the policies that ship with the package: its folders with the record that ``askesis pretrain`` writes."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def resolve_name(name: str) -> str:
    """The folder or Hub name that ``name`` stands for; folders are checked at once.

    A name with at most one slash that is no existing folder is taken for a name on the Hugging Face Hub.
    """
    if name in BUILT_IN:
        folder = _SHIPPED / name
        check_folder(folder)
        return str(folder)
    path = Path(name).expanduser()
    if path.is_dir():
        check_folder(path)
        return str(path)
    if path.exists():
        raise PolicyError("the model is a file", where=name, expected="a folder with config.json and *.safetensors")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise PolicyError(
            "the model folder does not exist",
            where=name,
            expected=f"a folder, a name on the Hugging Face Hub, or {' or '.join(BUILT_IN)}",
            next_step="check policy.name",
        )
    if "/" not in name and did_you_mean(name, BUILT_IN):
        raise PolicyError("unknown built-in policy", got=name, expected=did_you_mean(name, BUILT_IN))
    return name


def check_folder(folder: Path) -> None:
    """Raise PolicyError unless ``folder`` holds a configuration, a tokenizer and complete safetensors weights."""
    if not (folder / "config.json").is_file():
        raise PolicyError(
            "the model folder has no config.json",
            where=str(folder),
            got=sorted(p.name for p in folder.iterdir())[:20],
            expected="a folder in the Hugging Face layout",
            next_step="save the model with `save_pretrained`",
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
        raise PolicyError(
            "the weights are pickle files, which run code when opened"
            if pickles
            else "the model folder has no weights",
            where=str(folder),
            got=pickles or sorted(p.name for p in folder.iterdir())[:20],
            expected="*.safetensors",
            next_step="convert them on a machine you trust: load with transformers there, then `save_pretrained`"
            if pickles
            else "copy model.safetensors into the folder",
        )
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise PolicyError("the weights' index is broken", where=str(index), got=repr(error)) from error
        missing = sorted(shards - {p.name for p in weights})
        if missing:
            raise PolicyError("weight files are missing", where=str(folder), got=missing, expected=sorted(shards))
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")):
        raise PolicyError("the model folder has no tokenizer", where=str(folder), expected="tokenizer.json")
