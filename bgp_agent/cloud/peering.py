"""The Route Server that serves a virtual network, and our place among its peers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bgp_agent.cloud import ids, resources
from bgp_agent.cloud.asking import Search
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.place import Place
from bgp_agent.cloud.values import BgpConnection, RouteServer, VirtualNetwork
from bgp_agent.core.prefix import address_text

_READ: Final = "Microsoft.Network/virtualHubs/read"
_SUBNET: Final = "routeserversubnet"


async def find_server(search: Search, network: VirtualNetwork | None) -> RouteServer | None:
    """The configured one, else the one that serves ``network``."""
    chosen, remedy = search.wanted.route_server, "correct azure.route_server"
    if chosen is None:
        chosen, remedy = await _look_for(search, network), "set azure.route_server"
    if chosen is None:
        return None
    name = ids.name(chosen)
    server = await search.ask(f"the Route Server {name}", _READ, remedy, resources.read_server(search.arm, chosen))
    if server is not None and not server.addresses:
        search.again = True
        state = server.routing or server.state or "unknown"
        search.missing.append(
            f"the addresses of the Route Server {name} are not known yet (routingState {state}): "
            "it is asked again; or set bgp.peers"
        )
    return server


async def _look_for(search: Search, network: VirtualNetwork | None) -> ResourceId | None:
    """By who is in its subnet, here or in the network whose gateway this one uses; else among all that are listed."""
    if network is None:
        search.missing.append("the Route Server is not looked for without the virtual network: set azure.route_server")
        return None
    networks = [network]
    for peering in network.peerings:
        if peering.uses_remote:
            remote = await search.ask(
                f"the peered virtual network {ids.name(peering.remote)}",
                "Microsoft.Network/virtualNetworks/read",
                "set azure.route_server",
                resources.read_network(search.arm, peering.remote),
            )
            networks += [remote] if remote is not None else []
    for each in networks:
        found = _in_subnet(each)
        if found is not None:
            return found
    remotes = [each.remote for each in network.peerings if each.uses_remote]
    return await _listed(search, network, {ids.key(each) for each in (network.id, *remotes)})


def _in_subnet(network: VirtualNetwork) -> ResourceId | None:
    occupants = [one for each in network.subnets if ids.name(each.id).lower() == _SUBNET for one in each.occupants]
    for each in occupants:
        if "/virtualhubs/" in ids.key(each) and "/ipconfigurations/" in ids.key(each):
            try:
                return ids.parent(ids.resource_id(each))
            except ValueError:
                continue
    return None


async def _listed(search: Search, network: VirtualNetwork, homes: set[str]) -> ResourceId | None:
    """Among those of the network's resource group, then of the subscription."""
    what, remedy, known = "the Route Server of this virtual network", "set azure.route_server", True
    for scope in (ids.group(network.id), ids.subscription(network.id)):
        servers = await search.ask(what, _READ, remedy, resources.list_servers(search.arm, scope))
        known = known and servers is not None
        for server in servers or []:
            action = "Microsoft.Network/virtualHubs/ipConfigurations/read"
            subnets = await search.ask(what, action, remedy, resources.server_subnets(search.arm, server.id))
            known = known and subnets is not None
            if any(ids.key(ids.parent(each)) in homes for each in subnets or []):
                return server.id
    if known:
        search.serverless = True
        search.missing.append(f"the virtual network {ids.name(network.id)} has no Route Server: {remedy}, or bgp.peers")
    return None


async def read_connections(search: Search, server: RouteServer | None) -> list[BgpConnection] | None:
    """All peers of the Route Server, None if they are not known."""
    if server is None:
        return None
    return await search.ask(
        f"which peers the Route Server {ids.name(server.id)} has",
        "Microsoft.Network/virtualHubs/bgpConnections/read",
        "set bgp.asn",
        resources.list_connections(search.arm, server.id),
    )


def our_connection(
    search: Search, here: Place, server: RouteServer | None, connections: Iterable[BgpConnection] | None
) -> BgpConnection | None:
    """The bgpConnection for our address; without one, a sentence about what to do."""
    if server is None or connections is None or here.address is None:
        return None
    found = next((each for each in connections if each.address == here.address), None)
    name, address = ids.name(server.id), address_text(here.address)
    if found is None:
        search.missing.append(
            f"the Route Server {name} has no bgpConnection for {address}, so there is no session and no AS number from "
            "it: make one, set azure.manage_peering and bgp.asn, or go without BGP here"
        )
    elif search.wanted.asn is not None and found.asn != search.wanted.asn:
        search.notes.append(
            f"bgp.asn is {search.wanted.asn}, but the Route Server {name} expects {found.asn} from {address}"
        )
    return found
