"""What a route table of the cloud lacks, and why some of it cannot be had: the diff for user-defined routes (UDRs).

A route is ours by its exact name, which is made of its prefix and of nothing else: the new owner of a block that moves
writes over the route of the old one, and the old one knows by the next hop that it is not its own any more. Whatever
has another name is a stranger's and is never touched, also where it stands in our way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from bgp_agent.core.prefix import (
    Address,
    Prefix,
    PrefixError,
    address_text,
    family_of,
    parse_prefix,
    prefix_text,
)

#: What the names of our routes begin with. Azure takes letters, digits, ``_``, ``.`` and ``-``, 80 of them at most.
OURS: Final = "bgp-agent_"
#: Between node and prefix in the names of the Kubernetes route controller (dual stack); else they are node names.
CONTROLLER: Final = "____"
APPLIANCE: Final = "VirtualAppliance"
SUCCEEDED: Final = "Succeeded"


def name_of(prefix: Prefix) -> str:
    """The name of a prefix's route: ``bgp-agent_192.168.1.0_26``."""
    return OURS + prefix_text(prefix).replace("/", "_").replace(":", "-")


@dataclass(frozen=True, slots=True)
class TableRoute:
    """A route as a table holds it. ``next_hop`` is the address of a virtual appliance, empty for the other kinds."""

    name: str
    prefix: str
    kind: str
    next_hop: str
    state: str = SUCCEEDED  # provisioningState


@dataclass(frozen=True, slots=True)
class Table:
    """A route table. ``limit``: routes that it may hold, None where that is not known; ``subnets``: who uses it."""

    id: str
    routes: tuple[TableRoute, ...]
    subnets: tuple[str, ...] = ()
    limit: int | None = None
    propagates: bool = True  # not disableBgpRoutePropagation


@dataclass(frozen=True, slots=True)
class Write:
    """One call: the route of this name shall be there with our next hop, or (``put`` False) not at all."""

    table: str
    prefix: Prefix
    name: str
    put: bool
    why: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What to do, in order, and what stands in the way.

    ``present``: prefixes whose route of our name is in some table, whatever its next hop. ``astray``: those of which
    one leads elsewhere. ``right``: those of which each table holds one that leads here. ``problems``: prefix -> why it
    cannot be put right. ``warnings``: what a person should know of the tables.
    """

    writes: tuple[Write, ...] = ()
    present: frozenset[Prefix] = frozenset()
    astray: frozenset[Prefix] = frozenset()
    right: frozenset[Prefix] = frozenset()
    problems: Mapping[Prefix, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """Who we are: the name Kubernetes has for this node, and the addresses that routes of ours lead to, by family."""

    name: str
    address: Address
    address6: Address | None = None

    def hop(self, prefix: Prefix) -> Address | None:
        """The next hop of a prefix: of its own family; None where the node has no such address."""
        for address in (self.address, self.address6):
            if address is not None and family_of(address) is family_of(prefix):
                return address
        return None


def difference(
    tables: Iterable[Table], wanted: frozenset[Prefix], node: Node, keep: frozenset[Prefix] = frozenset()
) -> Difference:
    """Compare ``wanted`` with what the tables hold. Additions come before removals.

    ``keep``: what nobody can decide about yet; it is neither written nor taken out.
    """
    puts: list[Write] = []
    removals: list[Write] = []
    present: set[Prefix] = set()
    astray: set[Prefix] = set()
    right: set[Prefix] | None = None
    problems: dict[Prefix, str] = {}
    warnings: list[str] = []
    for table in tables:
        view = _View(table, node)
        warnings += view.warnings()
        present |= view.ours.keys()
        astray |= view.astray()
        for prefix in sorted(wanted):
            write, problem = view.judge(prefix)
            if write is not None:
                puts.append(write)
            if problem is not None:
                problems.setdefault(prefix, problem)
        removals += view.surplus(wanted | keep)
        right = view.right() if right is None else right & view.right()
    if right is None:
        problems = dict.fromkeys(wanted, "no route table is known; name it in azure.route_tables")
    return Difference(
        (*puts, *removals), frozenset(present), frozenset(astray), frozenset(right or ()), problems,
        tuple(dict.fromkeys(warnings)),
    )  # fmt: skip


def leftovers(table: Table, node: Node) -> list[Write]:
    """All routes of ours that lead to this node, to be taken out for good. What leads elsewhere is the new owner's."""
    view = _View(table, node)
    return [
        Write(table.id, prefix, route.name, put=False, why="the agent leaves")
        for prefix, route in sorted(view.ours.items())
        if view.points_here(route)
    ]


def controller(table: Table, node: Node) -> str | None:
    """A route of the Kubernetes route controller in a table; None where it is not at work."""
    return _View(table, node).controller


class _View:
    """One table, seen from this node."""

    def __init__(self, table: Table, node: Node) -> None:
        self.table = table
        self.node = node
        self.here = {address_text(each) for each in (node.address, node.address6) if each is not None}
        self.ours: dict[Prefix, TableRoute] = {}
        self.holders: dict[Prefix, TableRoute] = {}  # who holds the prefix, under whatever name
        for route in table.routes:
            prefix = _prefix(route.prefix)
            if prefix is not None:
                self.holders[prefix] = route
            named = _named(route.name)
            if named is not None:
                self.ours[named] = route
        self.controller = next((route.name for route in table.routes if self._is_controllers(route)), None)
        self.room = None if table.limit is None else table.limit - len(table.routes)

    def warnings(self) -> Iterable[str]:
        """What a person should know of this table."""
        if not self.table.subnets:
            yield f"route table {table_name(self.table.id)} is associated with no subnet: what is in it reaches nobody"
        if self.controller is not None:
            yield (
                f"route table {table_name(self.table.id)} belongs to the Kubernetes route controller (route "
                f"{self.controller}), which takes out what it does not know: nothing is written there; run the cloud "
                "controller with --configure-cloud-routes=false, or use another table"
            )
        if self.table.limit is not None and self.room is not None and self.room * 10 < self.table.limit:
            yield (
                f"route table {table_name(self.table.id)} holds {len(self.table.routes)} of {self.table.limit} routes: "
                "ask for a higher limit (RoutesPerRouteTable) before it is full"
            )

    def right(self) -> set[Prefix]:
        """The prefixes that lead here by this table."""
        return {prefix for prefix, route in self.holders.items() if self._leads_here(route)}

    def astray(self) -> set[Prefix]:
        """The prefixes whose route of our name leads elsewhere."""
        return {prefix for prefix, route in self.ours.items() if not self.points_here(route)}

    def judge(self, prefix: Prefix) -> tuple[Write | None, str | None]:
        """What has to be written for a wanted prefix, and why it cannot be or was not right."""
        ours, holder = self.ours.get(prefix), self.holders.get(prefix)
        where = table_name(self.table.id)
        if holder is not None and self._leads_here(holder):
            return None, None
        if (problem := self._unwritable(prefix)) is not None:
            return None, problem
        if holder is not None and holder is not ours:
            return None, (
                f"route {holder.name!r} of somebody else in {where} holds {holder.prefix} and leads to "
                f"{holder.next_hop or holder.kind}; take it out, or leave the block out"
            )
        if ours is not None:
            found = ours.state if self.points_here(ours) else f"it leads to {ours.next_hop or ours.kind}"
            return self._put(prefix, f"not right: {found}"), None
        if self.room is not None and self.room <= 0:
            return None, (
                f"{where} is full: it holds {len(self.table.routes)} of {self.table.limit} routes; "
                "ask for a higher limit (RoutesPerRouteTable)"
            )
        if self.room is not None:
            self.room -= 1
        return self._put(prefix, "missing"), None

    def _unwritable(self, prefix: Prefix) -> str | None:
        if self.node.hop(prefix) is None:
            return f"this node has no {family_of(prefix).value} address for a route to lead to"
        if self.controller is not None:
            return f"{table_name(self.table.id)} belongs to the Kubernetes route controller: nothing is written there"
        return None

    def surplus(self, wanted: frozenset[Prefix]) -> Iterable[Write]:
        """Routes of ours that are wanted no more. One that leads elsewhere is the new owner's."""
        if self.controller is not None:
            return
        for prefix, route in sorted(self.ours.items()):
            needed = prefix in wanted or _prefix(route.prefix) in wanted  # the second: somebody edited it by hand
            if not needed and self.points_here(route):
                yield Write(self.table.id, prefix, route.name, put=False, why="not wanted any more")

    def _put(self, prefix: Prefix, why: str) -> Write:
        return Write(self.table.id, prefix, name_of(prefix), put=True, why=why)

    def points_here(self, route: TableRoute) -> bool:
        """Is the next hop this node, whatever became of the write."""
        return route.kind == APPLIANCE and route.next_hop in self.here

    def _leads_here(self, route: TableRoute) -> bool:
        return self.points_here(route) and route.state == SUCCEEDED

    def _is_controllers(self, route: TableRoute) -> bool:
        return route.kind == APPLIANCE and (
            CONTROLLER in route.name or route.name.casefold() == self.node.name.casefold()
        )


def _named(name: str) -> Prefix | None:
    """The prefix that a name of ours was made of; None for a name that is not exactly ours."""
    if not name.startswith(OURS):
        return None
    address, _, length = name.removeprefix(OURS).rpartition("_")
    prefix = _prefix(f"{address.replace('-', ':')}/{length}")
    return prefix if prefix is not None and name_of(prefix) == name else None


def _prefix(text: str) -> Prefix | None:
    try:
        return parse_prefix(text)
    except PrefixError:
        return None


def table_name(resource_id: str) -> str:
    """The last word of a resource ID: its name."""
    return resource_id.rpartition("/")[2]
