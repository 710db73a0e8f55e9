"""Virtual networks, their subnets (with the route table of each) and their peerings."""

from __future__ import annotations

from typing import Final

from azure_twin.core import ids
from azure_twin.core.errors import Json, bad_request
from azure_twin.core.kinds.base import Kind, Put, World, in_use, network, referenced
from azure_twin.core.resources import Resource
from azure_twin.core.specs import (
    HubIpConfigurationSpec,
    NicSpec,
    PeeringSpec,
    SubnetSpec,
    VirtualNetworkSpec,
)

VNET: Final = "Microsoft.Network/virtualNetworks"
SUBNET: Final = "Microsoft.Network/virtualNetworks/subnets"
PEERING: Final = "Microsoft.Network/virtualNetworks/virtualNetworkPeerings"
NIC: Final = "Microsoft.Network/networkInterfaces"
HUB_IP: Final = "Microsoft.Network/virtualHubs/ipConfigurations"
ROUTE_SERVER_SUBNET: Final = "RouteServerSubnet"


def check_vnet(_: World, put: Put) -> Json:
    """The address space: prefixes that do not overlap."""
    spec = put.spec
    assert isinstance(spec, VirtualNetworkSpec)  # noqa: S101  # the registry pairs them
    prefixes = [network(each, put.resource_id) for each in spec.address_space.address_prefixes]
    if not prefixes:
        raise bad_request("InvalidRequestFormat", f"Virtual network {put.resource_id} needs an address space.")
    for index, prefix in enumerate(prefixes):
        if any(prefix.overlaps(other) for other in prefixes[:index]):
            raise bad_request("AddressSpacesOverlap", f"Address prefix {prefix} of {put.resource_id} overlaps another.")
    return put.properties


def check_subnet(world: World, put: Put) -> Json:
    """Inside the VNet, clear of its siblings; a RouteServerSubnet takes neither table nor security group."""
    spec = put.spec
    assert isinstance(spec, SubnetSpec)  # noqa: S101  # the registry pairs them
    prefix = network(spec.prefix, put.resource_id)
    vnet = put.parent.address_space.address_prefixes if isinstance(put.parent, VirtualNetworkSpec) else []
    space = [network(each, put.resource_id) for each in vnet]
    if space and not any(prefix.version == each.version and prefix.subnet_of(each) for each in space):  # type: ignore[arg-type]  # one family, just compared
        raise bad_request(
            "NetcfgInvalidSubnet",
            f"Subnet '{put.name}' is not valid because its IP address range is outside the IP address range "
            f"of virtual network '{ids.last(ids.parent(put.resource_id))}'.",
        )
    for name, other in put.siblings.items():
        if (
            isinstance(other, SubnetSpec)
            and name.lower() != put.name.lower()
            and prefix.overlaps(network(other.prefix, put.resource_id))
        ):
            raise bad_request(
                "NetcfgSubnetRangesOverlap",
                f"Subnet '{put.name}' is not valid because its IP address range overlaps with that of "
                f"an existing subnet in virtual network '{ids.last(ids.parent(put.resource_id))}'.",
            )
    if spec.route_table is not None:
        referenced(world, spec.route_table.id, put.resource_id, "PutRouteOperation")
    if put.name.lower() == ROUTE_SERVER_SUBNET.lower():
        _check_route_server_subnet(put, spec)
    return put.properties


def _check_route_server_subnet(put: Put, spec: SubnetSpec) -> None:
    if spec.route_table is not None:
        raise bad_request(
            "RouteServerSubnetUserDefinedRouteNotAllowed", f"A route table cannot be associated with {put.resource_id}."
        )
    if spec.network_security_group is not None:
        raise bad_request(
            "RouteServerSubnetNetworkSecurityGroupNotAllowed",
            f"A network security group cannot be associated with {put.resource_id}.",
        )


def nics_of(world: World, subnet_id: str) -> list[str]:
    """The ids of the ipConfigurations in a subnet."""
    wanted = ids.key(subnet_id)
    found = [
        f"{nic.id}/ipConfigurations/{each.name}"
        for nic in world.store.of_kind(NIC)
        for each in nic.spec(NicSpec).ip_configurations
        if each.properties.subnet is not None and ids.key(each.properties.subnet.id) == wanted
    ]
    found += [
        each.id
        for each in world.store.of_kind(HUB_IP)
        if ids.key(each.spec(HubIpConfigurationSpec).subnet.id) == wanted
    ]
    return found


def show_subnet(world: World, subnet: Resource) -> Json:
    """``ipConfigurations``: who is in the subnet."""
    found = nics_of(world, subnet.id)
    return {"ipConfigurations": [{"id": each} for each in found]} if found else {}


def check_delete_subnet(world: World, subnet: Resource) -> None:
    """A subnet with something in it stays."""
    if found := nics_of(world, subnet.id):
        raise in_use("InUseSubnetCannotBeDeleted", f"Subnet {subnet.name}", found)


def check_delete_vnet(world: World, vnet: Resource) -> None:
    """A VNet whose subnets are in use stays."""
    for subnet in world.store.children(vnet.id, SUBNET):
        check_delete_subnet(world, subnet)


def check_peering(world: World, put: Put) -> Json:
    """The other VNet exists and does not overlap.

    ``useRemoteGateways`` wants a Route Server (or gateway) over there.
    """
    spec = put.spec
    assert isinstance(spec, PeeringSpec)  # noqa: S101  # the registry pairs them
    remote = referenced(world, spec.remote_virtual_network.id, put.resource_id, "PutVirtualNetworkOperation")
    here = put.parent.address_space.address_prefixes if isinstance(put.parent, VirtualNetworkSpec) else []
    there = remote.spec(VirtualNetworkSpec).address_space.address_prefixes
    if any(network(a, put.resource_id).overlaps(network(b, remote.id)) for a in here for b in there):
        raise bad_request(
            "VnetAddressSpacesOverlap",
            f"Cannot create or update peering {put.resource_id}. Virtual networks "
            f"{ids.parent(put.resource_id)} and {remote.id} "
            "cannot be peered because their address spaces overlap.",
        )
    if spec.use_remote_gateways and not any(
        ids.key(each.spec(HubIpConfigurationSpec).subnet.id).startswith(remote.key + "/")
        for each in world.store.of_kind(HUB_IP)
    ):
        raise bad_request(
            "RemotePeeringHasNoGateways",
            f"Peering {put.resource_id} cannot have UseRemoteGateways flag set to true, because remote virtual network "
            f"{remote.id} has no gateway or Route Server.",
        )
    return put.properties


def show_peering(world: World, peering: Resource) -> Json:
    """``peeringState``: Connected once the other side points back."""
    here = ids.key(ids.parent(peering.id))
    remote = peering.spec(PeeringSpec).remote_virtual_network.id
    back = any(
        ids.key(each.spec(PeeringSpec).remote_virtual_network.id) == here
        for each in world.store.children(remote, PEERING)
    )
    return {"peeringState": "Connected" if back else "Initiated"}


def _joins(put: Put) -> list[tuple[str, str]]:
    spec = put.spec
    if isinstance(spec, SubnetSpec) and spec.route_table is not None:
        return [("Microsoft.Network/routeTables/join/action", spec.route_table.id)]
    if isinstance(spec, PeeringSpec):
        return [("Microsoft.Network/virtualNetworks/peer/action", spec.remote_virtual_network.id)]
    return []


KINDS: Final = (
    Kind(
        VNET,
        "VirtualNetwork",
        VirtualNetworkSpec,
        check_vnet,
        check_delete=check_delete_vnet,
        inline={"subnets": SUBNET, "virtualNetworkPeerings": PEERING},
        seconds=lambda timing: timing.virtual_network,
        effect=lambda timing: timing.nic_effect,
    ),
    Kind(
        SUBNET,
        "Subnet",
        SubnetSpec,
        check_subnet,
        show_subnet,
        check_delete_subnet,
        _joins,
        lock="parent",
        seconds=lambda timing: timing.virtual_network,
        effect=lambda timing: timing.nic_effect,
        read_only=frozenset({"provisioningState", "ipConfigurations"}),
    ),
    Kind(
        PEERING,
        "VirtualNetworkPeering",
        PeeringSpec,
        check_peering,
        show_peering,
        joins=_joins,
        lock="parent",
        seconds=lambda timing: timing.virtual_network,
        effect=lambda timing: timing.nic_effect,
        read_only=frozenset({"provisioningState", "peeringState", "peeringSyncLevel", "resourceGuid"}),
    ),
)
