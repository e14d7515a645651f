"""What is asked of vLLM, and which of its answers are believed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from askesis.engines import Request, Sampling
from askesis.engines.vllm.answers import read_completion, read_scores, request_body, score_body
from askesis.errors import EngineError
from fake_vllm import recorded


def request(stop: tuple[int, ...] = (1,), **sampling: Any) -> Request:
    drawn = Sampling(**{"max_tokens": 3, **sampling})
    return Request(prefix=(5, 6), sampling=drawn, stop_ids=stop, seed=(1 << 63) - 1)


def answer(tokens: list[int], logprobs: list[float], finish: str) -> dict[str, Any]:
    found: dict[str, Any] = recorded("generate")
    choice = found["choices"][0]
    entry = choice["logprobs"]["content"][0]
    content = [{**entry, "token_id": t, "logprob": p} for t, p in zip(tokens, logprobs, strict=True)]
    found["choices"] = [{**choice, "token_ids": tokens, "finish_reason": finish, "logprobs": {"content": content}}]
    return found


def read(given: Any, asked: Request | None = None) -> Any:
    return read_completion(given, asked or request(), version=7, vocab_size=10, where="replica 0")


def test_every_parameter_is_said_so_that_no_default_of_the_server_counts() -> None:
    body = request_body(request(temperature=0.7, top_p=0.9, top_k=5), "nano")
    assert body["token_ids"] == [5, 6] and body["model"] == "nano" and body["stream"] is False
    assert body["sampling_params"] == {
        "n": 1,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "max_tokens": 3,
        "min_tokens": 0,
        "stop_token_ids": [1],
        "ignore_eos": True,
        "logprobs": 0,
        "detokenize": False,
        "seed": (1 << 63) - 1,
    }
    assert score_body([5, 6, 7], "nano")["sampling_params"]["prompt_logprobs"] == 0


@pytest.mark.parametrize("temperature", [0.005, 2.5])
def test_a_temperature_that_vllm_would_raise_or_refuse_is_refused(temperature: float) -> None:
    with pytest.raises(EngineError, match="does not sample at this temperature"):
        request_body(request(temperature=temperature), "nano")
    assert request_body(request(temperature=0.0), "nano")["sampling_params"]["temperature"] == 0.0


def test_a_completion_is_read() -> None:
    done = read(answer([3, 4, 1], [-0.5, -1.25, 1e-6], "stop"))
    assert (done.tokens, done.logprobs, done.finish, done.version) == ((3, 4, 1), (-0.5, -1.25, 0.0), "stop", 7)
    assert read(answer([3, 4, 5], [-0.5, -1.0, -2.0], "length")).finish == "length"


def test_the_most_probable_token_has_probability_one() -> None:
    assert read(answer([3, 1], [-0.5, -1.0], "stop"), request(temperature=0.0)).logprobs == (0.0, 0.0)


def at(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        *path, last = place.split(".")
        target: Any = found
        for key in path:
            target = target[int(key) if key.isdigit() else key]
        target[int(last) if last.isdigit() else last] = value

    return change


CHOICE = "choices.0."
CONTENT = CHOICE + "logprobs.content."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (at("choices", []), "without token ids"),
        (at(CHOICE + "token_ids", None), "without token ids"),
        (at(CHOICE + "token_ids", []), "without token ids"),
        (at(CHOICE + "token_ids", [3, True]), "without token ids"),
        (at(CHOICE + "token_ids", [3, "4"]), "without token ids"),
        (at(CHOICE + "token_ids", [3, 10]), "cannot be an answer"),
        (at(CHOICE + "token_ids", [3, -1]), "cannot be an answer"),
        (at(CHOICE + "token_ids", [3, 4, 5, 6]), "cannot be an answer"),
        (at(CHOICE + "logprobs", None), "without the log-probabilities"),
        (at(CONTENT[:-1], []), "without the log-probabilities"),
        (at(CONTENT + "1.logprob", None), "a log-probability that is none"),
        (at(CONTENT + "1.logprob", float("nan")), "a log-probability that is none"),
        (at(CONTENT + "1.logprob", 0.5), "a log-probability that is none"),
        (at(CONTENT + "1.logprob", "-1"), "a log-probability that is none"),
        (at(CONTENT + "1.token_id", 3), "a log-probability that is none"),
        (at(CHOICE + "finish_reason", "abort"), "ends where it was not told to"),
        (at(CHOICE + "finish_reason", "length"), "ends where it was not told to"),
    ],
)
def test_an_answer_that_cannot_be_trained_on_is_refused(change: Callable[[Any], None], message: str) -> None:
    good = answer([3, 1], [-0.5, -1.0], "stop")
    assert read(copy.deepcopy(good)).tokens == (3, 1)
    change(good)
    with pytest.raises(EngineError, match=message) as caught:
        read(good)
    assert caught.value.where == "replica 0"


@pytest.mark.parametrize("given", [None, [], "text", {"choices": {}}, {"choices": [None]}, {"choices": [1, 2]}])
def test_what_is_no_answer_is_refused(given: Any) -> None:
    with pytest.raises(EngineError, match="without token ids"):
        read(given)


def test_an_answer_that_went_on_after_a_stop_is_refused() -> None:
    with pytest.raises(EngineError, match="ends where it was not told to"):
        read(answer([1, 3], [-0.5, -0.5], "length"))


def test_scores_of_a_prompt() -> None:
    rows = [None, {"6": {"logprob": -2.0}}, {"7": {"logprob": -3.5}, "1": {"logprob": -0.1}}]
    assert read_scores({"prompt_logprobs": rows}, [5, 6, 7], "replica 0") == [-2.0, -3.5]
    for broken in (None, rows[:2], [None, {"9": {"logprob": -2.0}}, rows[2]], [None, {"6": {"logprob": 3.0}}, rows[2]]):
        with pytest.raises(EngineError, match="log-probabilit"):
            read_scores({"prompt_logprobs": broken}, [5, 6, 7], "replica 0")
