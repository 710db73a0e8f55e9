"""What can be set: Azure's timings and limits, and both answers where Azure is not documented ("assumed").

Durations are seconds. ``Timing()`` holds measured or documented times; ``FAST`` has none of them, for tests.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long things take (seconds)."""

    route: float = 4.0
    virtual_network: float = 4.0
    network_interface: float = 3.0
    route_server: float = 910.0  # measured by frobware; 15-60 min documented
    bgp_connection: float = 170.0  # measured 2m20s-3m43s
    bgp_connection_delete: float = 93.0
    query: float = 2.0  # learnedRoutes, advertisedRoutes, effectiveRouteTable
    other: float = 2.0
    retry_after: int = 10  # on the first answer of an operation and on its polls; 0 sends none
    udr_effect: float = 10.0  # after "Succeeded", until the fabric forwards by it (10-60 s seen)
    nic_effect: float = 5.0  # IP forwarding, association of tables, propagation (assumed)
    bgp_effect: float = 0.5  # learned or withdrawn, until NICs have it (failover of 1-5 s was measured in all)
    rbac_effect: float = 60.0  # a new role assignment ("may take minutes")


FAST: Final = Timing(
    route=0, virtual_network=0, network_interface=0, route_server=0, bgp_connection=0, bgp_connection_delete=0,
    query=0, other=0, retry_after=0, udr_effect=0, nic_effect=0, bgp_effect=0, rbac_effect=0,
)  # fmt: skip


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Azure's numbers; every one can be set."""

    bgp_peers: int = 8  # 16 in third-party sources of 2026
    routes_per_peer: int = 4000  # 1,000 before September 2025
    burst_window: float = 1.0  # assumed: UPDATEs with less than this between them are one burst (seconds)
    limit_reconnect: float = 5.0  # assumed: a session ended by the limit comes back after this (seconds)
    dampening: float = 0.0  # 30 was seen in two labs; 0 is off (seconds, per prefix)
    routes_per_table: int = 1000  # since May 2026; 600, 400 before
    route_tables: int = 600
    body_bytes: int = 4 * 1024 * 1024
    imds_per_second: int = 5
    identity_per_second: int = 20


class Throttling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Token buckets by principal and kind of request, and the network provider's own budget; 0 turns one off."""

    enabled: bool = True
    read_bucket: int = 250
    read_rate: float = 25.0  # a second
    write_bucket: int = 200
    write_rate: float = 10.0
    delete_bucket: int = 200
    delete_rate: float = 10.0
    provider_reads: int = 10_000  # in 5 minutes, by subscription and region
    provider_writes: int = 1_000


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Behaviour that no source settles: the first value of each is the default."""

    #: A second write to a locked table: 429, or the later one cancels the running one (kubernetes PR #77490).
    concurrent_write: Literal["refuse", "supersede"] = "refuse"
    #: Whether the 429 of a lock carries the hint of its text as Retry-After.
    lock_retry_after: bool = False
    #: A route's ETag is its table's (one object in the provider), or its own.
    etag_scope: Literal["table", "route"] = "table"
    #: Whether If-Match is honoured on PUT and DELETE of a single route.
    child_if_match: bool = True
    #: The loser of two parallel bgpConnection writes stays behind as ``Failed``, or leaves no trace.
    bgp_conflict_leaves: Literal["failed", "nothing"] = "failed"
    #: A PUT of a live bgpConnection that changes nothing drops its session as well.
    bgp_put_drops_session: bool = True
    #: An overridden BGP route in a NIC's effective routes.
    overridden_bgp: Literal["invalid", "hidden"] = "invalid"
    #: An instance that lacks a route loses its share of NICs, or of flows.
    instance_share: Literal["nic", "flow"] = "nic"
    #: An instance that is down takes no part, or loses its share as well.
    down_instance: Literal["no_part", "loses_share"] = "no_part"
    #: Effective routes of a NIC without a VM: refused, or answered.
    effective_routes_need_vm: bool = True
    #: The error code of a full route table and of one peer too many.
    route_limit_code: str = "RouteTableRoutesLimitReached"
    peer_limit_code: str = "HubBgpConnectionsLimitReached"
    #: Smallest RouteServerSubnet (/26 since 2025; /27 before).
    route_server_subnet: int = 26


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it, with the names of the place."""

    subscription: str = "00000000-0000-0000-0000-000000000001"
    tenant: str = "00000000-0000-0000-0000-00000000000a"
    location: str = "westeurope"
    timing: Timing = Timing()
    limits: Limits = Limits()
    throttling: Throttling = Throttling()
    rules: Rules = Rules()
    #: VMs by name, with the NIC that each has: from the YAML file, since the twin runs no VMs.
    vm_nics: dict[str, str] = {}
