"""What links and addresses do to routes, event by event and in both families, and what becomes of ours.

The kernel takes routes away with a message, without one, or not at all. What it does is judged first, by ``ip route``
and ``ip monitor`` while our loop stands still, so that a kernel that behaves otherwise one day fails the test and not
a node.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

import pytest

from bgp_agent.core.prefix import parse_address, parse_prefix
from bgp_agent.core.values import Blackhole, Hop, RouteState, Target, Unicast
from lab.netns import Namespace, wait_for
from tests.unit.kernel.rig import Rig, Watcher, running, until

pytestmark = pytest.mark.netns

SOON: Final = 1.0  # seconds from the end of the trouble


class Fate(Enum):
    """What the kernel does to a route."""

    STAYS = "stays"
    SILENT = "gone without a message"
    SAID = "gone, with RTM_DELROUTE"
    HALF = "one next hop is gone, with RTM_DELROUTE"
    STRIPPED = "stays, without its source address and without a message"


STAYS, SILENT, SAID, HALF, STRIPPED = Fate


@dataclass(frozen=True, slots=True)
class Family:
    """The node of rig.make_node in one family, with a ``second`` address on eth0."""

    name: str
    near: str  # the gateway on eth0
    far: str  # the gateway on eth1
    first: str
    second: str
    length: int
    elsewhere: str  # on no subnet
    blocks: str

    def prefix(self, kind: str) -> str:
        return self.blocks.format(1 + list(KINDS).index(kind))

    def targets(self, rig: Rig) -> dict[str, Target]:
        """One route of each kind; ``single``, ``onlink`` and ``source`` leave by eth0 alone."""
        (hop,) = rig.via(self.near).hops
        return {
            "single": Unicast((hop,)),
            "ecmp": rig.via(self.near, self.far),
            "onlink": Unicast((Hop(hop.interface, parse_address(self.elsewhere), onlink=True),)),
            "source": Unicast((hop,), source=parse_address(self.second)),
            "blackhole": Blackhole(),
        }


KINDS: Final = ("single", "ecmp", "onlink", "source", "blackhole")
V4: Final = Family("ipv4", "10.42.1.1", "10.42.2.1", "10.42.1.4", "10.42.1.44", 24, "192.0.2.1", "192.168.{}.0/26")
V6: Final = Family("ipv6", "fd42:1::1", "fd42:2::1", "fd42:1::4", "fd42:1::44", 64, "fd42:9::1", "fd01:{}::/64")
FAMILIES: Final = [pytest.param(V4, id="ipv4"), pytest.param(V6, id="ipv6")]


@dataclass(frozen=True, slots=True)
class Event:
    """Commands of ``ip``, at the other end of the wire where they begin with "there"; ``sign``: when it is through."""

    happens: tuple[str, ...]
    is_undone: tuple[str, ...]
    fates: dict[str, tuple[Fate, ...]]  # family -> in the order of KINDS
    waits: dict[str, str]  # family -> the kinds that cannot be put back before it is undone
    because: str = ""  # of their reason
    cuts_off: bool = True  # is the gateway on eth0 out of reach meanwhile, or without a carrier
    sign: str = ""  # in `ip link show eth0`


ADDRESSES: Final = ("address replace {first}/{length} dev eth0", "address replace {second}/{length} dev eth0")
EVENTS: Final = {
    "the link is set down": Event(
        ("link set eth0 down",), ("link set eth0 up", *ADDRESSES),
        {"ipv4": (SILENT, STAYS, SILENT, SILENT, STAYS), "ipv6": (SAID, STAYS, SAID, SAID, STAYS)},
        {"ipv4": "single onlink source", "ipv6": "single onlink source"}, "the link eth0 is down",
    ),
    "the last address is removed": Event(
        ("address del {second}/{length} dev eth0", "address del {first}/{length} dev eth0"), ADDRESSES,
        {"ipv4": (SILENT, STAYS, SILENT, SAID, STAYS), "ipv6": (STAYS, STAYS, STAYS, STRIPPED, STAYS)},
        {"ipv4": "single source", "ipv6": "source"}, "unreachable: via",
    ),
    "one of several addresses is removed": Event(
        ("address del {second}/{length} dev eth0",), ADDRESSES,
        {"ipv4": (STAYS, STAYS, STAYS, SAID, STAYS), "ipv6": (STAYS, STAYS, STAYS, STRIPPED, STAYS)},
        {"ipv4": "source", "ipv6": "source"}, "the kernel calls it invalid",
        cuts_off=False,
    ),
    "the carrier is lost": Event(
        ("there link set g0 down",), ("there link set g0 up",),
        {"ipv4": (STAYS,) * 5, "ipv6": (STAYS,) * 5}, {"ipv4": "", "ipv6": ""},
        sign="NO-CARRIER",
    ),
    "the link is deleted": Event(
        ("link del eth0",),
        ("link add eth0 type veth peer name g0 netns {there}", "link set eth0 up", "there link set g0 up", *ADDRESSES),
        {"ipv4": (SILENT, SILENT, SILENT, SILENT, STAYS), "ipv6": (SAID, HALF, SAID, SAID, STAYS)},
        {"ipv4": "single ecmp onlink source", "ipv6": "single ecmp onlink source"}, "is gone",
    ),
}  # fmt: skip


class Story:
    """The five routes of a family on a node with two links."""

    def __init__(self, node: Namespace, watcher: Watcher, family: Family) -> None:
        self.node, self.watcher, self.family = node, watcher, family
        self.there = Namespace(node.name.replace("node", "gateway"))
        self.rig = Rig(node)
        self.ip(ADDRESSES[1])

    def ip(self, words: str) -> None:
        """A command of an :class:`Event`. The loop, and with it the shell under test, stands still meanwhile."""
        names = {"first": self.family.first, "second": self.family.second, "length": self.family.length}
        words = words.format(**names, there=self.there.name)
        place = self.there if words.startswith("there ") else self.node
        place.ip(words.removeprefix("there ") + " nodad" * (":" in words and "replace" in words))

    def want(self) -> None:
        """Ask for the five routes, by the links as they are now."""
        for kind, target in self.family.targets(self.rig).items():
            self.rig.want(self.family.prefix(kind), target)

    def shown(self) -> dict[str, str]:
        """Kind -> the line of `ip route`, next hops in order, without the flags that tell of a link's state."""
        lines = {kind: self.rig.shown(self.family.prefix(kind)) for kind in KINDS}
        plain = {kind: re.sub(r"( dead)? linkdown", "", line[0]) for kind, line in lines.items() if line}
        return {kind: " ".join(sorted(map(str.strip, line.split("\\ ")))) for kind, line in plain.items()}

    def fate(self, kind: str, before: dict[str, str], heard: list[str]) -> Fate:
        """What became of a route, by the kernel's own word."""
        was, now, prefix = before[kind], self.shown().get(kind), self.family.prefix(kind)
        said = any(line.startswith("Deleted") and f" {prefix} " in line for line in heard)
        if now == was:
            return STAYS
        if now is None:
            return SAID if said else SILENT
        if said and self.family.far in now and self.family.near not in now:
            return HALF
        assert not said
        assert now == re.sub(r" src \S+", "", was)
        return STRIPPED

    def states(self) -> dict[str, RouteState]:
        return {kind: self.rig.fib.state(parse_prefix(self.family.prefix(kind)))[0] for kind in KINDS}

    def reasons(self, kinds: list[str]) -> list[str]:
        return [self.rig.fib.state(parse_prefix(self.family.prefix(kind)))[1] for kind in kinds]

    def told(self) -> bool:
        """Was it told, since this was last asked, that the gateway on eth0 is reached in another way, or no more."""
        gateway = parse_address(self.family.near)
        found = any(gateway in told.next_hops for told in self.rig.told)
        self.rig.told.clear()
        return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("what", EVENTS)
async def test_routes_that_a_link_or_an_address_takes_along_are_said_and_back_within_a_second_of_its_return(
    node: Namespace, watcher: Watcher, what: str, family: Family
) -> None:
    event, story = EVENTS[what], Story(node, watcher, family)
    async with running(story.rig) as rig:
        story.want()
        before = story.shown()
        assert list(before) == list(KINDS)
        story.told()
        watcher.mark("before")
        for words in event.happens:
            story.ip(words)
        if event.sign:
            wait_for(event.sign, lambda: event.sign in node.ip("link show eth0"))
        heard = watcher.mark("after")
        assert [story.fate(kind, before, heard) for kind in KINDS] == list(event.fates[family.name])

        waits = event.waits[family.name].split()
        pending = dict.fromkeys(KINDS, RouteState.INSTALLED) | dict.fromkeys(waits, RouteState.PENDING)
        await until(f"{waits} and nothing else waits", lambda: story.states() == pending)
        await rig.dumped()
        assert story.states() == pending
        assert [reason for reason in story.reasons(waits) if event.because not in reason] == []
        assert all(story.shown().get(kind) == line for kind, line in before.items() if kind not in waits)
        assert story.told() is event.cuts_off

        for words in event.is_undone:
            await asyncio.to_thread(story.ip, words)
        if "deleted" in what:  # another link by number: whoever decides is told of it, and wants the routes anew
            await until("the new link is told", story.told, SOON)
            story.want()
        await until("all routes are back", lambda: story.shown() == before, SOON)
        assert set(story.states().values()) == {RouteState.INSTALLED}


@pytest.mark.parametrize("family", FAMILIES)
async def test_an_ecmp_route_moves_in_place_to_its_other_link_when_one_is_lost(
    node: Namespace, watcher: Watcher, family: Family
) -> None:
    story = Story(node, watcher, family)
    async with running(story.rig) as rig:
        prefix = family.prefix("ecmp")
        rig.want(prefix, rig.via(family.near, family.far))
        await rig.ip("link set eth0 down")
        await until("the lost link is told", story.told, SOON)
        watcher.mark("before")
        rig.want(prefix, rig.via(family.far))
        assert [line.split(" dev ")[0] for line in rig.shown(prefix)] == [f"{prefix} via {family.far}"]
        heard = [line for line in watcher.mark("after") if prefix in line]
        assert len(heard) == 1
        assert not heard[0].startswith("Deleted")
        assert rig.fib.repaired == 0
