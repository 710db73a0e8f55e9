"""The shapes of ARM's JSON, as far as they are read (azure-rest-api-specs, Network); unknown fields are left alone.

What Azure leaves out or sets to null has a default; a field of the wrong type refuses what it stands in.
"""

from __future__ import annotations

import msgspec


class _Wire(msgspec.Struct, rename="camel"):
    pass


class Ref(_Wire):
    """A reference to another resource."""

    id: str


class _IpProperties(_Wire):
    private_ip_address: str | None = msgspec.field(default=None, name="privateIPAddress")
    subnet: Ref | None = None
    primary: bool | None = None


class _IpConfiguration(_Wire):
    properties: _IpProperties


class _NicProperties(_Wire):
    enable_ip_forwarding: bool = msgspec.field(default=False, name="enableIPForwarding")
    ip_configurations: list[_IpConfiguration] | None = None
    network_security_group: Ref | None = None
    mac_address: str | None = None
    virtual_machine: Ref | None = None
    primary: bool | None = None


class NicWire(_Wire):
    """``networkInterfaces/{n}``."""

    id: str
    properties: _NicProperties


class _SubnetProperties(_Wire):
    address_prefix: str | None = None
    address_prefixes: list[str] | None = None
    route_table: Ref | None = None
    network_security_group: Ref | None = None
    ip_configurations: list[Ref] | None = None


class SubnetWire(_Wire):
    """``virtualNetworks/{v}/subnets/{s}``."""

    id: str
    properties: _SubnetProperties


class _PeeringProperties(_Wire):
    remote_virtual_network: Ref
    use_remote_gateways: bool = False
    peering_state: str = ""


class PeeringWire(_Wire):
    """``virtualNetworks/{v}/virtualNetworkPeerings/{p}``."""

    name: str
    properties: _PeeringProperties


class _Space(_Wire):
    address_prefixes: list[str] | None = None


class _NetworkProperties(_Wire):
    address_space: _Space
    subnets: list[SubnetWire] | None = None
    virtual_network_peerings: list[msgspec.Raw] | None = None


class NetworkWire(_Wire):
    """``virtualNetworks/{v}``."""

    id: str
    properties: _NetworkProperties


class _NextHop(_Wire):
    next_hop_ip_addresses: list[str] | None = None


class _RouteProperties(_Wire):
    address_prefix: str
    next_hop_type: str
    next_hop_ip_address: str | None = None
    next_hop: _NextHop | None = None
    provisioning_state: str = ""


class RouteWire(_Wire):
    """``routeTables/{t}/routes/{r}``."""

    name: str
    properties: _RouteProperties


class _TableProperties(_Wire):
    disable_bgp_route_propagation: bool = False
    routes: list[msgspec.Raw] | None = None
    subnets: list[Ref] | None = None
    provisioning_state: str = ""


class TableWire(_Wire):
    """``routeTables/{t}``."""

    id: str
    properties: _TableProperties
    etag: str = ""


class _UsageName(_Wire):
    value: str


class UsageWire(_Wire):
    """One row of ``locations/{l}/usages``."""

    current_value: int
    limit: int
    name: _UsageName


class _ServerProperties(_Wire):
    virtual_router_asn: int = 0
    virtual_router_ips: list[str] | None = None
    routing_state: str = ""
    provisioning_state: str = ""


class ServerWire(_Wire):
    """``virtualHubs/{h}``, used as a Route Server."""

    id: str
    properties: _ServerProperties


class _HubIpProperties(_Wire):
    subnet: Ref | None = None


class HubIpWire(_Wire):
    """``virtualHubs/{h}/ipConfigurations/{i}``."""

    properties: _HubIpProperties


class _ConnectionProperties(_Wire):
    peer_ip: str
    peer_asn: int
    provisioning_state: str = ""


class ConnectionWire(_Wire):
    """``virtualHubs/{h}/bgpConnections/{c}``."""

    id: str
    name: str
    properties: _ConnectionProperties


class LearnedWire(_Wire):
    """One row of ``learnedRoutes``."""

    network: str
    next_hop: str | None = None
    as_path: str | None = None


class EffectiveRow(_Wire):
    """One row of ``effectiveRouteTable``."""

    source: str = ""
    state: str = ""
    address_prefix: list[str] | None = None
    next_hop_ip_address: list[str] | None = None
    next_hop_type: str = ""


class EffectiveWire(_Wire):
    """The answer of ``effectiveRouteTable``."""

    value: list[msgspec.Raw] | None = None
