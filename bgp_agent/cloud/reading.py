"""ARM's JSON as values.

What nothing can be known without (an ID, a Route Server's address) has to be right, or the whole document is refused
with :class:`WireError`; a member of a list that cannot be read is left out and named, so that it costs nobody else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

import msgspec

from bgp_agent.cloud.errors import clean
from bgp_agent.cloud.ids import ResourceId, resource_id
from bgp_agent.cloud.imds import mac
from bgp_agent.cloud.values import (
    BgpConnection,
    EffectiveRoute,
    IpConfiguration,
    LearnedRoute,
    Nic,
    Peering,
    Route,
    RouteServer,
    RouteTable,
    Subnet,
    Usage,
    VirtualNetwork,
)
from bgp_agent.cloud.wire import (
    ConnectionWire,
    EffectiveRow,
    EffectiveWire,
    HubIpWire,
    LearnedWire,
    NetworkWire,
    NicWire,
    PeeringWire,
    Ref,
    RouteWire,
    ServerWire,
    SubnetWire,
    TableWire,
    UsageWire,
)
from bgp_agent.core.prefix import Address, Prefix, PrefixError, parse_address, parse_prefix

T = TypeVar("T")
W = TypeVar("W")
_NUMBERS: Final = re.compile(r"\d{1,10}")


class WireError(ValueError):
    """A document that is not what ARM documents; the message says where."""


def nic(wire: NicWire) -> Nic:
    """A network interface."""
    found = wire.properties
    return Nic(
        _id(wire.id), found.enable_ip_forwarding,
        tuple(
            IpConfiguration(_address(each.private_ip_address), _ref(each.subnet), bool(each.primary))
            for each in (inner.properties for inner in found.ip_configurations or [])
        ),
        _ref(found.network_security_group), mac(found.mac_address or ""), _ref(found.virtual_machine),
        bool(found.primary),
    )  # fmt: skip


def subnet(wire: SubnetWire) -> Subnet:
    """A subnet."""
    found = wire.properties
    texts = found.address_prefixes or ([found.address_prefix] if found.address_prefix else [])
    return Subnet(
        _id(wire.id), _prefixes(texts), _ref(found.route_table), _ref(found.network_security_group),
        tuple(each.id for each in found.ip_configurations or []),
    )  # fmt: skip


def network(wire: NetworkWire) -> VirtualNetwork:
    """A virtual network."""
    found = wire.properties
    peerings = members(found.virtual_network_peerings, PeeringWire, _peering)[0]
    return VirtualNetwork(
        _id(wire.id), _prefixes(found.address_space.address_prefixes or []),
        tuple(subnet(each) for each in found.subnets or []), tuple(peerings),
    )  # fmt: skip


def _peering(wire: PeeringWire) -> Peering:
    found = wire.properties
    connected = found.peering_state.lower() == "connected"
    return Peering(wire.name, _id(found.remote_virtual_network.id), found.use_remote_gateways, connected)


def table(wire: TableWire) -> RouteTable:
    """A route table."""
    found = wire.properties
    routes, unread = members(found.routes, RouteWire, _route)
    return RouteTable(
        _id(wire.id), wire.etag, found.provisioning_state, not found.disable_bgp_route_propagation, tuple(routes),
        tuple(_id(each.id) for each in found.subnets or []), tuple(unread),
    )  # fmt: skip


def _route(wire: RouteWire) -> Route:
    found = wire.properties
    several = found.next_hop.next_hop_ip_addresses if found.next_hop else None
    texts = several or ([found.next_hop_ip_address] if found.next_hop_ip_address else [])
    try:
        prefix: Prefix | None = parse_prefix(found.address_prefix)
    except PrefixError:
        if "/" in found.address_prefix:
            raise
        prefix = None
    hops = tuple(parse_address(each) for each in texts)
    return Route(wire.name, found.address_prefix, prefix, found.next_hop_type, hops, found.provisioning_state)


def usage(wires: Iterable[UsageWire], what: str) -> Usage | None:
    """The row named ``what``, None if there is none."""
    row = next((each for each in wires if each.name.value.lower() == what.lower()), None)
    return Usage(row.current_value, row.limit) if row is not None else None


def server(wire: ServerWire) -> RouteServer:
    """A Route Server."""
    found = wire.properties
    try:
        addresses = tuple(parse_address(each) for each in found.virtual_router_ips or [])
    except PrefixError as error:
        raise WireError(f"virtualRouterIps: {error}") from None
    return RouteServer(_id(wire.id), found.virtual_router_asn, addresses, found.routing_state, found.provisioning_state)


def hub_subnet(wire: HubIpWire) -> ResourceId | None:
    """The subnet that a Route Server is in."""
    return _ref(wire.properties.subnet)


def connection(wire: ConnectionWire) -> BgpConnection:
    """A bgpConnection."""
    found = wire.properties
    return BgpConnection(
        _id(wire.id), wire.name, parse_address(found.peer_ip), found.peer_asn, found.provisioning_state
    )


def learned(wire: Mapping[str, list[msgspec.Raw] | None]) -> dict[str, tuple[LearnedRoute, ...]]:
    """Routes by instance (``RouteServiceRole_IN_0``), IN_0 first."""
    return {name: tuple(members(wire[name], LearnedWire, _learned)[0]) for name in sorted(wire)}


def _learned(wire: LearnedWire) -> LearnedRoute:
    path = tuple(int(each) for each in _NUMBERS.findall(wire.as_path or ""))
    return LearnedRoute(parse_prefix(wire.network), _address(wire.next_hop), path)


def effective(wire: EffectiveWire) -> list[EffectiveRoute]:
    """One row for each prefix; service tags are left out."""
    return [row for rows in members(wire.value, EffectiveRow, _effective)[0] for row in rows]


def _effective(wire: EffectiveRow) -> list[EffectiveRoute]:
    hops = tuple(found for each in wire.next_hop_ip_address or [] if (found := _address(each)) is not None)
    active = wire.state.lower() == "active"
    prefixes = _prefixes(wire.address_prefix or [])
    return [EffectiveRoute(each, wire.source, active, wire.next_hop_type, hops) for each in prefixes]


def members(items: Iterable[msgspec.Raw] | None, kind: type[W], make: Callable[[W], T]) -> tuple[list[T], list[str]]:
    """What of a list can be read, and why the rest cannot."""
    found: list[T] = []
    unread: list[str] = []
    for item in items or []:
        try:
            found.append(make(msgspec.json.decode(item, type=kind)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
            unread.append(f"{clean(bytes(item)[:80].decode('utf-8', 'replace'))}: {clean(error)}")
    return found, unread


def _id(text: str) -> ResourceId:
    try:
        return resource_id(text)
    except ValueError as error:
        raise WireError(str(error)) from None


def _ref(wire: Ref | None) -> ResourceId | None:
    return _id(wire.id) if wire is not None else None


def _address(text: str | None) -> Address | None:
    """An address, None where there is none."""
    try:
        return parse_address(text) if text else None
    except PrefixError:
        return None


def _prefixes(texts: Iterable[str]) -> tuple[Prefix, ...]:
    found = []
    for each in texts:
        try:
            found.append(parse_prefix(each))
        except PrefixError:
            continue
    return tuple(found)
