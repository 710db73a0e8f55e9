"""The prober of one node: asks by the schedule, listens for others, reports what the network answered.

Two kinds of question share one method. A *learned* prefix is asked for from an own block that was proved before, where
there is one; an *own* block is proved by asking, from an address in it, whoever answered last. So a silence points at
the one that is not proved yet. Every answer proves both ends: the packet went by the network's route for their block,
its answer by the route for ours.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog

from bgp_agent.core.prefix import (
    Address,
    Family,
    Prefix,
    PrefixSet,
    address_of,
    address_text,
    family_of,
    host,
    length_of,
    network,
    prefix_text,
)
from bgp_agent.core.probing import (
    Delivered,
    Evidence,
    Misdelivered,
    Schedule,
    Silence,
    judge,
    owner_changed,
)
from bgp_agent.core.reports import Verified
from bgp_agent.probe import handshake, setup, ttl
from bgp_agent.probe.handshake import Answer, MakeSocket, SilentError

IN_FLIGHT: Final = 32
"""Questions that wait for an answer at one time."""

ASKED: Final = 4
"""Of these, on demand."""

TIMEOUT: Final = 1.5
"""Seconds for one handshake: the kernel repeats a lost SYN after one."""

CHECK: Final = 30.0
"""Seconds between two looks at rules, routes and listeners; what somebody took away is put back."""

TRACE_PACE: Final = 1.0
"""Seconds between two TTL probes: Linux answers one source about once a second."""

REMEMBERED: Final = 16
"""Prefixes whose node answered lately: whom to ask for an own block."""

_LOG: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)

Deliver: TypeAlias = Callable[[list[tuple[Prefix, Verified]]], None]


#: One value for every prefix that was never asked for: it is frozen, and there may be 100,000 of them.
_UNASKED: Final = Verified()


@dataclass(slots=True)
class _Learned:
    owner: Address | None
    verified: Verified = _UNASKED


class Prober:
    """Proves who gets packets. ``deliver`` hears each new :class:`Verified`, of learned prefixes and own blocks.

    Before :meth:`run`, and while rule or listener cannot be set up, nothing is asked; ``state`` is ``off`` and
    ``reason`` says why. ``in_use``: is this address of an own block a pod's; such a one is not used as a source where
    there is another.
    """

    def __init__(
        self, node: str, port: int, deliver: Deliver, *, make: MakeSocket = socket.socket,
        in_use: Callable[[Address], bool] | None = None, random_source: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time, timeout: float = TIMEOUT,
    ) -> None:  # fmt: skip
        self.node, self.port = node, port
        self.state, self.reason = "off", "not started yet"
        self._deliver, self._make, self._in_use = deliver, make, in_use
        self._clock, self._wall, self._timeout = clock, wall, timeout
        random_source = random_source or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._schedule = Schedule(random_source)
        self._count = random_source.randrange(1 << 16)
        self._pools = PrefixSet()
        self._uplinks: frozenset[str] = frozenset()
        self._own_set = PrefixSet()
        self._own: dict[Prefix, Verified] = {}
        self._silent: set[Prefix] = set()  # own blocks that nobody answered last time
        self._learned: dict[Prefix, _Learned] = {}
        self._nodes: dict[Address, int] = {}  # owners, with how many learned prefixes each has
        self._more_nodes: frozenset[Address] = frozenset()
        self._answering: OrderedDict[Prefix, None] = OrderedDict()
        self._listeners: dict[Family, handshake.Listener] = {}
        self._wake, self._check = asyncio.Event(), asyncio.Event()
        self._flights = asyncio.Semaphore(IN_FLIGHT)
        self._asked = asyncio.Semaphore(ASKED)
        self._next_trace = float("-inf")

    # --- facts ---------------------------------------------------------------------------------------------------
    def pools(self, pools: Iterable[Prefix]) -> None:
        """The pools: the only addresses that are asked for and answered for."""
        self._pools = PrefixSet(pools)
        self._check.set()

    def uplinks(self, names: Iterable[str]) -> None:
        """The interfaces by which packets for the pools come in."""
        if (new := frozenset(names)) != self._uplinks:
            self._uplinks = new
            self._check.set()

    def nodes(self, addresses: Iterable[Address]) -> None:
        """Addresses of nodes beyond the owners of learned prefixes: the TTL probe tells nodes from routers by them."""
        self._more_nodes = frozenset(addresses)

    def own(self, prefixes: PrefixSet) -> None:
        """The blocks that this node announces: what the listener answers for, and the sources of questions."""
        self._own_set = prefixes
        for prefix in [known for known in self._own if known not in prefixes]:
            del self._own[prefix]
            self._silent.discard(prefix)
            self._schedule.forget(prefix)
        for prefix in prefixes:
            if prefix not in self._own:
                self._own[prefix] = Verified()
                self.changed(prefix)

    def learned(self, prefix: Prefix, owner: Address | None) -> None:
        """Another node's prefix, and that node's address where it is known. Asked for at once when either is new."""
        self.learned_many(((prefix, owner),))

    def learned_many(self, told: Iterable[tuple[Prefix, Address | None]]) -> None:
        """As :meth:`learned`, for many."""
        now = self._clock()
        new = []
        for prefix, owner in told:
            known = self._learned.get(prefix)
            if known is None:
                self._learned[prefix] = _Learned(owner)
            elif known.owner == owner:
                continue
            else:
                self._count_node(known.owner, -1)
                known.owner, known.verified = owner, owner_changed(known.verified)
                self._answering.pop(prefix, None)
                self._deliver([(prefix, known.verified)])
            self._count_node(owner, 1)
            new.append(prefix)
        if new:
            self._schedule.changed_many(new, now)
            self._wake.set()

    def changed(self, prefix: Prefix) -> None:
        """Something that decides about ``prefix`` changed: ask for it at once."""
        if prefix in self._own or prefix in self._learned:
            self._schedule.changed(prefix, self._clock())
            self._wake.set()

    def forget(self, prefix: Prefix) -> None:
        """A learned prefix is gone."""
        known = self._learned.pop(prefix, None)
        if known is not None:
            self._count_node(known.owner, -1)
            self._answering.pop(prefix, None)
            if prefix not in self._own:
                self._schedule.forget(prefix)

    def verified(self, prefix: Prefix) -> Verified:
        """What is known of an own block or a learned prefix."""
        if prefix in self._own:
            return self._own[prefix]
        known = self._learned.get(prefix)
        return known.verified if known else Verified()

    def _count_node(self, owner: Address | None, step: int) -> None:
        if owner is not None:
            count = self._nodes.get(owner, 0) + step
            if count:
                self._nodes[owner] = count
            else:
                del self._nodes[owner]

    def _is_node(self, address: Address) -> bool:
        return address in self._nodes or address in self._more_nodes

    # --- life ----------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Listen and ask until cancelled. Rules and routes stay: the next agent adopts them."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_set_up())
                group.create_task(self._ask_by_schedule(group))
        finally:
            for listener in self._listeners.values():
                listener.close()
            self._listeners.clear()
            self.state, self.reason = "off", "stopped"

    async def _keep_set_up(self) -> None:
        while True:
            self._check.clear()
            self._set_up()
            self._wake.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK):
                    await self._check.wait()

    def _set_up(self) -> None:
        """Rule, route and listener for each family of the pools; one that fails leaves the others as they are."""
        problems = []
        if not self._pools:
            problems.append("no pools are known")
        elif not self._uplinks:
            problems.append("no uplink is known: the interface by which packets for the pools come in")
        else:
            families = {family_of(pool) for pool in self._pools}
            problems += [problem for family in families if (problem := self._set_up_family(family))]
            for family in set(self._listeners) - families:
                self._listeners.pop(family).close()
        self.state = "on" if self._listeners else "off"
        ready = f"listening on TCP port {self.port} on {', '.join(sorted(self._uplinks))}"
        self.reason = "; ".join(problems) or ready

    def _set_up_family(self, family: Family) -> str | None:
        try:
            setup.ensure(self._make, self.port, self._pools, self._uplinks, family)
            if family not in self._listeners:
                made = handshake.transparent(self._make, family, self.port, None)
                try:
                    self._listeners[family] = handshake.Listener(made, self._answer)
                except OSError:
                    made.close()
                    raise
        except setup.SetupError as error:
            return str(error)
        except OSError as error:
            return (
                f"cannot listen on TCP port {self.port} ({family.value}): {error.strerror}; set probe.port or free it"
            )
        return None

    def _answer(self, local: Address) -> bytes | None:
        """The listener's line for the address that somebody was handed to us by."""
        if self._pools.covering(host(local)) is None:
            return None
        return handshake.answer_line(self.node, own=self._own_set.covering(host(local)) is not None)

    # --- asking --------------------------------------------------------------------------------------------------
    async def _ask_by_schedule(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._wake.clear()
            await self._flights.acquire()
            self._flights.release()
            due = self._schedule.due(self._clock(), limit=1) if self._listeners else []
            for prefix in due:
                await self._flights.acquire()
                group.create_task(self._scheduled(prefix))
            if not due:
                await self._rest()

    async def _rest(self) -> None:
        """Wait until the schedule has something, or something changes."""
        at = self._schedule.next_time() if self._listeners else None
        with suppress(TimeoutError):
            async with asyncio.timeout(None if at is None else max(at - self._clock(), 0.001)):
                await self._wake.wait()

    async def _scheduled(self, prefix: Prefix) -> None:
        answered = False
        try:
            answered = await self._question(prefix, None, on_demand=False)
        except Exception:  # noqa: BLE001 - a task's root: one probe must not end all others
            _LOG.exception("probe failed; the prefix is asked again", prefix=prefix_text(prefix))
        finally:
            self._flights.release()
        now = self._clock()
        (self._schedule.answered if answered else self._schedule.silent)(prefix, now)
        self._wake.set()

    async def probe(self, target: Address | Prefix) -> Verified:
        """Ask for an address or a prefix now, by both methods where the first is silent; takes a few seconds at most.

        For an own block the question goes *from* it, to nodes that answered before. Whoever asks wants to know about
        now: silence is ``unknown``, whatever was proved before; its reason tells that too.
        """
        aim = Address(target) if len(target) in (4, 16) else None
        wanted = host(aim) if aim else Prefix(target)
        if self._pools.covering(wanted) is None:
            return Verified(reason=f"{prefix_text(wanted)} lies outside the pools: only pod blocks can be asked for")
        known = (self._own_set.covering(wanted), self._covering(wanted))
        prefix = max((prefix for prefix in known if prefix), key=length_of, default=wanted)
        async with self._asked:
            self._schedule.spend(self._clock())
            if prefix in self._own or prefix in self._learned:
                answered = await self._question(prefix, aim, on_demand=True)
                known_now = self.verified(prefix)
                return known_now if answered else Verified(reason=known_now.reason)
            evidence = await self._learned_evidence(prefix, None, aim, on_demand=True)
            return judge(Verified(), evidence, by=self.node, at=self._wall())

    def _covering(self, wanted: Prefix) -> Prefix | None:
        """The most specific learned prefix that covers ``wanted``."""
        for length in range(length_of(wanted), -1, -1):
            candidate = network(address_of(wanted), length)
            if candidate in self._learned:
                return candidate
        return None

    async def _question(self, prefix: Prefix, aim: Address | None, *, on_demand: bool) -> bool:
        """Ask for one known prefix and report; is there an answer."""
        if prefix in self._own:
            evidence = await self._own_evidence(prefix, aim, tries=3 if on_demand else 1)
            if prefix not in self._own:
                return False
            self._note_own(prefix, evidence)
        else:
            known = self._learned.get(prefix)
            if known is None:
                return False
            owner = known.owner
            evidence = await self._learned_evidence(prefix, owner, aim, on_demand=on_demand)
            self._note_learned(prefix, owner, evidence)
        return not isinstance(evidence, Silence)

    def _note_learned(self, prefix: Prefix, owner: Address | None, evidence: Evidence) -> None:
        """``evidence`` about a learned prefix; when it went to another ``owner`` meanwhile, it is about the past."""
        known = self._learned.get(prefix)
        if known is not None and known.owner == owner:
            known.verified = judge(known.verified, evidence, by=self.node, at=self._wall())
            self._deliver([(prefix, known.verified)])

    def _note_own(self, prefix: Prefix, evidence: Evidence) -> None:
        """``evidence`` about an own block: a :class:`Delivered` names the node that asked it for us."""
        at = self._wall()
        if isinstance(evidence, Delivered):
            self._silent.discard(prefix)
            self._own[prefix] = Verified("delivered", self.node, evidence.node, at, evidence.how)
        else:
            self._silent.add(prefix)
            self._own[prefix] = judge(self._own[prefix], evidence, by=self.node, at=at)
        self._deliver([(prefix, self._own[prefix])])

    async def _own_evidence(self, prefix: Prefix, aim: Address | None, *, tries: int) -> Evidence:
        """Ask, from an address in the own ``prefix``, nodes that answered before; else any learned prefix."""
        source = aim or self._address(prefix, avoid_used=True)
        evidence: Evidence = Silence("no block of another node is known yet: there is nobody to ask")
        for prefix_asked, owner in self._targets(family_of(prefix), tries):
            target = self._address(prefix_asked)
            got = await self._handshake(source, target)
            if isinstance(got, Answer):
                self._heard(prefix_asked)
                self._note_learned(prefix_asked, owner, _of_target(got, target))
                return _of_source(got, source)
            evidence = got
        return evidence

    def _targets(self, family: Family, count: int) -> list[tuple[Prefix, Address | None]]:
        """Whom to ask for an own block, and its owner: first who answered lately, in turn, then any."""
        out = [prefix for prefix in self._answering if family_of(prefix) is family][:count]
        for prefix in self._learned:
            if len(out) >= count:
                break
            if family_of(prefix) is family and prefix not in out:
                out.append(prefix)
        return [(prefix, self._learned[prefix].owner) for prefix in out]

    async def _learned_evidence(
        self, prefix: Prefix, owner: Address | None, aim: Address | None, *, on_demand: bool
    ) -> Evidence:
        target = aim or self._address(prefix)
        block = self._source_block(family_of(target))
        source = self._address(block, avoid_used=True) if block else None
        got = await self._handshake(source, target)
        if isinstance(got, Silence):
            traced = await self._trace(target, owner, on_demand=on_demand)
            return got if traced is None or isinstance(traced, Silence) else traced
        self._heard(prefix)
        if block and source and block in self._own:
            self._note_own(block, _of_source(got, source))
        return _of_target(got, target)

    async def _handshake(self, source: Address | None, target: Address) -> Answer | Silence:
        if family_of(target) not in self._listeners:
            return Silence(f"the handshake is off: {self.reason}")
        line = handshake.answer_line(self.node, own=source is not None)
        try:
            return await handshake.ask(self._make, self.port, source, target, line=line, timeout=self._timeout)
        except SilentError as error:
            return Silence(str(error))

    async def _trace(self, target: Address, owner: Address | None, *, on_demand: bool) -> Evidence | None:
        """The TTL probe, at its own pace; None when it is not its time."""
        now = self._clock()
        if now < self._next_trace and not on_demand:
            return None
        self._next_trace = now + TRACE_PACE
        return await ttl.trace(self._make, target, owner=owner, is_node=self._is_node)

    # --- which addresses -----------------------------------------------------------------------------------------
    def _heard(self, prefix: Prefix) -> None:
        """Whoever gets packets for ``prefix`` answers: put it at the end of those to ask for own blocks."""
        if prefix in self._learned:
            self._answering[prefix] = None
            self._answering.move_to_end(prefix)
            if len(self._answering) > REMEMBERED:
                self._answering.popitem(last=False)

    def _source_block(self, family: Family) -> Prefix | None:
        """The own block to ask from: in turn, those that were proved before the others."""
        blocks = sorted(block for block in self._own if family_of(block) is family)
        proved = [b for b in blocks if b not in self._silent and self._own[b].state == "delivered"]
        choice = proved or blocks
        self._count += 1
        return choice[self._count % len(choice)] if choice else None

    def _address(self, prefix: Prefix, *, avoid_used: bool = False) -> Address:
        """An address of ``prefix``, another one each time; not the first or last where there are others."""
        for _ in range(8):
            self._count += 1
            if not (avoid_used and self._elsewhere(address_in(prefix, self._count))):
                break
        return address_in(prefix, self._count)

    def _elsewhere(self, address: Address) -> bool:
        """Does a pod have this address of ours, or did another node borrow it."""
        return host(address) in self._learned or (self._in_use is not None and self._in_use(address))


def _of_source(got: Answer, source: Address) -> Delivered:
    """What an answer proves for the own block that the question came from."""
    return Delivered(got.node, f"{got.node} answered to {address_text(source)}, and the answer came here")


def _of_target(got: Answer, target: Address) -> Evidence:
    """What an answer proves for the block that was asked for."""
    if got.own:
        return Delivered(got.node, f"{got.node} has {address_text(target)} in a block that it announces")
    return Misdelivered(got.node, f"{got.node} got the packet for {address_text(target)} and does not announce it")


def address_in(prefix: Prefix, turn: int) -> Address:
    """One address of ``prefix`` for each ``turn``: neighbours in turn are far apart, first and last are left out."""
    size = len(prefix) - 1
    total = 1 << (size * 8 - length_of(prefix))
    first, count = (1, total - 2) if total > 2 else (0, total)
    offset = first + turn * 0x9E3779B1 % count  # Fibonacci hashing: Knuth, The Art of Computer Programming, 6.4
    return Address((int.from_bytes(prefix[:-1], "big") + offset).to_bytes(size, "big"))
