"""Azure for one agent: found, kept as wanted, and asked for proof. The shell between the core and the resource manager.

Each duty is a task of its own, so that a slow or refused one holds up no other: looking around (discovery), keeping the
route tables, asking for proof, listening for scheduled events, and keeping the own bgpConnection where that is wanted.
Whatever any of them learns becomes part of :attr:`Azure.view`, and ``changed`` is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog

from bgp_agent.cloud import ids, remembered, resources
from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.asking import Wanted
from bgp_agent.cloud.clouds import cloud
from bgp_agent.cloud.credentials import Credential
from bgp_agent.cloud.discovery import Discovered, discover
from bgp_agent.cloud.errors import CloudError
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.imds import Imds, ImdsError
from bgp_agent.cloud.keeping import RouteTables
from bgp_agent.cloud.proving import Proving
from bgp_agent.cloud.remembered import Remembered
from bgp_agent.cloud.scheduled import Scheduled
from bgp_agent.cloud.values import BgpConnection, RouteTable
from bgp_agent.core.attraction import CloudView
from bgp_agent.core.cloudtable import Node, Table
from bgp_agent.core.prefix import Address, Prefix, address_text, parse_address
from bgp_agent.core.proof import Network

log: Final = structlog.get_logger("bgp_agent")

LOOK_AROUND: Final = 300.0
"""Seconds between two discoveries when all is well."""
AGAIN: Final = (2.0, 60.0)
"""Seconds until the next one when something could not be read: at first, and at most."""
NO_IMDS: Final = 60.0
"""Seconds until IMDS is asked who we are again, at most."""
PEERING: Final = (60.0, 1800.0)
"""Seconds between two looks at the own bgpConnection: usually, and at most while Azure refuses to write it."""
CAP: Final = 8
"""Peers that a Route Server takes (some say 16): Azure's limits page."""
_COVERS: Final = (
    "a route in a table serves the subnets that use the table and nobody else: peered networks, gateways and "
    "on-premises hear of a block by BGP alone, and lose it while only the table has it"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration's part. ``known``: what the file says and Azure is not asked for."""

    node: str
    state_dir: Path
    arm_url: str | None = None
    imds_url: str | None = None
    allow_http: bool = False
    manage_peering: bool = False
    known: Wanted = field(default_factory=Wanted)
    peers: bool = False  # does the file name peers


class Azure:
    """``changed()`` is called when :attr:`view` is another one; ``found(remembered)`` when the agent's own part is."""

    def __init__(
        self, settings: Settings, changed: Callable[[], None], found: Callable[[Remembered], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.discovered: Discovered | None = None
        self.known = remembered.load(settings.state_dir)
        self.tables: RouteTables | None = None
        self._changed, self._found, self._clock = changed, found, clock
        self._imds = Imds(settings.imds_url)
        self._arm: Arm | None = None
        self._node: Node | None = None
        self._wanted: tuple[frozenset[Prefix], frozenset[Prefix]] | None = None  # and what is to be kept as it is
        self._proving: Proving | None = None
        self._scheduled = Scheduled(self._imds, changed)
        self._problem: str | None = None
        self._notes: tuple[str, ...] = ()
        self._peering: str | None = None
        self._look = asyncio.Event()
        self._random = random.Random()  # noqa: S311 - spreads load, keeps no secret

    # --- what the core sees ------------------------------------------------------------------------------------------
    def view(self) -> CloudView:
        """All that is known now."""
        tables, proving = self.tables, self._proving
        view = tables.view() if tables is not None else None
        problems = [each for each in (self._problem, tables.problem() if tables is not None else None) if each]
        notes = [self._peering, *([proving.unprovable, proving.unlearned] if proving is not None else [])]
        return CloudView(
            tables=view,
            node=self._node,
            network=self._network(view or ()),
            provable=self._provable(),
            alone=self.known.alone if self.known is not None else None,
            refused=tables.refused() if tables is not None else {},
            event=self._scheduled.words,
            problem="; ".join(problems) or None,
            notes=(*self._notes, *(each for each in dict.fromkeys(notes) if each is not None)),
            pending=tables.pending() if tables is not None else 0.0,
            covers=_COVERS,
            reads=tables.reads if tables is not None else 0,
            writes=tables.writes if tables is not None else 0,
        )

    def _network(self, tables: tuple[Table, ...]) -> Network:
        found, proving = self.discovered, self._proving
        return Network(
            learned=proving.learned if proving is not None else None,
            effective=proving.effective if proving is not None else None,
            silent=tuple(ids.name(each.id) for each in tables if not each.propagates and each.subnets),
            space=found.network.space if found is not None and found.network is not None else (),
            forwarding=found.interface.forwarding if found is not None and found.interface is not None else None,
        )

    def _provable(self) -> bool:
        """Do effective routes of our interface show what the tables do: its subnet uses one of them."""
        found, proving = self.discovered, self._proving
        if found is None or found.interface is None or self.tables is None:
            return False
        if proving is None or proving.unprovable is not None:
            return False
        homes = {ids.key(each.subnet) for each in found.interface.configurations if each.subnet is not None}
        kept = [each.found for each in self.tables.tables.values() if each.found is not None]
        return any(ids.key(subnet) in homes for table in kept for subnet in table.subnets)

    # --- what the core wants -----------------------------------------------------------------------------------------
    def want(self, prefixes: frozenset[Prefix], keep: frozenset[Prefix], *, urgent: bool) -> None:
        """The own routes that shall stand in the tables, and those that are not to be touched.

        ``urgent``: a decision waits for the network's answer.
        """
        self._wanted = prefixes, keep
        if self.tables is not None:
            self.tables.want(prefixes, keep)
        if self._proving is not None:
            self._proving.want(prefixes, urgent=urgent)

    # --- life --------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Until cancelled. No failure of Azure's ends it."""
        try:
            self._begin_with_what_is_remembered()
            await self._open()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._looking_around(), name="Azure: discovery")
                group.create_task(self._keeping(), name="Azure: route tables")
                if self._proving is not None:
                    group.create_task(self._proving.run(), name="Azure: proof")
                group.create_task(self._scheduled.run(), name="Azure: scheduled events")
                if self.settings.manage_peering:
                    group.create_task(self._keeping_peering(), name="Azure: own bgpConnection")
        finally:
            await self._imds.close()
            if self._arm is not None:
                await self._arm.close()

    def _begin_with_what_is_remembered(self) -> None:
        if self.known is not None:
            log.info("beginning with what was discovered last", address=self.known.address, peers=self.known.peers)
            self._found(self.known)

    async def _open(self) -> None:
        """The client of the right cloud, which IMDS names; without IMDS the last one, the public one or ``arm_url``."""
        settings = self.settings
        environment = self.known.environment if self.known is not None else None
        pause = AGAIN[0]
        while environment is None:
            try:
                environment = (await self._imds.instance()).environment
            except ImdsError as error:
                self._say(str(error))
                if settings.arm_url is not None or settings.known.route_tables:
                    break
                await asyncio.sleep(pause)
                pause = min(pause * 2, NO_IMDS)
        try:
            chosen = cloud(environment, settings.arm_url)
        except ValueError as error:
            self._say(str(error))
            await asyncio.Event().wait()  # only another configuration helps, which is read at the next start
            return
        self._arm = Arm(chosen, Credential(chosen, settings.imds_url), allow_http=settings.allow_http)
        self.tables = RouteTables(self._arm, self._changed, self._look.set)
        self._proving = Proving(self._arm, self._changed, self._clock)
        if self._wanted is not None:
            self.tables.want(*self._wanted)
        self._use_tables((), self.known)

    def _say(self, words: str | None) -> None:
        if words != self._problem:
            if words is not None:
                log.warning("Azure cannot be asked", reason=words)
            self._problem = words
            self._changed()

    @property
    def _client(self) -> Arm:
        if self._arm is None:
            raise RuntimeError("the client is made before anything is asked")
        return self._arm

    # --- discovery ---------------------------------------------------------------------------------------------------
    async def _looking_around(self) -> None:
        pause = AGAIN[0]
        while True:
            self._look.clear()
            found = await discover(self._imds, self._client, self.settings.known)
            self._take(found)
            await self._ask_for_limits(found)
            pause = min(pause * 2, AGAIN[1]) if found.again else AGAIN[0]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause if found.again else LOOK_AROUND * self._random.uniform(0.9, 1.1)):
                    await self._look.wait()
                await asyncio.sleep(AGAIN[0])  # a table that comes and goes is no reason to hurry

    def _take(self, found: Discovered) -> None:
        """Keep what was found. What could not be read this time keeps its last value."""
        before, last = self.discovered, self.known or Remembered()
        self.discovered = _merged(before, found)
        for each in (*found.missing, *found.notes):
            if before is None or each not in (*before.missing, *before.notes):
                log.warning("discovery", found=each) if each in found.missing else log.info("discovery", found=each)
        self._notes = (*found.missing, *found.notes)
        if not found.again:
            self._say(None)
        server = self.discovered.server
        associated = self.discovered.associated
        known = Remembered(
            address=_text(found.address) or last.address,
            address6=_text(found.address6) or last.address6,
            asn=self.discovered.asn or last.asn,
            server=server.id if server else last.server,
            server_asn=server.asn if server else last.server_asn,
            peers=tuple(map(address_text, server.addresses)) if server and server.addresses else last.peers,
            connection=_id(self.discovered.connection) if self.discovered.connections is not None else last.connection,
            tables=last.tables if associated is None else associated,
            interface=self.discovered.interface.id if self.discovered.interface else last.interface,
            alone=self._alone(self.discovered),
            environment=found.instance.environment if found.instance is not None else last.environment,
        )
        if known != self.known:
            self.known = known
            remembered.save(self.settings.state_dir, known)
        self._scheduled.machine = self.discovered.instance.name if self.discovered.instance is not None else None
        self._ask_about(known)
        self._use_tables(found.tables, known)
        self._found(known)
        self._changed()

    def _alone(self, found: Discovered) -> str | None:
        """Why there is no BGP for this node; None where there is, or where that is not known."""
        if found.again or self.settings.manage_peering:
            return self.known.alone if self.known is not None and found.again else None
        if found.server is None:
            return "no Route Server serves this network" if found.serverless and not self.settings.peers else None
        if found.connections is not None and found.connection is None:
            name, count = ids.name(found.server.id), len(found.connections)
            full = f"; it has {count} peers, and takes {CAP} (16 by newer sources)" if count >= CAP else ""
            return f"the Route Server {name} has no bgpConnection for this node{full}: it lives by the route table"
        return None

    def _ask_about(self, known: Remembered) -> None:
        """Where the network's own answers are to be had."""
        found, proving = self.discovered, self._proving
        if proving is None:
            return
        interface = found.interface if found is not None else None
        proving.about(
            None if known.connection is None else ResourceId(known.connection),
            interface.id if interface is not None and interface.machine is not None else None,
        )

    def _use_tables(self, read: tuple[RouteTable, ...], known: Remembered | None) -> None:
        """Keep the tables that are meant, as soon as it is known which, and who we are. ``read``: just now."""
        address = self.settings.known.address or (_address(known.address) if known else None)
        if self.tables is None or address is None:
            return
        self._node = Node(self.settings.node, address, _address(known.address6) if known else None)
        chosen = self.settings.known.route_tables or tuple(map(ResourceId, known.tables if known else ()))
        told = self.discovered is not None and self.discovered.associated is not None
        if chosen or told:
            self.tables.use(chosen, self._node, read)

    async def _ask_for_limits(self, found: Discovered) -> None:
        """How many routes a table takes. Not knowing costs the warning before it is full."""
        if self.tables is None or found.instance is None or not found.tables:
            return
        subscription = ids.subscription(found.tables[0].id)
        with contextlib.suppress(CloudError):
            usage = await resources.routes_per_table(self._client, subscription, found.instance.location)
            if usage is not None and usage.limit != self.tables.limit:
                self.tables.limit = usage.limit
                self._changed()

    # --- route tables ------------------------------------------------------------------------------------------------
    async def _keeping(self) -> None:
        if self.tables is not None:
            await self.tables.run()

    # --- the own bgpConnection ---------------------------------------------------------------------------------------
    async def _keeping_peering(self) -> None:
        pause = PEERING[0]
        while True:
            words, refused = None, False
            try:
                words = await self._keep_peering()
            except (CloudError, ValueError) as error:
                words, refused = f"the own bgpConnection cannot be kept: {error}{self._crowd()}", True
            self._tell_peering(words)
            pause = min(pause * 2, PEERING[1]) if refused else PEERING[0]  # all nodes ask the one Route Server
            await asyncio.sleep(pause * self._random.uniform(0.8, 1.5))

    async def _keep_peering(self) -> str | None:
        """Write it where it differs; what stands in the way."""
        found, asn = self.discovered, self.settings.known.asn
        if found is None or found.server is None or found.address is None or found.connections is None:
            return None
        if asn is None:
            return "azure.manage_peering needs bgp.asn: which AS number the Route Server is to expect"
        name = f"bgp-agent-{self.settings.node}"[:80]
        other = found.connection is not None and found.connection.name != name
        if other and found.connection is not None and found.connection.asn == asn:
            return None  # somebody made one for this address: it serves
        if await resources.put_connection(self._client, found.server.id, name, found.address, asn):
            log.info("wrote the own bgpConnection", name=name, server=ids.name(found.server.id))
            self._look.set()
        return None

    def _crowd(self) -> str:
        found = self.discovered
        count = len(found.connections) if found is not None and found.connections is not None else 0
        return f"; the Route Server has {count} peers already, and takes {CAP} (16 by newer sources)" * (count >= CAP)

    def _tell_peering(self, words: str | None) -> None:
        if words != self._peering:
            if words is not None:
                log.warning("peering", reason=words)
            self._peering = words
            self._changed()


def _merged(before: Discovered | None, found: Discovered) -> Discovered:
    """What could not be read this time, for whatever reason, keeps its last value: it is not known to be gone."""
    if before is None:
        return found
    server = found.server if found.server is not None and found.server.addresses else before.server or found.server
    return replace(
        found,
        instance=found.instance or before.instance,
        address=found.address or before.address,
        address6=found.address6 or before.address6,
        interface=found.interface or before.interface,
        network=found.network or before.network,
        subnets=found.subnets or before.subnets,
        associated=before.associated if found.associated is None else found.associated,
        tables=found.tables or before.tables,
        server=None if found.serverless else server,
        connections=before.connections if found.connections is None else found.connections,
        connection=before.connection if found.connections is None else found.connection,
        asn=found.asn or before.asn,
    )


def _id(connection: BgpConnection | None) -> str | None:
    return None if connection is None else connection.id


def _text(address: Address | None) -> str | None:
    return None if address is None else address_text(address)


def _address(text: str | None) -> Address | None:
    return None if text is None else parse_address(text)
