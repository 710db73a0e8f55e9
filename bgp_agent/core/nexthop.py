"""Which gateway and link a BGP next hop means, by the kernel's routes **without our own**.

Our routes must not take part: after a change of the default gateway our own host route would still answer with the dead
one, and a learned route could come to resolve itself. The kernel insists that a route's gateway is on a link, so one
step is enough (RFC 4271 section 5.1.3 allows recursion; RFC 4291 for the families): the longest foreign match gives
either a link, and the next hop is itself the gateway, or the gateway to use.

A link that is set down has lost its routes in the kernel, often without a message, so its routes do not count here even
before a dump says so. A link that has only lost its carrier keeps them and still counts, as it does in the kernel; the
answer says so, because the kernel goes on sending over it, and over an ECMP route's part of it, into the void.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bgp_agent.core.prefix import Address, Prefix, address_of, address_text, network, prefix_text
from bgp_agent.core.seen import KINDS, KernelRoute, Strange, protocol_text
from bgp_agent.core.values import Hop, Unicast

_KIND_WORDS: Final = {kind: f"of the kind {name}" for kind, name in KINDS.items()}
_REMEMBERED: Final = 65_536  # next hops whose answers are watched; more only costs the watching


@dataclass(frozen=True, slots=True)
class Link:
    """A network device. ``up``: set up by somebody; ``running``: has a carrier. ``mtu`` in bytes."""

    index: int
    name: str
    up: bool
    running: bool
    mtu: int
    loopback: bool = False


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address of this node, and the length of the subnet that is on its link."""

    interface: int
    address: Address
    length: int


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where packets for a next hop go: ``hops`` (sorted), or none and the ``reason``.

    ``on_link``: every hop is the next hop itself, no gateway between. ``carrier``: their links have one, or none has.
    """

    hops: tuple[Hop, ...]
    reason: str
    on_link: bool = False
    carrier: bool = True


class NextHops:
    """Links, addresses and strangers' routes in table main, and the answers that follow from them."""

    def __init__(self, protocol: int) -> None:
        self.protocol = protocol
        self.revision = 0  # grows with each change of anything known here
        self.news = 0  # grows with each message about links and addresses that changed something
        self._links: dict[int, Link] = {}
        self._addresses: set[InterfaceAddress] = set()
        self._own: frozenset[Address] = frozenset()
        self._routes: dict[Prefix, tuple[KernelRoute, ...]] = {}
        self._fresh: dict[Prefix, tuple[KernelRoute, ...]] | None = None
        self._lengths: dict[int, list[int]] = {5: [], 17: []}
        self._lengths_of = -1  # the revision that _lengths was made for
        self._answers: dict[Address, Resolution] = {}
        self._answered = 0  # the revision at which every answer was last made again

    # --- facts -------------------------------------------------------------------------------------------------------
    def link(self, link: Link) -> bool:
        """A link is there, or is different. Returns whether that is news."""
        if self._links.get(link.index) == link:
            return False
        self._links[link.index] = link
        self.revision += 1
        self.news += 1
        return True

    def link_gone(self, index: int) -> bool:
        """A link was deleted."""
        if self._links.pop(index, None) is None:
            return False
        self.revision += 1
        self.news += 1
        return True

    def address(self, address: InterfaceAddress, *, present: bool = True) -> bool:
        """An address appeared or went. Returns whether that is news."""
        if (address in self._addresses) is present:
            return False
        (self._addresses.add if present else self._addresses.discard)(address)
        self._own = frozenset(entry.address for entry in self._addresses)
        self.revision += 1
        self.news += 1
        return True

    def replace_links(self, links: Iterable[Link]) -> bool:
        """The links of a whole dump."""
        fresh = {link.index: link for link in links}
        if fresh == self._links:
            return False
        self._links = fresh
        self.revision += 1
        return True

    def replace_addresses(self, addresses: Iterable[InterfaceAddress]) -> bool:
        """The addresses of a whole dump."""
        fresh = set(addresses)
        if fresh == self._addresses:
            return False
        self._addresses = fresh
        self._own = frozenset(entry.address for entry in fresh)
        self.revision += 1
        return True

    def begin(self) -> None:
        """A dump of table main begins."""
        self._fresh = {}

    def rows(self, routes: Iterable[KernelRoute]) -> None:
        """Routes of the dump; ours are passed over."""
        fresh, protocol = self._fresh, self.protocol
        if fresh is None:
            return
        for route in routes:
            if route.protocol != protocol:
                fresh[route.prefix] = _joined(fresh.get(route.prefix, ()), route)

    def end(self) -> None:
        """The dump came to its end: what it did not show is gone."""
        if self._fresh is not None and self._fresh != self._routes:
            self._routes = self._fresh
            self.revision += 1
        self._fresh = None

    def new(self, route: KernelRoute) -> None:
        """RTM_NEWROUTE in table main."""
        if route.protocol == self.protocol:
            if any(entry.metric == route.metric for entry in self._routes.get(route.prefix, ())):
                self._remove(route.prefix, route.metric)  # ours took that place
            return
        routes = _joined(self._routes.get(route.prefix, ()), route)
        if routes != self._routes.get(route.prefix):
            self._routes[route.prefix] = routes
            self.revision += 1
        if self._fresh is not None:
            self._fresh[route.prefix] = _joined(self._fresh.get(route.prefix, ()), route)

    def deleted(self, route: KernelRoute) -> None:
        """RTM_DELROUTE in table main."""
        if route.protocol != self.protocol:
            self._remove(route.prefix, route.metric, route.protocol)

    def _remove(self, prefix: Prefix, metric: int, protocol: int | None = None) -> None:
        for table in (self._routes, self._fresh):
            if table is None or prefix not in table:
                continue
            left = tuple(r for r in table[prefix] if r.metric != metric or protocol not in (None, r.protocol))
            if left:
                table[prefix] = left
            else:
                del table[prefix]
        self.revision += 1

    # --- answers -----------------------------------------------------------------------------------------------------
    def resolve(self, address: Address) -> Resolution:
        """Where packets for this next hop go. Remembered: :meth:`take_changes` tells when it changes."""
        if self._answered != self.revision and not self._answers:
            self._answered = self.revision
        answer = self._answers.get(address)
        if answer is None or self._answered != self.revision:
            answer = self._resolve(address)
            if address not in self._answers and len(self._answers) < _REMEMBERED:
                self._answers[address] = answer
        return answer

    def forget(self, addresses: Iterable[Address]) -> None:
        """Nobody asks for these next hops any more."""
        for address in addresses:
            self._answers.pop(address, None)

    def take_changes(self) -> frozenset[Address]:
        """The next hops, of those asked for, whose answer is another one than when it was last told."""
        if self._answered == self.revision:
            return frozenset()
        self._answered = self.revision
        changed = set()
        for address, before in self._answers.items():
            now = self._resolve(address)
            if now != before:
                self._answers[address] = now
                changed.add(address)
        return frozenset(changed)

    def own_addresses(self) -> frozenset[Address]:
        """Every address of this node."""
        return self._own

    def subnets(self) -> frozenset[Prefix]:
        """The subnets that are on a link of this node (host routes and loopbacks left out)."""
        loopbacks = self._loopbacks()
        return frozenset(
            network(entry.address, entry.length)
            for entry in self._addresses
            if entry.length < len(entry.address) * 8 and entry.interface not in loopbacks
        )

    def links_of(self, addresses: Iterable[Address]) -> set[int]:
        """The links (their indexes) that have one of these addresses; no loopbacks, by which nothing comes in."""
        wanted = set(addresses)
        found = {entry.interface for entry in self._addresses if entry.address in wanted}
        return found - self._loopbacks()

    def _loopbacks(self) -> set[int]:
        return {link.index for link in self._links.values() if link.loopback}

    def in_use(self, prefix: Prefix) -> bool:
        """Is this host route an address in use here: the node's own, or one that a stranger's route puts on a link.

        Container networks give each local pod such a route; an address that lives elsewhere has a gateway.
        """
        if address_of(prefix) in self._own:
            return True
        return any(
            isinstance(route.target, Unicast) and any(hop.gateway is None for hop in route.target.hops)
            for route in self._routes.get(prefix, ())
        )

    def links(self) -> tuple[Link, ...]:
        """Every link, by index."""
        return tuple(self._links[index] for index in sorted(self._links))

    def interface(self, index: int) -> str:
        """The name of a link."""
        link = self._links.get(index)
        return link.name if link else f"link {index} (deleted)"

    def down(self, index: int) -> str | None:
        """Why nothing can be sent over a link, None when something can."""
        link = self._links.get(index)
        if link is None:
            return f"the link with index {index} is gone"
        return None if link.up else f"the link {link.name} is down"

    def _resolve(self, address: Address) -> Resolution:
        if address in self._own:
            return Resolution((), f"{address_text(address)} is an address of this node")
        trouble = None
        for route in self._matches(address):
            if isinstance(route.target, Unicast):
                hops, why = self._usable(route, address)
                if hops:
                    return self._answer(address, route, hops)
                trouble = trouble or why
            else:
                kind = route.target.kind if isinstance(route.target, Strange) else 6
                return Resolution(
                    (), f"{_route_text(route)} is {_KIND_WORDS.get(kind, 'of a kind that is not understood')}"
                )
        return Resolution((), trouble or f"no route to {address_text(address)}, our own left aside")

    def _answer(self, address: Address, route: KernelRoute, hops: set[Hop]) -> Resolution:
        on_link = all(hop.gateway == address for hop in hops)
        names = " and ".join(sorted({self.interface(hop.interface) for hop in hops}))
        words = f"on the link {names}" if on_link else f"by {_route_text(route)}, link {names}"
        carrier = any(self._running(hop) for hop in hops)
        ordered = tuple(sorted(hops, key=lambda hop: (hop.interface, hop.gateway or b"")))
        return Resolution(ordered, words, on_link, carrier)

    def _usable(self, route: KernelRoute, address: Address) -> tuple[set[Hop], str | None]:
        """The hops of a route that can be used now, those with a carrier before others, or why there are none."""
        hops: set[Hop] = set()
        why = None
        if not isinstance(route.target, Unicast):
            return hops, why
        for hop in route.target.hops:
            down = self.down(hop.interface)
            if down is not None:
                why = f"{_route_text(route)}: {down}"
            elif hop in route.dead:
                why = f"{_route_text(route)}: the kernel marks its next hop dead"
            else:
                hops.add(Hop(hop.interface, hop.gateway or address, hop.onlink))
        return set(filter(self._running, hops)) or hops, why

    def _running(self, hop: Hop) -> bool:
        return self._links[hop.interface].running

    def _matches(self, address: Address) -> Iterable[KernelRoute]:
        """Routes that match, the one that the kernel would take first."""
        if self._lengths_of != self.revision:
            self._lengths = {size: sorted({p[-1] for p in self._routes if len(p) == size}, reverse=True)
                             for size in (5, 17)}  # fmt: skip
            self._lengths_of = self.revision
        for length in self._lengths[len(address) + 1]:
            yield from self._routes.get(network(address, length), ())


def _joined(routes: tuple[KernelRoute, ...], route: KernelRoute) -> tuple[KernelRoute, ...]:
    """``routes`` with this one in the place of its metric, lowest metric first."""
    if not routes:
        return (route,)
    kept = [entry for entry in routes if entry.metric != route.metric]
    return tuple(sorted([*kept, route], key=lambda entry: entry.metric))


def _route_text(route: KernelRoute) -> str:
    return f"{prefix_text(route.prefix)} of {protocol_text(route.protocol)}"
