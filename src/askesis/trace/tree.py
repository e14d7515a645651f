"""The token tree: every model call of a session, each token once.

A *call* sends a context and gets sampled tokens back. The tree holds all calls of one session:

* Contexts share prefixes. A call whose context extends a recorded branch continues that branch; one that leaves it
  half-way forks it; one that shares nothing opens a second root.
* A sampled run always opens a node of its own below its context, even when another call sampled the same ids: two
  draws are two draws. So every sampled token has exactly one owner, the call that drew it.
* The tree is a function of the *set* of calls. Calls carry a key that orders them in time, and a call can only
  continue what came before it; the order in which they are recorded does not matter.

Concatenating the nodes from a root to the end of a call gives the very ids that the engine was sent and returned.
Nothing is tokenised again.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from askesis.errors import TraceError
from askesis.trace.types import Failure, Fork, Message, StopReason

__all__ = ["Branch", "Call", "Node", "Trace", "TraceBuilder"]

Ids = NDArray[np.uint32]


def _frozen(values: ArrayLike, dtype: type[np.generic]) -> NDArray[Any]:
    array = np.array(values, dtype=dtype, ndmin=1)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    """One model call, token-exact.

    Args:
        key: position of the call in its session's time; unique within the trace.
        context: ids sent to the engine, uint32 [n], n >= 1.
        sampled: ids returned, uint32 [m], m >= 1, the stop token included if it was sampled.
        logprobs: float32 [m], natural log of the probability under the distribution really sampled from.
        policy_version: weights that sampled, the first tokens of it if they changed meanwhile.
        messages: the messages that are new in this context (for reading; the ids are what counts).
        reply: the sampled text as a message.
        finish: ``stop`` or ``length``.
        sampling: the sampling parameters, JSON-ready.
        fork: set for a call that is no act of the session.
        swaps: where the weights changed while the call was sampled: number of the first token drawn from the new ones
            (0 < number < m), and their version; both rise.
    """

    key: int
    context: Ids
    sampled: Ids
    logprobs: NDArray[np.float32]
    policy_version: int = 0
    messages: tuple[Message, ...] = ()
    reply: Message | None = None
    finish: str = "stop"
    sampling: Mapping[str, Any] = field(default_factory=dict)
    fork: Fork | None = None
    swaps: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for name, dtype in (("context", np.uint32), ("sampled", np.uint32), ("logprobs", np.float32)):
            object.__setattr__(self, name, _frozen(getattr(self, name), dtype))
        if self.key < 0 or not len(self.context) or not len(self.sampled) or len(self.sampled) != len(self.logprobs):
            raise TraceError(
                "a call needs a key >= 0, a context, at least one sampled token, and one log-probability for each",
                where=f"call {self.key}",
                got=f"{len(self.context)} context, {len(self.sampled)} sampled, {len(self.logprobs)} logprobs",
            )
        if not np.all(np.isfinite(self.logprobs)) or np.any(self.logprobs > 1e-4):
            raise TraceError(
                "a behaviour log-probability is not a finite number <= 0",
                where=f"call {self.key}",
                got=float(self.logprobs[np.argmax(~(self.logprobs <= 1e-4))]),
                next_step="the engine must return log-probabilities of the tokens it drew",
            )
        spans = [(0, self.policy_version), *self.swaps]
        for (start, version), (stop, later) in pairwise([*spans, (len(self.sampled), spans[-1][1] + 1)]):
            if not (start < stop and version < later and type(stop) is type(later) is int):
                raise TraceError(
                    "the weights of a call change in an impossible order",
                    where=f"call {self.key}",
                    got=f"{len(self.sampled)} tokens, version {self.policy_version}, swaps {list(self.swaps)}",
                    expected="rising token numbers within the call, and rising versions",
                )

    @property
    def versions(self) -> NDArray[np.int32]:
        """Version of the weights that drew each token, [m]."""
        drawn = np.full(len(self.sampled), self.policy_version, np.int32)
        for start, version in self.swaps:
            drawn[start:] = version
        return drawn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """A run of token ids. Either all sampled by one call (``call`` is its key) or all context (``call`` is None)."""

    parent: int | None
    tokens: Ids
    call: int | None
    offset: int = 0
    """Where the run starts within its call's sampled tokens (a run is split when a later context leaves it half-way).
    """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Branch:
    """A path from a root to a leaf: one training sequence. All arrays have length n."""

    leaf: int
    tokens: Ids
    sampled: NDArray[np.bool_]
    owned: NDArray[np.bool_]
    """Sampled, and trained on here. A sampled token in several branches is owned by the first of them."""
    logprobs: NDArray[np.float32]
    """Behaviour log-probabilities; 0 where not sampled."""
    call: NDArray[np.int32]
    """Key of the owning call; -1 where not sampled."""
    policy_version: NDArray[np.int32]
    """-1 where not sampled."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """All calls of a session as a tree, with how the session ended. Nodes are in pre-order: a parent precedes its
    children.
    """

    nodes: tuple[Node, ...]
    calls: tuple[Call, ...]
    stop: StopReason
    failure: Failure | None = None
    events: tuple[Mapping[str, Any], ...] = ()
    """Tool calls, guard decisions and the like, in order, JSON-ready."""

    @property
    def num_tokens(self) -> int:
        """Distinct tokens."""
        return sum(len(n.tokens) for n in self.nodes)

    @property
    def num_sampled(self) -> int:
        """Tokens that were sampled, forks included."""
        return sum(len(c.sampled) for c in self.calls)

    @property
    def oldest_version(self) -> int | None:
        """Of the weights that sampled it, the oldest; None when nothing was sampled."""
        return min((c.policy_version for c in self.calls), default=None)

    @property
    def acts(self) -> tuple[Call, ...]:
        """The calls that are the session itself, without forks."""
        return tuple(c for c in self.calls if c.fork is None)

    def path(self, node: int) -> list[int]:
        """Node indices from the root down to ``node``."""
        indices: list[int] = []
        current: int | None = node
        while current is not None:
            indices.append(current)
            current = self.nodes[current].parent
        return indices[::-1]

    def leaves(self) -> list[int]:
        """Indices of the nodes without children, in pre-order."""
        parents = {n.parent for n in self.nodes}
        return [i for i in range(len(self.nodes)) if i not in parents]

    def end_of(self, key: int) -> int:
        """Index of the node with the last sampled token of call ``key``."""
        return max((n.offset, i) for i, n in enumerate(self.nodes) if n.call == key)[1]

    def branch(self, node: int, *, seen: set[int] | None = None) -> Branch:
        """The sequence from the root to the end of ``node``. Nodes in ``seen`` are not owned; the others are added to
        it.
        """
        calls = {c.key: c for c in self.calls}
        tokens, sampled, owned, logprobs, owner, version = [], [], [], [], [], []
        for index in self.path(node):
            part = self.nodes[index]
            size = len(part.tokens)
            call = None if part.call is None else calls[part.call]
            tokens.append(part.tokens)
            sampled.append(np.full(size, call is not None))
            owned.append(np.full(size, call is not None and (seen is None or index not in seen)))
            logprobs.append(
                np.zeros(size, np.float32) if call is None else call.logprobs[part.offset : part.offset + size]
            )
            owner.append(np.full(size, -1 if call is None else call.key, np.int32))
            drawn = np.full(size, -1, np.int32) if call is None else call.versions[part.offset : part.offset + size]
            version.append(drawn)
            if seen is not None:
                seen.add(index)
        return Branch(
            leaf=node,
            tokens=np.concatenate(tokens),
            sampled=np.concatenate(sampled),
            owned=np.concatenate(owned),
            logprobs=np.concatenate(logprobs),
            call=np.concatenate(owner),
            policy_version=np.concatenate(version),
        )

    def branches(self) -> list[Branch]:
        """Every root-to-leaf sequence. Over all of them, each sampled token is owned exactly once."""
        seen: set[int] = set()
        return [self.branch(leaf, seen=seen) for leaf in self.leaves()]


class _Run:
    """A node under construction."""

    __slots__ = ("call", "children", "offset", "parent", "tokens")

    def __init__(self, parent: _Run | None, tokens: Ids, call: int | None, offset: int = 0) -> None:
        self.parent, self.tokens, self.call, self.offset = parent, tokens, call, offset
        self.children: list[_Run] = []
        if parent is not None:
            parent.children.append(self)

    def split(self, at: int) -> None:
        """Keep the first ``at`` tokens here; the rest goes to a new only child."""
        rest = _Run(None, self.tokens[at:], self.call, self.offset + at)
        rest.parent, rest.children = self, self.children
        for child in rest.children:
            child.parent = rest
        self.tokens, self.children = self.tokens[:at], [rest]


def _common_prefix(a: Ids, b: Ids) -> int:
    size = min(len(a), len(b))
    a, b = a[:size], b[:size]
    if a.tobytes() == b.tobytes():  # the usual case, at a fifth of the cost of a comparison by elements
        return size
    differs = a != b
    return int(differs.argmax())


class TraceBuilder:
    """Collects the calls of a session and grows their tree. Recording in key order costs only the new tokens'
    matching.
    """

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        self._calls: list[Call] = []
        self._root = _Run(None, np.empty(0, np.uint32), None)
        for call in calls:
            self.record(call)

    @property
    def calls(self) -> Sequence[Call]:
        """The calls so far, by key."""
        return tuple(self._calls)

    def record(self, call: Call) -> None:
        """Add a call. A key that is already taken is an error (TraceError): nothing is ever overwritten."""
        keys = [c.key for c in self._calls]
        place = bisect.bisect_left(keys, call.key)
        if place < len(keys) and keys[place] == call.key:
            raise TraceError("two calls have the same key", where=f"call {call.key}", next_step="number calls anew")
        self._calls.insert(place, call)
        if place == len(keys):
            self._grow(call)
        else:  # An earlier call arrived late: what came after it may continue it.
            self._root = _Run(None, np.empty(0, np.uint32), None)
            for known in self._calls:
                self._grow(known)

    def _grow(self, call: Call) -> None:
        run, inside, depth = self._longest_match(call.context)
        if inside < len(run.tokens):
            run.split(inside)
        if depth < len(call.context):
            run = _Run(run, call.context[depth:], None)
        _Run(run, call.sampled, call.key)

    def _longest_match(self, context: Ids) -> tuple[_Run, int, int]:
        """The run, the position in it and the number of ids of ``context`` that match; the first in pre-order among
        equals.
        """
        best = (self._root, 0, 0)
        stack: list[tuple[_Run, int]] = [(self._root, 0)]
        while stack:
            run, depth = stack.pop()
            matched = _common_prefix(run.tokens, context[depth:])
            if depth + matched > best[2]:
                best = (run, matched, depth + matched)
            if matched == len(run.tokens):
                stack.extend((child, depth + matched) for child in reversed(run.children))
        return best

    def finish(
        self,
        stop: StopReason,
        *,
        failure: Failure | None = None,
        events: Sequence[Mapping[str, Any]] = (),
    ) -> Trace:
        """The tree so far as a frozen value."""
        nodes: list[Node] = []
        stack: list[tuple[_Run, int | None]] = [(child, None) for child in reversed(self._root.children)]
        while stack:
            run, parent = stack.pop()
            nodes.append(Node(parent=parent, tokens=_frozen(run.tokens, np.uint32), call=run.call, offset=run.offset))
            stack.extend((child, len(nodes) - 1) for child in reversed(run.children))
        return Trace(nodes=tuple(nodes), calls=tuple(self._calls), stop=stop, failure=failure, events=tuple(events))
