"""Short generated dialogues that show nano the search and tool formats: one hop, made-up names, no distractors."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

__all__ = ["Message", "dialogue"]

Message = dict[str, str]

_SYLLABLES = ("ba", "do", "ka", "li", "mo", "na", "pe", "ra", "so", "ti", "ul", "ve", "zen", "gar")
_RELATIONS = {
    "birthplace": ("Where was {name} born?", "{name} was born in {value}."),
    "employer": ("Who employs {name}?", "{name} works for {value}."),
    "teacher": ("Who taught {name}?", "{name} was taught by {value}."),
    "pet": ("What is the name of the pet of {name}?", "The pet of {name} is called {value}."),
}
_SEARCH_SYSTEM = "You can search by writing <search>query</search>."
_TOOL_SYSTEM = (
    'You can call a tool by writing <tool_call>{"name": ..., "arguments": {...}}</tool_call>. Tools: '
    "lookup(name, field), add(a, b), multiply(a, b)."
)


def _name(rng: np.random.Generator) -> str:
    parts = [_SYLLABLES[i] for i in rng.integers(0, len(_SYLLABLES), size=int(rng.integers(2, 4)))]
    return "".join(parts).capitalize()


def _choice(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(0, len(options)))]


def _search(rng: np.random.Generator) -> list[Message]:
    name, value, relation = _name(rng), _name(rng), _choice(rng, list(_RELATIONS))
    question, fact = (text.format(name=name, value=value) for text in _RELATIONS[relation])
    return [
        {"role": "system", "content": _SEARCH_SYSTEM},
        {"role": "user", "content": question},
        {"role": "assistant", "content": f"<search>{name} {relation}</search>"},
        {"role": "tool", "content": f"<information>{fact}</information>"},
        {"role": "assistant", "content": f"<answer>{value}</answer>"},
    ]


def _tool(rng: np.random.Generator) -> list[Message]:
    tool = _choice(rng, ("lookup", "add", "multiply"))
    arguments: dict[str, object]
    if tool == "lookup":
        name, result, relation = _name(rng), _name(rng), _choice(rng, list(_RELATIONS))
        question = _RELATIONS[relation][0].format(name=name)
        arguments = {"name": name, "field": relation}
    else:
        a, b = (int(value) for value in rng.integers(0, 1000, size=2))
        word, result = ("plus", str(a + b)) if tool == "add" else ("times", str(a * b))
        question, arguments = f"What is {a} {word} {b}?", {"a": a, "b": b}
    call = json.dumps({"name": tool, "arguments": arguments})
    return [
        {"role": "system", "content": _TOOL_SYSTEM},
        {"role": "user", "content": question},
        {"role": "assistant", "content": f"<tool_call>{call}</tool_call>"},
        {"role": "tool", "content": result},
        {"role": "assistant", "content": f"<answer>{result}</answer>"},
    ]


def dialogue(rng: np.random.Generator) -> list[Message]:
    """One dialogue as chat messages, drawn from ``rng``: a search or a tool call with equal chance."""
    return _search(rng) if rng.random() < 0.5 else _tool(rng)
