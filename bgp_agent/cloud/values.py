"""Azure's network as values: what :mod:`bgp_agent.cloud.resources` reads.

Addresses and prefixes are packed (:mod:`bgp_agent.core.prefix`); ``state`` is Azure's ``provisioningState`` (Succeeded,
Updating, Deleting, Failed). ``unread`` says in words what of a resource could not be read: it is there, and unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

from bgp_agent.cloud.ids import ResourceId
from bgp_agent.core.prefix import Address, Prefix


@dataclass(frozen=True, slots=True)
class IpConfiguration:
    """One address of a network interface, and the subnet it is in."""

    address: Address | None
    subnet: ResourceId | None
    primary: bool


@dataclass(frozen=True, slots=True)
class Nic:
    """A network interface. ``forwarding``: takes and sends packets that are not its own (``enableIPForwarding``).

    ``mac``: 12 upper-case hex digits, empty without a machine; ``primary``: the machine's first interface.
    """

    id: ResourceId
    forwarding: bool
    configurations: tuple[IpConfiguration, ...]
    security_group: ResourceId | None
    mac: str
    machine: ResourceId | None
    primary: bool

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The primary one first."""
        ordered = sorted(self.configurations, key=lambda each: not each.primary)
        return tuple(each.address for each in ordered if each.address is not None)


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet. ``occupants``: IDs of the ipConfigurations in it, of whatever kind."""

    id: ResourceId
    prefixes: tuple[Prefix, ...]
    route_table: ResourceId | None
    security_group: ResourceId | None
    occupants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Peering:
    """A peering with another virtual network; ``uses_remote``: takes the routes of that one's Route Server."""

    name: str
    remote: ResourceId
    uses_remote: bool
    connected: bool


@dataclass(frozen=True, slots=True)
class VirtualNetwork:
    """A virtual network."""

    id: ResourceId
    space: tuple[Prefix, ...]
    subnets: tuple[Subnet, ...]
    peerings: tuple[Peering, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """A user-defined route. ``prefix`` None: a service tag, which ``text`` names; ``next_hops``: one, or several."""

    name: str
    text: str
    prefix: Prefix | None
    hop_type: str
    next_hops: tuple[Address, ...]
    state: str


@dataclass(frozen=True, slots=True)
class RouteTable:
    """A route table. ``propagates``: BGP's routes reach its subnets; ``subnets``: those that use it."""

    id: ResourceId
    etag: str
    state: str
    propagates: bool
    routes: tuple[Route, ...]
    subnets: tuple[ResourceId, ...]
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """A limit of the subscription in a region, and how much of it is used."""

    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class RouteServer:
    """A Route Server. ``addresses``: of its instances, empty while it is built; ``routing``: its ``routingState``."""

    id: ResourceId
    asn: int
    addresses: tuple[Address, ...]
    routing: str
    state: str


@dataclass(frozen=True, slots=True)
class BgpConnection:
    """A peer as the Route Server has it. ``state``: Failed is what the loser of two parallel writes leaves behind."""

    id: ResourceId
    name: str
    address: Address
    asn: int
    state: str


@dataclass(frozen=True, slots=True)
class LearnedRoute:
    """A route that a Route Server instance took from a peer. ``as_path``: as the peer sent it."""

    prefix: Prefix
    next_hop: Address | None
    as_path: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EffectiveRoute:
    """A row of what a network interface follows. ``source``: Default, User, VirtualNetworkGateway or Unknown.

    ``active``: False for a row that another one beats.
    """

    prefix: Prefix
    source: str
    active: bool
    hop_type: str
    next_hops: tuple[Address, ...]
