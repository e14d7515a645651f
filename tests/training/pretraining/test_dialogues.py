from __future__ import annotations

import json
import re

from askesis.streams import generator
from askesis.training.pretraining.dialogues import dialogue


def test_dialogues_have_one_hop_and_answer_what_the_tool_said() -> None:
    rng = generator(0, "test")
    kinds = set()
    for _ in range(100):
        system, user, call, result, last = dialogue(rng)
        assert [m["role"] for m in (system, user, call, result, last)] == [
            "system",
            "user",
            "assistant",
            "tool",
            "assistant",
        ]
        answer = re.fullmatch(r"<answer>(.+)</answer>", last["content"])
        assert answer is not None
        assert answer[1] in result["content"]
        tool_call = re.fullmatch(r"<tool_call>(.+)</tool_call>", call["content"])
        if tool_call is None:
            assert re.fullmatch(r"<search>\w+ \w+</search>", call["content"])
            assert re.fullmatch(r"<information>.+</information>", result["content"])
            kinds.add("search")
            continue
        request = json.loads(tool_call[1])
        kinds.add(request["name"])
        if request["name"] != "lookup":
            a, b = request["arguments"]["a"], request["arguments"]["b"]
            assert int(answer[1]) == {"add": a + b, "multiply": a * b}[request["name"]]
    assert kinds == {"search", "lookup", "add", "multiply"}


def test_the_same_stream_gives_the_same_dialogue() -> None:
    assert dialogue(generator(3, "test")) == dialogue(generator(3, "test"))
