from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.nexthop import InterfaceAddress, Link
from bgp_agent.core.prefix import parse_address
from bgp_agent.kernel.links import IFADDRMSG, IFINFOMSG, read_address, read_link
from bgp_agent.kernel.wire import U32, WireError, attribute


def link(family: int = 0, flags: int = 0x43, **more: bytes) -> bytes:
    body = IFINFOMSG.pack(family, 0, 1, 7, flags, 0)
    return body + attribute(3, b"eth0\0") + attribute(4, U32.pack(1500)) + more.get("more", b"")


def address(family: int, length: int, *attributes: bytes, flags: int = 0) -> bytes:
    return IFADDRMSG.pack(family, length, flags, 0, 7) + b"".join(attributes)


def test_a_link_is_read() -> None:
    assert read_link(link()) == Link(7, "eth0", up=True, running=True, mtu=1500)
    assert read_link(link(flags=0x8)) == Link(7, "eth0", up=False, running=False, mtu=1500, loopback=True)


def test_a_bridges_word_about_a_port_and_wireless_news_are_not_about_the_link() -> None:
    assert read_link(link(family=7)) is None
    assert read_link(link(more=attribute(11, b"x"))) is None
    assert read_link(IFINFOMSG.pack(0, 0, 1, 7, 0, 0)) is None


def test_on_a_point_to_point_link_our_end_is_the_address() -> None:
    ours, theirs = parse_address("10.0.0.1"), parse_address("10.0.0.2")
    body = address(2, 32, attribute(1, theirs), attribute(2, ours))
    assert read_address(body) == InterfaceAddress(7, ours, 32)


def test_an_address_that_somebody_else_has_is_none() -> None:
    value = parse_address("fd00::1")
    assert read_address(address(10, 64, attribute(1, value))) == InterfaceAddress(7, value, 64)
    assert read_address(address(10, 64, attribute(1, value), attribute(8, U32.pack(0x08)))) is None
    assert read_address(address(17, 0)) is None
    assert read_address(address(2, 24)) is None


def test_what_does_not_fit_is_refused() -> None:
    for body in (b"", address(2, 33, attribute(1, bytes(4))), address(2, 24, attribute(1, bytes(3)))):
        with pytest.raises(WireError):
            read_address(body)
    with pytest.raises(WireError):
        read_link(b"short")
    with pytest.raises(WireError):
        read_link(link()[:-1] + struct.pack("=B", 0) + b"\xff\xff\x01\x00")


@given(st.binary(max_size=80))
def test_garbage_is_read_or_refused_and_nothing_else_happens(body: bytes) -> None:
    for read in (read_link, read_address):
        with contextlib.suppress(WireError):
            read(body)
