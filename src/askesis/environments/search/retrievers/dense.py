"""Dense retrieval: texts as vectors of an encoder such as E5, nearest by inner product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from askesis.environments.search.corpus import Corpus, Hit
from askesis.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DenseRetriever"]

_LONGEST = 256  # tokens of a query, as in Search-R1's E5 index
_PASSAGE_LONGEST = 512


class DenseRetriever:
    """Mean of the encoder's last states over real tokens, length 1, so that scores are cosines.

    As Search-R1 uses ``intfloat/e5-base-v2``: queries begin with ``query: `` and passages with ``passage: ``. Every
    passage is compared (a flat index): [passages, width] float32 in memory.

    Args:
        corpus: what is indexed, once, when this is built.
        model: a folder or a name on the Hugging Face Hub.
        batch: passages that are encoded at a time.
        device: of the encoder and the index.
    """

    is_deterministic = True

    def __init__(self, corpus: Corpus, model: str, *, batch: int = 64, device: str = "cpu") -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(model)
            self._model = AutoModel.from_pretrained(model).to(device).eval()
        except (OSError, ValueError) as error:
            raise RecipeError(
                "the encoder cannot be loaded", where="environment.options.encoder", got=f"{model}: {error}"
            ) from error
        self._torch, self._device, self._corpus = torch, device, corpus
        texts = [f"passage: {corpus[i].contents}" for i in range(len(corpus))]
        parts = [self._encode(texts[i : i + batch], _PASSAGE_LONGEST) for i in range(0, len(texts), batch)]
        self._vectors = torch.cat(parts)

    async def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The nearest passages; there are always ``k`` while the corpus has as many."""
        k = min(k, len(self._corpus))
        if not queries or k < 1:
            return [[] for _ in queries]
        texts = [f"query: {query.encode('utf-8', 'replace').decode()}" for query in queries]
        scores = self._encode(texts, _LONGEST) @ self._vectors.T
        # A stable sort of all: ties in the order of the corpus. topk promises none.
        values, places = scores.sort(dim=1, descending=True, stable=True)
        return [
            [Hit(passage=self._corpus[int(p)], score=float(v)) for v, p in zip(value[:k], place[:k], strict=True)]
            for value, place in zip(values, places, strict=True)
        ]

    def _encode(self, texts: Sequence[str], longest: int) -> Tensor:
        """[texts, width] float32, each of length 1."""
        torch = self._torch
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            states = self._model(**tokens.to(self._device)).last_hidden_state.float()
            mask = tokens["attention_mask"].unsqueeze(-1)
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            vectors: Tensor = torch.nn.functional.normalize(mean, dim=-1)
            return vectors
