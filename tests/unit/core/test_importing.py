"""Import policy, rule by rule, and against an oracle that is written with the standard library."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.importing import (
    RANGE,
    SPECIAL,
    Clear,
    ImportPolicy,
    OwnBlocks,
    refuse_path,
    refuse_prefix,
    special_use,
)
from bgp_agent.core.prefix import (
    Address,
    Family,
    Prefix,
    PrefixSet,
    address_of,
    network,
    parse_address,
    parse_prefix,
    prefix_text,
)
from bgp_agent.core.values import Path

PEER = "10.42.0.4"


def p(text: str) -> Prefix:
    return parse_prefix(text)


def prefixes(*texts: str) -> PrefixSet:
    return PrefixSet(map(p, texts))


def own(*blocks: str, standing: Iterable[str] | None = None, in_use: Iterable[str] = ()) -> OwnBlocks:
    stand = set(map(p, blocks if standing is None else standing))
    return OwnBlocks(prefixes(*blocks), stand.__contains__, set(map(p, in_use)).__contains__)


POOLS = prefixes("192.168.0.0/16", "fd00::/16")
POLICY = ImportPolicy(POOLS, 64512, own_addresses=frozenset({parse_address("10.42.1.4")}))


# --- attributes ------------------------------------------------------------------------------------------------------
def path(hop: str | None = "10.42.1.5", *as_path: int, error: str | None = None) -> Path:
    return Path(PEER, parse_address(hop) if hop else None, as_path, error=error)


@pytest.mark.parametrize(
    ("offered", "asn", "family", "words"),
    [
        (path(None, 65515, error="ORIGIN is missing"), 65515, Family.IPV4, "ORIGIN is missing"),
        (path("10.42.1.5"), 65515, Family.IPV4, "an empty AS path from an external peer"),
        (path("10.42.1.5", 65515, 0), 65515, Family.IPV4, "AS 0 is in the AS path (RFC 7607)"),
        (path("10.42.1.5", 65515, 64512), 65515, Family.IPV4, None),
        (
            path("10.42.1.5", 64512, 65515, 64512), 65515, Family.IPV4,
            "our own AS 64512 is 2 times in the AS path; bgp.allow_own_as is 1",
        ),
        (
            path("10.42.1.5", 64512, 64512), 64512, Family.IPV4,
            "our own AS 64512 is 2 times in the AS path; bgp.allow_own_as is 1",
        ),
        (path("10.42.1.5"), 64512, Family.IPV4, None),
        (path(None, 65515), 65515, Family.IPV4, "no next hop (RFC 7606 section 7.3)"),
        (path("fd00::5", 65515), 65515, Family.IPV4, "the next hop fd00::5 is of the other family"),
        (path("10.42.1.5", 65515), 65515, Family.IPV6, "the next hop 10.42.1.5 is of the other family"),
        (path("fd00::5", 65515), 65515, Family.IPV6, None),
        (path("10.42.1.4", 65515), 65515, Family.IPV4, "the next hop 10.42.1.4 is this node's own address"),
        (path("0.0.0.0", 65515), 65515, Family.IPV4, "the next hop 0.0.0.0 is a this network address"),
        (path("127.0.0.1", 65515), 65515, Family.IPV4, "the next hop 127.0.0.1 is a loopback address"),
        (path("224.0.0.5", 65515), 65515, Family.IPV4, "the next hop 224.0.0.5 is a multicast address"),
        (path("255.255.255.255", 65515), 65515, Family.IPV4, "the next hop 255.255.255.255 is a reserved address"),
        (path("fe80::1", 65515), 65515, Family.IPV6, "the next hop fe80::1 is a link-local address"),
    ],
)  # fmt: skip
def test_attributes(offered: Path, asn: int, family: Family, words: str | None) -> None:
    assert refuse_path(POLICY, offered, asn, family) == words


def test_how_often_our_own_as_may_be_in_the_path_is_configured() -> None:
    strict = ImportPolicy(POOLS, 64512, allow_own_as=0)
    assert refuse_path(strict, path("10.42.1.5", 65515, 64512), 65515, Family.IPV4) is not None


@given(st.sampled_from(sorted(SPECIAL)), st.data())
def test_special_use_is_told_by_its_range(special: Prefix, data: st.DataObject) -> None:
    net = ipaddress.ip_network(prefix_text(special))
    inside = net[data.draw(st.integers(0, net.num_addresses - 1))]
    assert special_use(parse_address(str(inside))) == SPECIAL[special]
    assert special_use(parse_address("10.0.0.1")) is None


# --- prefixes --------------------------------------------------------------------------------------------------------
BLOCK = "192.168.1.0/26"
CLUSTER = ImportPolicy(
    prefixes("10.0.0.0/8", "fd00::/16", "169.254.0.0/16"), 64512,
    refuse=prefixes("10.9.0.0/16", "10.5.0.7/32"),
    own_addresses=frozenset(map(parse_address, ("10.42.1.4", "10.5.0.1"))),
    subnets=prefixes("10.42.1.0/24", "10.5.0.0/26", "10.77.0.1/32"),
    peers=frozenset({parse_address("10.42.0.4")}),
    networks=((p("10.96.0.0/12"), "the service CIDR"),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "prefix", "words"),
    [
        (POLICY, "192.168.2.0/26", None),
        (POLICY, "192.168.0.0/16", None),
        (POLICY, "192.168.2.7/32", None),
        (POLICY, "fd00:1::/122", None),
        (POLICY, "0.0.0.0/0", "the default route is never learned"),
        (POLICY, "::/0", "the default route is never learned"),
        (ImportPolicy(prefixes("0.0.0.0/0"), 1), "0.0.0.0/0", "the default route is never learned"),
        (POLICY, "192.0.0.0/8", "outside the pools (192.168.0.0/16)"),
        (POLICY, "2001:db8::/64", "outside the pools (fd00::/16)"),
        (ImportPolicy(prefixes("10.0.0.0/8"), 1), "2001:db8::/64", "there is no ipv6 pool"),
        (POLICY, BLOCK, "it is this node's own block"),
        (POLICY, "192.168.1.32/27", f"inside this node's own block {BLOCK}"),
        (POLICY, "192.168.1.9/32", None),
        (POLICY, "192.168.1.8/32", f"the address is in use on this node (own block {BLOCK})"),
        (CLUSTER, "10.1.0.0/26", None),
        (CLUSTER, "10.9.1.0/26", "inside import.refuse 10.9.0.0/16"),
        (CLUSTER, "10.42.1.64/26", "inside the node's subnet 10.42.1.0/24"),
        (CLUSTER, "10.77.0.1/32", None),
        (CLUSTER, "10.96.5.0/24", "inside the service CIDR 10.96.0.0/12"),
        (CLUSTER, "169.254.7.0/24", "inside link-local addresses 169.254.0.0/16"),
        (CLUSTER, "10.42.0.0/24", "it holds the peer 10.42.0.4"),
        (CLUSTER, "10.42.0.0/16", "it holds this node's own address 10.42.1.4"),
        (CLUSTER, "10.5.0.9/32", None),
        (CLUSTER, "10.5.0.7/32", "inside import.refuse 10.5.0.7/32"),
        (CLUSTER, "10.5.0.0/16", None),
    ],
)
def test_prefixes(policy: ImportPolicy, prefix: str, words: str | None) -> None:
    blocks = own(BLOCK, "10.5.0.0/26", in_use=["192.168.1.8/32", "10.5.0.1/32"])
    assert refuse_prefix(policy, blocks, p(prefix)) == words


def test_a_cover_is_welcome_only_while_every_own_block_below_it_is_blackholed() -> None:
    both = ("192.168.1.0/26", "192.168.2.0/26")
    assert refuse_prefix(POLICY, own(*both), p("192.168.0.0/16")) is None
    words = "it covers this node's own block 192.168.2.0/26, whose blackhole is not in place"
    assert refuse_prefix(POLICY, own(*both, standing=both[:1]), p("192.168.0.0/16")) == words
    assert refuse_prefix(POLICY, own(*both, standing=both[:1]), p("192.168.1.0/24")) is None


def test_a_cover_is_still_kept_out_by_the_other_rules() -> None:
    policy = ImportPolicy(POOLS, 64512, refuse=prefixes("192.168.0.0/17"))
    assert refuse_prefix(policy, own(BLOCK), p("192.168.0.0/20")) == "inside import.refuse 192.168.0.0/17"


def test_a_changed_rule_is_another_policy_and_the_same_rules_are_the_same() -> None:
    assert ImportPolicy(POOLS, 64512, own_addresses=POLICY.own_addresses) == POLICY
    assert ImportPolicy(POOLS, 64512) != POLICY


# --- the oracle ------------------------------------------------------------------------------------------------------
Net = ipaddress.IPv4Network | ipaddress.IPv6Network


class World(NamedTuple):
    """One prefix and everything that decides about it."""

    net: Net
    pools: list[Net]
    blocks: list[Net]
    standing: list[Net]
    used: list[Net]
    refused: list[Net]
    subnets: list[Net]
    addresses: list[Net]
    peers: list[Net]


@st.composite
def nets(draw: st.DrawFn, shortest: int = 0) -> Net:
    """Networks that often meet: a few values, lengths up to the host route."""
    if draw(st.booleans()):
        length = draw(st.integers(shortest, 32))
        value = draw(st.sampled_from([0x0A000000, 0x0A010203, 0x0A0102FF, 0xA9FE0001, 0xE0000005, 0, 0xC0A80101]))
        return ipaddress.ip_network((value, length), strict=False)
    length = draw(st.integers(shortest, 128))
    value = draw(st.sampled_from([0xFD << 120, (0xFD << 120) + 5, 0xFE80 << 112, 0xFF02 << 112, 1]))
    return ipaddress.IPv6Network((value, length), strict=False)


def within(inner: Net, outers: Iterable[Net]) -> bool:
    return any(inner.version == outer.version and inner.subnet_of(outer) for outer in outers)  # type: ignore[arg-type]  # same family


few = st.lists(nets(), max_size=3)
hosts = st.lists(nets().map(lambda n: ipaddress.ip_network(n.network_address)), max_size=3)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    net, blocks = draw(nets()), draw(few)
    return World(
        net, draw(st.lists(nets(), min_size=1, max_size=3)), blocks, [b for b in blocks if draw(st.booleans())],
        [net] if draw(st.booleans()) else [], draw(few), draw(few), draw(hosts), draw(hosts),
    )  # fmt: skip


def forbidden(world: World) -> bool:
    """May this never be accepted. Written from the rules, not from the code."""
    net = world.net
    borrowed = within(net, world.blocks)
    lengths = [s for s in world.subnets if s.prefixlen < s.max_prefixlen]
    special = [ipaddress.ip_network(prefix_text(s)) for s in SPECIAL]
    held = [a for a in (*world.addresses, *world.peers) if within(a, [net]) and not within(a, world.blocks)]
    return (
        net.prefixlen == 0
        or not within(net, world.pools)
        or within(net, world.refused)
        or net in world.blocks
        or (borrowed and (net.prefixlen < net.max_prefixlen or net in world.used))
        or any(within(block, [net]) and block not in world.standing for block in world.blocks)
        or (not borrowed and (within(net, special) or within(net, lengths) or bool(held)))
    )


@given(worlds())
def test_what_must_never_be_accepted_is_refused_and_nothing_else_is(world: World) -> None:
    policy = ImportPolicy(
        prefixes(*map(str, world.pools)), 64512,
        refuse=prefixes(*map(str, world.refused)),
        own_addresses=frozenset(parse_address(str(a.network_address)) for a in world.addresses),
        subnets=prefixes(*map(str, world.subnets)),
        peers=frozenset(parse_address(str(a.network_address)) for a in world.peers),
    )  # fmt: skip
    mine = own(*map(str, world.blocks), standing=map(str, world.standing), in_use=map(str, world.used))
    reason = refuse_prefix(policy, mine, p(str(world.net)))
    assert (reason is not None) == forbidden(world), reason


# --- clear ranges ----------------------------------------------------------------------------------------------------
def packed(draw: st.DrawFn) -> Prefix:
    """A prefix in a small space, so that rules and prefixes meet."""
    if draw(st.booleans()):
        value = 10 << 24 | draw(st.integers(0, 3)) << 16 | draw(st.integers(0, 3)) << 14
        return network(Address(value.to_bytes(4, "big")), draw(st.integers(6, 32)))
    value = 0xFD00 << 112 | draw(st.integers(0, 3)) << 64 | draw(st.integers(0, 3)) << 62
    return network(Address(value.to_bytes(16, "big")), draw(st.integers(10, 128)))


near = st.composite(packed)()
some = st.lists(near, max_size=3)


wide = st.sampled_from(["10.0.0.0/8", "10.0.0.0/15", "10.2.0.0/16", "10.1.0.0/17", "fd00::/16", "fd00::/63"]).map(p)


@given(st.lists(wide, min_size=1), some, some, some, st.lists(near, min_size=30, max_size=60))
def test_in_a_range_that_counts_as_clear_no_rule_refuses_anything(
    pools: list[Prefix], subnets: list[Prefix], refused: list[Prefix], blocks: list[Prefix], learned: list[Prefix]
) -> None:
    rules = ImportPolicy(
        PrefixSet(pools), 64512, refuse=PrefixSet(refused), subnets=PrefixSet(subnets),
        own_addresses=frozenset(address_of(subnet) for subnet in subnets),
    )  # fmt: skip
    mine = OwnBlocks(PrefixSet(blocks), lambda _: False, lambda _: True)
    clear = Clear(rules, mine)
    for prefix in learned:
        if refuse_prefix(rules, mine, prefix) is None:
            clear.learn(prefix)
    for prefix in learned:
        span = RANGE[len(prefix)]
        if prefix[:span] in clear.ranges and prefix[-1] >= span * 8:
            assert refuse_prefix(rules, mine, prefix) is None


def test_a_pool_with_nothing_else_in_it_is_clear() -> None:
    clear = Clear(POLICY, own("192.169.0.0/26"))
    clear.learn(p("192.168.3.64/26"))
    assert p("192.168.255.0/26")[:2] in clear.ranges
    busy = Clear(POLICY, own("192.168.9.0/26"))
    busy.learn(p("192.168.3.64/26"))
    assert not busy.ranges


def test_a_range_that_a_pool_only_shares_or_a_refusal_covers_is_not_clear() -> None:
    half = Clear(ImportPolicy(prefixes("192.168.0.0/17"), 64512), own())
    half.learn(p("192.168.3.64/26"))
    assert not half.ranges
    refused = Clear(ImportPolicy(prefixes("192.168.0.0/16"), 64512, refuse=prefixes("192.0.0.0/8")), own())
    refused.learn(p("192.168.3.64/26"))
    assert not refused.ranges
