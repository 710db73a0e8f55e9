"""The properties of each resource type, as far as the twin's rules read them; unknown ones are kept and ignored.

Names follow the Network and Authorization specifications (azure-rest-api-specs); wrong types are refused at the edge.
"""

from __future__ import annotations

import msgspec

from azure_twin.core.errors import Json


class Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """camelCase on the wire."""


class Ref(Spec, frozen=True):
    """A reference to another resource."""

    id: str


class NextHop(Spec, frozen=True):
    """Several next hops (``VirtualApplianceEcmp``, api-version 2025-07-01 on): 2 to 64 addresses."""

    next_hop_ip_addresses: list[str] = []


class RouteSpec(Spec, frozen=True):
    """``routeTables/routes``."""

    address_prefix: str
    next_hop_type: str
    next_hop_ip_address: str | None = None
    next_hop: NextHop | None = None

    @property
    def next_hops(self) -> tuple[str, ...]:
        """The appliance addresses, one or several."""
        if self.next_hop is not None and self.next_hop.next_hop_ip_addresses:
            return tuple(self.next_hop.next_hop_ip_addresses)
        return (self.next_hop_ip_address,) if self.next_hop_ip_address else ()


class RouteTableSpec(Spec, frozen=True):
    """``routeTables``."""

    disable_bgp_route_propagation: bool = False
    disable_peering_route: str | None = None


class AddressSpace(Spec, frozen=True):
    """The prefixes of a VNet."""

    address_prefixes: list[str] = []


class VirtualNetworkSpec(Spec, frozen=True):
    """``virtualNetworks``."""

    address_space: AddressSpace


class SubnetSpec(Spec, frozen=True):
    """``virtualNetworks/subnets``."""

    address_prefix: str | None = None
    address_prefixes: list[str] | None = None
    route_table: Ref | None = None
    network_security_group: Ref | None = None

    @property
    def prefix(self) -> str:
        """The first prefix."""
        return self.address_prefix or (self.address_prefixes or [""])[0]


class PeeringSpec(Spec, frozen=True):
    """``virtualNetworks/virtualNetworkPeerings``."""

    remote_virtual_network: Ref
    allow_virtual_network_access: bool = True
    allow_forwarded_traffic: bool = False
    allow_gateway_transit: bool = False
    use_remote_gateways: bool = False


class IpConfigurationSpec(Spec, frozen=True):
    """The properties of a NIC's ipConfiguration."""

    subnet: Ref | None = None
    private_ip_address: str | None = msgspec.field(default=None, name="privateIPAddress")
    private_ip_allocation_method: str = msgspec.field(default="Dynamic", name="privateIPAllocationMethod")
    primary: bool | None = None


class IpConfiguration(Spec, frozen=True):
    """One ipConfiguration of a NIC."""

    name: str
    properties: IpConfigurationSpec


class NicSpec(Spec, frozen=True):
    """``networkInterfaces``."""

    ip_configurations: list[IpConfiguration] = []
    enable_ip_forwarding: bool = msgspec.field(default=False, name="enableIPForwarding")
    disable_tcp_state_tracking: bool = False


class AutoScale(Spec, frozen=True):
    """``virtualRouterAutoScaleConfiguration``: routing infrastructure units."""

    min_capacity: int = 2


class HubSpec(Spec, frozen=True):
    """``virtualHubs``, used as a Route Server."""

    sku: str = "Standard"
    allow_branch_to_branch_traffic: bool = False
    hub_routing_preference: str = "ExpressRoute"
    virtual_router_auto_scale_configuration: AutoScale | None = None


class HubIpConfigurationSpec(Spec, frozen=True):
    """``virtualHubs/ipConfigurations``."""

    subnet: Ref
    public_ip_address: Ref | None = msgspec.field(default=None, name="publicIPAddress")


class BgpConnectionSpec(Spec, frozen=True):
    """``virtualHubs/bgpConnections``."""

    peer_ip: str
    peer_asn: int
    hub_virtual_network_connection: Ref | None = None
    routing_configuration: Json | None = None


class PublicIpSpec(Spec, frozen=True):
    """``publicIPAddresses``."""

    public_ip_allocation_method: str = msgspec.field(default="Dynamic", name="publicIPAllocationMethod")


class Permission(Spec, frozen=True):
    """What a role allows: ``actions`` less ``notActions``, both with ``*``."""

    actions: list[str] = []
    not_actions: list[str] = []


class RoleDefinitionSpec(Spec, frozen=True):
    """``roleDefinitions``."""

    role_name: str
    permissions: list[Permission] = []
    description: str = ""
    assignable_scopes: list[str] = []
    type: str = "CustomRole"


class RoleAssignmentSpec(Spec, frozen=True):
    """``roleAssignments``."""

    role_definition_id: str
    principal_id: str
    principal_type: str = "ServicePrincipal"


class Anything(Spec, frozen=True):
    """A type whose properties no rule reads."""
