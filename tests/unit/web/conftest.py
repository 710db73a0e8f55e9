"""A reporter in memory, and a client of the server that shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.unit.web.memory import Memory, asking


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
async def http(memory: Memory) -> AsyncIterator[aiohttp.ClientSession]:
    async with asking(memory) as session:
        yield session
