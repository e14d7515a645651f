"""An engine that says what it is told to, for tests without a model: real ids, real budgets, no weights."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from askesis.engines.protocol import Capabilities, Completion, Request
from askesis.policy.template import ChatTemplate

__all__ = ["ScriptedEngine"]


class ScriptedEngine:
    """Answers a prompt's text with ``script(text, seed)``; an Exception that the script returns is raised.

    Args:
        template: of the tokenizer that prompts were made with.
        script: from the decoded prompt and the request's seed to the answer.
        delay_s: how long each answer takes on the event loop's clock, seconds.
    """

    def __init__(
        self, template: ChatTemplate, script: Callable[[str, int], str | Exception], *, delay_s: float = 0.0
    ) -> None:
        self._template = template
        self._script = script
        self._delay_s = delay_s
        self.version = 0
        self.capabilities = Capabilities(token_exact=True, shares_weights=True)

    async def generate(self, request: Request) -> Completion:
        """The scripted answer, cut at the request's limit; every token has log-probability -0.5."""
        await asyncio.sleep(self._delay_s)
        answer = self._script(self._template.decode(request.prefix), request.seed)
        if isinstance(answer, Exception):
            raise answer
        tokens = [*self._template.encode_text(answer), *request.stop_ids[:1]]
        kept = tokens[: request.sampling.max_tokens]
        return Completion(
            tokens=tuple(kept),
            logprobs=(-0.5,) * len(kept),
            finish="stop" if len(kept) == len(tokens) else "length",
            version=self.version,
        )

    def publish(self, version: int) -> None:
        """Only the number changes."""
        self.version = version

    def weights_hash(self) -> str:
        """There are no weights."""
        return "scripted"

    async def close(self) -> None:
        """Nothing is held."""
