from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.prefix import Address, parse_address
from bgp_agent.core.probing import Delivered, Evidence, Misdelivered, Silence
from bgp_agent.probe.ttl import IcmpError, read_error, trace
from tests.unit.probe.fabric import Fabric, Node


async def traced(fabric: Fabric, target: str, owner: Address | None) -> Evidence:
    nodes = {address for node in fabric.nodes for address in (node.address4, node.address6)}
    return await trace(fabric.a.make, parse_address(target), owner=owner, is_node=nodes.__contains__)


@pytest.mark.netns
async def test_the_owner_of_a_live_pod_is_named_and_the_pod_hears_nothing(fabric: Fabric) -> None:
    pod4 = fabric.pod(fabric.b, "192.168.2.7", "pod4")
    pod6 = fabric.pod(fabric.b, "fd10:2::7", "pod6")
    for target, owner in (("192.168.2.7", fabric.b.address4), ("fd10:2::7", fabric.b.address6)):
        got = await traced(fabric, target, owner)
        assert isinstance(got, Delivered), got
        assert "hop 2" in got.how
    assert _udp_seen(pod4.run("cat", "/proc/net/snmp")) == 0
    assert "Udp6NoPorts                     \t0" in pod6.run("cat", "/proc/net/snmp6")


@pytest.mark.netns
async def test_another_node_that_gets_the_packets_is_named(fabric: Fabric) -> None:
    fabric.pod(fabric.c, "192.168.2.7", "pod")
    fabric.hand(fabric.b.block4, fabric.c)
    got = await traced(fabric, "192.168.2.7", fabric.b.address4)
    assert got == Misdelivered("10.0.3.2", "10.0.3.2 answered at hop 2, the owner is 10.0.2.2")


@pytest.mark.netns
async def test_an_unused_address_in_a_blackholed_block_is_silence(fabric: Fabric) -> None:
    got = await traced(fabric, "192.168.2.9", fabric.b.address4)
    assert got == Silence("hop 2 on the way to 192.168.2.9 says nothing")


@pytest.mark.netns
async def test_an_owner_whose_block_is_unreachable_says_so_itself(fabric: Fabric) -> None:
    fabric.b.inside.ip("route replace unreachable 192.168.2.0/26 metric 4096")
    got = await traced(fabric, "192.168.2.9", fabric.b.address4)
    assert isinstance(got, Delivered)
    assert got.node == "10.0.2.2"


@pytest.mark.netns
async def test_a_node_that_gets_it_is_named_but_not_judged_while_the_owner_is_not_known(fabric: Fabric) -> None:
    fabric.pod(fabric.b, "192.168.2.7", "pod")
    got = await traced(fabric, "192.168.2.7", None)
    assert got == Silence("10.0.2.2 gets packets for 192.168.2.7; whether it should is not known")


@pytest.mark.netns
async def test_a_router_without_a_route_is_no_node(fabric: Fabric) -> None:
    fabric.router.ip("route replace unreachable 192.168.2.0/26")
    got = await traced(fabric, "192.168.2.9", fabric.b.address4)
    assert got == Silence("10.0.1.1, which is no known node, says that 192.168.2.9 is unreachable")


@pytest.mark.netns
async def test_no_route_at_all_is_silence_with_the_reason(fabric: Fabric) -> None:
    fabric.a.inside.ip("route del default")
    got = await traced(fabric, "192.168.2.9", fabric.b.address4)
    assert got == Silence("no way to 192.168.2.9: this node has no route for it")


@pytest.mark.netns
async def test_an_address_beside_the_node_itself_is_reached_and_proves_no_owner(fabric: Fabric) -> None:
    got = await traced(fabric, "10.0.2.2", None)
    assert isinstance(got, Silence)
    assert "itself answered" in got.why


@pytest.mark.netns
async def test_a_loop_in_the_network_ends_the_probe(fabric: Fabric) -> None:
    fabric.router.ip("route replace 192.168.2.0/26 via 10.0.3.2")
    fabric.c.inside.ip("route add 192.168.2.0/26 via 10.0.3.1")
    strangers: Node = fabric.b
    got = await trace(
        fabric.a.make, parse_address("192.168.2.9"), owner=strangers.address4, is_node=lambda _: False, wait=0.1
    )
    assert isinstance(got, Silence)


# --- what the error queue holds --------------------------------------------------------------------------------------
def control(origin: int, icmp: int, code: int, offender: bytes) -> bytes:
    return struct.pack("=IBBBBII", 113, origin, icmp, code, 0, 0, 0) + offender


FROM_B = struct.pack("=HH4s8x", 2, 0, bytes((10, 0, 2, 2)))
FROM_B6 = struct.pack("=HHI16sI", 10, 0, 0, parse_address("fd00:2::2"), 0)


def test_time_exceeded_and_unreachable_name_their_sender() -> None:
    b4, b6 = parse_address("10.0.2.2"), parse_address("fd00:2::2")
    assert read_error(0, 11, control(2, 11, 0, FROM_B)) == IcmpError(b4, exceeded=True, code=0)
    assert read_error(0, 11, control(2, 3, 1, FROM_B)) == IcmpError(b4, exceeded=False, code=1)
    assert read_error(41, 25, control(3, 3, 0, FROM_B6)) == IcmpError(b6, exceeded=True, code=0)
    assert read_error(41, 25, control(3, 1, 0, FROM_B6)) == IcmpError(b6, exceeded=False, code=0)


@pytest.mark.parametrize(
    ("level", "kind", "data"),
    [
        (0, 11, control(1, 0, 0, FROM_B)),  # the kernel's own error: nobody sent it
        (0, 11, control(2, 4, 0, FROM_B)),  # source quench
        (0, 11, control(2, 5, 1, FROM_B)),  # redirect
        (41, 25, control(3, 2, 0, FROM_B6)),  # packet too big
        (0, 8, control(2, 11, 0, FROM_B)),  # another control message
        (0, 11, control(2, 11, 0, FROM_B[:6])),
        (0, 11, b""),
    ],
)
def test_what_is_no_icmp_error_of_a_hop_is_passed_over(level: int, kind: int, data: bytes) -> None:
    assert read_error(level, kind, data) is None


@given(st.sampled_from([(0, 11), (41, 25)]), st.binary(max_size=64))
def test_any_control_message_is_read_or_passed_over(which: tuple[int, int], data: bytes) -> None:
    seen = read_error(*which, data)
    assert seen is None or len(seen.offender) in (4, 16)


def _udp_seen(snmp: str) -> int:
    """Datagrams that came in, whatever became of them (InDatagrams, NoPorts)."""
    values = [line.split()[1:] for line in snmp.splitlines() if line.startswith("Udp:")]
    named = dict(zip(*values, strict=True))
    return int(named["InDatagrams"]) + int(named["NoPorts"])
