"""A model whose parameters lie in pieces on the ranks of a process group, by FSDP2.

It is built from its configuration without a single weight, cut up, and filled parameter by parameter: no rank ever
holds the whole of it. A layer is gathered when it is computed; what is not in a layer (embedding, last norm, output)
is gathered for the whole of a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from askesis.errors import PolicyError
from askesis.policy.loading import Policy

__all__ = ["ModelSpec", "Sharded", "build_empty", "gathered", "scattered", "spec_of"]

T = TypeVar("T")

_LORA = ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "bias")


class ModelSpec(NamedTuple):
    """JSON-ready: all that a model is made from but its numbers."""

    config: dict[str, Any]
    dtype: str
    lora: dict[str, Any] | None
    parameters: list[tuple[str, str, list[int], bool]]
    """Name, type, shape, and whether it is trained."""


def spec_of(policy: Policy) -> ModelSpec:
    """What ranks build the policy's model from.

    Raises:
        PolicyError: a model built from it would not have the policy's parameters.
    """
    model: Any = policy.model
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    spec = ModelSpec(base.config.to_dict(), _name(base.dtype), _lora(model), _parameters(model))
    try:
        found = _parameters(build_empty(spec))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise _unlike(policy, str(error)) from error
    if found != spec.parameters:
        wrong = [f"{a} / {b}" for a, b in zip(found, spec.parameters, strict=False) if a != b]
        raise _unlike(policy, wrong[:3] or f"{len(found)} / {len(spec.parameters)} parameters")
    _layers(model)
    return spec


def _unlike(policy: Policy, got: object) -> PolicyError:
    return PolicyError(
        "a model that is built from the policy's configuration is not like it, so ranks cannot hold it",
        where=policy.name,
        got=got,
        next_step="set cluster.learner_ranks=1",
    )


def build_empty(spec: ModelSpec) -> Any:
    """The model without weights: on torch's device ``meta``."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = dict(spec.config)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(
            config, attn_implementation="sdpa", dtype=getattr(torch, spec.dtype)
        )
        if spec.lora is not None:
            from peft import LoraConfig, get_peft_model

            model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **spec.lora))
    trained = {name: is_trained for name, _, _, is_trained in spec.parameters}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained.get(name, False))
    return model.eval()


class _Whole(torch.nn.Module):
    """What is computed by a model as one forward pass, whichever of its parts are called: FSDP gathers around it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], T]) -> T:
        return work()


class Sharded:
    """A model in pieces.

    Args:
        spec: of the model.
        buffers: those of the driver's model, by name.
        mesh: the ranks.
        device: of this rank's pieces.
    """

    def __init__(self, spec: ModelSpec, buffers: Mapping[str, Tensor], mesh: DeviceMesh, device: torch.device) -> None:
        self.model = build_empty(spec)
        self._mesh, self._device = mesh, device
        whole: Any = _Whole(self.model)
        for layer in _layers(self.model):
            fully_shard(layer, mesh=mesh)
        fully_shard(whole, mesh=mesh, reshard_after_forward=False)
        whole.to_empty(device=device)
        for name, buffer in buffers.items():
            owner, _, last = name.rpartition(".")
            self.model.get_submodule(owner).register_buffer(last, buffer.to(device), persistent=False)
        for module in whole.modules():
            if isinstance(module, FSDPModule):  # gradients are added up; the losses' weights divide
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        self._whole = whole
        self.parameters: dict[str, Any] = dict(self.model.named_parameters())

    def __call__(self, work: Callable[[], T]) -> T:
        """``work`` with the model gathered as it is computed. All ranks call it together, with work of one shape."""
        result: T = self._whole(work)
        if not torch.is_grad_enabled():  # there is no way back that would give the memory back
            self._whole.reshard()
        return result

    def fill(self, name: str, full: Tensor | None) -> None:
        """Cut a parameter up; ``full`` is given on rank 0."""
        with torch.no_grad():
            self.parameters[name].copy_(scattered(self.parameters[name], full))


def scattered(like: Any, full: Tensor | None) -> Any:
    """Rank 0's ``full``, cut up as the parameter ``like`` is."""
    if full is None:
        full = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    return distribute_tensor(full.to(like.device, like.dtype), like.device_mesh, like.placements)


def gathered(piece: Tensor) -> Tensor:
    """The whole of what the ranks hold in pieces; a tensor that is none is on every rank."""
    whole: Tensor = piece.full_tensor() if isinstance(piece, DTensor) else piece
    return whole.detach()


def _layers(model: Any) -> Iterator[torch.nn.Module]:
    decoder = model.get_decoder()
    count = decoder.config.num_hidden_layers
    for child in decoder.children():
        if isinstance(child, torch.nn.ModuleList) and len(child) == count:
            return iter(child)
    raise PolicyError(
        "the model's layers are not found, so ranks cannot share them out",
        where=type(model).__name__,
        expected=f"one list of {count} layers in the decoder",
        next_step="set cluster.learner_ranks=1",
    )


def _parameters(model: Any) -> list[tuple[str, str, list[int], bool]]:
    return [(name, _name(p.dtype), list(p.shape), p.requires_grad) for name, p in model.named_parameters()]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _lora(model: Any) -> dict[str, Any] | None:
    adapters = getattr(model, "peft_config", None)
    if not adapters:
        return None
    (config,) = adapters.values()
    targets = config.target_modules
    known = {name: getattr(config, name) for name in _LORA}
    return known | {"target_modules": targets if isinstance(targets, str) else sorted(targets)}
