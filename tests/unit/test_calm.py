"""Many routes are one line a second in the log, and nothing of it is lost."""

from __future__ import annotations

import asyncio

import pytest

from bgp_agent import calm
from bgp_agent.calm import Calm
from bgp_agent.core.router import Change


def many(count: int, total: int) -> Change:
    return Change(
        "routes", "all", "changed", f"{count} prefixes changed; now {total} are accepted and 0 refused", count
    )


async def test_a_table_in_many_pieces_is_told_at_once_and_then_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calm, "PAUSE", 0.02)
    told: list[Change] = []
    second = asyncio.Event()

    def say(change: Change) -> None:
        told.append(change)
        if len(told) == 2:
            second.set()

    quiet = Calm(say)
    for number in range(1, 126):
        quiet.add(many(800, number * 800))
    assert [change.reason for change in told] == ["800 prefixes changed; now 800 are accepted and 0 refused"]
    async with asyncio.timeout(5):
        await second.wait()
    assert told[1] == many(99200, 100000)
    quiet.close()


async def test_what_waits_is_told_at_the_end() -> None:
    told: list[Change] = []
    quiet = Calm(told.append)
    for number in (60, 70, 80):
        quiet.add(many(number, 500))
    quiet.close()
    assert [change.count for change in told] == [60, 150]


async def test_after_a_quiet_second_the_next_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calm, "PAUSE", 0.0)
    told: list[Change] = []
    quiet = Calm(told.append)
    for number in (60, 70):
        quiet.add(many(number, 500))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [change.count for change in told] == [60, 70]
    quiet.close()
