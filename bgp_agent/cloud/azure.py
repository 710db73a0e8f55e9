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
from collections.abc import Awaitable, Callable
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
from bgp_agent.cloud.errors import CloudError, Conflict, Denied
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.imds import Event, Imds, ImdsError
from bgp_agent.cloud.keeping import RouteTables
from bgp_agent.cloud.remembered import Remembered
from bgp_agent.core.attraction import CloudView
from bgp_agent.core.cloudtable import Node
from bgp_agent.core.prefix import Address, Prefix, address_text, parse_address
from bgp_agent.core.proof import Effective, Learned, Network, Row

log: Final = structlog.get_logger("bgp_agent")

LOOK_AROUND: Final = 300.0
"""Seconds between two discoveries when all is well."""
AGAIN: Final = (2.0, 60.0)
"""Seconds until the next one when something could not be read: at first, and at most."""
PROOF: Final = (2.0, 300.0)
"""Seconds between two questions for proof: while a decision waits for the answer, and otherwise."""
EVENTS: Final = 1.0
"""Seconds between two looks at scheduled events (Azure's own advice)."""
NO_IMDS: Final = 60.0
"""Seconds until IMDS is asked again after it did not answer."""
PEERING: Final = 60.0
"""Seconds between two looks at the own bgpConnection, and until a refused write of it is tried again."""
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
        self.urgent = False
        self.tables: RouteTables | None = None
        self._changed, self._found, self._clock = changed, found, clock
        self._imds = Imds(settings.imds_url)
        self._arm: Arm | None = None
        self._node: Node | None = None
        self._wanted: frozenset[Prefix] = frozenset()
        self._learned: Learned | None = None
        self._effective: Effective | None = None
        self._unprovable: str | None = None  # why effective routes cannot be had
        self._event: str | None = None
        self._problem: str | None = None
        self._notes: tuple[str, ...] = ()
        self._peering: str | None = None
        self._ask, self._look = asyncio.Event(), asyncio.Event()
        self._random = random.Random()  # noqa: S311 - spreads load, keeps no secret

    # --- what the core sees ------------------------------------------------------------------------------------------
    def view(self) -> CloudView:
        """All that is known now."""
        tables = self.tables
        view = tables.view() if tables is not None else None
        problems = [each for each in (self._problem, tables.problem() if tables is not None else None) if each]
        return CloudView(
            tables=view,
            node=self._node,
            network=self._network(),
            provable=self._provable(),
            alone=self.known.alone if self.known is not None else None,
            refused=tables.refused() if tables is not None else {},
            event=self._event,
            problem="; ".join(problems) or None,
            notes=(*self._notes, *(each for each in (self._unprovable, self._peering) if each is not None)),
            pending=tables.pending() if tables is not None else 0.0,
            covers=_COVERS,
            reads=tables.reads if tables is not None else 0,
            writes=tables.writes if tables is not None else 0,
        )

    def _network(self) -> Network:
        found, tables = self.discovered, self.tables.view() if self.tables is not None else None
        return Network(
            learned=self._learned,
            effective=self._effective,
            silent=tuple(ids.name(each.id) for each in tables or () if not each.propagates and each.subnets),
            space=found.network.space if found is not None and found.network is not None else (),
            forwarding=found.interface.forwarding if found is not None and found.interface is not None else None,
        )

    def _provable(self) -> bool:
        """Do effective routes of our interface show what the tables do: its subnet uses one of them."""
        found = self.discovered
        if found is None or found.interface is None or self._unprovable is not None or self.tables is None:
            return False
        homes = {ids.key(each.subnet) for each in found.interface.configurations if each.subnet is not None}
        kept = [each.found for each in self.tables.tables.values() if each.found is not None]
        return any(ids.key(subnet) in homes for table in kept for subnet in table.subnets)

    # --- what the core wants -----------------------------------------------------------------------------------------
    def want(self, prefixes: frozenset[Prefix], *, urgent: bool) -> None:
        """The own routes that shall stand in the tables; ``urgent``: a decision waits for the network's answer."""
        self._wanted = prefixes
        if self.tables is not None:
            self.tables.want(prefixes)
        if urgent and not self.urgent:
            self._ask.set()
        self.urgent = urgent

    # --- life --------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Until cancelled. No failure of Azure's ends it."""
        try:
            self._begin_with_what_is_remembered()
            await self._open()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._looking_around(), name="Azure: discovery")
                group.create_task(self._keeping(), name="Azure: route tables")
                group.create_task(self._proving(), name="Azure: proof")
                group.create_task(self._listening(), name="Azure: scheduled events")
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
        """The client of the right cloud, which IMDS names; without IMDS the public one, or ``azure.arm_url``."""
        settings, environment = self.settings, None
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
        self.tables.want(self._wanted)
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
        self.discovered = _merged(before, found) if found.again else found
        for each in (*found.missing, *found.notes):
            if before is None or each not in (*before.missing, *before.notes):
                log.warning("discovery", found=each) if each in found.missing else log.info("discovery", found=each)
        self._notes = (*found.missing, *found.notes)
        if not found.again:
            self._say(None)
        server = self.discovered.server
        known = Remembered(
            address=_text(found.address) or last.address,
            address6=_text(found.address6) or last.address6,
            asn=self.discovered.asn or last.asn,
            server=server.id if server else last.server,
            server_asn=server.asn if server else last.server_asn,
            peers=tuple(map(address_text, server.addresses)) if server and server.addresses else last.peers,
            connection=self.discovered.connection.id if self.discovered.connection else None,
            tables=tuple(each.id for each in self.discovered.tables) or (last.tables if found.again else ()),
            interface=self.discovered.interface.id if self.discovered.interface else last.interface,
            alone=self._alone(self.discovered),
        )
        if known != self.known:
            self.known = known
            remembered.save(self.settings.state_dir, known)
        self._use_tables(self.discovered.tables if found is self.discovered else (), known)
        self._found(known)
        self._changed()

    def _alone(self, found: Discovered) -> str | None:
        """Why there is no BGP for this node; None where there is, or where that is not known."""
        if found.again or self.settings.manage_peering:
            return self.known.alone if self.known is not None and found.again else None
        if found.server is None:
            return None if self.settings.peers or found.network is None else "no Route Server serves this network"
        if found.connections is not None and found.connection is None:
            name, count = ids.name(found.server.id), len(found.connections)
            full = f"; it has {count} peers, and takes {CAP} (16 by newer sources)" if count >= CAP else ""
            return f"the Route Server {name} has no bgpConnection for this node{full}: it lives by the route table"
        return None

    def _use_tables(self, found: tuple[object, ...], known: Remembered | None) -> None:
        address = self.settings.known.address or (_address(known.address) if known else None)
        if self.tables is None or address is None:
            return
        self._node = Node(self.settings.node, address, _address(known.address6) if known else None)
        chosen = self.settings.known.route_tables or tuple(map(ResourceId, known.tables if known else ()))
        if chosen or self.discovered is not None:
            read = list(self.discovered.tables) if found and self.discovered is not None else []
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

    # --- proof -------------------------------------------------------------------------------------------------------
    async def _proving(self) -> None:
        while True:
            self._ask.clear()
            await self._ask_once()
            pause = (PROOF[0] if self.urgent else PROOF[1]) * self._random.uniform(0.9, 1.1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ask.wait()

    async def _ask_once(self) -> None:
        found, known = self.discovered, self.known
        connection = known.connection if known is not None else None
        if connection is not None:
            await self._attempt(self._ask_server(ResourceId(connection)))
        interface = found.interface if found is not None else None
        if interface is not None and interface.machine is not None:
            self._unprovable = await self._attempt(self._ask_interface(interface.id))
        if connection is not None or interface is not None:
            self._changed()

    async def _attempt(self, question: Awaitable[None]) -> str | None:
        """Ask; why there was no answer and will be none soon."""
        try:
            await question
        except (Denied, Conflict) as error:
            right = error.action if isinstance(error, Denied) else None
            grant = f": grant {right}" if right else ""
            return f"the network's own answer cannot be had ({error}){grant}; hand-overs wait azure.settle instead"
        except CloudError as error:
            log.debug("no proof this time", reason=str(error))
        return self._unprovable

    async def _ask_server(self, connection: ResourceId) -> None:
        at = self._clock()
        found = await resources.learned_routes(self._client, connection)
        self._learned = Learned(at, {name: frozenset(each.prefix for each in has) for name, has in found.items()})

    async def _ask_interface(self, nic: ResourceId) -> None:
        at = self._clock()
        found = await resources.effective_routes(self._client, nic)
        rows = tuple(Row(each.prefix, each.source, each.active, each.next_hops) for each in found)
        self._effective = Effective(at, ids.name(nic), rows)
        self._unprovable = None

    # --- scheduled events --------------------------------------------------------------------------------------------
    async def _listening(self) -> None:
        """What Azure is about to do to this machine. Never approved from here: others need the notice, too."""
        while True:
            pause = EVENTS
            try:
                found = await self._imds.events()
            except ImdsError as error:
                log.debug("no answer about scheduled events", reason=str(error))
                pause = NO_IMDS if self._event is None else EVENTS * 5  # no answer takes nothing back
            else:
                self._note(found.events)
            await asyncio.sleep(pause)

    def _note(self, events: tuple[Event, ...]) -> None:
        instance = self.discovered.instance if self.discovered is not None else None
        if instance is None:
            return
        ours = [each for each in events if instance.name in each.machines]
        words = " and ".join(_event_words(each) for each in ours) or None
        if words != self._event:
            log.warning("Azure announces an event", what=words) if words else log.info("the announced event is over")
            self._event = words
            self._changed()

    # --- the own bgpConnection ---------------------------------------------------------------------------------------
    async def _keeping_peering(self) -> None:
        while True:
            try:
                await self._keep_peering()
            except CloudError as error:
                self._tell_peering(f"the own bgpConnection cannot be kept: {error}")
            except ValueError as error:
                self._tell_peering(f"the own bgpConnection cannot be made: {error}")
            await asyncio.sleep(PEERING * self._random.uniform(0.8, 1.5))

    async def _keep_peering(self) -> None:
        found, asn = self.discovered, self.settings.known.asn
        if found is None or found.server is None or found.address is None or found.connections is None:
            return
        if asn is None:
            self._tell_peering("azure.manage_peering needs bgp.asn: which AS number the Route Server is to expect")
            return
        if found.connection is None and len(found.connections) >= CAP:
            count = len(found.connections)
            self._tell_peering(f"the Route Server has {count} peers already, and takes {CAP} (16 by newer sources)")
        name = f"bgp-agent-{self.settings.node}"[:80]
        other = found.connection is not None and found.connection.name != name
        if other and found.connection is not None and found.connection.asn == asn:
            return  # somebody made one for this address: it serves
        if await resources.put_connection(self._client, found.server.id, name, found.address, asn):
            log.info("wrote the own bgpConnection", name=name, server=ids.name(found.server.id))
            self._look.set()
        self._tell_peering(None)

    def _tell_peering(self, words: str | None) -> None:
        if words != self._peering:
            if words is not None:
                log.warning("peering", reason=words)
            self._peering = words
            self._changed()


def _merged(before: Discovered | None, found: Discovered) -> Discovered:
    """What could not be read this time keeps its last value."""
    if before is None:
        return found
    return replace(
        found,
        instance=found.instance or before.instance,
        address=found.address or before.address,
        interface=found.interface or before.interface,
        network=found.network or before.network,
        subnets=found.subnets or before.subnets,
        tables=found.tables or before.tables,
        server=found.server if found.server is not None and found.server.addresses else before.server or found.server,
        connections=before.connections if found.connections is None else found.connections,
        connection=found.connection or before.connection,
        asn=found.asn or before.asn,
    )


def _event_words(event: Event) -> str:
    due = "now"
    if event.not_before is not None:
        due = time.strftime("not before %H:%M:%S UTC", time.gmtime(event.not_before))
    return f"Azure is to {event.kind} this machine ({event.status}, {due})"


def _text(address: Address | None) -> str | None:
    return None if address is None else address_text(address)


def _address(text: str | None) -> Address | None:
    return None if text is None else parse_address(text)
