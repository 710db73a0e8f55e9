"""What becomes of learned routes in the kernel when next hops change or die, sessions are lost, or a run ended badly.

Judged by ``ip route``, ``ip monitor route`` and numbered packets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from lab.netns import wait_for
from lab.traffic import Count
from tests.chaos.conftest import answers
from tests.chaos.kernel.crossroads import BOTH, BOTH6, LEFT, LEFT6, OURS, SIDES, SOON, Crossroads, deleted, taken

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

FIRST, FIRST6 = SIDES["left"].router
OTHER, OTHER6 = SIDES["left"].other
FAR, FAR6 = SIDES["right"].router


def lost(counts: list[Count]) -> dict[str, tuple[int, ...]]:
    """The packets that never came, by stream."""
    return {count.name: count.lost for count in counts if count.lost}


def lead(roads: Crossroads, four: str, six: str, hops: set[str], hops6: set[str]) -> bool:
    """Do our routes for both prefixes have these gateways and no others."""
    routes = roads.routes()
    return routes.get(four) == frozenset(hops) and routes.get(six) == frozenset(hops6)


# --- next hops -------------------------------------------------------------------------------------------------------
def test_a_changed_next_hop_is_one_replace_and_costs_none_of_a_thousand_packets_a_second(roads: Crossroads) -> None:
    steps = [(OTHER, OTHER6), (FAR, FAR6), (FIRST, FIRST6)] * 5
    with roads.events() as events, roads.traffic(LEFT, LEFT6) as traffic:
        for hop, hop6 in steps:
            roads.left.announce({LEFT: hop, LEFT6: hop6})
            wait_for(f"the routes lead to {hop} and {hop6}",
                     lambda to=({hop}, {hop6}): lead(roads, LEFT, LEFT6, *to))  # type: ignore[misc]  # fmt: skip
            traffic.run_for(0.1)
        counts = traffic.finish()
        assert lost(counts) == {}
        assert min(count.sent for count in counts) > 1000
        assert deleted(events, LEFT, LEFT6) == []
        for prefix, column in ((LEFT, 0), (LEFT6, 1)):
            lines = [line for line in events.seen() if f" {prefix} via " in line]
            assert [line.partition(" via ")[2].split()[0] for line in lines] == [step[column] for step in steps]


def withdrawn(roads: Crossroads) -> None:
    roads.right.tell()


def killed(roads: Crossroads) -> None:
    roads.right.bird.kill()


def link_set_down(roads: Crossroads) -> None:
    roads.inside.ip("link set eth1 down")


@pytest.fixture
def right_again(roads: Crossroads) -> Iterator[None]:
    """Whatever died on the right is alive again."""
    yield
    for namespace in (roads.world, roads.inside):
        namespace.ip("link set eth1 up")
    roads.readdress()
    roads.right.start()


@pytest.mark.usefixtures("right_again")
@pytest.mark.parametrize("dies", [withdrawn, killed, link_set_down])
def test_of_two_next_hops_one_dies_and_traffic_goes_on_by_the_other_at_once(
    roads: Crossroads, dies: Callable[[Crossroads], None]
) -> None:
    with roads.events() as events, roads.traffic(BOTH, BOTH6, rate=250, each=8) as traffic:
        before = roads.carried()
        wait_for("each link carries packets",
                 lambda: all(now > was + 100 for now, was in zip(roads.carried(), before, strict=True)))  # fmt: skip
        dies(roads)
        wait_for("the other one is alone", lambda: lead(roads, BOTH, BOTH6, {FIRST}, {FIRST6}), SOON)
        traffic.run_for(0.3)
        counts = traffic.finish()
        # A kernel that sets a link down loses for itself what it sends in these milliseconds.
        assert max(len(count.lost) for count in counts) <= (5 if dies is link_set_down else 0)
        assert deleted(events, BOTH, BOTH6) == []


@pytest.mark.usefixtures("right_again")
def test_of_two_next_hops_one_loses_its_carrier_and_traffic_goes_on_by_the_other_long_before_the_hold_time(
    roads: Crossroads,
) -> None:
    """A kernel tells of a lost carrier within a second, and goes on sending there."""
    with roads.events() as events, roads.traffic(BOTH, BOTH6, rate=250, each=8) as traffic:
        roads.world.ip("link set eth1 down")
        wait_for("the other one is alone", lambda: lead(roads, BOTH, BOTH6, {FIRST}, {FIRST6}), 2)
        switched = traffic.sent()
        traffic.run_for(0.3)
        counts = traffic.finish()
        assert any(count.lost for count in counts), "else nothing was sent there"
        assert [count.name for count in counts if any(number > switched for number in count.lost)] == []
        roads.world.ip("link set eth1 up")
        wait_for("both are used again", lambda: lead(roads, BOTH, BOTH6, {FIRST, FAR}, {FIRST6, FAR6}), 3)
        assert deleted(events, BOTH, BOTH6) == []


def test_a_route_whose_next_hop_is_unreachable_waits_with_the_reason_and_is_in_a_second_after_it_is_reachable(
    roads: Crossroads,
) -> None:
    hops = {"192.168.30.0/24": ("10.77.0.9", "10.77.0.0/24", FIRST), "fd77:30::/64": ("fd78::9", "fd78::/64", FIRST6)}
    roads.left.announce({prefix: hop for prefix, (hop, _, _) in hops.items()} | dict.fromkeys((LEFT, LEFT6)))
    wait_for("what has a next hop is in", lambda: {LEFT, LEFT6} <= roads.routes().keys())
    for prefix, (hop, way, gateway) in hops.items():
        wait_for(f"{prefix} waits", lambda p=prefix: roads.status(p)[0] == "pending")  # type: ignore[misc]
        assert f"the next hop {hop} does not resolve: no route to {hop}" in roads.status(prefix)[1]
        for _ in range(2):
            assert prefix not in roads.routes()
            roads.inside.ip(f"route add {way} via {gateway}")
            wait_for("it is in", lambda p=prefix, g=gateway: roads.via(p) == {g}, SOON)  # type: ignore[misc]
            roads.inside.ip(f"route del {way}")
            wait_for("it waits again", lambda p=prefix: roads.status(p)[0] == "pending")  # type: ignore[misc]
    assert roads.node.status()["ready"], "a next hop that is away is no fault of the node"


def test_a_route_that_the_kernel_refuses_stops_none_of_the_others_and_has_its_reason(roads: Crossroads) -> None:
    """A broadcast address is on the link like any router's, and no gateway to the kernel."""
    many = [f"192.168.{number}.0/24" for number in range(100, 200)]
    refused = {many[number]: "10.99.1.255" for number in (10, 50, 99)}
    roads.left.announce({prefix: refused.get(prefix) for prefix in many})
    wait_for("all the others are in", lambda: set(many) - refused.keys() <= roads.routes().keys())
    for prefix in refused:
        wait_for(f"{prefix} is shown as refused by the kernel",
                 lambda p=prefix: roads.status(p) == ("pending", PREFIX_REASON))  # type: ignore[misc]  # fmt: skip
        assert prefix not in roads.routes()
    ready, why = roads.node.get("/readyz")
    assert ready == 200, f"a router's fault makes no node unready: {why.decode()}"
    roads.left.announce(dict.fromkeys(many))
    wait_for("with another next hop they are in too", lambda: set(many) <= roads.routes().keys(), SOON)


PREFIX_REASON: Final = (
    "learned from 10.99.1.2; the kernel calls it invalid: via 10.99.1.255 on eth0 (Nexthop has invalid gateway)"
)


# --- sessions --------------------------------------------------------------------------------------------------------
STALE_TIME: Final = 3.0


def test_routes_of_a_lost_session_stay_for_stale_time_and_then_go_and_a_withdrawn_one_goes_at_once(
    roads: Crossroads,
) -> None:
    roads.configure(stale_time=f"{STALE_TIME:g}s")
    roads.wait()
    roads.left.tell(LEFT, LEFT6)
    wait_for("what is withdrawn is gone at once", lambda: lead(roads, BOTH, BOTH6, {FAR}, {FAR6}), SOON)
    with roads.events() as events:
        roads.left.bird.kill()
        killed_at = time.monotonic()
        wait_for("they are stale", lambda: {roads.status(p)[0] for p in (LEFT, LEFT6)} == {"stale"})
        assert "whose session is lost" in roads.status(LEFT)[1]
        wait_for("the kernel has lost the first", lambda: deleted(events), STALE_TIME + 2)
        assert time.monotonic() - killed_at > STALE_TIME
        wait_for("they are gone", lambda: roads.routes().keys().isdisjoint({LEFT, LEFT6}), SOON)
        assert time.monotonic() - killed_at < STALE_TIME + 2
        assert len(deleted(events)) == 2, "and nothing else is"
    roads.left.start()


def test_a_router_that_comes_back_without_a_route_takes_it_out_when_it_has_told_its_table(roads: Crossroads) -> None:
    roads.configure(stale_time="60s")
    with roads.events() as events:
        roads.left.bird.kill()
        wait_for("the session is lost", lambda: roads.status(LEFT)[0] == "stale")
        roads.left.routes = dict.fromkeys((LEFT6, BOTH, BOTH6))
        roads.left.start()
        wait_for("what it told no more is gone", lambda: LEFT not in roads.routes(), 20)
        wait_for("the rest is as before", lambda: roads.status(LEFT6)[0] == "installed")
        assert taken(events) == {LEFT}


# --- earlier runs ----------------------------------------------------------------------------------------------------
LEFT_BEHIND: Final = (
    f"192.168.66.0/24 via {FIRST} dev eth0 {OURS}", f"192.168.67.0/24 via {FAR} dev eth1 {OURS}",
    f"fd77:66::/64 via {FIRST6} dev eth0 {OURS}",
)  # fmt: skip
FOREIGN: Final = (
    f"192.168.66.0/24 via {FIRST} dev eth0 proto 12 metric 32",  # BIRD's, for the very prefix
    f"192.168.71.0/24 via {FIRST} dev eth0 proto 12 metric 4096",
    "blackhole 192.168.72.0/26 proto 80 metric 1024",  # Felix's
    f"192.168.73.0/24 via {FIRST} dev eth0 proto 179 metric 100",  # our protocol, another metric
    f"192.168.74.0/24 via {FIRST} dev eth0 proto static metric 4096",  # our metric, another protocol
    f"192.168.75.0/24 via {FIRST} dev eth0 proto 179 metric 4096 table 100",  # another table
    f"fd77:66::/64 via {FIRST6} dev eth0 proto 12 metric 32",
    "blackhole fd77:72::/64 proto 80 metric 1024",
    f"fd77:73::/64 via {FIRST6} dev eth0 proto 179 metric 100",
    f"fd77:75::/64 via {FIRST6} dev eth0 proto 179 metric 4096 table 100",
)


def test_what_an_earlier_run_left_is_gone_once_the_routers_have_told_theirs_and_nothing_of_strangers_is(
    roads: Crossroads,
) -> None:
    def foreign() -> list[str]:
        lines = [line for v in "46" for line in roads.inside.ip(f"-o -{v} route show table all").splitlines()]
        return sorted(line for line in lines if OURS not in line or " table " in line)

    roads.stop_agent()
    try:
        for line in (*FOREIGN, *LEFT_BEHIND):
            roads.inside.ip(f"-{6 if ':' in line else 4} route add {line}")
        before, adopted = foreign(), roads.standard()
        left_behind = roads.routes().keys() - adopted.keys()
        assert len(left_behind) == len(LEFT_BEHIND)
        with roads.events() as events:
            roads.node.start_agent()
            wait_for("the agent answers", lambda: answers(roads.node), 20)
            wait_for("what was left is gone", lambda: roads.routes() == adopted, 20)
            assert foreign() == before
            assert events.seen() == deleted(events)
            assert [line for line in deleted(events) if OURS not in line] == []
            assert taken(events) == left_behind
    finally:
        for line in (*FOREIGN, *LEFT_BEHIND):
            roads.inside.ip(f"-{6 if ':' in line else 4} route del {line}", check=False)
