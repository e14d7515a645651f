"""Reading prefixes: each run of tokens that no tree node holds yet passes through the model once.

Shape suffixes: P runs of one pass, N tokens of the longest run, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from askesis.engines.decoder import Decoder
from askesis.engines.kv import Node, PrefixTree, copy_path

__all__ = ["Prefix", "Prefixes", "read_prefixes"]

_CONTEXT_FACTOR = 8

Prefix = tuple[int, tuple[int, ...]]
"""The variant of the weights that reads it, and its tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefixes:
    """Distinct prefixes that have been read."""

    paths: Mapping[Prefix, Sequence[Node]]
    place: Mapping[Prefix, int]
    """Row of each prefix in the logits."""
    logits_PV: torch.Tensor
    """Of the token after each prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Tokens to be read after a context; ``node`` takes their keys and values, if it is there."""

    tokens: tuple[int, ...]
    context: Sequence[Node]
    context_length: int
    node: Node | None
    variant: int
    prefix: Prefix | None
    """The prefix that ends here."""


def read_prefixes(decoder: Decoder, tree: PrefixTree, prefixes: Sequence[Prefix], *, max_tokens: int) -> Prefixes:
    """Put ``prefixes`` into ``tree`` and read what it does not hold, at most ``max_tokens`` tokens in one pass.

    A run is read once its parent has been; the last token of a prefix that the tree holds whole is read again, because
    logits are not kept.
    """
    ends = {(variant, tokens): tree.insert(tokens, variant)[-1] for variant, tokens in prefixes}
    paths = {prefix: end.path() for prefix, end in ends.items()}
    logits: dict[Prefix, torch.Tensor] = {}
    ending = {id(end): prefix for prefix, end in ends.items()}
    pending = list({id(n): (v, n) for (v, _), path in paths.items() for n in path if n.kv is None}.values())
    known = [_last_token(prefix, paths[prefix]) for prefix, end in ends.items() if end.kv is not None]
    while pending or known:
        ready = [_is_ready(node) for _, node in pending]
        runs = known + [_run(v, n, ending.get(id(n))) for (v, n), now in zip(pending, ready, strict=True) if now]
        pending, known = [item for item, now in zip(pending, ready, strict=True) if not now], []
        for group in _passes(runs, max_tokens, ragged=decoder.ragged):
            logits_PV = _read(decoder, group)
            logits |= {run.prefix: row for run, row in zip(group, logits_PV, strict=True) if run.prefix is not None}
    return Prefixes(
        paths=paths,
        place={prefix: i for i, prefix in enumerate(prefixes)},
        logits_PV=torch.stack([logits[prefix] for prefix in prefixes]),
    )


def _is_ready(node: Node) -> bool:
    """All that comes before the node has been read."""
    parent = node.parent
    return parent is None or parent.parent is None or parent.kv is not None


def _run(variant: int, node: Node, prefix: Prefix | None) -> _Run:
    context = node.path()[:-1]
    length = sum(len(n.tokens) for n in context)
    return _Run(tokens=node.tokens, context=context, context_length=length, node=node, variant=variant, prefix=prefix)


def _last_token(prefix: Prefix, path: Sequence[Node]) -> _Run:
    variant, tokens = prefix
    return _Run(
        tokens=tokens[-1:], context=path, context_length=len(tokens) - 1, node=None, variant=variant, prefix=prefix
    )


def _passes(runs: Sequence[_Run], max_tokens: int, *, ragged: bool) -> Iterator[list[_Run]]:
    """Cut runs into passes of similar lengths that keep, padding included, within the memory bound."""
    group: list[_Run] = []
    for run in sorted(runs, key=lambda r: (len(r.tokens), r.context_length)):
        width = max(r.context_length for r in [*group, run])
        size = (len(group) + 1) * len(run.tokens)
        full = size > max_tokens or size + (len(group) + 1) * width > _CONTEXT_FACTOR * max_tokens
        if group and (full or (not ragged and len(run.tokens) != len(group[0].tokens))):
            yield group
            group = []
        group.append(run)
    if group:
        yield group


def _read(decoder: Decoder, runs: Sequence[_Run]) -> torch.Tensor:
    """One pass; logits after each run [P, V]."""
    device = decoder.layout.device
    longest = max(len(run.tokens) for run in runs)
    context = max(run.context_length for run in runs)
    kv = decoder.layout.zeros(len(runs), context + longest)
    for place, run in enumerate(runs):
        copy_path(run.context, kv[:, :, place, :, : run.context_length])
    ids = [[*run.tokens, *[0] * (longest - len(run.tokens))] for run in runs]
    logits_PV = decoder.read(
        torch.tensor(ids, device=device),
        torch.tensor([run.context_length for run in runs], device=device),
        kv,
        torch.tensor([len(run.tokens) - 1 for run in runs], device=device),
        torch.tensor([run.variant for run in runs], device=device),
    )
    for place, run in enumerate(runs):
        if run.node is not None:
            run.node.kv = kv[:, :, place, :, context : context + len(run.tokens)].clone()
    return logits_PV
