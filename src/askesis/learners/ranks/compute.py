"""Weights, gradients and optimiser on ranks, asked by the driver.

The driver cuts a batch into micro-batches and deals them out in rounds of about equal cost, since ranks wait for each
other layer by layer. A rank without a micro-batch in the last round computes a short row that counts for nothing.

Shape suffixes: B rows, T sampled tokens of a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from askesis.algorithms import Algorithm
from askesis.errors import SelfCheckError
from askesis.learners.batch import Row
from askesis.learners.compute import Compute, LearnerSettings, needs_reference, optimizer_states
from askesis.learners.critic import Critic
from askesis.learners.packed import cut_evenly
from askesis.learners.padded import cut_by_length
from askesis.learners.ranks.group import Ranks
from askesis.learners.ranks.rank import DISTANCES, digest
from askesis.learners.ranks.sharding import spec_of
from askesis.learners.ranks.wire import Message, read_shares, write_algorithm, write_pieces, write_rows
from askesis.learners.scoring import Scores
from askesis.learners.shares import Piece, Share
from askesis.policy.forest import pack
from askesis.policy.loading import Policy

__all__ = ["RankedCompute", "deal"]

_CHUNK_BYTES = 16 << 20
"""Of parameters that travel at once; a larger parameter travels alone."""
_STATE = ("step", "exp_avg", "exp_avg_sq")
"""Keys of AdamW's state."""


def deal(costs: Sequence[int], size: int) -> list[list[int | None]]:
    """Rounds of ``size`` places each: which micro-batch is computed in each place, None where there is none left.

    The dearest go first and side by side: a round takes as long as its dearest.
    """
    order: list[int | None] = [*sorted(range(len(costs)), key=lambda i: (-costs[i], i))]
    order += [None] * (-len(order) % size)
    return [order[start : start + size] for start in range(0, len(order), size)]


class RankedCompute(Compute):
    """See :class:`Compute`. The ranks are not there until :meth:`raise_up`.

    Args:
        policy: has the weights at the start, and gets those that were trained when they are published.
        algorithm: must be one that :func:`askesis.algorithms.build` makes from names and numbers.
        settings: of the optimiser.
        start: starts ranks that have met.

    Raises:
        PolicyError: ranks cannot build this model.
        AlgorithmError: or not this algorithm.
    """

    def __init__(
        self, policy: Policy, algorithm: Algorithm, settings: LearnerSettings, *, start: Callable[[], Ranks]
    ) -> None:
        self._policy, self._algorithm, self._settings, self._start = policy, algorithm, settings, start
        self._written = write_algorithm(algorithm)
        self._spec = spec_of(policy)
        self._up: Ranks | None = None
        self.critic = None
        if settings.critic is not None:
            self.critic = Critic(policy.model, settings.critic, betas=(settings.beta1, settings.beta2))
        model: Any = policy.model
        self._named: dict[str, Tensor] = dict(model.named_parameters())
        self._trained = [name for name, _ in policy.trainable()]
        has_copy = needs_reference(algorithm) and not hasattr(model, "disable_adapter")
        self._reference = {n: p.detach().cpu().clone() for n, p in self._named.items()} if has_copy else None

    @property
    def is_up(self) -> bool:
        """The ranks are there."""
        return self._up is not None

    @property
    def vocabulary(self) -> int:
        """Width of the logits."""
        return int(self._policy.model.config.get_text_config().vocab_size)

    def raise_up(self) -> None:
        """Start the ranks and give them the policy's present weights, with a fresh optimiser. Raises RankLost."""
        self._up = self._start()
        head = {
            "do": "build",
            "spec": self._spec._asdict(),
            "settings": asdict(self._settings),
            "algorithm": self._written,
        }
        self._ask(head, dict(self._policy.model.named_buffers()))
        if self._reference is not None:
            self._fill("reference", self._reference)
        self._fill("policy", self._named)
        self._ask({"do": "ready"})

    def close(self) -> None:
        """End the ranks; what they know is gone."""
        if self._up is not None:
            self._up.close()
        self._up = None

    def scores(self, rows: Sequence[Row], *, packed: bool | None = None) -> Scores:
        """See :class:`askesis.learners.models.BatchScorer`."""
        packed = self._settings.packed if packed is None else packed
        found = self._tables({"do": "scores", "packed": packed}, rows, packed)
        return Scores(found["logp_BT"], found["entropy_BT"], found.get("value_BT"))

    def reference_logp(self, rows: Sequence[Row]) -> Tensor:
        """See :class:`askesis.learners.models.BatchScorer`."""
        return self._tables({"do": "reference"}, rows, self._settings.packed)["logp_BT"]

    def distance(self, rows: Sequence[Row], between: Callable[[Tensor, Tensor, float], Tensor]) -> Tensor:
        """See :class:`askesis.learners.models.BatchScorer`. Ranks know distances by name."""
        name = next(name for name, known in DISTANCES.items() if known is between)
        return self._tables({"do": "distance", "between": name}, rows, self._settings.packed)["distance_BT"]

    def micro_batches(self, rows: Sequence[Row], max_tokens: int) -> list[list[int]]:
        """See :meth:`Compute.micro_batches`; every rank computes so many tokens at once."""
        return self._cuts(rows, max_tokens, self._settings.packed)

    def accumulate(self, pieces: Sequence[Piece]) -> list[Share]:
        """See :meth:`Compute.accumulate`."""
        ranks = self._ranks
        rounds = deal([self._cost(piece.rows, self._settings.packed) for piece in pieces], ranks.size)
        idle = _idle(pieces)
        # A round's pieces either all have a loss of their own, or all pass on a gradient that is known.
        reads_reference = "logp_ref_BT" in self._algorithm.needs and pieces[0].passed_BT is None
        requests = []
        for number in range(ranks.size):
            mine = [idle if (i := places[number]) is None else pieces[i] for places in rounds]
            head, tensors = write_pieces(mine)
            requests.append(Message({"do": "accumulate", "reads_reference": reads_reference, **head}, tensors))
        shares: dict[int, Share] = {}
        for number, answer in enumerate(ranks.call(requests)):
            for places, share in zip(rounds, read_shares(answer, self._policy.device), strict=True):
                if (i := places[number]) is not None:
                    shares[i] = share._replace(cut=pieces[i].cut)
        return [shares[i] for i in range(len(pieces))]

    def norm(self) -> float:
        """See :meth:`Compute.norm`."""
        return float(self._ask({"do": "norm"})[0].head["norm"])

    def step(self, lr: float) -> float:
        """See :meth:`Compute.step`."""
        return float(self._ask({"do": "step", "lr": lr})[0].head["norm"])

    def publish(self) -> None:
        """See :meth:`Compute.publish`. Raises SelfCheckError when what arrived is not what was sent."""
        own = dict(self._policy.trainable())
        for names in self._chunks(self._trained):
            answer = self._ask({"do": "gather", "of": "weights", "names": names})[0]
            running = hashlib.sha256()
            with torch.no_grad():
                for name in names:
                    own[name].copy_(answer.tensors[name])
                    digest(running, name, own[name])
            if running.hexdigest() != answer.head["sha256"]:
                raise SelfCheckError(
                    "the policy's weights are not those of the learner's ranks",
                    where=", ".join(names[:3]),
                    got=running.hexdigest()[:12],
                    expected=answer.head["sha256"][:12],
                    next_step="start the same command again: the run resumes from its last checkpoint; report this",
                )
        if self.critic is not None:
            self.critic.load_state_dict(self._ask({"do": "critic"})[0].tensors)

    def state_dict(self) -> dict[str, Tensor]:
        """See :meth:`Compute.state_dict`."""
        tensors: dict[str, Tensor] = {}
        for names in self._chunks(self._trained):
            for key in _STATE:
                answer = self._ask({"do": "gather", "of": key, "names": names})[0]
                tensors |= {f"{key}/{name}": tensor for name, tensor in answer.tensors.items()}
        return tensors | self._ask({"do": "critic"})[0].tensors

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """See :meth:`Compute.load_state_dict`."""
        states = optimizer_states(tensors, self._trained)
        if self._up is None:
            self.raise_up()
        else:
            self._fill("policy", {name: self._named[name] for name in self._trained})
            self._ask({"do": "ready"})
        if self.critic is not None:
            self.critic.load_state_dict(tensors)
            self._ask({"do": "critic"}, {key: t for key, t in tensors.items() if Critic.is_own(key)})
        for names in self._chunks([name for name in self._trained if name in states]):
            head = {
                "do": "optimizer",
                "states": {name: list(states[name]) for name in names},
                "steps": {name: float(states[name]["step"]) for name in names},
            }
            mine = {f"{key}/{n}": t for n in names for key, t in states[n].items() if key != "step"}
            self._ask(head, mine, only_first=True)

    def memory(self) -> list[dict[str, int]]:
        """Bytes that each rank has held at most: ``rss`` of its process, ``gpu`` on its device."""
        return [answer.head for answer in self._ask({"do": "memory"})]

    @property
    def _ranks(self) -> Ranks:
        if self._up is None:
            self.raise_up()
        assert self._up is not None
        return self._up

    def _ask(
        self, head: dict[str, Any], tensors: Mapping[str, Tensor] | None = None, *, only_first: bool = False
    ) -> list[Message]:
        """All ranks the same; the tensors may go to rank 0 only."""
        first, rest = Message(head, dict(tensors or {})), self._ranks.size - 1
        return self._ranks.call([first] + [Message(head, {}) if only_first else first] * rest)

    def _fill(self, of: str, tensors: Mapping[str, Tensor]) -> None:
        for names in self._chunks(list(tensors)):
            self._ask({"do": "fill", "of": of, "names": names}, {n: tensors[n] for n in names}, only_first=True)

    def _chunks(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Names of parameters that together have about the size of a large one."""
        chunk: list[str] = []
        for name in names:
            if chunk and sum(self._named[n].nbytes for n in [*chunk, name]) > _CHUNK_BYTES:
                yield chunk
                chunk = []
            chunk.append(name)
        if chunk:
            yield chunk

    def _tables(self, head: Mapping[str, Any], rows: Sequence[Row], packed: bool) -> dict[str, Tensor]:
        """What ranks say about each row's sampled tokens, [B, T] by name."""
        cuts, ranks = self._cuts(rows, self._settings.micro_batch_tokens, packed), self._ranks
        rounds = deal([self._cost([rows[i] for i in cut], packed) for cut in cuts], ranks.size)
        idle = [min(rows, key=lambda row: len(row.tokens))]
        requests = []
        for number in range(ranks.size):
            mine = [idle if (i := places[number]) is None else [rows[j] for j in cuts[i]] for places in rounds]
            known, tensors = write_rows(mine)
            requests.append(Message({**head, **known}, tensors))
        found: dict[str, Tensor] = {}
        width = max(len(row.at) for row in rows)
        for number, answer in enumerate(ranks.call(requests)):
            for key, table in answer.tensors.items():
                place, _, name = key.partition("/")
                if (i := rounds[int(place)][number]) is not None:
                    whole = found.setdefault(name, torch.zeros(len(rows), width, device=self._policy.device))
                    whole[cuts[i], : table.shape[1]] = table.to(whole.device)
        return found

    def _cuts(self, rows: Sequence[Row], max_tokens: int, packed: bool) -> list[list[int]]:
        return cut_evenly(rows, max_tokens, self._ranks.size) if packed else cut_by_length(rows, max_tokens)

    @staticmethod
    def _cost(rows: Sequence[Row], packed: bool) -> int:
        """Tokens that are computed."""
        if packed:
            return len(pack([row.tokens for row in rows]).ids_N)
        return len(rows) * max(len(row.tokens) for row in rows)


def _idle(pieces: Sequence[Piece]) -> Piece:
    """The shortest row, which passes a gradient of zero on."""
    row = min((row for piece in pieces for row in piece.rows), key=lambda row: len(row.tokens))
    zeros_1T = torch.zeros(1, len(row.at))
    return Piece(
        cut=[],
        rows=(row,),
        behaviour_BT=zeros_1T,
        advantage_BT=zeros_1T,
        mask_BT=zeros_1T.bool(),
        weight_BT=zeros_1T,
        sequence_B=torch.zeros(1, dtype=torch.int64),
        passed_BT=zeros_1T,
    )
