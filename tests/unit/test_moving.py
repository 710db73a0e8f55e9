"""The glue of the hand-over: what the cloud is told, who waits for it, and when a canary counts as silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from bgp_agent import moving
from bgp_agent.config import Config
from bgp_agent.core.attraction import CloudView
from bgp_agent.core.cloudtable import APPLIANCE, Table, TableRoute, name_of
from bgp_agent.core.cloudtable import Node as Here
from bgp_agent.core.handover import Answer, Mode, State, Times
from bgp_agent.core.prefix import Prefix, parse_address, prefix_text
from bgp_agent.core.reports import Verified
from bgp_agent.moving import SPEAKER, Moving
from tests.unit.core.node import RS0, RS1, Node, p, settings

A, B = p("192.168.1.0/26"), p("192.168.2.0/26")
CONFIG = {
    "azure": {"settle": "200ms"},
    "pools": ["192.168.0.0/16"],
    "fallback": {"after": 0, "revert_after": "100ms"},
}


class Cloud:
    """It does at once what it is told, while ``works``."""

    def __init__(self) -> None:
        self.works, self.known = True, True
        self.has: frozenset[Prefix] = frozenset()
        self.kept: frozenset[Prefix] = frozenset()
        self.more: dict[str, object] = {}

    def view(self) -> CloudView:
        routes = [TableRoute(name_of(q), prefix_text(q), APPLIANCE, "10.42.1.4") for q in sorted(self.has)]
        tables = (Table("/t/rt1", tuple(routes), ("nodes",)),) if self.known else None
        return replace(CloudView(tables, Here("node-a", parse_address("10.42.1.4"))), **self.more)  # type: ignore[arg-type]  # a short hand

    def want(self, prefixes: frozenset[Prefix], keep: frozenset[Prefix], *, urgent: bool) -> None:  # noqa: ARG002
        self.kept = keep
        if self.works:
            self.has = prefixes

    async def run(self) -> None:
        await asyncio.Event().wait()


class World:
    def __init__(self, **more: object) -> None:
        self.node = Node(settings(min_peers=None))
        self.node.now = time.monotonic()
        self.answers = True
        self.probes: list[Prefix] = []
        config = Config.model_validate({**CONFIG, **more})
        self.made = Moving(config, self.node.router, self.probe, self.settle, lambda _: None)
        self.cloud = self.made.cloud = Cloud()
        self.node.source("192.168.1.0/26", "192.168.2.0/26")
        self.connect()
        self.settle()

    def connect(self) -> None:
        self.node.up()
        for each in (RS0, RS1):
            self.node.acknowledges("192.168.1.0/26", "192.168.2.0/26", by=each)

    def settle(self) -> None:
        for _ in range(3):
            self.made.look(time.monotonic())

    async def probe(self, prefix: Prefix) -> Verified:
        self.probes.append(prefix)
        if prefix == B:
            raise ValueError("nobody can be asked")
        return Verified("delivered" if self.answers else "unknown")

    async def until(self, what: str, condition: Callable[[], object], timeout: float = 5.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
            await asyncio.sleep(0.01)
            self.settle()

    @property
    def state(self) -> State:
        return self.made.attraction.handover.state


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "WATCH", 0.02)
    monkeypatch.setattr(moving, "LOOK", 0.01)


async def test_whoever_takes_bgp_away_waits_until_the_table_is_in_effect() -> None:
    world = World()
    said: list[str] = []
    began = time.monotonic()
    waiting = asyncio.create_task(world.made.moved("drain", "a drain", said.append))
    await world.until("BGP may go", waiting.done)
    assert waiting.result() is None
    assert time.monotonic() - began >= 0.2, "azure.settle"
    assert world.cloud.has == {A, B}
    assert world.state is State.MAINTENANCE
    assert any("waiting for the routes in the table to be in effect" in each for each in said)
    world.made.back("drain")
    assert world.state is not State.MAINTENANCE
    world.made.back("drain")


@pytest.mark.parametrize("why", ["off", "unread"])
async def test_what_cannot_be_had_is_refused_and_nobody_asks_for_it_any_more(why: str) -> None:
    world = World()
    world.cloud.works = False
    waiting = asyncio.create_task(world.made.moved("drain", "a drain", lambda _: None))
    await world.until("it is asked for", lambda: world.state is State.MAINTENANCE)
    if why == "off":
        world.made.configure(Config.model_validate({**CONFIG, "fallback": {"mode": "off"}}))
    else:
        world.cloud.known = False
    await world.until("it is refused", waiting.done)
    assert waiting.result() is not None
    assert world.made.attraction.asked == {}


async def test_a_caller_that_gives_up_takes_its_wish_back() -> None:
    world = World()
    world.cloud.works = False
    waiting = asyncio.create_task(world.made.moved("drain", "a drain", lambda _: None))
    await world.until("it is asked for", lambda: world.state is State.MAINTENANCE)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert world.made.attraction.asked == {}


async def test_a_speaker_that_stops_waits_for_the_table_and_counts_until_it_is_back() -> None:
    world = World()
    waiting = asyncio.create_task(world.made.before_the_speaker_stops(1.0))
    await world.until("its sessions may end", waiting.done)
    assert (world.state, set(world.made.attraction.asked)) == (State.MAINTENANCE, {SPEAKER})
    world.made.back(SPEAKER)
    assert world.made.attraction.asked == {}


async def test_a_speaker_without_a_table_to_go_to_stops_at_once() -> None:
    world = World(fallback={"mode": "off"})
    assert world.made.cannot() == "fallback.mode is off"
    await world.made.before_the_speaker_stops(1.0)
    assert world.made.attraction.asked == {}


async def returned(world: World) -> asyncio.Task[None]:
    """In the table without peers, with BGP back, and the canary being watched."""
    for each in (RS0, RS1):
        world.node.down(each)
    await world.until("the table has them", lambda: world.cloud.has == {A, B})
    task = asyncio.create_task(world.made.run())
    world.connect()
    await world.until("the canary is out", lambda: world.cloud.has == {B})
    return task


async def test_a_canary_that_is_answered_proves_bgp() -> None:
    world = World()
    task = await returned(world)
    await world.until("it is back", lambda: world.state is State.BGP)
    assert world.cloud.has == frozenset()
    assert "was answered by BGP alone" in world.made.attraction.handover.reason
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_canary_that_was_never_answered_is_not_silent_but_not_proved() -> None:
    world = World()
    world.answers = False
    task = await returned(world)
    await world.until("it is back", lambda: world.state is State.BGP)
    assert world.made.attraction.handover.reason.startswith("not proved")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_canary_that_falls_silent_is_put_back_and_the_next_one_is_asked_anew() -> None:
    world = World(azure={"settle": "400ms"})
    task = await returned(world)
    await world.until("it was answered", lambda: world.made.attraction.answer is Answer.ANSWERED)
    world.answers = False
    await world.until("both are in the table again", lambda: world.cloud.has == {A, B})
    assert "fell silent" in world.made.attraction.handover.reason
    assert world.made.attraction.answer is Answer.UNKNOWN
    world.answers = True
    await world.until("the next return is good", lambda: world.state is State.BGP, timeout=10.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_canary_that_nobody_can_be_asked_for_is_no_crash() -> None:
    world = World()
    assert await world.made._asked(B) is False


def test_mode_and_times_are_those_of_the_reloaded_configuration() -> None:
    world = World()
    world.made.configure(Config.model_validate({**CONFIG, "fallback": {"mode": "always", "after": "3s"}}))
    assert world.made.attraction.mode is Mode.ALWAYS
    assert world.made.attraction.handover.times == Times(3.0, 60.0, 0.2)
    world.settle()
    assert world.cloud.has == {A, B}
    world.made.configure(Config.model_validate({**CONFIG, "fallback": {"mode": "off"}}))
    world.settle()
    assert world.cloud.has == {A, B}, "what is left of another time goes as carefully as ever"


def test_routes_that_nobody_can_decide_about_are_handed_on_as_such() -> None:
    world = World()
    world.node.router.own.table.synced_once = False
    world.cloud.works = False
    world.cloud.has = frozenset({p("192.168.9.0/26")})
    world.settle()
    assert world.cloud.kept == {p("192.168.9.0/26")}


def test_without_the_section_there_is_nothing_to_make() -> None:
    node = Node()
    with pytest.raises(ValueError, match="azure"):
        Moving(Config.model_validate({}), node.router, World.probe, lambda: None, lambda _: None)  # type: ignore[arg-type]  # never called
