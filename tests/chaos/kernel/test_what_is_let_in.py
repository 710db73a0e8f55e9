"""Import policy from end to end: what routers say, and what of it stands in the kernel.

Judged by ``ip route`` and ``ip monitor``; the agent is asked for its reasons alone.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import pytest

from lab.netns import wait_for
from tests.chaos.kernel.crossroads import BLOCKS, SIDES, Crossroads, deleted
from tests.interop.hostile import Hostile, attribute, good_end, nlri, origin, path, update, withdrawal

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

FOE, FOE6, FOE_ASN = "10.99.1.3", "fd99:1::3", 65003
GOOD: Final = ("192.168.60.0/24", "fd77:60::/64")


@pytest.fixture
def foe(roads: Crossroads) -> Iterator[Hostile]:
    """A third peer, on the left wire, that says what no router would."""
    if FOE not in roads.world.ip("address show dev eth0"):
        roads.world.ip(f"address add {FOE}/24 dev eth0")
        roads.world.ip(f"rule add from {FOE} lookup {SIDES['left'].asn}")
    made = Hostile(FOE, FOE_ASN, roads.world)
    with made.listening():
        roads.peers = [{"address": FOE, "asn": FOE_ASN, "families": ["ipv4", "ipv6"]}]
        yield made
        roads.peers = []
        roads.configure()


def reach(*prefixes: str) -> bytes:
    """An UPDATE that announces IPv6 prefixes (RFC 4760 section 3)."""
    hop = ipaddress.ip_address(FOE6).packed
    value = struct.pack("!HBB", 2, 1, len(hop)) + hop + b"\0" + b"".join(map(nlri, prefixes))
    return update(origin() + path(FOE_ASN) + attribute(14, value, 0x80))


def unreach(*prefixes: str) -> bytes:
    """An UPDATE that withdraws IPv6 prefixes (RFC 4760 section 4)."""
    return update(attribute(15, struct.pack("!HB", 2, 1) + b"".join(map(nlri, prefixes)), 0x80))


def of(version: int, prefixes: Iterable[str]) -> list[str]:
    return [prefix for prefix in prefixes if (":" in prefix) == (version == 6)]


def tables(roads: Crossroads) -> list[str]:
    """Every route of the node, whoever's, in every table of both families."""
    return sorted(line for version in "46" for line in roads.inside.ip(f"-{version} route show table all").splitlines())


def installed(roads: Crossroads, told: Iterable[str]) -> set[str]:
    return set(roads.routes()) & set(told)


# --- all, some, none, and how long -----------------------------------------------------------------------------------
#: From wider than a pool to a host, both families.
TOLD: Final = (
    "192.168.0.0/15", "192.168.0.0/16", "192.168.128.0/17", "192.168.48.0/20", "192.168.32.0/24", "192.168.33.64/26",
    "192.168.200.7/32", "fd76::/15", "fd77::/16", "fd77:8000::/17", "fd77:48::/48", "fd77:32::/64", "fd77:33::/96",
    "fd77:200::7/128",
)  # fmt: skip
WIDER: Final = {"192.168.0.0/15": "outside the pools", "fd76::/15": "outside the pools"}


@pytest.mark.parametrize(
    ("refuse", "reasons"),
    [
        pytest.param([], WIDER, id="all"),
        pytest.param(
            ["192.168.48.0/20", "192.168.33.0/24", "fd77:48::/32", "fd77:33::/64"],
            WIDER | {
                "192.168.48.0/20": "inside import.refuse 192.168.48.0/20",
                "192.168.33.64/26": "inside import.refuse 192.168.33.0/24",
                "fd77:48::/48": "inside import.refuse fd77:48::/32",
                "fd77:33::/96": "inside import.refuse fd77:33::/64",
            },
            id="some",
        ),
        pytest.param(
            ["192.168.0.0/16", "fd77::/16"],
            {prefix: "inside import.refuse" for prefix in TOLD if prefix not in WIDER} | WIDER, id="none",
        ),
    ],
)  # fmt: skip
def test_of_what_a_router_tells_the_kernel_has_what_the_policy_lets_in_of_every_length(
    roads: Crossroads, refuse: list[str], reasons: Mapping[str, str]
) -> None:
    roads.left.tell(*TOLD)
    roads.right.tell()
    wait_for("without a policy all of it is in, but what is wider than a pool",
             lambda: set(roads.routes()) == {*BLOCKS, *TOLD} - WIDER.keys())  # fmt: skip
    roads.configure(**{"import": {"refuse": refuse}})
    wait_for("with it the rest is out", lambda: set(roads.routes()) == {*BLOCKS, *TOLD} - reasons.keys())
    assert {p: roads.status(p)[0] for p in reasons} == dict.fromkeys(reasons, "refused")
    assert {p: roads.status(p)[1] for p, words in reasons.items() if words not in roads.status(p)[1]} == {}


SERVICES: Final = ("192.168.96.0/20", "fd77:96::/64")  # the service CIDRs of a cluster that has them in its pools
INSIDE: Final = (*SERVICES, "192.168.100.0/24", "192.168.96.10/32", "fd77:96::/112", "fd77:96::a/128")


def test_what_import_refuse_names_is_in_the_kernel_at_no_moment(roads: Crossroads) -> None:
    """Not when it is told first, nor by the other router, nor when sessions and agent begin again."""
    roads.configure(**{"import": {"refuse": list(SERVICES)}})
    with roads.events() as events:
        roads.left.tell(*INSIDE, *GOOD)
        wait_for("the good ones are in", lambda: installed(roads, GOOD) == set(GOOD))
        roads.right.tell(*INSIDE)
        wait_for("both have told it", lambda: roads.peer("right")["received"] == len(INSIDE))
        roads.left.bird.kill()
        wait_for("the session is lost", lambda: roads.status(GOOD[0])[0] == "stale")
        roads.left.start()
        wait_for("a new session has told it", lambda: roads.status(GOOD[0])[0] == "installed", 20)
        roads.stop_agent()
        roads.node.start_agent()
        wait_for("a new agent was told it", lambda: {roads.status(p)[0] for p in INSIDE} == {"refused"}, 20)
        assert [line for line in events.seen() if any(f" {prefix} " in line for prefix in INSIDE)] == []
        assert deleted(events, *GOOD) == []


# --- what is never let in --------------------------------------------------------------------------------------------
#: Pools as wide as they may be, so that nothing is refused for being outside of them that could be inside.
WIDE: Final = ["10.0.0.0/8", "192.168.0.0/16", "169.0.0.0/8", "fd00::/8", "fe00::/8"]
SERVICE_CIDRS: Final = ["10.112.0.0/12", "fd96::/108"]
LIES: Final = {
    "0.0.0.0/0": "the default route is never learned",
    "192.168.1.0/26": "it is this node's own block",
    "192.168.1.32/27": "inside this node's own block 192.168.1.0/26",
    "10.99.1.0/24": "inside the node's subnet 10.99.1.0/24",
    "10.99.1.128/25": "inside the node's subnet 10.99.1.0/24",
    "10.99.1.2/32": "inside the node's subnet 10.99.1.0/24",
    "10.99.0.0/16": "it holds this node's own address 10.99.0.1",
    "10.99.0.1/32": "it holds this node's own address 10.99.0.1",
    "10.112.0.0/12": "inside import.refuse 10.112.0.0/12",
    "10.112.0.10/32": "inside import.refuse 10.112.0.0/12",
    "169.254.0.0/16": "inside link-local addresses 169.254.0.0/16",
    "169.254.169.254/32": "inside link-local addresses 169.254.0.0/16",
    "127.0.0.0/8": "outside the pools",
    "224.0.0.0/4": "outside the pools",
    "239.1.2.3/32": "outside the pools",
    "240.0.0.0/4": "outside the pools",
    "::/0": "the default route is never learned",
    "fd77:1::/64": "it is this node's own block",
    "fd77:1::/80": "inside this node's own block fd77:1::/64",
    "fd99:1::/64": "inside the node's subnet fd99:1::/64",
    "fd99:1::2/128": "inside the node's subnet fd99:1::/64",
    "fd99::1/128": "it holds this node's own address fd99::1",
    "fd96::/108": "inside import.refuse fd96::/108",
    "fd96::a/128": "inside import.refuse fd96::/108",
    "fe80::/10": "inside link-local addresses fe80::/10",
    "fe80::/64": "inside",  # link-local, and on every link
    "::1/128": "outside the pools",
    "ff00::/8": "outside the pools",
    "ff02::1/128": "outside the pools",
}


def test_lies_about_the_nodes_own_world_change_no_route_when_told_and_when_taken_back(
    roads: Crossroads, foe: Hostile
) -> None:
    """Connected routes among them: not one is replaced, joined or deleted, nor shadowed by something within it."""
    roads.configure(pools=WIDE, **{"import": {"refuse": SERVICE_CIDRS}})
    foe.say(good_end())
    roads.wait()
    before = tables(roads)
    with roads.events() as events:
        foe.say(foe.good(*of(4, LIES), GOOD[0]), reach(*of(6, LIES), GOOD[1]))
        wait_for("what is good among the lies is in", lambda: installed(roads, GOOD) == set(GOOD))
        assert [line for line in events.seen() if not any(f" {prefix} " in line for prefix in GOOD)] == []
        said = {prefix: roads.status(prefix) for prefix in LIES}
        assert {prefix: state for prefix, (state, _) in said.items() if state != "refused"} == {}
        assert {prefix: words for prefix, (_, words) in said.items() if LIES[prefix] not in words} == {}
        foe.say(withdrawal(*of(4, LIES), GOOD[0]), unreach(*of(6, LIES), GOOD[1]))
        wait_for("what was good is gone", lambda: not installed(roads, GOOD))
        assert tables(roads) == before
        assert [line for line in deleted(events) if not any(f" {prefix} " in line for prefix in GOOD)] == []


@pytest.mark.parametrize(
    ("prefix", "address"), [("192.168.50.0/24", "192.168.50.1/24"), ("fd77:50::/64", "fd77:50::1/64")]
)
def test_a_subnet_that_comes_up_where_a_learned_route_stands_is_connected_for_as_long_as_its_address_is_there(
    roads: Crossroads, prefix: str, address: str
) -> None:
    """The learned route leaves, alone; what its router says later is nothing to the connected one."""
    version = "-6" if ":" in prefix else "-4"

    def connected() -> list[str]:
        return roads.inside.ip(f"{version} route show table main proto kernel {prefix}").splitlines()

    roads.left.tell(*SIDES["left"].routes, prefix)
    wait_for("it is learned", lambda: prefix in roads.routes())
    roads.inside.ip("link add pods0 type veth peer name pods1")
    try:
        roads.inside.ip("link set pods0 up")
        with roads.events() as events:
            roads.inside.ip(f"address add {address} dev pods0" + " nodad" * (version == "-6"))
            wait_for("the learned route has left", lambda: prefix not in roads.routes())
            assert "inside the node's subnet" in roads.status(prefix)[1]
            (stands,) = connected()
            roads.left.tell(*SIDES["left"].routes)
            wait_for("it is not told any more", lambda: roads.status(prefix) == ("", ""))
            roads.left.tell(*SIDES["left"].routes, prefix)
            wait_for("it is told again", lambda: roads.status(prefix)[0] == "refused")
            assert connected() == [stands]
            assert len(deleted(events, prefix)) == 1
            assert " proto 179 metric 4096" in deleted(events, prefix)[0]
    finally:
        roads.inside.ip("link del pods0")
    wait_for("it is learned again when the subnet is gone", lambda: prefix in roads.routes(), 5)
