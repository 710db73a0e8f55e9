"""Packed prefixes agree with the standard library's on every input."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.prefix import (
    Family,
    Prefix,
    PrefixError,
    PrefixSet,
    address_of,
    address_text,
    covers,
    family_of,
    host,
    is_host,
    length_of,
    network,
    overlaps,
    parse_address,
    parse_prefix,
    prefix_text,
)

networks = st.one_of(
    st.builds(
        lambda n, length: ipaddress.ip_network((n, length), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)
    ),
    st.builds(
        lambda n, length: ipaddress.ip_network((n << 64, length), strict=False),
        st.integers(2**32, 2**64 - 1),
        st.integers(0, 128),
    ),
)


@given(networks)
def test_a_prefix_reads_and_writes_as_the_standard_library_does(
    net: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> None:
    packed = parse_prefix(str(net))
    assert packed == net.network_address.packed + bytes((net.prefixlen,))
    assert prefix_text(packed) == str(net)
    assert family_of(packed) is (Family.IPV4 if net.version == 4 else Family.IPV6)
    assert length_of(packed) == net.prefixlen
    assert is_host(packed) == (net.prefixlen == net.max_prefixlen)
    assert address_text(address_of(packed)) == str(net.network_address)


@given(networks, networks)
def test_covers_and_overlaps_agree_with_the_standard_library(
    one: ipaddress.IPv4Network | ipaddress.IPv6Network, other: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> None:
    left, right = parse_prefix(str(one)), parse_prefix(str(other))
    same = one.version == other.version
    assert covers(left, right) == (same and other.subnet_of(one))  # type: ignore[arg-type]  # same family just checked
    assert overlaps(left, right) == (same and one.overlaps(other))


@given(st.lists(networks, max_size=12), networks)
def test_a_set_finds_the_most_specific_member_that_covers(
    members: list[ipaddress.IPv4Network | ipaddress.IPv6Network], net: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> None:
    packed = [parse_prefix(str(member)) for member in members]
    wanted = parse_prefix(str(net))
    covering = [member for member in packed if covers(member, wanted)]
    assert PrefixSet(packed).covering(wanted) == max(covering, key=length_of, default=None)


def test_a_set_is_a_set() -> None:
    members = [parse_prefix("10.0.0.0/8"), parse_prefix("10.1.0.0/16"), parse_prefix("2001:db8::/32")]
    made = PrefixSet(members)
    assert made == PrefixSet(reversed(members))
    assert hash(made) == hash(PrefixSet(members))
    assert made != members
    assert sorted(made) == sorted(members)
    assert len(made) == 3
    assert members[0] in made
    assert repr(made) == "PrefixSet(10.0.0.0/8, 10.1.0.0/16, 2001:db8::/32)"
    assert made.longest(parse_prefix("1.0.0.0/8")) == 16
    assert PrefixSet().longest(parse_prefix("1.0.0.0/8")) == 0
    assert sorted(made.overlapping([parse_prefix("10.1.2.0/24")])) == sorted(members[:2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1/24", "has host bits set; the prefix is 10.0.0.0/24"),
        ("10.0.0.0", "has no length"),
        ("10.0.0.0/33", "not a number from 0 to 32"),
        ("2001:db8::/129", "not a number from 0 to 128"),
        ("10.0.0.0/-1", "not a number"),
        ("10.0.0.0/ 8", "not a number"),
        ("10.0.0.0/٣", "not a number"),
        ("10.0.0/8", "is not an IPv4 or IPv6 address"),
        ("010.0.0.0/8", "is not an IPv4 or IPv6 address"),
        ("fe80::1%eth0/128", "is not an IPv4 or IPv6 address"),
        ("", "has no length"),
    ],
)
def test_a_text_that_is_no_prefix_is_refused_with_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(PrefixError, match=words):
        parse_prefix(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        packed = parse_prefix(text)
    except PrefixError:
        return
    assert parse_prefix(prefix_text(packed)) == packed


def test_host_and_network() -> None:
    address = parse_address("192.168.1.77")
    assert prefix_text(host(address)) == "192.168.1.77/32"
    assert prefix_text(network(address, 26)) == "192.168.1.64/26"
    assert prefix_text(network(address, 0)) == "0.0.0.0/0"
    assert Family.IPV6.bits == 128
    assert isinstance(Prefix(host(address)), bytes)
