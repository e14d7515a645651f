"""The decoder for every other architecture: the modules of transformers over the engine's own keys and values.

Shape suffixes as in :mod:`askesis.engines.decoder`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from askesis.engines.cache import RowCache
from askesis.engines.decoder import prefix_mask
from askesis.engines.kv import Layout
from askesis.policy.weights import fingerprint

__all__ = ["ModuleDecoder"]

_Append = Callable[[int, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class ModuleDecoder:
    """Calls the model itself. Masks and positions are given to it explicitly.

    Layers may differ in the shape of their keys and values: each is kept padded to the largest.
    """

    ragged = False
    num_variants = 1

    def __init__(self, model: Any) -> None:
        self._model = model
        self._seen = fingerprint(model)
        shapes: list[torch.Tensor] = []

        def look(layer: int, kv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            shapes.extend([kv] * (layer + 1 - len(shapes)))
            return kv[:, 0], kv[:, 1]

        one = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        with torch.inference_mode():
            self._forward(one, one, torch.ones(1, 1, 1, 1, dtype=torch.bool, device=model.device), _Cache(look, 0))
        self.layout = Layout(
            num_layers=len(shapes),
            num_kv_heads=max(kv.shape[2] for kv in shapes),
            head_size=max(kv.shape[4] for kv in shapes),
            dtype=shapes[0].dtype,
            device=shapes[0].device,
        )

    def changed(self) -> bool:
        """See :class:`askesis.engines.decoder.Decoder`."""
        return fingerprint(self._model) != self._seen

    def refresh(self) -> None:
        """See :class:`askesis.engines.decoder.Decoder`."""
        self._seen = fingerprint(self._model)

    def reserve(self, length: int) -> None:
        """The modules prepare themselves."""

    def read(
        self,
        ids_PN: torch.Tensor,
        context_P: torch.Tensor,
        kv: torch.Tensor,
        last_P: torch.Tensor,
        variant_P: torch.Tensor,
    ) -> torch.Tensor:
        """See :class:`askesis.engines.decoder.Decoder`; all runs have one length."""
        length = ids_PN.shape[1]
        start = kv.shape[4] - length

        def append(layer: int, kv_P2HND: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            kv[layer, :, :, :, start:] = self._padded(kv_P2HND).transpose(0, 1)
            return kv[layer, 0], kv[layer, 1]

        position_PN = context_P[:, None] + torch.arange(length, device=ids_PN.device)
        mask = prefix_mask(context_P, start, length)
        return self._forward(ids_PN, position_PN, mask, _Cache(append, start))

    def step(
        self, ids_B: torch.Tensor, position_B: torch.Tensor, rows: RowCache, variant_B: torch.Tensor
    ) -> torch.Tensor:
        """See :class:`askesis.engines.decoder.Decoder`."""
        visible_BC = rows.visible()

        def append(layer: int, kv_B2HND: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return rows.append(layer, self._padded(kv_B2HND)[:, :, :, 0])

        cache = _Cache(append, visible_BC.shape[1] - 1)
        return self._forward(ids_B[:, None], position_B[:, None], visible_BC[:, None, None], cache)

    def _padded(self, kv: torch.Tensor) -> torch.Tensor:
        heads, size = self.layout.num_kv_heads - kv.shape[2], self.layout.head_size - kv.shape[4]
        return F.pad(kv, (0, size, 0, 0, 0, heads)) if heads or size else kv

    def _forward(
        self, ids_PN: torch.Tensor, position_PN: torch.Tensor, mask: torch.Tensor, cache: _Cache
    ) -> torch.Tensor:
        """Logits after the last token of each run [P, V]."""
        logits: torch.Tensor = self._model(
            input_ids=ids_PN,
            position_ids=position_PN,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits[:, -1]


class _Cache:
    """Duck-typed to what decoder models of transformers ask of a cache."""

    is_compileable = False

    def __init__(self, append: _Append, length: int) -> None:
        self._append = append
        self._length = length

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append [P, H, N, D] to ``layer`` and return all of it so far."""
        size = max(keys.shape[3], values.shape[3])
        both = [F.pad(x, (0, size - x.shape[3])) if x.shape[3] < size else x for x in (keys, values)]
        known_keys, known_values = self._append(layer, torch.stack(both, 1))
        heads = keys.shape[1]
        return known_keys[:, :heads, :, : keys.shape[3]], known_values[:, :heads, :, : values.shape[3]]

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens of the past."""
        return self._length

    def get_mask_sizes(self, query_length: int, layer: int = 0) -> tuple[int, int]:
        """Length and offset of the keys that a query of this length sees."""
        return self._length + query_length, 0
