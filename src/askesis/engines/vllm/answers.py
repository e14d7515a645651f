"""What goes to vLLM and what comes back: token ids and numbers, checked one by one. No text, nothing that is run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from askesis.engines.protocol import Completion, Request
from askesis.errors import EngineError
from askesis.recipe.vllm import COLDEST, HOTTEST, is_sampled_by_vllm

__all__ = ["read_completion", "read_scores", "request_body", "score_body"]

_SLACK = 1e-4
"""Nats by which rounding may lift a log-probability above 0."""


def request_body(request: Request, model: str) -> dict[str, Any]:
    """For ``POST /inference/v1/generate``. Every parameter is said, so that no default of the server's slips in.

    Raises:
        EngineError: a temperature that vLLM would change or refuse.
    """
    drawn = request.sampling
    if not is_sampled_by_vllm(drawn.temperature):
        raise EngineError(
            "vLLM does not sample at this temperature",
            where="sampling.temperature",
            got=drawn.temperature,
            expected=f"0 (the most probable token), or {COLDEST} to {HOTTEST}",
        )
    return _body(
        request.prefix,
        model,
        temperature=drawn.temperature,
        top_p=drawn.top_p,
        top_k=drawn.top_k,
        max_tokens=drawn.max_tokens,
        stop_token_ids=list(request.stop_ids),
        seed=request.seed,
    )


def score_body(sequence: Sequence[int], model: str) -> dict[str, Any]:
    """Asks for the log-probabilities of ``sequence`` itself, at temperature 1."""
    return _body(sequence, model, temperature=1.0, top_p=1.0, top_k=0, max_tokens=1, prompt_logprobs=0, seed=0)


def _body(prefix: Sequence[int], model: str, **drawn: Any) -> dict[str, Any]:
    fixed = {
        "n": 1,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "min_tokens": 0,
        "ignore_eos": True,  # only our own stop ids end an answer
        "logprobs": 0,  # of the sampled tokens
        "detokenize": False,
    }
    return {"token_ids": list(prefix), "model": model, "stream": False, "sampling_params": {**fixed, **drawn}}


def read_completion(answer: Any, request: Request, *, version: int, vocab_size: int, where: str) -> Completion:
    """Check an answer against what was asked. Raises EngineError that says what is wrong with it."""
    choices = _at(answer, "choices")
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    tokens = _at(choice, "token_ids")
    if not (isinstance(tokens, list) and tokens and all(type(t) is int for t in tokens)):
        raise _broken("an answer without token ids", where, answer, "choices[0].token_ids: a list of integers")
    if len(tokens) > request.sampling.max_tokens or not 0 <= min(tokens) <= max(tokens) < vocab_size:
        raise _broken(
            "token ids that cannot be an answer to this request",
            where,
            f"{len(tokens)} ids from {min(tokens)} to {max(tokens)}",
            f"at most {request.sampling.max_tokens} ids below {vocab_size}",
        )
    logprobs = _logprobs(_at(choice, "logprobs"), tokens, where)
    if request.sampling.temperature == 0:  # one point; vLLM gives the model's own log-probability here
        logprobs = [0.0] * len(tokens)
    stopped = tokens[-1] in request.stop_ids
    finish = _at(choice, "finish_reason")
    if finish != ("stop" if stopped else "length") or any(token in request.stop_ids for token in tokens[:-1]):
        raise _broken(
            "an answer that ends where it was not told to",
            where,
            f"finish_reason={finish!r}, last id {tokens[-1]}",
            f"stop at one of {list(request.stop_ids)}, or length at {request.sampling.max_tokens} tokens",
        )
    return Completion(
        tokens=tuple(tokens), logprobs=tuple(logprobs), finish="stop" if stopped else "length", version=version
    )


def _logprobs(given: Any, tokens: Sequence[int], where: str) -> list[float]:
    """One number per token, each said to be that token's."""
    entries = _at(given, "content")
    if not isinstance(entries, list) or len(entries) != len(tokens):
        raise EngineError(
            "an answer without the log-probabilities of its tokens",
            where=where,
            got=f"{len(entries) if isinstance(entries, list) else 'none'} for {len(tokens)} tokens",
            expected="one for each token",
            next_step="start the server without --max-logprobs, by a vLLM that this was tested with (docs/engines.md)",
        )
    found = []
    for entry, token in zip(entries, tokens, strict=True):
        value: Any = entry.get("logprob") if isinstance(entry, dict) and entry.get("token_id") == token else None
        if not _is_logprob(value):
            raise _broken("a log-probability that is none", where, entry, f"a number up to 0 for token {token}")
        found.append(0.0 if value > 0 else float(value))
    return found


def read_scores(answer: Any, sequence: Sequence[int], where: str) -> list[float]:
    """Log-probabilities of ``sequence`` from its second token on, nats."""
    rows = _at(answer, "prompt_logprobs")
    if not isinstance(rows, list) or len(rows) != len(sequence):
        raise _broken("no log-probabilities of a prompt", where, answer, f"prompt_logprobs for {len(sequence)} tokens")
    values = [_at(_at(row, str(token)), "logprob") for row, token in zip(rows[1:], sequence[1:], strict=True)]
    for value, token in zip(values, sequence[1:], strict=True):
        if not _is_logprob(value):
            raise _broken("a log-probability that is none", where, value, f"a number up to 0 for token {token}")
    return values


def _is_logprob(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value <= _SLACK


def _at(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _broken(what: str, where: str, got: object, expected: str) -> EngineError:
    return EngineError(
        f"the server gave {what}",
        where=where,
        got=got,
        expected=expected,
        next_step="compare the server's version with the one that this was tested with (docs/engines.md)",
    )
