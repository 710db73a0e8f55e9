"""The Route Server in effect, as the shells need it: addresses, peers, and what it advertises."""

from __future__ import annotations

from dataclasses import dataclass

from azure_twin.core import ids
from azure_twin.core.effective import advertised_prefixes, net, peerings
from azure_twin.core.kinds import World
from azure_twin.core.kinds.hubs import CONNECTION, HUB, addresses, ip_configuration
from azure_twin.core.specs import BgpConnectionSpec, HubIpConfigurationSpec, SubnetSpec


@dataclass(frozen=True, slots=True)
class ConfiguredPeer:
    """A bgpConnection in effect; ``etag`` changes with every PUT."""

    address: str
    asn: int
    etag: str


@dataclass(frozen=True, slots=True)
class RouteServer:
    """One Route Server whose routing state is Provisioned. ``peered``: the VNets that its VNet is connected with."""

    addresses: tuple[str, ...]
    gateway: str
    length: int
    peers: tuple[ConfiguredPeer, ...]
    prefixes: tuple[str, ...]
    peered: frozenset[str]


def route_server(world: World) -> RouteServer | None:
    """The first one that is provisioned: the twin's two instances stand for one Route Server."""
    for hub in world.effective.of_kind(HUB):
        ip = ip_configuration(world, hub.id)
        found = addresses(world, hub.id)
        if ip is None or not found:
            continue
        subnet_id = ip.spec(HubIpConfigurationSpec).subnet.id
        subnet = world.effective.get(subnet_id)
        if subnet is None:
            continue
        prefix = net(subnet.spec(SubnetSpec).prefix)
        specs = [(each.spec(BgpConnectionSpec), each.etag) for each in world.effective.children(hub.id, CONNECTION)]
        return RouteServer(
            found, str(prefix[1]), prefix.prefixlen,
            tuple(ConfiguredPeer(spec.peer_ip, spec.peer_asn, etag) for spec, etag in specs),
            tuple(advertised_prefixes(world.effective, ids.parent(subnet_id))),
            frozenset(remote.key for _, _, remote in peerings(world.effective, ids.parent(subnet_id))),
        )  # fmt: skip
    return None
