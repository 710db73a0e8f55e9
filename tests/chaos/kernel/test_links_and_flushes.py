"""Links, addresses and other people's commands take routes away; what the node does about it, end to end.

What the kernel does at each such event is walked through in tests/unit/kernel/test_links_and_addresses.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest

from lab.netns import wait_for
from tests.chaos.kernel.crossroads import (
    BLOCKS,
    BOTH,
    BOTH6,
    LEFT,
    LEFT6,
    RIGHT,
    RIGHT6,
    SIDES,
    SOON,
    Crossroads,
    deleted,
    host_in,
    taken,
)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

SIDE: Final = SIDES["left"]
FAR, FAR6 = SIDES["right"].router


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to the left link, and how it is undone."""

    happens: Callable[[Crossroads], object]
    undone: Callable[[Crossroads], object]


def no_address(roads: Crossroads) -> None:
    for address, length in zip(SIDE.node, (24, 64), strict=True):
        roads.inside.ip(f"address del {address}/{length} dev eth0")


def up_again(roads: Crossroads) -> None:
    roads.inside.ip("link set eth0 up")
    roads.readdress()


TROUBLES: Final = {
    "the link is set down": Trouble(lambda roads: roads.inside.ip("link set eth0 down"), up_again),
    "the last addresses are removed": Trouble(no_address, Crossroads.readdress),
    "the link is deleted": Trouble(lambda roads: roads.inside.ip("link del eth0"), lambda roads: roads.wire(SIDE)),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_routes_by_a_link_that_cannot_be_used_wait_with_the_reason_and_are_back_within_a_second_of_its_return(
    roads: Crossroads, trouble: str
) -> None:
    with roads.events() as events:
        TROUBLES[trouble].happens(roads)
        try:
            roads.wait_for_routes("the routes by that link are gone, and those by both go by the other",
                                  {LEFT: None, LEFT6: None, BOTH: {FAR}, BOTH6: {FAR6}}, SOON)  # fmt: skip
            for prefix in (LEFT, LEFT6):
                wait_for(f"{prefix} waits", lambda p=prefix: roads.status(p)[0] == "pending")  # type: ignore[misc]
                assert "does not resolve" in roads.status(prefix)[1]
            assert roads.node.status()["ready"], "a link that is away is no fault of the agent"
        finally:
            TROUBLES[trouble].undone(roads)
        roads.wait_for_routes("everything is back", {}, SOON)
        assert deleted(events, *BLOCKS, RIGHT, RIGHT6) == []
    for prefix in (LEFT, LEFT6):
        roads.inside.run("ping", "-n", "-c1", "-W2", host_in(prefix))


def test_one_of_several_addresses_that_goes_and_a_carrier_that_is_lost_take_no_route(roads: Crossroads) -> None:
    """But for the share of a route that can go another way, which goes there in place."""
    with roads.events() as events:
        for address in ("10.99.1.44/24", "fd99:1::44/64"):
            roads.inside.ip(f"address add {address} dev eth0" + " nodad" * (":" in address))
            roads.inside.ip(f"address del {address} dev eth0")
        roads.world.ip("link set eth0 down")
        try:
            roads.wait_for_routes("what can go by the other link does", {BOTH: {FAR}, BOTH6: {FAR6}}, 2)
            assert "no carrier on the way to 10.99.1.2" in roads.status(LEFT)[1]
        finally:
            roads.world.ip("link set eth0 up")
        roads.wait_for_routes("and by both when they can", {}, 2)
        assert deleted(events, *roads.standard()) == []


FLUSHES: Final = {
    "everything of our protocol": ("-4 route flush proto 179", "-6 route flush proto 179"),
    "everything of our metric, again and again": ("-4 route flush metric 4096", "-6 route flush metric 4096") * 5,
}


@pytest.mark.parametrize("what", FLUSHES)
def test_somebody_flushes_and_everything_is_back_within_a_second_and_counted(roads: Crossroads, what: str) -> None:
    repaired = roads.node.status()["kernel"]["repaired"]
    with roads.events() as events, roads.traffic(LEFT, LEFT6, rate=200) as traffic:
        for words in FLUSHES[what]:
            roads.inside.ip(words)
        roads.wait_for_routes("everything is back", {}, SOON)
        assert taken(events) == roads.standard().keys()
        traffic.run_for(0.2)
        assert max(count.silence for count in traffic.finish()) < SOON
    assert roads.node.status()["kernel"]["repaired"] >= repaired + len(roads.standard())


def test_somebody_flushes_the_main_table_and_ours_follow_within_a_second_when_the_links_have_their_subnets(
    roads: Crossroads,
) -> None:
    own = [f"-{v} route show table main proto kernel" for v in "46"]
    subnets = [(words.split()[0], line) for words in own for line in roads.inside.ip(words).splitlines()]
    for version in "46":
        roads.inside.ip(f"-{version} route flush table main")
    try:
        learned = roads.standard().keys() - {*BLOCKS}
        roads.wait_for_routes("what needs no next hop is back", dict.fromkeys(learned), SOON)
        wait_for("the rest waits", lambda: roads.status(LEFT)[0] == "pending")
    finally:
        for version, line in subnets:  # as whoever keeps the node's links does
            roads.inside.ip(f"{version} route append {line} proto kernel")
    roads.wait_for_routes("everything is back", {}, SOON)
