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


@dataclass(frozen=True, slots=True)
class ImportPolicy:
    """The rules, as values. A changed rule is a new policy; the router then judges every prefix again."""

    pools: PrefixSet
    own_asn: int
    allow_own_as: int = 1
    refuse: PrefixSet = field(default_factory=PrefixSet)  # config import.refuse
    own_addresses: frozenset[Address] = frozenset()  # of every interface of the node
    subnets: PrefixSet = field(default_factory=PrefixSet)  # on the node's links
    peers: frozenset[Address] = frozenset()
    networks: tuple[tuple[Prefix, str], ...] = ()  # VNet prefixes, service CIDRs: (prefix, what it is)
    guarded: tuple[tuple[Address, str], ...] = field(init=False)  # addresses inside the pools that no route may hold

    def __post_init__(self) -> None:
        """Find the few addresses that a prefix inside the pools could hold at all: mostly none."""
        named = [(address, "this node's own address") for address in sorted(self.own_addresses)]
        named += [(address, "the peer") for address in sorted(self.peers)]
        inside = tuple((a, words) for a, words in named if self.pools.covering(host(a)) is not None)
        object.__setattr__(self, "guarded", inside)


def special_use(address: Address) -> str | None:
    """What kind of special-use range holds ``address``, None when none does."""
    found = _SPECIAL_SET.covering(host(address))
    return SPECIAL[found] if found is not None else None


def refuse_path(policy: ImportPolicy, path: Path, asn: int) -> str | None:
    """Why no prefix with these attributes is welcome from a peer of ``asn``; None when they are fine."""
    if path.error is not None:
        return path.error
    if asn == policy.own_asn:
        return _refuse_next_hop(policy, path.next_hop)
    if not path.as_path:
        return "an empty AS path from an external peer"
    count = path.as_path.count(policy.own_asn)
    if count > policy.allow_own_as:
        return f"our own AS {policy.own_asn} is {count} times in the AS path; bgp.allow_own_as is {policy.allow_own_as}"
    return _refuse_next_hop(policy, path.next_hop)


def _refuse_next_hop(policy: ImportPolicy, next_hop: Address | None) -> str | None:
    if next_hop is None:
        return "no next hop (RFC 7606 section 7.3)"
    if next_hop in policy.own_addresses:
        return f"the next hop {address_text(next_hop)} is this node's own address"
    kind = special_use(next_hop)
    return None if kind is None else f"the next hop {address_text(next_hop)} is a {kind} address"


@dataclass(frozen=True, slots=True)
class OwnBlocks:
    """What the prefix rules must know of the node's own blocks.

    ``covered``: own blocks whose blackhole stands, which makes a covering route safe. ``in_use``: is this host
    address in use on the node itself.
    """

    blocks: PrefixSet
    standing: frozenset[Prefix]
    in_use: Callable[[Prefix], bool]


def refuse_prefix(policy: ImportPolicy, own: OwnBlocks, prefix: Prefix, next_hop_family: Family) -> str | None:
    """Why this prefix is not welcome, whoever offers it; None when it is."""
    pool = policy.pools.covering(prefix)
    if pool is None:
        return _outside(policy, prefix)
    if family_of(prefix) is not next_hop_family:
        return f"its next hop is of the other family ({next_hop_family.value})"
    special = _SPECIAL_SET.covering(prefix)
    if special is not None:
        return f"{SPECIAL[special]} addresses are never routed"
    block = own.blocks.covering(prefix)
    if block is not None:
        reason = _inside_own(own, block, prefix)
        if reason is not None:
            return reason
    if prefix[-1] < own.blocks.longest(prefix):
        reason = _covers_own(own, prefix)
        if reason is not None:
            return reason
    return _touches_the_node(policy, own, prefix)


def _outside(policy: ImportPolicy, prefix: Prefix) -> str:
    if prefix[-1] == 0:
        return "the default route is never learned"
    pools = ", ".join(sorted(prefix_text(pool) for pool in policy.pools if len(pool) == len(prefix)))
    family = family_of(prefix).value
    return f"outside the pools ({pools})" if pools else f"there is no {family} pool"


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
        if block not in own.standing and covers(prefix, block):
            return f"it covers this node's own block {prefix_text(block)}, whose blackhole is not in place"
    return None


def _touches_the_node(policy: ImportPolicy, own: OwnBlocks, prefix: Prefix) -> str | None:
    inside = policy.refuse.covering(prefix)
    if inside is not None:
        return f"import.refuse lists {prefix_text(inside)}"
    subnet = policy.subnets.covering(prefix)
    if subnet is not None and not is_host(subnet):
        return f"inside the node's subnet {prefix_text(subnet)}"
    for address, words in policy.guarded:
        if _holds(prefix, address) and own.blocks.covering(host(address)) is None:
            return f"it holds {words} {address_text(address)}"
    for known, words in policy.networks:
        if covers(known, prefix):
            return f"inside {words} {prefix_text(known)}"
    return None


def _holds(prefix: Prefix, address: Address) -> bool:
    return len(address) == len(prefix) - 1 and network(address, prefix[-1]) == prefix
