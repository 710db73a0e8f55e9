"""Effective routes of a NIC by Azure's order.

Longest prefix; then user-defined, BGP, system; what lies inside a VNet is never overridden by BGP, however specific
(learn.microsoft.com "virtual-networks-udr-overview"). One computation serves all NICs of a subnet that follow one
instance.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from azure_twin.core import ids
from azure_twin.core.errors import Json
from azure_twin.core.learned import Learned, nearest
from azure_twin.core.resources import Resource, Store
from azure_twin.core.specs import (
    HubIpConfigurationSpec,
    PeeringSpec,
    RouteSpec,
    RouteTableSpec,
    SubnetSpec,
    VirtualNetworkSpec,
)

USER: Final = "User"
BGP: Final = "VirtualNetworkGateway"
DEFAULT: Final = "Default"
_ORDER: Final = {USER: 0, BGP: 1, DEFAULT: 2}
#: Private and shared address space outside the VNet: next hop None unless somebody announced it.
NOWHERE: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
VNET: Final = "Microsoft.Network/virtualNetworks"
PEERING: Final = "Microsoft.Network/virtualNetworks/virtualNetworkPeerings"
ROUTE: Final = "Microsoft.Network/routeTables/routes"
HUB_IP: Final = "Microsoft.Network/virtualHubs/ipConfigurations"


@lru_cache(maxsize=65536)
def net(prefix: str) -> ipaddress.IPv4Network:
    """A prefix as a value; raises :class:`ValueError` for IPv6, which the fabric does not carry."""
    return ipaddress.IPv4Network(prefix)


@lru_cache(maxsize=65536)
def _place(prefix: str) -> tuple[int, int]:
    """Where a prefix stands in a list."""
    found = net(prefix)
    return int(found.network_address), found.prefixlen


@dataclass(frozen=True, slots=True)
class Row:
    """One effective route. ``state`` is Active or Invalid."""

    prefix: str
    source: str
    next_hop_type: str
    next_hops: tuple[str, ...] = ()
    state: str = "Active"
    name: str = ""

    def json(self) -> Json:
        """As ARM shows it."""
        shown: Json = {
            "source": self.source, "state": self.state, "addressPrefix": [self.prefix],
            "nextHopIpAddress": list(self.next_hops), "nextHopType": self.next_hop_type,
            "disableBgpRoutePropagation": False,
        }  # fmt: skip
        if self.name:
            shown["name"] = self.name
        return shown


def vnet_prefixes(vnet: Resource | None) -> list[str]:
    """The IPv4 prefixes of a VNet."""
    if vnet is None:
        return []
    return [each for each in vnet.spec(VirtualNetworkSpec).address_space.address_prefixes if ":" not in each]


def peerings(store: Store, vnet_id: str) -> Iterator[tuple[PeeringSpec, PeeringSpec, Resource]]:
    """The connected peerings of a VNet: this side, the other side, and the other VNet."""
    for each in store.children(vnet_id, PEERING):
        mine = each.spec(PeeringSpec)
        remote = store.get(mine.remote_virtual_network.id)
        if remote is None:
            continue
        for back in store.children(remote.id, PEERING):
            theirs = back.spec(PeeringSpec)
            if ids.key(theirs.remote_virtual_network.id) == ids.key(vnet_id):
                yield mine, theirs, remote


def served(store: Store, vnet_id: str) -> bool:
    """Whether a VNet hears the Route Server: its own, or that of a peer that lends it (useRemoteGateways)."""
    wanted = {ids.key(vnet_id)}
    wanted |= {
        remote.key
        for mine, theirs, remote in peerings(store, vnet_id)
        if mine.use_remote_gateways and theirs.allow_gateway_transit
    }
    return any(
        ids.parent(ids.key(each.spec(HubIpConfigurationSpec).subnet.id)) in wanted for each in store.of_kind(HUB_IP)
    )


def advertised_prefixes(store: Store, vnet_id: str) -> list[str]:
    """What the Route Server of a VNet advertises: the VNet's prefixes, and those of the peers that use it."""
    found = vnet_prefixes(store.get(vnet_id))
    for mine, theirs, remote in peerings(store, vnet_id):
        if mine.allow_gateway_transit and theirs.use_remote_gateways:
            found += vnet_prefixes(remote)
    return found


def _system(store: Store, vnet_id: str) -> Iterator[Row]:
    for prefix in vnet_prefixes(store.get(vnet_id)):
        yield Row(prefix, DEFAULT, "VnetLocal")
    for mine, _, remote in peerings(store, vnet_id):
        if mine.allow_virtual_network_access:
            for prefix in vnet_prefixes(remote):
                yield Row(prefix, DEFAULT, "VNetPeering")
    yield Row("0.0.0.0/0", DEFAULT, "Internet")
    for prefix in NOWHERE:
        yield Row(prefix, DEFAULT, "None")


def _user(store: Store, table: Resource | None) -> Iterator[Row]:
    if table is None:
        return
    for each in store.children(table.id, ROUTE):
        row = each.derived("row", _user_row)
        if row is not None:
            yield row


def _user_row(route: Resource) -> Row | None:
    spec = route.spec(RouteSpec)
    if ":" in spec.address_prefix:
        return None
    return Row(spec.address_prefix, USER, spec.next_hop_type, spec.next_hops, name=route.name)


def effective_routes(
    store: Store, subnet: Resource, learned: Mapping[str, Iterable[Learned]], *, overridden: str = "invalid"
) -> list[Row]:
    """All rows for the NICs of a subnet; ``overridden``: whether beaten BGP routes are listed as Invalid.

    A row is beaten by a better source with the same prefix; a BGP row also by lying inside a VNet, however specific.
    """
    vnet_id = ids.parent(subnet.id)
    reference = subnet.spec(SubnetSpec).route_table
    table = store.get(reference.id) if reference else None
    propagates = table is None or not table.spec(RouteTableSpec).disable_bgp_route_propagation
    system, user = list(_system(store, vnet_id)), list(_user(store, table))
    best: dict[str, Row] = {}
    for row in (*system, *user):
        held = best.get(row.prefix)
        if held is None or _ORDER[row.source] < _ORDER[held.source]:
            best[row.prefix] = row
    beaten = [
        Row(row.prefix, row.source, row.next_hop_type, row.next_hops, "Invalid", row.name)
        for row in system
        if best[row.prefix] is not row
    ]
    if propagates and served(store, vnet_id):
        spaces = [net(row.prefix) for row in system if row.next_hop_type in {"VnetLocal", "VNetPeering"}]
        for prefix, routes in learned.items():
            winner = best.get(prefix)
            lost = (winner is not None and winner.source == USER) or any(net(prefix).subnet_of(each) for each in spaces)
            row = Row(prefix, BGP, BGP, nearest(routes), "Invalid" if lost else "Active")
            if not lost:
                if winner is not None:
                    beaten.append(Row(prefix, winner.source, winner.next_hop_type, winner.next_hops, "Invalid"))
                best[prefix] = row
            elif overridden == "invalid":
                beaten.append(row)
    return [*sorted(best.values(), key=lambda row: (_ORDER[row.source], _place(row.prefix))), *beaten]


def lookup(rows: Iterable[Row], address: str) -> Row | None:
    """The active row that a packet to an address follows: the longest prefix."""
    target = ipaddress.IPv4Address(address)
    found = [row for row in rows if row.state == "Active" and target in net(row.prefix)]
    return max(found, key=lambda row: net(row.prefix).prefixlen, default=None)
