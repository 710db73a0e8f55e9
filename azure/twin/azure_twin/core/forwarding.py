"""From effective routes to a plan that the kernel can carry out.

One routing table a NIC, host routes for all, who may not forward. The plan is text in the words of ``ip route``; the
fabric's shell compares plans and writes the difference.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from azure_twin.core.effective import BGP, USER, Row, effective_routes, lookup, net
from azure_twin.core.learned import Instance, Learned
from azure_twin.core.resources import Resource, Store
from azure_twin.core.route_server import RouteServer
from azure_twin.core.settings import Rules
from azure_twin.core.specs import NicSpec, SubnetSpec

NIC: Final = "Microsoft.Network/networkInterfaces"
HOSTS: Final = 900  # the table of host routes
FIRST: Final = 1000  # the table of the first NIC
VOID: Final = "void"  # a device that swallows: the next hop of a flow whose instance lacks the route
SHARE: Final = 60  # weight of one instance; divisible by 2, 3, 4, 5, 6 next hops

#: What the shells write: (table, prefix) -> the rest of the ``ip route`` line after the prefix.
Routes = dict[tuple[int, str], str]


@dataclass(frozen=True, slots=True)
class Port:
    """A NIC with a VM, as a link of the fabric. ``index`` is the VM's place in the YAML file."""

    index: int
    vm: str
    nic: Resource
    subnet: Resource
    addresses: tuple[str, ...]
    forwarding: bool

    @property
    def link(self) -> str:
        """The name of the fabric's end."""
        return f"n{self.index}"

    @property
    def gateway(self) -> str:
        """The subnet's first address."""
        return str(net(self.subnet.spec(SubnetSpec).prefix)[1])

    @property
    def length(self) -> int:
        """The subnet's prefix length."""
        return net(self.subnet.spec(SubnetSpec).prefix).prefixlen


@dataclass(frozen=True, slots=True)
class Plan:
    """What the fabric should be: ports, routes, links that swallow everything."""

    ports: tuple[Port, ...] = ()
    server: RouteServer | None = None
    routes: Routes = field(default_factory=dict)
    silent: frozenset[str] = frozenset()


def ports_of(store: Store, vm_nics: Mapping[str, str]) -> list[Port]:
    """The NICs that are in effect and belong to a VM."""
    by_name = {nic.name.lower(): nic for nic in store.of_kind(NIC)}
    found = []
    for index, (vm, name) in enumerate(vm_nics.items()):
        nic = by_name.get(name.lower())
        if nic is None:
            continue
        spec = nic.spec(NicSpec)
        first = spec.ip_configurations[0].properties.subnet
        subnet = store.get(first.id) if first else None
        if subnet is not None:
            addresses = tuple(each.properties.private_ip_address or "" for each in spec.ip_configurations)
            found.append(Port(index, vm, nic, subnet, addresses, spec.enable_ip_forwarding))
    return found


def taking_part(instances: Sequence[Instance], rules: Rules) -> list[Instance]:
    """The instances that NICs follow: those that are up, unless a down one is set to lose its share as well."""
    if rules.down_instance == "loses_share":
        return list(instances)
    return [each for each in instances if each.up]


def followed(instances: Sequence[Instance], rules: Rules, ordinal: int) -> list[Instance]:
    """Whom one NIC hears: the instances in turn (``nic``), or all of them (``flow``)."""
    up = taking_part(instances, rules)
    if rules.instance_share == "flow" or not up:
        return up
    return [up[ordinal % len(up)]]


def heard(instances: Iterable[Instance]) -> dict[str, tuple[Learned, ...]]:
    """What these instances have programmed, together."""
    found: dict[str, tuple[Learned, ...]] = {}
    for instance in instances:
        held = instance.programmed if instance.up else {}
        for prefix, routes in held.items():
            found[prefix] = found[prefix] + routes if prefix in found else routes
    return found


class Planner:
    """Derives the plan; NICs of one subnet that hear the same instance share the work."""

    def __init__(self, store: Store, instances: Sequence[Instance], rules: Rules, vm_nics: Mapping[str, str]) -> None:
        self.store = store
        self.instances = instances
        self.rules = rules
        self.vm_nics = vm_nics

    def rows(self, nic: Resource, ordinal: int) -> list[Row]:
        """The effective routes of a NIC."""
        spec = nic.spec(NicSpec)
        first = spec.ip_configurations[0].properties.subnet if spec.ip_configurations else None
        subnet = self.store.get(first.id) if first else None
        if subnet is None:
            return []
        learned = heard(followed(self.instances, self.rules, ordinal))
        return effective_routes(self.store, subnet, learned, overridden=self.rules.overridden_bgp)

    def plan(self, server: RouteServer | None, silent: frozenset[str]) -> Plan:
        """The whole plan. ``silent``: links that swallow everything."""
        ports = ports_of(self.store, self.vm_nics)
        links = {address: port.link for port in ports for address in port.addresses}
        links |= {address: f"i{index}" for index, address in enumerate(server.addresses if server else ())}
        routes: Routes = {(HOSTS, address): f"dev {link}" for address, link in links.items()}
        shared: dict[tuple[str, int], list[tuple[str, str]]] = {}
        for port in ports:
            up = taking_part(self.instances, self.rules)
            turn = port.index % len(up) if up and self.rules.instance_share == "nic" else 0
            known = shared.get((port.subnet.key, turn))
            if known is None:
                known = shared[port.subnet.key, turn] = list(self._lines(port, links))
            for prefix, line in known:
                routes[FIRST + port.index, prefix] = line
        return Plan(tuple(ports), server, routes, silent)

    def _lines(self, port: Port, links: Mapping[str, str]) -> Iterable[tuple[str, str]]:
        rows = self.rows(port.nic, port.index)
        local = [
            net(row.prefix) for row in rows if row.next_hop_type in {"VnetLocal", "VNetPeering"} and row.source != USER
        ]
        hops = {hop for row in rows for hop in row.next_hops} & links.keys()
        near = {hop for hop in hops if any(ipaddress.IPv4Address(hop) in each for each in local)}
        same: dict[tuple[str, tuple[str, ...]], str] = {}  # many routes lead to few next hops
        for row in rows:
            if row.state != "Active":
                continue
            if row.source == BGP:  # by prefix, since the instances may hold different ones
                yield row.prefix, self._line(port, row, links, near)
                continue
            line = same.get((row.next_hop_type, row.next_hops))
            if line is None:
                line = same[row.next_hop_type, row.next_hops] = self._line(port, row, links, near)
            yield row.prefix, line

    def _line(self, port: Port, row: Row, links: Mapping[str, str], near: set[str]) -> str:
        """One route: ``throw`` goes on to the host routes, ``blackhole`` is Azure's silence.

        ``near``: the next hops that are NICs within reach.
        """
        if row.next_hop_type in {"VnetLocal", "VNetPeering"}:
            return "throw"
        weights = self._weights(port, row)
        usable = {hop: weight for hop, weight in weights.items() if hop == VOID or hop in near}
        if not usable.keys() - {VOID}:
            return "blackhole"
        hops = [(hop, usable.get(hop, weight)) for hop, weight in weights.items()]
        if len(hops) == 1:
            return _hop(hops[0][0], usable, links)
        return " ".join(f"nexthop {_hop(hop, usable, links)} weight {weight}" for hop, weight in hops)

    def _weights(self, port: Port, row: Row) -> dict[str, int]:
        if row.source != BGP or self.rules.instance_share == "nic":
            return dict.fromkeys(row.next_hops, 1)
        weights: dict[str, int] = {}
        for instance in followed(self.instances, self.rules, port.index):
            held = instance.programmed.get(row.prefix) if instance.up else None
            hops = [hop for hop in row.next_hops if held and any(each.next_hop == hop for each in held)] or [VOID]
            for hop in hops:
                weights[hop] = weights.get(hop, 0) + SHARE // len(hops)
        return weights


def _hop(hop: str, usable: Mapping[str, int], links: Mapping[str, str]) -> str:
    return f"via {hop} dev {links[hop]} onlink" if hop in usable and hop != VOID else f"dev {VOID}"


def explain(planner: Planner, source: str, target: str, cut: Mapping[str, str] = MappingProxyType({})) -> str:
    """One sentence: what the fabric does with a packet from an address to another (``azure-twin route``).

    ``cut``: the VMs whose link carries nothing, with the reason.
    """
    ports = ports_of(planner.store, planner.vm_nics)
    port = next((each for each in ports if source in each.addresses or source in {each.vm, each.nic.name}), None)
    if port is None:
        return f"{source} is neither an address nor the name of a NIC with a VM"
    if port.vm in cut:
        return f"dropped: {port.vm} {cut[port.vm]}"
    by_name = {name: each.addresses[0] for each in ports for name in (each.vm, each.nic.name)}
    target = by_name.get(target, target)
    row = lookup(planner.rows(port.nic, port.index), target)
    if row is None:
        return f"dropped: no effective route of {port.nic.name} covers {target}"
    rule = f"{row.source} route {row.prefix} ({row.next_hop_type})"
    hops = [target] if row.next_hop_type in {"VnetLocal", "VNetPeering"} else list(row.next_hops)
    owners = {hop: next((each for each in ports if hop in each.addresses), None) for hop in hops}
    verdicts = []
    for hop, owner in owners.items():
        if owner is None:
            verdicts.append(f"{hop}, which no NIC has: dropped")
        elif owner.vm in cut:
            verdicts.append(f"{owner.vm} ({hop}), which {cut[owner.vm]}: dropped")
        elif not owner.forwarding and target not in owner.addresses:
            verdicts.append(f"{owner.vm} ({hop}), whose NIC has no IP forwarding: dropped")
        else:
            verdicts.append(f"{owner.vm} ({hop})")
    if not verdicts:
        return f"dropped by {rule} of {port.nic.name}"
    return f"by {rule} of {port.nic.name} to {' or '.join(verdicts)}"
