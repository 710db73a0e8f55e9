"""A change of all peers at once never takes all sessions down at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from bgp_agent.rolling import Rolling
from bgp_agent.speaker.definition import PeerDefinition

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def definition(address: str, hold_time: int = 30) -> PeerDefinition:
    return PeerDefinition(address, 65515, 64512, "10.0.0.9", hold_time=hold_time)


class Sessions:
    """The speaker: a changed definition takes its session down until :meth:`back`."""

    def __init__(self, patience: float = 5.0) -> None:
        self.told: dict[str, PeerDefinition] = {}
        self.up: set[str] = set()
        self.order: list[str] = []
        self.strict = True
        self.rolling = Rolling(self.tell, lambda address: address in self.up, patience, settle=0.01)

    def tell(self, definitions: Mapping[str, PeerDefinition]) -> None:
        for address, given in definitions.items():
            if address in self.told and self.told[address] != given:
                others = self.told.keys() - {address}
                assert not self.strict or address not in self.up or others <= self.up, "two sessions down at once"
                self.up.discard(address)
                self.order.append(address)
        self.told = dict(definitions)

    def want(self, *hold_times: int) -> None:
        self.rolling.want({a: definition(a, h) for a, h in zip((A, B, C), hold_times, strict=False)})


async def until(what: str, sessions: Sessions, order: list[str]) -> None:
    async with asyncio.timeout(5):
        while sessions.order != order:  # noqa: ASYNC110 - the order changes in another task
            await asyncio.sleep(0.01)
    assert sessions.order == order, what


async def test_standing_sessions_restart_one_after_the_other() -> None:
    sessions = Sessions()
    sessions.want(30, 30, 30)
    assert set(sessions.told) == {A, B, C}, "new peers do not wait"
    sessions.up = {A, B, C}
    task = asyncio.create_task(sessions.rolling.run())
    sessions.want(9, 9, 9)
    await until("the first", sessions, [A])
    sessions.up.add(A)
    await until("the second", sessions, [A, B])
    sessions.up.add(B)
    await until("the third", sessions, [A, B, C])
    sessions.up.add(C)
    assert {d.hold_time for d in sessions.told.values()} == {9}
    task.cancel()


async def test_a_session_whose_end_is_heard_of_late_is_waited_for() -> None:
    """The speaker is another process: for a moment the session that is about to end still seems to stand."""
    sessions = Sessions()
    sessions.want(30, 30)
    sessions.up = {A, B}
    told = sessions.tell
    ending: list[asyncio.TimerHandle] = []

    def tell_late(definitions: Mapping[str, PeerDefinition]) -> None:
        before = set(sessions.up)
        told(definitions)
        for address in before - sessions.up:
            sessions.up.add(address)
            ending.append(asyncio.get_running_loop().call_later(0.3, sessions.up.discard, address))

    sessions.rolling = Rolling(tell_late, lambda address: address in sessions.up, 5.0, settle=0.01)
    sessions.want(30, 30)
    task = asyncio.create_task(sessions.rolling.run())
    sessions.want(9, 9)
    await until("the first", sessions, [A])
    await asyncio.sleep(0.6)  # two looks after its end was heard of
    assert (sessions.order, sessions.up) == ([A], {B})
    sessions.up.add(A)
    await until("the second, once the first is back", sessions, [A, B])
    task.cancel()


async def test_a_session_that_is_back_must_hold_the_blocks_before_the_next_one_ends() -> None:
    sessions = Sessions()
    held = {A, B}
    sessions.rolling = Rolling(
        sessions.tell, lambda address: address in sessions.up, 5.0, serves=lambda address: address in sessions.up & held
    )
    sessions.want(30, 30)
    sessions.up = {A, B}
    task = asyncio.create_task(sessions.rolling.run())
    sessions.want(9, 9)
    await until("the first", sessions, [A])
    held.discard(A)
    sessions.up.add(A)
    await asyncio.sleep(0.2)
    assert sessions.order == [A]
    held.add(A)
    await until("the second", sessions, [A, B])
    task.cancel()


async def test_a_session_that_does_not_come_back_does_not_stop_the_others_for_ever() -> None:
    sessions = Sessions(patience=0.05)
    sessions.strict = False
    sessions.want(30, 30)
    sessions.up = {A, B}
    task = asyncio.create_task(sessions.rolling.run())
    sessions.want(9, 9)
    await until("after its patience", sessions, [A, B])
    task.cancel()


async def test_peers_that_are_down_and_removed_ones_do_not_wait() -> None:
    sessions = Sessions()
    sessions.want(30, 30, 30)
    sessions.up = {A}
    task = asyncio.create_task(sessions.rolling.run())
    sessions.want(9, 9)
    assert set(sessions.told) == {A, B}
    assert sessions.order == [B], "the last session that stands waits for the other one"
    sessions.up.add(B)
    await until("then it goes too", sessions, [B, A])
    task.cancel()


async def test_a_session_that_goes_down_while_it_waits_has_nothing_left_to_wait_for() -> None:
    """It may be unable to come back before it gets its new definition: both ends changed their password."""
    sessions = Sessions()
    sessions.strict = False
    sessions.want(30, 30)
    sessions.up = {A, B}
    task = asyncio.create_task(sessions.rolling.run())
    sessions.want(9, 9)
    await until("the first", sessions, [A])
    sessions.up.discard(B)
    async with asyncio.timeout(1):
        await until("the second at once, though the first is not back", sessions, [A, B])
    task.cancel()


async def test_a_peer_removed_while_it_is_waited_for_lets_the_next_go() -> None:
    sessions = Sessions()
    sessions.want(30, 30)
    sessions.up = {A, B}
    task = asyncio.create_task(sessions.rolling.run())
    sessions.want(9, 9)
    await until("the first", sessions, [A])
    sessions.rolling.want({B: definition(B, 9)})
    await until("the second", sessions, [A, B])
    task.cancel()


async def test_nothing_changed_tells_nobody_anything() -> None:
    sessions = Sessions()
    sessions.want(30)
    sessions.told = {}
    sessions.want(30)
    assert sessions.told == {}
