"""Between what a policy writes and what a foreign world takes, and the other way round."""

from __future__ import annotations

from askesis.environments.reasoning.extract import extract_answer

__all__ = ["MAX_SHOWN", "act_text", "shown"]

MAX_SHOWN = 20_000
"""Characters of one observation or tool result that a policy is shown."""

_THOUGHT_ENDS = "</think>"


def act_text(reply: str) -> str:
    """What a reply does: the last ``<answer>…</answer>`` in it; without one, all that follows the last thought."""
    answer = extract_answer(reply)
    if answer is not None:
        return answer
    return reply[reply.rfind(_THOUGHT_ENDS) + len(_THOUGHT_ENDS) :].strip() if _THOUGHT_ENDS in reply else reply.strip()


def shown(text: str, limit: int = MAX_SHOWN) -> str:
    """Foreign text as a policy is shown it: cut to ``limit`` characters, and fit to be written as UTF-8."""
    kept = text if len(text) <= limit else f"{text[:limit]}\n[cut: {len(text)} characters]"
    return kept.encode("utf-8", "replace").decode()
