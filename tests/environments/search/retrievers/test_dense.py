"""Dense retrieval, with an encoder of random weights."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from askesis.environments.search.retrievers.dense import DenseRetriever
from askesis.errors import RecipeError
from environments.search.retrievers.cases import CORPUS, HOSTILE, find, ids


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> DenseRetriever:
    folder = tmp_path_factory.mktemp("encoder")
    known = sorted({w for p in CORPUS for w in (*p.contents.replace(".", "").lower().split(), "query", "passage", ":")})
    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{word: i + 2 for i, word in enumerate(known)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)
    return DenseRetriever(CORPUS, str(folder), batch=4)


def test_scores_are_cosines_and_ties_keep_their_order(retriever: DenseRetriever) -> None:
    hits = find(retriever, "nothing else matters", 6)
    assert len(hits) == 6 and all(-1.0001 <= hit.score <= 1.0001 for hit in hits)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    twins = [i for i in ids(hits) if i in ("p4", "p5")]
    assert twins == ["p4", "p5"]


def test_padding_changes_nothing(retriever: DenseRetriever) -> None:
    alone = find(retriever, "cats", 6)
    together = asyncio.run(retriever.search(["cats", "a much longer query about the capital of france"], 6))[0]
    assert ids(alone) == ids(together)
    assert [h.score for h in alone] == pytest.approx([h.score for h in together], abs=1e-5)


@pytest.mark.parametrize("query", HOSTILE)
def test_no_query_raises(retriever: DenseRetriever, query: str) -> None:
    assert len(find(retriever, query, 2)) == 2


def test_edges(retriever: DenseRetriever) -> None:
    assert find(retriever, "cats", 0) == [] and asyncio.run(retriever.search([], 3)) == []
    with pytest.raises(RecipeError, match="encoder"):
        DenseRetriever(CORPUS, str(Path("nowhere") / "at" / "all"))
