"""The YAML file's resources as ARM requests: an empty state is filled through the same checks as everybody's writes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import msgspec

from azure_twin.config import Config, ConfigError, NicConfig, RouteConfig
from azure_twin.core.arm import Arm
from azure_twin.core.errors import Json
from azure_twin.core.messages import Request
from azure_twin.core.rbac import BUILT_IN

VERSIONS = {"Microsoft.Network": "2025-07-01", "Microsoft.Authorization": "2022-04-01", "": "2022-09-01"}


def seed(arm: Arm, config: Config, now: float) -> None:
    """Write everything the file names, done at once whatever the timing.

    Raises :class:`ConfigError` with Azure's reason.
    """
    for path, body in requests(config):
        provider = path.rpartition("/providers/")[2].partition("/")[0] if "/providers/" in path else ""
        version = VERSIONS[provider]
        request = Request("PUT", path, {"api-version": version}, {}, msgspec.json.encode(body))
        answer = arm.handle(request, now, itself=True)
        if answer.status >= 300:
            raise ConfigError(f"{path.rsplit('/', 2)[-2]}/{path.rsplit('/', 1)[-1]}: {answer.encoded().decode()}")
        arm.handle_timer(float("inf"))


def requests(config: Config) -> Iterator[tuple[str, Json]]:
    """Path and body of each PUT, in the order of what needs what."""
    subscription = f"/subscriptions/{config.subscription}"
    group = f"{subscription}/resourceGroups/{config.resource_group}"
    yield group, {"location": config.location}
    network = f"{group}/providers/Microsoft.Network"
    place: Json = {"location": config.location}
    for table in config.route_tables:
        yield f"{network}/routeTables/{table.name}", place | {"properties": {
            "disableBgpRoutePropagation": not table.propagate,
            "routes": [{"name": each.name, "properties": _route(each)} for each in table.routes],
        }}  # fmt: skip
    for vnet in config.virtual_networks:
        yield f"{network}/virtualNetworks/{vnet.name}", place | {"properties": {
            "addressSpace": {"addressPrefixes": vnet.address_space},
            "subnets": [{"name": each.name, "properties": {"addressPrefix": each.prefix} | (
                {"routeTable": {"id": f"{network}/routeTables/{each.route_table}"}} if each.route_table else {}
            )} for each in vnet.subnets],
        }}  # fmt: skip
    yield from _route_server(config, network, place)
    for nic in config.nics:
        yield f"{network}/networkInterfaces/{nic.name}", place | {"properties": _nic(config, network, nic)}
    for vnet in config.virtual_networks:
        for each in vnet.peerings:
            yield f"{network}/virtualNetworks/{vnet.name}/virtualNetworkPeerings/{each.name}", {"properties": {
                "remoteVirtualNetwork": {"id": f"{network}/virtualNetworks/{each.remote}"},
                "allowGatewayTransit": each.allow_gateway_transit, "useRemoteGateways": each.use_remote_gateways,
                "allowForwardedTraffic": True,
            }}  # fmt: skip
    yield from _roles(config, subscription)


def _route_server(config: Config, network: str, place: Json) -> Iterator[tuple[str, Json]]:
    server = config.route_server
    if server is None:
        return
    ip = f"{network}/publicIPAddresses/{server.name}-ip"
    yield ip, place | {"sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Static"}}
    hub = f"{network}/virtualHubs/{server.name}"
    yield hub, place | {"properties": {"sku": "Standard"}}
    yield f"{hub}/ipConfigurations/Default", {"properties": {
        "subnet": {"id": f"{network}/virtualNetworks/{server.virtual_network}/subnets/RouteServerSubnet"},
        "publicIPAddress": {"id": ip},
    }}  # fmt: skip
    for peer in server.peers:
        yield (
            f"{hub}/bgpConnections/{peer.name}",
            {"properties": {"peerIp": peer.address, "peerAsn": peer.asn}},
        )


def _route(route: RouteConfig) -> Json:
    made: Json = {"addressPrefix": route.prefix}
    if isinstance(route.next_hop, list):
        return made | {"nextHopType": "VirtualApplianceEcmp", "nextHop": {"nextHopIpAddresses": route.next_hop}}
    if route.next_hop is not None:
        return made | {"nextHopType": route.type or "VirtualAppliance", "nextHopIpAddress": route.next_hop}
    return made | {"nextHopType": route.type or "None"}


def _nic(config: Config, network: str, nic: NicConfig) -> Json:
    vnet, _, subnet = nic.subnet.rpartition("/")
    vnet = vnet or (config.virtual_networks[0].name if config.virtual_networks else "")
    properties: Json = {"subnet": {"id": f"{network}/virtualNetworks/{vnet}/subnets/{subnet}"}}
    if nic.address:
        properties |= {"privateIPAddress": nic.address, "privateIPAllocationMethod": "Static"}
    return {
        "enableIPForwarding": nic.ip_forwarding,
        "ipConfigurations": [{"name": "ipconfig1", "properties": properties}],
    }


def _roles(config: Config, subscription: str) -> Iterator[tuple[str, Json]]:
    """One assignment for each role of each identity; ``{actions: [...], scope: ...}`` makes a role of its own."""
    roles = f"{subscription}/providers/Microsoft.Authorization/roleDefinitions"
    by_name = {spec.role_name.lower(): guid for guid, spec in BUILT_IN.items()}
    for identity in config.identities:
        roles_wanted: list[Json] = [{"role": "Owner"}] if identity.roles is None else identity.roles
        for index, role in enumerate(roles_wanted):
            scope = str(role.get("scope", subscription)).rstrip("/")
            guid = by_name.get(str(role.get("role", "")).lower())
            if guid is None:
                guid = str(uuid.uuid5(uuid.NAMESPACE_OID, f"role {identity.name} {index}"))
                yield f"{roles}/{guid}", {"properties": {
                    "roleName": f"{identity.name}-{index}", "assignableScopes": [scope],
                    "permissions": [{"actions": role.get("actions", [])}],
                }}  # fmt: skip
            name = uuid.uuid5(uuid.NAMESPACE_OID, f"assignment {identity.name} {index}")
            yield f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}", {"properties": {
                "roleDefinitionId": f"{roles}/{guid}", "principalId": identity.object_id,
            }}  # fmt: skip
