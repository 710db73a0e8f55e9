from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.nexthop import Link
from bgp_agent.core.prefix import Family
from bgp_agent.kernel.sysctl import ALL, NETCONFMSG, Sysctls
from bgp_agent.kernel.wire import WireError, attribute

ETH0 = Link(2, "eth0", up=True, running=True, mtu=1500)
ETH1 = Link(3, "eth1", up=True, running=True, mtu=1500)
LO = Link(1, "lo", up=True, running=True, mtu=65536, loopback=True)
BOTH = (Family.IPV4, Family.IPV6)
FAMILY = {Family.IPV4: 2, Family.IPV6: 10}


def netconf(family: Family, interface: int, *, forwarding: int | None = None, rp_filter: int | None = None) -> bytes:
    body = NETCONFMSG.pack(FAMILY[family]) + attribute(1, struct.pack("=i", interface))
    for kind, value in ((2, forwarding), (3, rp_filter)):
        if value is not None:
            body += attribute(kind, struct.pack("=i", value))
    return body


def name(index: int) -> str:
    return {1: "lo", 2: "eth0", 3: "eth1"}[index]


def forwarding_node() -> Sysctls:
    sysctls = Sysctls()
    for family in BOTH:
        assert sysctls.read(netconf(family, ALL, forwarding=1, rp_filter=0))
    return sysctls


def test_forwarding_is_not_known_before_it_was_read() -> None:
    assert Sysctls().forwarding(Family.IPV4) is None
    assert Sysctls().warnings(BOTH, [ETH0], name) == ()


def test_forwarding_off_is_named_with_its_remedy_for_the_families_in_use() -> None:
    sysctls = forwarding_node()
    assert sysctls.read(netconf(Family.IPV6, ALL, forwarding=0))
    assert sysctls.forwarding(Family.IPV6) is False
    assert sysctls.warnings([Family.IPV4], [ETH0], name) == ()
    assert "sysctl -w net.ipv6.conf.all.forwarding=1" in sysctls.warnings(BOTH, [ETH0], name)[0]


def test_strict_rp_filter_matters_with_several_interfaces_alone() -> None:
    sysctls = forwarding_node()
    sysctls.read(netconf(Family.IPV4, 2, rp_filter=1))
    assert sysctls.warnings(BOTH, [LO, ETH0], name) == ()
    assert "strict on eth0 and" in sysctls.warnings(BOTH, [LO, ETH0, ETH1], name)[0]
    sysctls.read(netconf(Family.IPV4, ALL, rp_filter=2))  # the larger one counts
    assert sysctls.warnings(BOTH, [ETH0, ETH1], name) == ()
    sysctls.read(netconf(Family.IPV4, ALL, rp_filter=1))
    assert "strict on eth0, eth1 and" in sysctls.warnings(BOTH, [ETH0, ETH1], name)[0]


def test_a_repetition_is_no_news_and_a_deleted_link_is_forgotten() -> None:
    sysctls = forwarding_node()
    assert sysctls.read(netconf(Family.IPV4, 3, forwarding=0))
    assert not sysctls.read(netconf(Family.IPV4, 3, forwarding=0))
    assert "off on eth1" in sysctls.warnings(BOTH, [ETH0, ETH1], name)[0]
    sysctls.forget(3)
    assert sysctls.warnings(BOTH, [ETH0, ETH1], name) == ()
    assert sysctls.forwarding(Family.IPV4)


def test_other_families_and_messages_without_an_interface_are_passed_over() -> None:
    assert not Sysctls().read(NETCONFMSG.pack(28) + attribute(1, bytes(4)))
    assert not Sysctls().read(NETCONFMSG.pack(2))


@given(st.binary(max_size=60))
def test_garbage_is_read_or_refused_and_nothing_else_happens(body: bytes) -> None:
    with contextlib.suppress(WireError):
        Sysctls().read(body)


def test_what_does_not_fit_is_refused() -> None:
    for body in (b"", NETCONFMSG.pack(2) + attribute(1, b"abc")):
        with pytest.raises(WireError):
            Sysctls().read(body)
