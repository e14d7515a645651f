"""One rank of a learner over several processes: what it does when the driver asks.

All ranks are asked the same at the same time, since most answers need collectives. Micro-batches are computed in
rounds, one on each rank; the driver sends every rank as many rounds.
"""

from __future__ import annotations

import hashlib
import math
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import TCPStore
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from askesis.algorithms import hellinger
from askesis.errors import AlgorithmError
from askesis.learners.batch import Row
from askesis.learners.compute import LearnerSettings, needs_reference, optimizer_states
from askesis.learners.critic import Critic, CriticSettings
from askesis.learners.models import distance_of
from askesis.learners.packed import PackedScorer
from askesis.learners.padded import PaddedScorer
from askesis.learners.ranks.sharding import ModelSpec, Sharded, gathered, scattered
from askesis.learners.ranks.wire import Message, read_algorithm, read_pieces, read_rows, write_shares
from askesis.learners.scoring import Scorer, Scores
from askesis.learners.shares import share_of

__all__ = ["DISTANCES", "Rank", "digest"]

DISTANCES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"hellinger": hellinger}
"""Distances of distributions that ranks know by name."""


def digest(running: Any, name: str, tensor: Tensor) -> None:
    """Add a tensor to a running SHA-256."""
    plain = tensor.detach().cpu().contiguous()
    running.update(f"{name} {plain.dtype} {list(plain.shape)}".encode())
    running.update(plain.reshape(-1).view(torch.uint8).numpy() if plain.numel() else b"")


class Rank:
    """Answers requests; see the methods that begin with ``_do_``. Nothing is there before ``join`` and ``build``."""

    def __init__(self) -> None:
        self._number = 0
        self._device = torch.device("cpu")
        self._listener: socket.socket | None = None

    def handle(self, message: Message) -> Message:
        """Do what ``message`` asks for."""
        do: Callable[[Message], Message] = getattr(self, f"_do_{message.head['do']}")
        return do(message)

    def _do_listen(self, message: Message) -> Message:
        """Open the port where the ranks will meet, on one address only; rank 0 is told which."""
        if message.head["host"] is None:
            return Message({}, {})
        self._listener = socket.create_server((message.head["host"], 0))
        return Message({"port": self._listener.getsockname()[1]}, {})

    def _do_join(self, message: Message) -> Message:
        """Meet the other ranks."""
        head = message.head
        self._number, size, host = head["rank"], head["size"], head["host"]
        torch.set_num_threads(head["threads"])
        if host.startswith("127."):
            for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                os.environ.setdefault(name, "lo0" if sys.platform == "darwin" else "lo")
        if head["device"] == "cuda":
            self._device = torch.device("cuda", self._number % torch.cuda.device_count())
            torch.cuda.set_device(self._device)
        deadline = timedelta(seconds=head["timeout_s"])
        store = TCPStore(
            host,
            head["port"],
            size,
            is_master=self._number == 0,
            timeout=deadline,
            wait_for_workers=False,
            master_listen_fd=self._listener.detach() if self._listener is not None else None,
        )
        dist.init_process_group(
            "nccl" if head["device"] == "cuda" else "gloo",
            store=store,
            rank=self._number,
            world_size=size,
            timeout=deadline,
            device_id=self._device if head["device"] == "cuda" else None,
        )
        self._mesh: DeviceMesh = init_device_mesh(head["device"], (size,))
        return Message({}, {})

    def _do_build(self, message: Message) -> Message:
        """Make the models, empty, and forget those that were there."""
        head = message.head
        spec = ModelSpec(**head["spec"])
        critic = head["settings"].pop("critic")
        self._settings = LearnerSettings(
            **head["settings"], critic=None if critic is None else CriticSettings(**critic)
        )
        self._algorithm = read_algorithm(head["algorithm"])
        buffers = message.tensors
        self._policy = Sharded(spec, buffers, self._mesh, self._device)
        self._has_adapters = spec.lora is not None
        has_copy = needs_reference(self._algorithm) and not self._has_adapters
        frozen = spec._replace(parameters=[(name, dtype, shape, False) for name, dtype, shape, _ in spec.parameters])
        self._reference = Sharded(frozen, buffers, self._mesh, self._device) if has_copy else None
        return Message({}, {})

    def _do_fill(self, message: Message) -> Message:
        """Take parameters; rank 0 is given them, and hands the others their pieces."""
        model = self._policy if message.head["of"] == "policy" else self._reference
        assert model is not None
        for name in message.head["names"]:
            model.fill(name, message.tensors.get(name))
        return Message({}, {})

    def _do_ready(self, message: Message) -> Message:
        """All parameters are there: make what computes with them."""
        settings, betas = self._settings, (self._settings.beta1, self._settings.beta2)
        model = self._policy.model
        self._critic = None
        if settings.critic is not None:
            self._critic = Critic(model, settings.critic, betas=betas)
        head = self._critic.head if self._critic else None
        with torch.no_grad():
            self._scorers = {True: self._scorer(self._policy, PackedScorer, head)} if settings.packed else {}
            self._scorers[False] = self._scorer(self._policy, PaddedScorer, head)
            if self._reference is not None:
                kind = PackedScorer if settings.packed else PaddedScorer
                self._their_scorer = self._scorer(self._reference, kind)
        self._trained = {name: p for name, p in self._policy.parameters.items() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(
            list(self._trained.values()), lr=settings.lr, betas=betas, weight_decay=settings.weight_decay, fused=True
        )
        return Message({}, {})

    def _do_scores(self, message: Message) -> Message:
        """Log-probabilities, entropies and values of rows under the policy."""
        scorer, tensors = self._scorer_of(message.head["packed"]), {}
        for number, rows in enumerate(read_rows(message)):
            for name, table in self._scores(scorer, rows)._asdict().items():
                if table is not None:
                    tensors[f"{number}/{name}"] = table
        return Message({}, tensors)

    def _do_reference(self, message: Message) -> Message:
        """Log-probabilities of rows under the reference."""
        found = [self._reference_logp(rows) for rows in read_rows(message)]
        return Message({}, {f"{number}/logp_BT": table for number, table in enumerate(found)})

    def _do_distance(self, message: Message) -> Message:
        """Distances of the policy's distributions from the reference's."""
        between, tensors = DISTANCES[message.head["between"]], {}
        scorer = self._scorer_of(self._settings.packed)
        for number, rows in enumerate(read_rows(message)):
            work = partial(distance_of, scorer, self._as_reference, rows, between, self._settings.temperature)
            with torch.no_grad():
                both = work if self._reference is None else partial(self._reference, work)
                tensors[f"{number}/distance_BT"] = self._policy(both)
        return Message({}, tensors)

    def _do_accumulate(self, message: Message) -> Message:
        """Forget the gradient, and add up that of the pieces."""
        self._forget()
        scorer, shares = self._scorer_of(self._settings.packed), []
        reads_reference = message.head["reads_reference"]
        for piece in read_pieces(message, self._device):
            reference_BT = self._reference_logp(piece.rows) if reads_reference else None
            scores = self._policy(partial(scorer, piece.rows))
            share = share_of(piece, scores, self._algorithm, reference_BT, self._settings.critic)
            share.to_differentiate.backward()
            shares.append(share._replace(to_differentiate=share.to_differentiate.detach()))
        self._add_up_critic()
        return write_shares(shares)

    def _do_norm(self, message: Message) -> Message:
        """Norm of the gradient, which is forgotten."""
        squares = [self._norm() ** 2]
        if self._critic is not None:
            squares += [float(p.grad.norm()) ** 2 for p in self._critic.parameters if p.grad is not None]
        self._forget()
        return Message({"norm": math.sqrt(sum(squares))}, {})

    def _do_step(self, message: Message) -> Message:
        """Clip the gradient by its norm over all ranks, and make a step; neither if it is not finite."""
        norm, lr, limit = self._norm(), message.head["lr"], self._settings.max_grad_norm
        if math.isfinite(norm):
            parameters = list(self._trained.values())
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, torch.tensor(norm, device=self._device))
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            self._optimizer.step()
            if self._critic is not None:
                self._critic.step(lr / self._settings.lr, max_grad_norm=limit)
        self._forget()
        return Message({"norm": norm}, {})

    def _do_gather(self, message: Message) -> Message:
        """Some tensors whole, as rank 0's answer; ``of`` is ``weights`` or a key of the optimiser."""
        of, found = message.head["of"], {}
        for name in message.head["names"]:
            parameter = self._trained[name]
            state = parameter if of == "weights" else self._optimizer.state[parameter].get(of)
            if state is not None:
                whole = gathered(state)
                if self._number == 0:
                    found[name] = whole
        running = hashlib.sha256()
        for name, tensor in found.items():
            digest(running, name, tensor)
        return Message({"sha256": running.hexdigest()}, found)

    def _do_optimizer(self, message: Message) -> Message:
        """Take the optimiser's state of some parameters; rank 0 is given it."""
        states = optimizer_states(message.tensors, list(self._trained)) if self._number == 0 else {}
        for name, keys in message.head["states"].items():
            parameter, own = self._trained[name], states.get(name, {})
            pieces: dict[str, Any] = {}
            for key in keys:
                if key == "step":
                    pieces[key] = torch.tensor(message.head["steps"][name], dtype=torch.float32, device=self._device)
                else:
                    pieces[key] = scattered(parameter, own.get(key))
            self._optimizer.state[parameter] = pieces
        return Message({}, {})

    def _do_critic(self, message: Message) -> Message:
        """What the critic is; every rank has all of it, and takes it from a request that brings it."""
        if self._critic is None:
            return Message({}, {})
        if message.tensors:
            self._critic.load_state_dict(message.tensors)
        return Message({}, self._critic.state_dict() if self._number == 0 else {})

    def _do_memory(self, message: Message) -> Message:
        """Bytes at most, of this process and on its GPU."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        gpu = torch.cuda.max_memory_allocated() if self._device.type == "cuda" else 0
        return Message({"rss": peak, "gpu": gpu}, {})

    def _scorer(self, model: Sharded, kind: type[PackedScorer | PaddedScorer], head: Any = None) -> Scorer:
        """Made where the model is gathered: some look at what it does."""
        temperature = self._settings.temperature
        if kind is PackedScorer:
            made: Scorer = model(
                partial(PackedScorer, model.model, temperature=temperature, head=head, writes_out=False)
            )
            return made
        return PaddedScorer(model.model, temperature=temperature, head=head)

    def _scorer_of(self, packed: bool) -> Scorer:
        if packed and True not in self._scorers:
            self._scorers[True] = self._scorer(self._policy, PackedScorer, self._critic.head if self._critic else None)
        return self._scorers[packed]

    @torch.no_grad()
    def _scores(self, scorer: Scorer, rows: Sequence[Row]) -> Scores:
        return self._policy(partial(scorer, rows))

    @torch.no_grad()
    def _reference_logp(self, rows: Sequence[Row]) -> Tensor:
        whole = self._policy if self._reference is None else self._reference
        with self._as_reference() as scorer:
            return whole(partial(scorer, rows)).logp_BT

    @contextmanager
    def _as_reference(self) -> Iterator[Scorer]:
        if self._reference is not None:
            yield self._their_scorer
        elif self._has_adapters:
            with self._policy.model.disable_adapter():
                yield self._scorer_of(self._settings.packed)
        else:
            raise AlgorithmError("the learner was built without a reference model")

    def _norm(self) -> float:
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._trained.values() if p.grad is not None])
        return float(gathered(norm))

    def _add_up_critic(self) -> None:
        for parameter in self._critic.parameters if self._critic else ():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)

    def _forget(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        if self._critic is not None:
            self._critic.zero_grad()
