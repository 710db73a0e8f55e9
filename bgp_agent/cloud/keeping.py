"""The route tables kept as wanted: read, compared, and written one object at a time.

Each table is a world of its own: it takes one write at a time, Azure's or anybody's, and a table that cannot be read or
written does not hold up the others. Additions go before removals. What is in force is always what a table shows: after
a removal or a replacement, which are sent with the table's ETag, it is read again before the next of that kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from bgp_agent.cloud import ids, resources
from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.errors import Busy, Changed, CloudError, Conflict, Denied, NotFound, Throttled
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.values import Route, RouteTable
from bgp_agent.core.cloudtable import APPLIANCE, SUCCEEDED, Difference, Node, Table, TableRoute, Write, difference
from bgp_agent.core.prefix import Prefix, address_text, prefix_text

log: Final = structlog.get_logger("bgp_agent")

REREAD: Final = 60.0
"""Seconds between two looks at a table in which nothing is to be done."""
CONTENDED: Final = 0.5
"""Seconds that are waited at most after the first write that somebody else's came before; doubled each time."""
REFUSED: Final = 60.0
"""Seconds until Azure is asked again for what it refused, or had no right for."""
RETRY: Final = (1.0, 30.0)
"""Seconds after a failure that tells nothing: at first, and at most."""
USUAL: Final = 5.0
"""Seconds that one write takes, before any was seen: Azure needs 4 to 10."""


@dataclass(slots=True)
class Kept:
    """One table. ``found`` None: not read yet; ``stale``: its ETag is not the one that was read last."""

    id: ResourceId
    found: RouteTable | None = None
    stale: bool = False
    read_at: float = float("-inf")
    hold_until: float = float("-inf")
    failures: int = 0
    problem: str | None = None
    refused: dict[Prefix, str] = field(default_factory=dict)
    refused_until: float = float("-inf")
    retired: bool = False  # not meant any more; kept until no route of ours is left in it
    shown: Table | None = None  # the core's view of ``found``
    compared: tuple[tuple[object, ...], Difference] | None = None  # what it was compared with, and the outcome


class RouteTables:
    """Call :meth:`use` and :meth:`want` at any time; ``changed`` is called when a table shows something else.

    ``gone`` is called when a table is not there any more.
    """

    def __init__(
        self, arm: Arm, changed: Callable[[], None], gone: Callable[[], None], source: random.Random | None = None
    ) -> None:
        self.tables: dict[str, Kept] = {}
        self.limit: int | None = None
        self.took = USUAL  # seconds a write took lately
        self.reads = self.writes = 0
        self._arm = arm
        self._changed, self._gone = changed, gone
        self._node: Node | None = None
        self._wanted: frozenset[Prefix] | None = None  # None: nobody has said so far, and nothing is written
        self._keep_as_is: frozenset[Prefix] = frozenset()
        self._told = False  # which tables are meant
        self._wake = asyncio.Event()
        self._random = source or random.Random()  # noqa: S311 - spreads load, keeps no secret

    # --- facts -------------------------------------------------------------------------------------------------------
    def use(self, tables: Iterable[ResourceId], node: Node, found: Iterable[RouteTable] = ()) -> None:
        """Which tables are meant, and who we are. ``found``: those that were read just now."""
        now = asyncio.get_running_loop().time()
        self._node, self._told = node, True
        wanted = {ids.key(each): each for each in tables}
        for key, each in wanted.items():
            self.tables.setdefault(key, Kept(each))
        for key, one in self.tables.items():
            one.retired = key not in wanted
        self._let_go()
        for table in found:
            kept = self.tables.get(ids.key(table.id))
            if kept is not None and kept.found is None:
                self._read(kept, table, now)
        self._wake.set()

    def want(self, prefixes: frozenset[Prefix], keep: frozenset[Prefix] = frozenset()) -> None:
        """The own routes that shall be there; ``keep``: those that are not to be touched, there or not."""
        if (prefixes, keep) != (self._wanted, self._keep_as_is):
            self._wanted, self._keep_as_is = prefixes, keep
            self._wake.set()

    def look(self) -> None:
        """Read all tables again, soon."""
        for kept in self.tables.values():
            kept.read_at = float("-inf")
        self._wake.set()

    # --- answers -----------------------------------------------------------------------------------------------------
    def view(self) -> tuple[Table, ...] | None:
        """The tables as last read; None while it is not known which, or one was never read, or is gone."""
        tables = [self._table(kept) for kept in self.tables.values() if not kept.retired]
        return None if None in tables or not self._told else tuple(each for each in tables if each is not None)

    def _table(self, kept: Kept) -> Table | None:
        if kept.found is not None and (kept.shown is None or kept.shown.limit != self.limit):
            kept.shown = as_table(kept.found, self.limit)
        return kept.shown

    def refused(self) -> dict[Prefix, str]:
        """What Azure said to the writes that it refused."""
        return {prefix: words for kept in self.tables.values() for prefix, words in kept.refused.items()}

    def problem(self) -> str | None:
        """What keeps tables from being read or written, in words."""
        return "; ".join(kept.problem for kept in self.tables.values() if kept.problem is not None) or None

    def pending(self) -> float:
        """Seconds that the open writes should take."""
        view = self.view()
        if view is None or self._node is None:
            return 0.0
        counts = [len(self._writes(kept)) for kept in self.tables.values()]
        return max(counts, default=0) * self.took

    # --- life --------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Keep the tables until cancelled. Every failure is tried again."""
        while True:
            self._wake.clear()
            if self._node is not None:
                await asyncio.gather(*(self._keep(kept) for kept in list(self.tables.values())))
                self._let_go()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()

    def _pause(self) -> float | None:
        now = asyncio.get_running_loop().time()
        due = []
        for kept in self.tables.values():
            next_look = kept.read_at + REREAD * self._random.uniform(0.9, 1.1)
            if self._writes(kept):
                next_look = now
            elif kept.refused:
                next_look = min(next_look, kept.refused_until)
            due.append(max(next_look, kept.hold_until))
        return max(0.05, min(due) - now) if due else None

    def _let_go(self) -> None:
        """Forget retired tables in which nothing of ours is left, or of which nothing is known."""
        for key, kept in list(self.tables.items()):
            if kept.retired and self._node is not None:
                found = self._difference(kept)
                if not found.present - found.astray:
                    del self.tables[key]

    async def _keep(self, kept: Kept) -> None:
        """One table, until nothing is left to do there or it asks for patience."""
        loop = asyncio.get_running_loop()
        while ids.key(kept.id) in self.tables and loop.time() >= kept.hold_until:
            now = loop.time()
            if now >= kept.refused_until and kept.refused:
                kept.refused.clear()
            writes = self._writes(kept)
            replaces = bool(writes) and self._needs_etag(kept, writes[0])
            asked: Write | None = None
            try:
                if kept.found is None or now - kept.read_at >= REREAD * 0.9 or (replaces and kept.stale):
                    self._read(kept, await resources.read_table(self._arm, kept.id), now)
                    self.reads += 1
                    self._changed()
                    continue
                if not writes:
                    return
                asked = writes[0]
                await self._write(kept, asked, replaces=replaces)
            except CloudError as error:
                self._failed(kept, asked, error)
                self._changed()

    def _read(self, kept: Kept, found: RouteTable, at: float) -> None:
        kept.found, kept.shown, kept.stale, kept.read_at = found, None, False, at
        if not self._writes(kept):
            kept.failures, kept.problem = 0, None

    def _writes(self, kept: Kept) -> list[Write]:
        """What this table lacks, or has too much; without what was refused. Additions everywhere go first."""
        found = self._difference(kept).writes
        return [each for each in found if each.prefix not in kept.refused and not (kept.retired and each.put)]

    def _difference(self, kept: Kept) -> Difference:
        table = self._table(kept)
        if table is None or self._node is None or self._wanted is None:
            return Difference()
        given = (table, self._node, self._wanted, self._keep_as_is)
        if kept.compared is None or kept.compared[0] != given:
            kept.compared = given, difference([table], self._wanted, self._node, self._keep_as_is)
        return kept.compared[1]

    @staticmethod
    def _needs_etag(kept: Kept, write: Write) -> bool:
        """Is the write about a route that is there: somebody else may have changed it since."""
        return kept.found is not None and any(each.name == write.name for each in kept.found.routes)

    async def _write(self, kept: Kept, write: Write, *, replaces: bool) -> None:
        node, found = self._node, kept.found
        if node is None or found is None:
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        etag = found.etag if replaces else None
        hop = node.hop(write.prefix)
        where = ids.name(kept.id)
        if not write.put:
            log.info("removing a route of ours", table=where, prefix=prefix_text(write.prefix), why=write.why)
            await resources.delete_route(self._arm, kept.id, write.name, if_match=etag)
            routes = [each for each in found.routes if each.name != write.name]
        elif hop is not None:
            log.info("writing a route", table=where, prefix=prefix_text(write.prefix), why=write.why)
            await resources.put_route(self._arm, kept.id, write.name, write.prefix, hop, if_match=etag)
            made = Route(write.name, prefix_text(write.prefix), write.prefix, APPLIANCE, (hop,), SUCCEEDED)
            routes = [*(each for each in found.routes if each.name != write.name), made]
        else:
            return
        self.writes += 1
        self.took = 0.7 * self.took + 0.3 * (loop.time() - began)
        kept.found, kept.shown, kept.stale = replace(found, routes=tuple(routes)), None, True
        kept.failures, kept.problem = 0, None
        kept.refused.pop(write.prefix, None)
        self._changed()

    def _failed(self, kept: Kept, write: Write | None, error: CloudError) -> None:
        """What to do after a failure: wait, look again, or leave the one thing that was refused."""
        now = asyncio.get_running_loop().time()
        kept.stale = True
        match error:
            case Changed():
                kept.failures += 1
                longest = min(RETRY[1], CONTENDED * 2 ** min(kept.failures - 1, 10))
                wait, words = self._random.uniform(0.0, longest), None
            case Busy() | Throttled():
                wait, words = error.retry_after * self._random.uniform(1.0, 1.5), str(error)
            case Conflict() if write is not None:
                kept.refused[write.prefix], kept.refused_until = str(error), now + REFUSED
                kept.read_at = float("-inf")  # somebody has what we did not know of
                wait, words = 0.0, None
                log.warning("Azure refuses a route", table=ids.name(kept.id), reason=str(error))
            case Denied():
                wait, words = REFUSED, str(error)
            case NotFound():
                kept.found = kept.shown = None  # and its routes with it: nobody may rely on them
                wait, words = RETRY[1], f"route table {ids.name(kept.id)} is gone: {error}"
                self._gone()
            case _:
                kept.failures += 1
                wait = min(RETRY[1], RETRY[0] * 2 ** min(kept.failures - 1, 10)) * self._random.uniform(0.8, 1.2)
                words = str(error)
        if words is not None and words != kept.problem:
            log.warning("a route table is waited for", table=ids.name(kept.id), seconds=round(wait, 1), reason=words)
        kept.problem = words
        kept.hold_until = now + wait


def as_table(found: RouteTable, limit: int | None = None) -> Table:
    """A table as the core compares it; ``limit``: routes that it may hold."""
    subnets = tuple(ids.name(each) for each in found.subnets)
    return Table(found.id, tuple(map(_route, found.routes)), subnets, limit, found.propagates)


def _route(route: Route) -> TableRoute:
    hop = address_text(route.next_hops[0]) if len(route.next_hops) == 1 else ""
    return TableRoute(route.name, route.text, route.hop_type, hop, route.state or SUCCEEDED)
