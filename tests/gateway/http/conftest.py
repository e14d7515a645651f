"""Checks against a real server on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from askesis.policy.loading import Policy
from http_site import Script, Site, by_seed, open_site


@pytest.fixture
def serve(tiny: Policy) -> Callable[..., Any]:
    """``serve(check, script, **options)``: run ``check(site)`` against a fresh server."""

    def run(check: Callable[[Site], Awaitable[None]], script: Script = by_seed, **options: Any) -> None:
        async def main() -> None:
            async with asyncio.timeout(30), open_site(tiny, script, **options) as site:
                await check(site)

        asyncio.run(main())

    return run
