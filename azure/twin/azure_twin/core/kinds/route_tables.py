"""Route tables and routes.

One object to the provider, hence one lock, one ETag, and a whole-table PUT that replaces all.
"""

from __future__ import annotations

from typing import Final

from azure_twin.core import ids
from azure_twin.core.errors import ArmError, Json, bad_request
from azure_twin.core.kinds.base import Kind, Put, World, hop_address, in_use, network
from azure_twin.core.resources import Resource
from azure_twin.core.specs import RouteSpec, RouteTableSpec, SubnetSpec
from azure_twin.core.versions import ECMP_ROUTES

TABLE: Final = "Microsoft.Network/routeTables"
ROUTE: Final = "Microsoft.Network/routeTables/routes"
SUBNET: Final = "Microsoft.Network/virtualNetworks/subnets"
HOP_TYPES: Final = {
    each.lower(): each
    for each in ("VirtualNetworkGateway", "VnetLocal", "Internet", "VirtualAppliance", "VirtualApplianceEcmp", "None")
}


def check_route(world: World, put: Put) -> Json:
    """A route's own rules, then that no other name of the table has its prefix (cloud-provider-azure #657)."""
    spec = put.spec
    assert isinstance(spec, RouteSpec)  # noqa: S101  # the registry pairs them
    prefix = str(network(spec.address_prefix, put.resource_id))
    kind = HOP_TYPES.get(spec.next_hop_type.lower())
    if kind is None:
        raise bad_request(
            "InvalidRequestFormat",
            f"Cannot parse the request. nextHopType '{spec.next_hop_type}' is none of {', '.join(HOP_TYPES.values())}.",
        )
    _check_hops(world, put, spec, kind)
    for name, other in put.siblings.items():
        if isinstance(other, RouteSpec) and name.lower() != put.name.lower() and other.address_prefix == prefix:
            raise bad_request(
                "RouteConflict",
                f"Route: {put.name} conflicts with Route: {name}. Routes cannot have the same AddressPrefix.",
            )
    limit = world.settings.limits.routes_per_table
    if len({each.lower() for each in put.siblings} | {put.name.lower()}) > limit:
        raise bad_request(
            world.settings.rules.route_limit_code,
            f"The route table {ids.parent(put.resource_id)} cannot have more than {limit} routes.",
        )
    return put.properties | {"addressPrefix": prefix, "nextHopType": kind}


def _check_hops(world: World, put: Put, spec: RouteSpec, kind: str) -> None:
    if kind == "VirtualApplianceEcmp":
        if world.version < ECMP_ROUTES:
            raise bad_request("InvalidRequestFormat", f"VirtualApplianceEcmp needs api-version {ECMP_ROUTES} or later.")
        if not 2 <= len(spec.next_hops) <= 64:
            raise bad_request("InvalidNextHopIpAddresses", "VirtualApplianceEcmp takes 2 to 64 next hops.")
    elif kind == "VirtualAppliance" and not spec.next_hop_ip_address:
        raise bad_request(
            "MissingNextHopIpAddress",
            f"Route {put.resource_id} with nextHopType VirtualAppliance needs a nextHopIpAddress.",
        )
    elif kind not in {"VirtualAppliance", "VirtualApplianceEcmp"} and spec.next_hop_ip_address:
        raise bad_request(
            "NextHopIpAddressNotAllowed", f"Route {put.resource_id} with nextHopType {kind} takes no nextHopIpAddress."
        )
    for hop in spec.next_hops:
        hop_address(hop, put.resource_id, "InvalidNextHopIpAddress")


def check_table(world: World, put: Put) -> Json:
    """The subscription's limit of tables."""
    limit = world.settings.limits.route_tables
    if put.existing is None and sum(1 for _ in world.store.of_kind(TABLE)) >= limit:
        raise bad_request(
            "RouteTableCountLimitReached", f"Cannot create more than {limit} route tables in this region."
        )
    return put.properties


def users(world: World, table: Resource) -> list[Resource]:
    """The subnets that use a table."""
    return [
        subnet
        for subnet in world.store.of_kind(SUBNET)
        if (ref := subnet.spec(SubnetSpec).route_table) is not None and ids.key(ref.id) == table.key
    ]


def show_table(world: World, table: Resource) -> Json:
    """``subnets``: who uses the table."""
    found = users(world, table)
    return {"subnets": [{"id": each.id} for each in found]} if found else {}


def show_route(_: World, __: Resource) -> Json:
    """``hasBgpOverride``: always false in what was seen (assumed)."""
    return {"hasBgpOverride": False}


def check_delete_table(world: World, table: Resource) -> None:
    """A table in use stays."""
    if found := users(world, table):
        error: ArmError = in_use(
            "InUseRouteTableCannotBeDeleted", f"Route table {table.id}", [each.id for each in found]
        )
        raise error


KINDS: Final = (
    Kind(
        TABLE, "RouteTable", RouteTableSpec, check_table, show_table, check_delete_table,
        inline={"routes": ROUTE}, seconds=lambda timing: timing.route, effect=lambda timing: timing.udr_effect,
        read_only=frozenset({"provisioningState", "resourceGuid", "subnets"}),
    ),
    Kind(
        ROUTE, "Route", RouteSpec, check_route, show_route, lock="parent",
        seconds=lambda timing: timing.route, effect=lambda timing: timing.udr_effect,
        read_only=frozenset({"provisioningState", "hasBgpOverride"}),
    ),
)  # fmt: skip
