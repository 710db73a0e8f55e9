"""Import policy: which learned prefixes may become kernel routes (RFC 4271 section 9.1, "local policy").

ExaBGP validates next to nothing, so everything a peer says is judged here, in two halves. What depends on the
attributes alone is asked once for each :class:`~bgp_agent.core.values.Path`, however many prefixes share it; what
depends on the prefix is asked for each prefix. Both answer None (welcome) or the reason for the refusal, in words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bgp_agent.core.prefix import (
    Address,
    Family,
    Prefix,
    PrefixSet,
    address_text,
    covers,
    family_of,
    host,
    is_host,
    network,
    parse_prefix,
    prefix_text,
)
from bgp_agent.core.values import Path

#: Ranges that are never anybody's pod block, whatever the pools say (RFC 6890, RFC 4291).
SPECIAL: Final = {
    parse_prefix(text): words
    for text, words in (
        ("0.0.0.0/8", "this network"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
}
_SPECIAL_SET: Final = PrefixSet(SPECIAL)

#: Bytes of a prefix (with its length byte) -> leading bytes of the range around it that :class:`Clear` judges as one.
RANGE: Final = {5: 2, 17: 8}
#: Clear ranges that are remembered at most.
_RANGES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class ImportPolicy:
    """The rules, as values. A changed rule is a new policy; the router then judges every prefix again.

    Nothing outside of the pools is ever accepted, so of all that must not be touched only what overlaps a pool is
    asked about for each prefix: mostly nothing.
    """

    pools: PrefixSet
    own_asn: int
    allow_own_as: int = 1
    refuse: PrefixSet = field(default_factory=PrefixSet)  # config import.refuse
    own_addresses: frozenset[Address] = frozenset()  # of every interface of the node
    subnets: PrefixSet = field(default_factory=PrefixSet)  # on the node's links
    peers: frozenset[Address] = frozenset()
    networks: tuple[tuple[Prefix, str], ...] = ()  # VNet prefixes, service CIDRs: (prefix, what it is)
    inside: tuple[tuple[PrefixSet, str], ...] = field(init=False)  # nothing inside of these, and the words
    guarded: tuple[tuple[Address, str], ...] = field(init=False)  # addresses that no route may hold

    def __post_init__(self) -> None:
        """Find what overlaps the pools."""
        named = [(PrefixSet([special]), f"{words} addresses") for special, words in SPECIAL.items()]
        named.append((self.refuse, "import.refuse"))
        named.append((PrefixSet(p for p in self.subnets if not is_host(p)), "the node's subnet"))
        named += [(PrefixSet([known]), words) for known, words in self.networks]
        near = tuple((found, words) for members, words in named if len(found := members.overlapping(self.pools)))
        addresses = [(a, "this node's own address") for a in sorted(self.own_addresses)]
        addresses += [(a, "the peer") for a in sorted(self.peers)]
        held = tuple((a, words) for a, words in addresses if self.pools.covering(host(a)) is not None)
        object.__setattr__(self, "inside", near)
        object.__setattr__(self, "guarded", held)


def special_use(address: Address) -> str | None:
    """What kind of special-use range holds ``address``, None when none does."""
    found = _SPECIAL_SET.covering(host(address))
    return SPECIAL[found] if found is not None else None


def refuse_path(policy: ImportPolicy, path: Path, asn: int, family: Family) -> str | None:
    """Why no prefix of ``family`` with these attributes is welcome from a peer of ``asn``; None when they are fine."""
    if path.error is not None:
        return path.error
    if not path.as_path and asn != policy.own_asn:
        return "an empty AS path from an external peer"
    if 0 in path.as_path:
        return "AS 0 is in the AS path (RFC 7607)"
    count = path.as_path.count(policy.own_asn)
    if count > policy.allow_own_as:
        return f"our own AS {policy.own_asn} is {count} times in the AS path; bgp.allow_own_as is {policy.allow_own_as}"
    return _refuse_next_hop(policy, path.next_hop, family)


def _refuse_next_hop(policy: ImportPolicy, next_hop: Address | None, family: Family) -> str | None:
    if next_hop is None:
        return "no next hop (RFC 7606 section 7.3)"
    if family_of(next_hop) is not family:
        return f"the next hop {address_text(next_hop)} is of the other family"
    if next_hop in policy.own_addresses:
        return f"the next hop {address_text(next_hop)} is this node's own address"
    kind = special_use(next_hop)
    return None if kind is None else f"the next hop {address_text(next_hop)} is a {kind} address"


@dataclass(frozen=True, slots=True)
class OwnBlocks:
    """What the prefix rules must know of the node's own blocks.

    ``standing``: does the blackhole of an own block stand, which makes a covering route safe. ``in_use``: is this host
    address in use on the node itself.
    """

    blocks: PrefixSet
    standing: Callable[[Prefix], bool]
    in_use: Callable[[Prefix], bool]


def refuse_prefix(policy: ImportPolicy, own: OwnBlocks, prefix: Prefix) -> str | None:
    """Why this prefix is not welcome, whoever offers it; None when it is."""
    if prefix[-1] == 0:
        return "the default route is never learned"
    if policy.pools.covering(prefix) is None:
        return _outside(policy, prefix)
    block = own.blocks.covering(prefix)
    reason = _inside_own(own, block, prefix) if block is not None else None
    if reason is None and prefix[-1] < own.blocks.longest(prefix):
        reason = _covers_own(own, prefix)
    if reason is not None:
        return reason
    for members, words in policy.inside if block is None else ((policy.refuse, "import.refuse"),):
        found = members.covering(prefix)
        if found is not None:
            return f"inside {words} {prefix_text(found)}"
    for address, words in policy.guarded:
        if block is None and _holds(prefix, address) and own.blocks.covering(host(address)) is None:
            return f"it holds {words} {address_text(address)}"
    return None


class Clear:
    """Where every prefix is welcome: ranges inside the pools, with nothing in or around them that a rule is about.

    A table of 100,000 prefixes lies in a few hundred such ranges (an IPv4 /16, an IPv6 /64), and most of a pool is
    clear, so that the rules need not be asked for each prefix. What is not clear is asked about as ever.
    """

    __slots__ = ("_near", "_wide", "own", "policy", "ranges")

    def __init__(self, policy: ImportPolicy, own: OwnBlocks) -> None:
        self.policy = policy
        self.own = own
        #: the first bytes of the ranges that are known to be clear; a prefix as long as its range has the same
        self.ranges: set[bytes] = set()
        near = [*own.blocks, *(p for members, _ in policy.inside for p in members)]
        near += [host(address) for address, _ in policy.guarded]
        self._near = {p[: RANGE[len(p)]] for p in near if p[-1] >= RANGE[len(p)] * 8}
        self._wide = PrefixSet(p for p in near if p[-1] < RANGE[len(p)] * 8)

    def learn(self, prefix: Prefix) -> None:
        """A prefix in it turned out to be welcome: is all of the range clear."""
        size = RANGE[len(prefix)]
        if prefix[-1] < size * 8 or prefix[:size] in self._near or len(self.ranges) >= _RANGES:
            return
        whole = network(Address(prefix[:-1]), size * 8)
        if self.policy.pools.covering(whole) is not None and self._wide.covering(whole) is None:
            self.ranges.add(prefix[:size])


def _outside(policy: ImportPolicy, prefix: Prefix) -> str:
    family = family_of(prefix)
    pools = ", ".join(prefix_text(pool) for pool in sorted(policy.pools) if family_of(pool) is family)
    return f"outside the pools ({pools})" if pools else f"there is no {family.value} pool"


def _inside_own(own: OwnBlocks, block: Prefix, prefix: Prefix) -> str | None:
    if prefix == block:
        return "it is this node's own block"
    if not is_host(prefix):
        return f"inside this node's own block {prefix_text(block)}"
    if own.in_use(prefix):
        return f"the address is in use on this node (own block {prefix_text(block)})"
    return None  # an address of our block that another node borrowed


def _covers_own(own: OwnBlocks, prefix: Prefix) -> str | None:
    for block in own.blocks:
        if covers(prefix, block) and not own.standing(block):
            return f"it covers this node's own block {prefix_text(block)}, whose blackhole is not in place"
    return None


def _holds(prefix: Prefix, address: Address) -> bool:
    return len(address) == len(prefix) - 1 and network(address, prefix[-1]) == prefix
