"""Azure's network read and written, one resource at a time.

Writes are of single objects by their exact name: a whole-table PUT would replace other people's routes. Each raises a
:class:`~bgp_agent.cloud.errors.CloudError`; a document that cannot be understood is :class:`Trouble`, never "empty".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from bgp_agent.cloud import ids, reading, wire
from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.errors import NotFound, Trouble, clean
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.values import (
    BgpConnection,
    EffectiveRoute,
    LearnedRoute,
    Nic,
    RouteServer,
    RouteTable,
    Usage,
    VirtualNetwork,
)
from bgp_agent.core.prefix import Address, Prefix, address_text, prefix_text

T = TypeVar("T")
W = TypeVar("W")

SCALE_SET_VERSION: Final = "2018-10-01"
"""api-version of a uniform scale set's interfaces, which the compute provider serves for the network one."""
PEERING_VERSION: Final = "2024-10-01"
"""From here on a bgpConnection shows its route maps: a PUT with an older one would erase them."""
PEERING_PATIENCE: Final = 600.0
"""Seconds: a bgpConnection takes 2 to 4 minutes."""
_READ_ONLY: Final = ("provisioningState", "connectionState")


async def _one(arm: Arm, path: str, kind: type[W], make: Callable[[W], T]) -> T:
    found = await arm.get(path, kind)
    try:
        return make(found)
    except ValueError as error:
        raise Trouble(f"GET {ids.short(path)}: {clean(error)}") from None


async def _all(arm: Arm, path: str, kind: type[W], make: Callable[[W], T], version: str | None = None) -> list[T]:
    """A list in which every member counts: one that cannot be read makes the answer unknown."""
    items = await (arm.pages(path, version=version) if version else arm.pages(path))
    found, unread = reading.members(items, kind, make)
    if unread:
        raise Trouble(f"GET {ids.short(path)}: {unread[0]}")
    return found


# --- interfaces and networks -----------------------------------------------------------------------------------------
async def read_nic(arm: Arm, nic: ResourceId) -> Nic:
    """A network interface."""
    return await _one(arm, nic, wire.NicWire, reading.nic)


async def list_nics(arm: Arm, group: ResourceId) -> list[Nic]:
    """The network interfaces of a resource group, those that cannot be read left out; not those of scale sets."""
    items = await arm.pages(f"{group}/providers/Microsoft.Network/networkInterfaces")
    return reading.members(items, wire.NicWire, reading.nic)[0]


async def list_scale_set_nics(arm: Arm, machine: ResourceId) -> list[Nic]:
    """The network interfaces of an instance of a uniform scale set."""
    items = await arm.pages(f"{machine}/networkInterfaces", version=SCALE_SET_VERSION)
    return reading.members(items, wire.NicWire, reading.nic)[0]


async def read_network(arm: Arm, network: ResourceId) -> VirtualNetwork:
    """A virtual network with its subnets and peerings."""
    return await _one(arm, network, wire.NetworkWire, reading.network)


async def effective_routes(arm: Arm, nic: ResourceId) -> list[EffectiveRoute]:
    """What a network interface follows; it has to belong to a running machine. Takes Azure seconds."""
    return reading.effective(await arm.post(f"{nic}/effectiveRouteTable", wire.EffectiveWire))


# --- route tables ----------------------------------------------------------------------------------------------------
async def read_table(arm: Arm, table: ResourceId) -> RouteTable:
    """A route table with all its routes."""
    return await _one(arm, table, wire.TableWire, reading.table)


async def put_route(
    arm: Arm, table: ResourceId, name: str, prefix: Prefix, next_hop: Address, *, if_match: str | None = None
) -> None:
    """Write one route to an appliance.

    ``if_match``: the table's ETag, so that nothing changed since it was read; only for a route that is there, since
    HTTP answers 412 for one that is not (RFC 9110 section 13.1.1). Success means that Azure has it; the
    fabric follows within 10 to 60 s.
    """
    properties = {
        "addressPrefix": prefix_text(prefix),
        "nextHopType": "VirtualAppliance",
        "nextHopIpAddress": address_text(next_hop),
    }
    await arm.put(ids.child(table, "routes", name), {"name": name, "properties": properties}, if_match=if_match)


async def delete_route(arm: Arm, table: ResourceId, name: str, *, if_match: str | None = None) -> None:
    """Take one route out; a route that is not there is out."""
    await arm.delete(ids.child(table, "routes", name), if_match=if_match)


async def routes_per_table(arm: Arm, subscription: ResourceId, location: str) -> Usage | None:
    """How many routes a table takes, and how many the fullest one has; None where Azure does not tell."""
    path = f"{subscription}/providers/Microsoft.Network/locations/{location}/usages"
    items = await arm.pages(path)
    rows = reading.members(items, wire.UsageWire, lambda row: row)[0]
    return reading.usage(rows, "RoutesPerRouteTable")


# --- Route Server ----------------------------------------------------------------------------------------------------
async def read_server(arm: Arm, server: ResourceId) -> RouteServer:
    """A Route Server."""
    return await _one(arm, server, wire.ServerWire, reading.server)


async def list_servers(arm: Arm, scope: ResourceId) -> list[RouteServer]:
    """The Route Servers (and hubs of Virtual WAN) of a resource group or a subscription."""
    return await _all(arm, f"{scope}/providers/Microsoft.Network/virtualHubs", wire.ServerWire, reading.server)


async def server_subnets(arm: Arm, server: ResourceId) -> list[ResourceId]:
    """The subnets that a Route Server is in: one, or none while it is built."""
    found = await _all(arm, f"{server}/ipConfigurations", wire.HubIpWire, reading.hub_subnet)
    return [each for each in found if each is not None]


async def list_connections(arm: Arm, server: ResourceId) -> list[BgpConnection]:
    """The peers that a Route Server has."""
    return await _all(arm, f"{server}/bgpConnections", wire.ConnectionWire, reading.connection, PEERING_VERSION)


async def put_connection(arm: Arm, server: ResourceId, name: str, address: Address, asn: int) -> bool:
    """Make a bgpConnection so, and tell whether that took a write.

    Read, changed and written whole: what else stands in it (a route map) stays. Not written when it is right already,
    since a PUT ends its BGP session. Takes minutes, and Azure takes one at a time.
    """
    path = ids.child(server, "bgpConnections", name)
    try:
        found = await arm.get(path, dict[str, object], version=PEERING_VERSION)
    except NotFound:
        found = {"name": name, "properties": {}}
    held = found.get("properties")
    properties = dict(held) if isinstance(held, dict) else {}
    wanted = {"peerIp": address_text(address), "peerAsn": asn}
    is_failed = properties.get("provisioningState") == "Failed"
    if not is_failed and all(properties.get(key) == value for key, value in wanted.items()):
        return False
    kept = {key: value for key, value in properties.items() if key not in _READ_ONLY}
    etag = found.get("etag")
    body = {key: value for key, value in found.items() if key != "etag"} | {"properties": kept | wanted}
    if_match = etag if isinstance(etag, str) else None
    await arm.put(path, body, version=PEERING_VERSION, if_match=if_match, patience=PEERING_PATIENCE)
    return True


async def delete_connection(arm: Arm, server: ResourceId, name: str) -> None:
    """Take a bgpConnection away, by its exact name."""
    path = ids.child(server, "bgpConnections", name)
    await arm.delete(path, version=PEERING_VERSION, patience=PEERING_PATIENCE)


async def learned_routes(arm: Arm, connection: ResourceId) -> dict[str, tuple[LearnedRoute, ...]]:
    """What each instance took from a peer, by the instance's name."""
    found = await arm.post(f"{connection}/learnedRoutes", dict[str, list[msgspec.Raw] | None])
    return reading.learned(found)
