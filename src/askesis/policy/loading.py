"""Loading and saving a policy: model, tokenizer and template as one value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from askesis.errors import MissingExtra, PolicyError
from askesis.policy.folder import resolve_name
from askesis.policy.template import ChatTemplate

__all__ = ["Policy", "load_policy", "plain_state", "save_policy", "tensors_hash", "weights_hash"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_UNBOUNDED_CONTEXT = 1 << 20


@dataclass(slots=True, kw_only=True)
class Policy:
    """A causal language model with what is needed to talk to it."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    device: torch.device

    @property
    def context_length(self) -> int:
        """Longest sequence, prompt and answer together, in tokens."""
        config = self.model.config
        return int(getattr(config, "max_position_embeddings", 0) or _UNBOUNDED_CONTEXT)

    @property
    def num_parameters(self) -> int:
        """All parameters, shared ones once."""
        return sum(p.numel() for p in self.model.parameters())

    def trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Name and tensor of the parameters that a learner may change, in a fixed order."""
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]


def load_policy(
    name: str,
    *,
    dtype: str = "float32",
    device: str = "auto",
    lora_rank: int = 0,
    lora_alpha: float = 32.0,
) -> Policy:
    """Load ``name`` (``nano``, a folder, or a Hub name). Only safetensors; no code from the model's repository is run.

    Raises:
        PolicyError: the folder is incomplete, its weights are pickles or do not fit its configuration.
        TemplateError: the tokenizer has no usable chat template or stop token.
    """
    source = resolve_name(name)
    place = _device(device)
    try:
        with _no_progress_bars():
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            model, info = AutoModelForCausalLM.from_pretrained(
                source,
                config=config,
                dtype=_DTYPES[dtype],
                use_safetensors=True,
                attn_implementation="sdpa",  # masks are given as booleans, which the eager path would add as numbers
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # transformers raises many types; each means that this model cannot be used
        raise PolicyError(
            "the model cannot be loaded",
            where=name,
            got=f"{type(error).__name__}: {error}",
            next_step="a folder needs config.json, tokenizer.json and *.safetensors; a Hub name needs the network or "
            "a local cache",
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise PolicyError(
            "the weights do not fill the model; the rest would be random",
            where=name,
            got=missing[:5],
            expected="every tensor",
        )
    model.eval()
    if lora_rank:
        model = _with_lora(model, lora_rank, lora_alpha)
    model.to(place)
    template = ChatTemplate(tokenizer, stop_ids=_stop_ids(model))
    return Policy(name=name, model=model, tokenizer=tokenizer, template=template, device=place)


def _stop_ids(model: Any) -> list[int]:
    """The end tokens of the model's generation settings: none, one or several."""
    ids = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return [] if ids is None else [int(i) for i in ids] if isinstance(ids, list | tuple) else [int(ids)]


def _device(name: str) -> torch.device:
    """The torch device called ``name``. Raises PolicyError when this machine does not have it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts when it was built without the device's support
        raise PolicyError(
            "the device cannot be used",
            where="policy.device",
            got=f"{name}: {str(error).splitlines()[0]}",
            expected="auto, cpu, or a CUDA device of this machine",
        ) from error
    return device


def _with_lora(model: PreTrainedModel, rank: int, alpha: float) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtra("peft", "lora", "policy.lora_rank > 0") from error
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def save_policy(policy: Policy, folder: Path) -> None:
    """Write the policy in the Hugging Face layout; adapters are merged into the weights, and also kept in
    ``adapter/``.
    """
    model: Any = policy.model
    with _no_progress_bars():
        if hasattr(model, "peft_config"):
            model.save_pretrained(folder / "adapter")
            base = model.get_base_model()
            plain = type(base)(base.config)
            plain.load_state_dict(_merged_state(model))
            plain.to(base.dtype).save_pretrained(folder)
        else:
            model.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """transformers draws a bar for every file; a run shows its own progress."""
    enabled = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            enable_progress_bar()


def plain_state(policy: Policy) -> dict[str, torch.Tensor]:
    """The tensors of the policy's model by the names of its architecture; adapters are merged into copies."""
    model: Any = policy.model
    if hasattr(model, "peft_config"):
        return _merged_state(model)
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def _merged_state(model: Any) -> dict[str, torch.Tensor]:
    """The base model's state with the adapters added in, leaving the live model as it is."""
    model.merge_adapter()
    try:
        state = {}
        for key, value in model.get_base_model().state_dict().items():
            if "lora_" not in key:
                state[key.replace(".base_layer.", ".")] = value.detach().clone()
        return state
    finally:
        model.unmerge_adapter()


def weights_hash(model: torch.nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all parameters and buffers, independent of device."""
    return tensors_hash(model.state_dict())


def tensors_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of ``tensors``, independent of device and order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(json.dumps([name, str(plain.dtype), list(plain.shape)]).encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return digest.hexdigest()
