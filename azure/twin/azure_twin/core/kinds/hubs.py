"""Route Server as ARM sees it: a virtualHub, its ipConfiguration, its bgpConnections.

Serial, slow, PUT-only. The hub is ``Succeeded`` long before its ``routingState`` is ``Provisioned`` and its addresses
are there.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from azure_twin.core import ids
from azure_twin.core.errors import Json, bad_request
from azure_twin.core.kinds.base import Kind, Put, World, address, in_use, network, referenced
from azure_twin.core.resources import FAILED, SUCCEEDED, Resource
from azure_twin.core.specs import BgpConnectionSpec, HubIpConfigurationSpec, HubSpec, SubnetSpec
from azure_twin.core.versions import ROUTE_MAPS

HUB: Final = "Microsoft.Network/virtualHubs"
IP: Final = "Microsoft.Network/virtualHubs/ipConfigurations"
CONNECTION: Final = "Microsoft.Network/virtualHubs/bgpConnections"
ASN: Final = 65515
INSTANCES: Final = 2

#: ASNs that a peer cannot have: Azure's own, then IANA's (FAQ-2025). Only 16-bit ones are taken at all.
RESERVED: Final = frozenset(
    {8074, 8075, 12076, ASN, 23456, 65535} | set(range(65517, 65521)) | set(range(64496, 64512))
)


def ip_configuration(world: World, hub_id: str) -> Resource | None:
    """The hub's ipConfiguration."""
    return next(world.store.children(hub_id, IP), None)


def instance_addresses(subnet_prefix: str) -> tuple[str, ...]:
    """The instances' addresses: the fourth and fifth of the subnet, as seen in every published lab."""
    base = ipaddress.ip_network(subnet_prefix)
    return tuple(str(base[4 + index]) for index in range(INSTANCES))


def addresses(world: World, hub_id: str) -> tuple[str, ...]:
    """``virtualRouterIps``: empty until the ipConfiguration is done."""
    found = ip_configuration(world, hub_id)
    if found is None or found.state != SUCCEEDED:
        return ()
    subnet = world.store.get(found.spec(HubIpConfigurationSpec).subnet.id)
    return instance_addresses(subnet.spec(SubnetSpec).prefix) if subnet else ()


def routing_state(world: World, hub_id: str) -> str:
    """None → Provisioning → Provisioned, by the ipConfiguration."""
    found = ip_configuration(world, hub_id)
    if found is None:
        return "None"
    return {SUCCEEDED: "Provisioned", FAILED: "Failed"}.get(found.state, "Provisioning")


def show_hub(world: World, hub: Resource) -> Json:
    """The read-only side of a hub."""
    shown: Json = {
        "virtualRouterAsn": ASN,
        "virtualRouterIps": list(addresses(world, hub.id)),
        "routingState": routing_state(world, hub.id),
    }
    for name, kind in (("bgpConnections", CONNECTION), ("ipConfigurations", IP)):
        if found := [{"id": each.id} for each in world.store.children(hub.id, kind)]:
            shown[name] = found
    spec = hub.spec(HubSpec)
    shown.setdefault("hubRoutingPreference", spec.hub_routing_preference)
    shown.setdefault("allowBranchToBranchTraffic", spec.allow_branch_to_branch_traffic)
    return shown


def check_hub(_: World, put: Put) -> Json:
    """Routing preference and capacity are the ones there are."""
    spec = put.spec
    assert isinstance(spec, HubSpec)  # noqa: S101  # the registry pairs them
    if spec.hub_routing_preference not in {"ExpressRoute", "VpnGateway", "ASPath"}:
        raise bad_request("InvalidRequestFormat", f"hubRoutingPreference '{spec.hub_routing_preference}' is not known.")
    scale = spec.virtual_router_auto_scale_configuration
    if scale is not None and not 2 <= scale.min_capacity <= 50:
        raise bad_request("InvalidRequestFormat", "minCapacity must be between 2 and 50.")
    return put.properties


def check_ip(world: World, put: Put) -> Json:
    """A RouteServerSubnet, large enough, without another Route Server in its VNet."""
    spec = put.spec
    assert isinstance(spec, HubIpConfigurationSpec)  # noqa: S101  # the registry pairs them
    subnet = referenced(world, spec.subnet.id, put.resource_id, "PutSubnetOperation")
    prefix = network(subnet.spec(SubnetSpec).prefix, subnet.id)
    if subnet.name.lower() != "routeserversubnet":
        raise bad_request(
            "InvalidSubnetName", f"Route Server needs a subnet named RouteServerSubnet, not {subnet.name}."
        )
    if prefix.prefixlen > world.settings.rules.route_server_subnet:
        raise bad_request(
            "InvalidSubnetSize",
            f"{subnet.id} is a /{prefix.prefixlen}; Route Server needs a "
            f"/{world.settings.rules.route_server_subnet} or larger.",
        )
    if spec.public_ip_address is None:
        raise bad_request("PublicIPAddressRequired", f"{put.resource_id} needs a publicIPAddress (Standard, static).")
    referenced(world, spec.public_ip_address.id, put.resource_id, "PutPublicIpAddressOperation")
    hub, vnet = ids.key(ids.parent(put.resource_id)), ids.parent(subnet.key)
    for other in world.store.of_kind(IP):
        if ids.parent(other.key) != hub and ids.parent(ids.key(other.spec(HubIpConfigurationSpec).subnet.id)) == vnet:
            raise bad_request("VirtualNetworkAlreadyHasRouteServer", f"{vnet} already has a Route Server.")
    return put.properties


def check_connection(world: World, put: Put) -> Json:
    """A provisioned hub, a usable ASN, a free place."""
    spec = put.spec
    assert isinstance(spec, BgpConnectionSpec)  # noqa: S101  # the registry pairs them
    hub = ids.parent(put.resource_id)
    if routing_state(world, hub) != "Provisioned":
        raise bad_request(
            "HubBgpConnectionParentHubMustHaveProvisionedRoutingState",
            f"Hub Bgp connection {put.name} cannot be created or updated because its parent hub "
            f"{ids.last(hub)} must have "
            "RoutingState Provisioned.",
        )
    if not 1 <= spec.peer_asn <= 65535 or spec.peer_asn in RESERVED:
        raise bad_request(
            "InvalidPeerAsn",
            f"Peer ASN {spec.peer_asn} of {put.resource_id} cannot be used: it must be a 16-bit ASN that "
            "neither Azure nor IANA "
            "reserves.",
        )
    given = address(spec.peer_ip, put.resource_id, "InvalidPeerIp")
    peer = str(given)
    if given.is_unspecified or given.is_loopback or given.is_multicast or given.is_reserved:
        raise bad_request("InvalidPeerIp", f"Peer IP {peer} is no host's.")
    if peer in addresses(world, hub):
        raise bad_request("InvalidPeerIp", f"Peer IP {peer} is the Route Server's own.")
    for name, other in put.siblings.items():
        if isinstance(other, BgpConnectionSpec) and name.lower() != put.name.lower() and other.peer_ip == peer:
            raise bad_request("HubBgpConnectionPeerIpConflict", f"Peer IP {peer} is already used by {name}.")
    limit = world.settings.limits.bgp_peers
    if len({each.lower() for each in put.siblings} | {put.name.lower()}) > limit:
        raise bad_request(
            world.settings.rules.peer_limit_code,
            f"Virtual hub {ids.last(hub)} cannot have more than {limit} BGP connections.",
        )
    return put.properties | {"peerIp": peer}


def show_connection(world: World, connection: Resource) -> Json:
    """``connectionState`` left empty, as Azure does.

    An older api-version does not see a route map, and a PUT erases it.
    """
    shown: Json = {"connectionState": ""}
    if world.version < ROUTE_MAPS and "routingConfiguration" in connection.properties:
        shown["routingConfiguration"] = None
    return shown


def check_delete_hub(world: World, hub: Resource) -> None:
    """A hub with connections or an ipConfiguration stays."""
    users = [each.id for kind in (CONNECTION, IP) for each in world.store.children(hub.id, kind)]
    if users:
        raise in_use("InUseVirtualHubCannotBeDeleted", f"Virtual hub {hub.id}", users)


def _joins(put: Put) -> list[tuple[str, str]]:
    spec = put.spec
    if not isinstance(spec, HubIpConfigurationSpec):
        return []
    needed = [("Microsoft.Network/virtualNetworks/subnets/join/action", spec.subnet.id)]
    if spec.public_ip_address is not None:
        needed.append(("Microsoft.Network/publicIPAddresses/join/action", spec.public_ip_address.id))
    return needed


KINDS: Final = (
    Kind(
        HUB,
        "VirtualHub",
        HubSpec,
        check_hub,
        show_hub,
        check_delete_hub,
        conflict="hub",
        read_only=frozenset(
            {
                "provisioningState",
                "virtualRouterAsn",
                "virtualRouterIps",
                "routingState",
                "bgpConnections",
                "ipConfigurations",
            }
        ),
    ),
    Kind(
        IP,
        "HubVirtualRouterIpConfiguration",
        HubIpConfigurationSpec,
        check_ip,
        joins=_joins,
        lock="parent",
        conflict="hub",
        seconds=lambda timing: timing.route_server,
    ),
    Kind(
        CONNECTION,
        "HubBgpConnection",
        BgpConnectionSpec,
        check_connection,
        show_connection,
        lock="parent",
        conflict="hub",
        seconds=lambda timing: timing.bgp_connection,
        delete_seconds=lambda timing: timing.bgp_connection_delete,
        read_only=frozenset({"provisioningState", "connectionState"}),
    ),
)
