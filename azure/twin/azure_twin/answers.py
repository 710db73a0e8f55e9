"""Answers to ARM's POST actions, from what BIRD holds and what the NICs follow."""

from __future__ import annotations

from collections.abc import Sequence

from azure_twin.core import ids
from azure_twin.core.effective import advertised_prefixes
from azure_twin.core.errors import Json
from azure_twin.core.forwarding import Planner, ports_of
from azure_twin.core.kinds import World
from azure_twin.core.kinds.hubs import ASN, addresses, ip_configuration
from azure_twin.core.learned import NO_ADVERTISE, Instance, Learned
from azure_twin.core.resources import Resource
from azure_twin.core.specs import BgpConnectionSpec, HubIpConfigurationSpec

ROLE = "RouteServiceRole_IN_"  # the key of an instance in Azure's answers


class RouteAnswers:
    """Implements :class:`azure_twin.core.queries.Answers`."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self.instances = instances
        self.planner: Planner | None = None

    def answer(self, world: World, query: str, resource: Resource) -> Json:
        """The body of one query."""
        if query == "effectiveRouteTable":
            return {"value": self._effective(resource)}
        hub = ids.parent(resource.id)
        peer = resource.spec(BgpConnectionSpec).peer_ip
        found = addresses(world, hub)
        rows: Json = {}
        for index, instance in enumerate(self.instances):
            local = found[index] if index < len(found) else ""
            if query == "learnedRoutes":
                rows[f"{ROLE}{index}"] = [_row(each, local) for each in instance.held.values() if each.peer == peer]
            else:
                rows[f"{ROLE}{index}"] = self._advertised(world, hub, instance, peer, local)
        return rows

    def _effective(self, nic: Resource) -> list[Json]:
        if self.planner is None:
            return []
        port = next(
            (each for each in ports_of(self.planner.store, self.planner.vm_nics) if each.nic.key == nic.key), None
        )
        held = self.planner.store.get(nic.id)
        return [row.json() for row in self.planner.rows(held, port.index if port else 0)] if held else []

    @staticmethod
    def _advertised(world: World, hub: str, instance: Instance, peer: str, local: str) -> list[Json]:
        """The VNet's prefixes and the best of the other peers' routes, each with the instance as next hop."""
        if not instance.up:
            return []
        ip = ip_configuration(world, hub)
        vnet = ids.parent(ip.spec(HubIpConfigurationSpec).subnet.id) if ip else ""
        own = [
            {"localAddress": local, "network": each, "nextHop": local, "sourcePeer": local, "origin": "Igp",
             "asPath": str(ASN), "weight": 0}
            for each in advertised_prefixes(world.effective, vnet)
        ]  # fmt: skip
        reflected = [
            _row(each, local) | {"nextHop": local, "asPath": f"{ASN}-{_path(each)}", "sourcePeer": local, "weight": 0}
            for each in instance.held.values()
            if each.best and each.peer != peer and NO_ADVERTISE not in each.communities
        ]
        return [*own, *reflected]


def _path(route: Learned) -> str:
    return "-".join(str(each) for each in route.as_path)


def _row(route: Learned, local: str) -> Json:
    return {
        "localAddress": local, "network": route.prefix, "nextHop": route.next_hop, "sourcePeer": route.peer,
        "origin": "EBgp", "asPath": _path(route), "weight": 32768,
    }  # fmt: skip
