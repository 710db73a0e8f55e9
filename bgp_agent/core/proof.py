"""What the network itself says of our blocks: who carries them, and what speaks against BGP doing so.

Azure answers two questions. Each Route Server instance tells what it *learned* from us: when one of the two lacks a
block, part of the network does not have it. A network interface tells which routes are in *effect*: an active row of
source ``User`` is a user-defined route, ``VirtualNetworkGateway`` is BGP. An answer counts only when it was asked for
after the last thing that could have changed it; an older one, or none, speaks neither for nor against anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from bgp_agent.core.prefix import Address, Prefix, covers, prefix_text

USER: Final = "User"
BGP: Final = "VirtualNetworkGateway"
#: How many blocks a sentence names; it counts the others.
NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Row:
    """An effective route. ``active``: False for one that another row beats."""

    prefix: Prefix
    source: str
    active: bool
    next_hops: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """What each Route Server instance has of us, by its name, asked for at ``at`` (the agent's clock)."""

    at: float
    instances: Mapping[str, frozenset[Prefix]]


@dataclass(frozen=True, slots=True)
class Effective:
    """What a network interface follows, asked for at ``at``. ``nic``: its name."""

    at: float
    nic: str
    rows: tuple[Row, ...]

    def carrier(self, prefix: Prefix, here: Iterable[Address]) -> str | None:
        """``udr`` or ``bgp`` when the block leads here by it, ``elsewhere``, or None when no row is for it."""
        active = [row for row in self.rows if row.prefix == prefix and row.active]
        if not active:
            return None
        own = set(here)
        for source, word in ((USER, "udr"), (BGP, "bgp")):
            if any(row.source == source and (source == BGP or own & set(row.next_hops)) for row in active):
                return word
        return "elsewhere"


@dataclass(frozen=True, slots=True)
class Network:
    """What is known of the network at one moment.

    ``silent``: names of route tables that keep BGP's routes from their subnets; ``space``: of the virtual network;
    ``forwarding``: does the node's interface take packets for others, None where that is not known.
    """

    learned: Learned | None = None
    effective: Effective | None = None
    silent: tuple[str, ...] = ()
    space: tuple[Prefix, ...] = ()
    forwarding: bool | None = None


def inside(prefix: Prefix, space: Iterable[Prefix]) -> Prefix | None:
    """The part of the virtual network's address space that covers a block: BGP cannot overrule a system route there."""
    return next((each for each in space if covers(each, prefix)), None)


def lacking(learned: Learned | None, blocks: Iterable[Prefix], since: float) -> str | None:
    """Which instance has not learned which blocks, in words; None when nothing of the kind is known."""
    if learned is None or learned.at < since:
        return None
    wanted = sorted(blocks)
    found = [(name, [each for each in wanted if each not in has]) for name, has in sorted(learned.instances.items())]
    words = [f"{name} has not learned {_some(missing)}" for name, missing in found if missing]
    return "; ".join(words) or None


def ineffective(network: Network, blocks: Iterable[Prefix], here: tuple[Address, ...], since: float) -> str | None:
    """Which blocks no BGP route is in effect for, in words with the likely cause. Not for blocks with a UDR."""
    effective = network.effective
    if effective is None or effective.at < since:
        return None
    missing = [each for each in sorted(blocks) if effective.carrier(each, here) not in {"bgp", "udr"}]
    if not missing:
        return None
    return f"no BGP route is in effect for {_some(missing)} on {effective.nic}{cause(network, missing[0])}"


def muted(network: Network) -> str | None:
    """The route tables that keep BGP's routes away, in words with the remedy."""
    if not network.silent:
        return None
    names = " and ".join(network.silent)
    return (
        f"BGP propagation is switched off in route table {names}, so BGP routes do not reach its subnets: "
        "`az network route-table update --disable-bgp-route-propagation false`"
    )


def cause(network: Network, prefix: Prefix) -> str:
    """Why the fabric may not honour a block that Route Server took; empty when nothing is known."""
    space = inside(prefix, network.space)
    if space is not None:
        return f": it lies in the virtual network's own space {prefix_text(space)}, where no BGP route counts"
    if network.silent:
        return f": BGP propagation is switched off in {' and '.join(network.silent)}"
    if network.forwarding is False:
        return ": IP forwarding is off on the node's network interface"
    return ""


def _some(prefixes: list[Prefix]) -> str:
    named = ", ".join(prefix_text(each) for each in prefixes[:NAMED])
    more = len(prefixes) - NAMED
    return f"{named} and {more} more" if more > 0 else named
