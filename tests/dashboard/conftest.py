"""One browser for all tests of a file that a worker runs."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser as Chromium

from tests.dashboard.page_bench import running_chromium


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Chromium]:
    async with running_chromium() as program:
        yield program
