"""The hub alone: bounded places, bounded queues, nothing kept for nobody."""

from __future__ import annotations

import asyncio

import pytest

from bgp_agent.web.events import EventHub, TooManySubscribersError


async def test_each_reader_gets_every_change_in_order() -> None:
    hub = EventHub()
    with hub.subscribe() as one, hub.subscribe() as other:
        for number in range(3):
            hub.publish({"number": number})
        assert await one.take() == await other.take() == [{"number": 0}, {"number": 1}, {"number": 2}]


async def test_a_slow_reader_is_dropped_and_the_others_go_on() -> None:
    hub = EventHub(backlog=2)
    with hub.subscribe() as slow, hub.subscribe() as fast:
        for number in range(3):
            hub.publish({"number": number})
            assert await fast.take() == [{"number": number}]
        assert slow.dropped
        assert await slow.take() == []
        assert not fast.closed


async def test_closing_wakes_a_waiting_reader() -> None:
    hub = EventHub()
    subscription = hub.subscribe()
    waiting = asyncio.create_task(subscription.take())
    await asyncio.sleep(0)
    hub.close()
    async with asyncio.timeout(1):
        assert await waiting == []
    assert not hub.active


def test_the_places_are_bounded() -> None:
    hub = EventHub(subscribers=1)
    with hub.subscribe(), pytest.raises(TooManySubscribersError, match="1 readers"):
        hub.subscribe()
    with hub.subscribe():
        assert hub.active
    assert not hub.active
