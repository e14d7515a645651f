"""The weights that workers sample from: a copy of every version as it was published, while somebody may need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from askesis.engines.vllm.client import Servers
from askesis.policy.loading import Policy, tensors_hash
from askesis.training.sampler import Sampler

__all__ = ["Publications", "Published", "digest_of", "frozen_digest"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Published:
    """The weights of one version: the trainable tensors, on the CPU, or the servers that hold them."""

    version: int
    content: Mapping[str, torch.Tensor] | Servers
    digest: str
    """Hash of the tensors; empty for servers, which are verified by whoever gave them the weights."""


class Publications:
    """Keeps what the sampler publishes, for those who sample elsewhere."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._kept: dict[int, Published] = {}
        sampler.follow(self._add)

    def wanted(self, purpose: str) -> Published:
        """What groups of ``purpose`` are to be sampled from now."""
        return self._kept[self._version(purpose)]

    def _version(self, purpose: str) -> int:
        return (self._sampler.engine if purpose == "train" else self._sampler.current).version

    def _add(self, version: int, policy: Policy) -> None:
        needed = {version, self._version("train"), self._version("evaluation")}
        self._kept = {number: kept for number, kept in self._kept.items() if number in needed}
        tensors = {name: parameter.detach().cpu().clone() for name, parameter in policy.trainable()}
        self._kept[version] = Published(version=version, content=tensors, digest=tensors_hash(tensors))


def digest_of(policy: Policy) -> str:
    """Hash of the tensors that are trained, as they are now."""
    return tensors_hash({name: parameter.detach() for name, parameter in policy.trainable()})


def frozen_digest(policy: Policy) -> str:
    """Hash of everything else in the model: what must be the same wherever the recipe's policy is loaded."""
    trained = {parameter.data_ptr() for _, parameter in policy.trainable()}  # also by their other names
    return tensors_hash({n: t for n, t in policy.model.state_dict().items() if t.data_ptr() not in trained})
