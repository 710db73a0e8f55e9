"""What Azure knows of this node: its interface, its network, the route tables, the Route Server and our AS number.

Asked once at the start and whenever somebody wants to look again; read-only. What the configuration says is not looked
for. What cannot be found is a sentence that names the key which would say it, and the missing permission where that was
the cause. Nothing is guessed: a read that failed leaves ``None``, and ``again`` tells that looking again may help.

The node's subnets are its own and those where other nodes are: an interface with IP forwarding in the same resource
group (every node that hosts pods needs it), or an instance of a scale set of this group. Gateways, firewalls and Route
Server's own subnet take no route table of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bgp_agent.cloud import ids, resources
from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.asking import Search, Wanted
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.imds import Imds, ImdsError, Instance
from bgp_agent.cloud.peering import find_server, our_connection, read_connections
from bgp_agent.cloud.place import Place, own_interfaces, place
from bgp_agent.cloud.values import BgpConnection, Nic, RouteServer, RouteTable, Subnet, VirtualNetwork
from bgp_agent.core.prefix import Address

_NO_NODES: Final = frozenset(
    {"routeserversubnet", "gatewaysubnet", "azurefirewallsubnet", "azurefirewallmanagementsubnet", "azurebastionsubnet"}
)


@dataclass(frozen=True, slots=True)
class Discovered:
    """What was found; None and empty: not found, or not known.

    ``address``, ``address6``: the node's, which is the next hop of its routes. ``interface``: the one that has it;
    ``subnets``: where nodes are; ``associated``: which route tables they use, None if that is not known; ``tables``:
    those that could be read; ``connections``: all peers of the Route Server, None if they could not be read;
    ``connection``: the one for our address, and ``asn`` our side of it. ``missing``: a sentence for each thing that is
    not known; ``notes``: choices that were made. ``again``: a read failed for a passing reason; ``serverless``: all was
    looked through, and no Route Server is there; ``denied``: rights that are missing, each
    with its resource (empty where Azure does not name it).
    """

    instance: Instance | None = None
    address: Address | None = None
    address6: Address | None = None
    interface: Nic | None = None
    network: VirtualNetwork | None = None
    subnets: tuple[Subnet, ...] = ()
    associated: tuple[ResourceId, ...] | None = None
    tables: tuple[RouteTable, ...] = ()
    server: RouteServer | None = None
    connections: tuple[BgpConnection, ...] | None = None
    connection: BgpConnection | None = None
    asn: int | None = None
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    again: bool = False
    denied: tuple[tuple[str, str], ...] = ()
    serverless: bool = False


async def discover(imds: Imds, arm: Arm, wanted: Wanted) -> Discovered:
    """Look around. Never raises a :class:`~bgp_agent.cloud.errors.CloudError`."""
    search = Search(arm, wanted)
    try:
        instance: Instance | None = await imds.instance()
    except ImdsError as error:
        instance, search.again = None, True
        search.missing.append(
            f"this machine is not known: {error}: set node.address, azure.route_server and azure.route_tables"
        )
    nics = await _interfaces(search, instance) if instance else []
    network = await _network(search, instance, nics)
    server = await find_server(search, network)
    connections = await read_connections(search, server)
    here = place(instance, nics, wanted.address, connections or ())
    subnets = _node_subnets(network, nics, here, instance)
    associated = _associated(search, network, subnets)
    tables = await _tables(search, associated or ())
    connection = our_connection(search, here, server, connections)
    return Discovered(
        instance, here.address, here.address6, here.interface, network, subnets, associated, tuple(tables), server,
        None if connections is None else tuple(connections), connection,
        wanted.asn if wanted.asn is not None else (connection.asn if connection else None),
        (*search.missing, *here.missing), (*search.notes, *here.notes), search.again, tuple(search.denied),
        search.serverless,
    )  # fmt: skip


async def _interfaces(search: Search, instance: Instance) -> list[Nic]:
    """The interfaces of the resource group, or of this instance of a uniform scale set."""
    what = "the network interface"
    remedy = "set azure.route_server and azure.route_tables; IP forwarding and effective routes stay unchecked"
    try:
        machine = ids.resource_id(instance.resource_id)
    except ValueError as error:
        search.missing.append(f"{what} is not known: IMDS: {error}: {remedy}")
        return []
    if "/virtualmachinescalesets/" in ids.key(machine):
        action = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/networkInterfaces/read"
        answer = resources.list_scale_set_nics(search.arm, machine)
        search.notes.append("effective routes cannot be read: Azure does not give them for a uniform scale set")
    else:
        action = "Microsoft.Network/networkInterfaces/read"
        answer = resources.list_nics(search.arm, ids.group(machine))
    found = await search.ask(what, action, remedy, answer)
    if found is not None and not own_interfaces(instance, found):
        search.missing.append(f"{what} of {instance.name} is not in the resource group {instance.group}: {remedy}")
    return found or []


async def _network(search: Search, instance: Instance | None, nics: list[Nic]) -> VirtualNetwork | None:
    """The virtual network that the node's interface is in."""
    subnet = place(instance, nics, search.wanted.address, ()).subnet
    if subnet is None:
        return None
    network = ids.parent(subnet)
    return await search.ask(
        f"the virtual network {ids.name(network)}",
        "Microsoft.Network/virtualNetworks/read",
        "set azure.route_server and azure.route_tables",
        resources.read_network(search.arm, network),
    )


# --- route tables ----------------------------------------------------------------------------------------------------
def _node_subnets(
    network: VirtualNetwork | None, nics: Iterable[Nic], here: Place, instance: Instance | None
) -> tuple[Subnet, ...]:
    if network is None:
        return ()
    nodes = {
        ids.key(each.subnet)
        for nic in nics
        for each in nic.configurations
        if each.subnet is not None and (nic.forwarding or nic is here.interface)
    }
    scale_sets = ""
    if instance is not None:
        group = f"/subscriptions/{instance.subscription}/resourceGroups/{instance.group}"
        scale_sets = ids.key(f"{group}/providers/Microsoft.Compute/virtualMachineScaleSets") + "/"
    return tuple(
        each
        for each in network.subnets
        if ids.name(each.id).lower() not in _NO_NODES
        and (
            ids.key(each.id) in nodes
            or (scale_sets and any(ids.key(one).startswith(scale_sets) for one in each.occupants))
        )
    )


def _associated(
    search: Search, network: VirtualNetwork | None, subnets: tuple[Subnet, ...]
) -> tuple[ResourceId, ...] | None:
    """The route tables that are configured, else those of the nodes' subnets; None where that is not known."""
    if search.wanted.route_tables:
        return tuple({ids.key(each): each for each in search.wanted.route_tables}.values())
    remedy = "set azure.route_tables"
    if network is None or not subnets:
        search.missing.append(f"the route tables of the nodes' subnets are not known: {remedy}")
        return None
    for each in subnets:
        if each.route_table is None:
            name = ids.name(each.id)
            search.missing.append(f"the subnet {name} has no route table, so no fallback: associate one, or {remedy}")
    return tuple({ids.key(each.route_table): each.route_table for each in subnets if each.route_table}.values())


async def _tables(search: Search, associated: tuple[ResourceId, ...]) -> list[RouteTable]:
    remedy = "correct azure.route_tables" if search.wanted.route_tables else "set azure.route_tables"
    found = [
        await search.ask(
            f"the route table {ids.name(each)}",
            "Microsoft.Network/routeTables/read",
            remedy,
            resources.read_table(search.arm, each),
        )
        for each in associated
    ]
    return [each for each in found if each is not None]
