"""The client: what it sends, what it takes, and what it does when the service is down."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from askesis.clock import VirtualClock
from askesis.environments.search.retrievers import make_retriever
from askesis.environments.search.retrievers.http import HttpRetriever
from askesis.environments.search.server import retrieval_app
from askesis.errors import EnvironmentFault
from environments.search.retrievers.cases import CORPUS, HOSTILE, find, ids

URL = "http://retriever/retrieve"


def answering(*answers: object) -> tuple[HttpRetriever, list[httpx.Request]]:
    """A client whose service gives these answers in turn; an exception is raised, a number is a status."""
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        answer = answers[min(len(asked), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return httpx.Response(answer, text="no")
        return httpx.Response(200, content=answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    return HttpRetriever(URL, transport=httpx.MockTransport(handle)), asked


GOOD = {"result": [[{"document": {"id": "1", "contents": '"T"\nx'}, "score": 0.5}]]}


def test_it_asks_and_reads_in_the_common_form() -> None:
    retriever, asked = answering(GOOD)
    hits = find(retriever, "q", 4)
    assert json.loads(asked[0].content) == {"queries": ["q"], "topk": 4, "return_scores": True}
    assert (hits[0].passage.title, hits[0].passage.text, hits[0].score) == ("T", "x", 0.5)


@pytest.mark.parametrize("first", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), 500, 503])
def test_it_tries_again(first: object) -> None:
    retriever, asked = answering(first, first, GOOD)
    clock = VirtualClock()
    assert len(clock.run(retriever.search(["q"], 1))[0]) == 1
    assert len(asked) == 3 and clock.now() == pytest.approx(0.6, abs=0.1)


def test_a_service_that_is_down_is_a_typed_failure() -> None:
    retriever, asked = answering(httpx.ConnectError("refused"))
    with pytest.raises(EnvironmentFault, match=r"(?s)after 3 tries.*refused"):
        VirtualClock().run(retriever.search(["q"], 1))
    assert len(asked) == 3


@pytest.mark.parametrize(
    "answer",
    [
        400,
        b"<html>",
        [],
        {"result": 3},
        {"result": []},
        {"result": [[{"document": {"contents": 1}, "score": 1}]]},
        {"result": [[{"document": {"contents": "x"}, "score": None}]]},
        {"result": [[{"contents": "x"}]]},
    ],
)
def test_an_answer_of_another_form_is_refused_at_once(answer: object) -> None:
    retriever, asked = answering(answer)
    with pytest.raises(EnvironmentFault):
        find(retriever, "q")
    assert len(asked) == 1


def test_the_client_fits_our_own_service() -> None:
    inside = make_retriever("bm25", CORPUS)
    retriever = HttpRetriever(URL, transport=httpx.ASGITransport(app=retrieval_app(inside)))
    for query in ("capital of France", *HOSTILE):
        assert ids(find(retriever, query)) == ids(find(inside, query))


def test_one_client_serves_several_event_loops() -> None:
    retriever, asked = answering(GOOD)
    for _ in range(2):
        assert len(asyncio.run(retriever.search(["q"], 1))) == 1
    assert asyncio.run(retriever.search([], 1)) == [] and len(asked) == 2
