"""The shell around :class:`Fib` and :class:`NextHops`: it feeds them, and does what they say.

Three sockets: a writer (:meth:`Kernel.flush` is synchronous, its results exact), a listener for what others do, and one
for dumps. Messages alone are not enough (IPv4 routes vanish with their link without one, an address takes its routes
along), so any news of links or addresses, and anything that a message leaves unclear, brings a dump and a comparison; a
slow one runs anyway. Dumps follow each other at a distance that grows with what they cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import structlog

from bgp_agent.core.fib import Failure, Fib, Operation, Verb
from bgp_agent.core.nexthop import NextHops
from bgp_agent.core.prefix import Address, Family, Prefix, prefix_text
from bgp_agent.core.seen import MAIN, kind_of
from bgp_agent.kernel import rules, words
from bgp_agent.kernel.dumps import read_all, routes
from bgp_agent.kernel.listen import GROUPS, RULE_GROUPS, Listener
from bgp_agent.kernel.lookup import lookup
from bgp_agent.kernel.routes import Packer, Reader
from bgp_agent.kernel.sockets import BUFFER, Asker, Opener, Writer, open_socket
from bgp_agent.kernel.sysctl import Sysctls
from bgp_agent.kernel.wire import WireError

PERIOD: Final = 10.0  # seconds between dumps when nothing happens
_NEAREST: Final = 0.02  # seconds from one dump to the next, at least
_SHARE: Final = 3  # and so many times what the last one took
_FARTHEST: Final = 2.0  # but never more seconds than this
_LEISURE: Final = 100  # a dump with nothing to look for takes at most such a part of the time
_SELDOM: Final = 300.0  # but it comes after so many seconds, however long it takes
_QUIET: Final = 10.0  # seconds in which the same refusal is logged once
_REOPEN: Final = (0.1, 5.0)  # seconds until the sockets are opened again: first, and at most

log = structlog.get_logger("bgp_agent.kernel")


@dataclass(frozen=True, slots=True)
class Changed:
    """What is different now. ``routes``: prefixes whose state may be another; ``next_hops``: whose resolution is."""

    routes: AbstractSet[Prefix] = frozenset()
    next_hops: frozenset[Address] = frozenset()
    links: bool = False  # links or addresses of this node: own addresses and subnets may be others
    sysctls: bool = False
    ready: bool = False  # the first dump is complete; said once


class Kernel:
    """Makes the kernel's routes what the :class:`Fib` wants, and tells ``changed`` of what happens there.

    ``changed`` is called from the loop and may call :meth:`flush`. ``opener`` makes the netlink sockets.
    """

    def __init__(
        self,
        fib: Fib,
        next_hops: NextHops,
        changed: Callable[[Changed], None],
        *,
        families: Iterable[Family] = (Family.IPV4, Family.IPV6),
        opener: Opener = open_socket,
        buffer: int = BUFFER,
        period: float = PERIOD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sysctls = Sysctls()
        self.ready = False
        self.reason = "the kernel has not been read yet"  # empty while all is well
        self.dumps = 0  # whole ones, since the start
        self.overruns = 0  # times that the kernel had more to say than the buffer held
        self._fib = fib
        self._next_hops = next_hops
        self._changed = changed
        self._families = tuple(families)
        self._opener = opener
        self._buffer = buffer
        self._period = period
        self._clock = clock
        self._reader = Reader()
        self._writer: Writer | None = None
        self._wake = asyncio.Event()
        self._dump_asked = True
        self._broken: OSError | None = None  # why the writing socket is of no use any more
        self._logged: dict[str, float] = {}  # reasons of refusals, and when they were last logged

    # --- for the agent -----------------------------------------------------------------------------------------------
    def flush(self) -> AbstractSet[Prefix]:
        """Write what is due, now. Returns the prefixes whose state may have changed since this was last known.

        Does not wait and does not call ``changed``; what fails is kept by the Fib with its reason and tried again.
        """
        fib, writer = self._fib, self._writer
        if writer is not None and fib.due:
            while operations := fib.operations():
                if not self._write(writer, operations):
                    break
            if fib.suspicious or fib.next_timer() is not None:
                self._wake.set()
        return fib.take_changed()

    def lookup(self, address: Address, *, source: Address | None = None, iif: int | None = None) -> str:
        """What the kernel would do with a packet for ``address``, in words. ``iif``: a link's index."""
        try:
            asker = Asker(self._opener)
        except OSError as error:
            return f"the kernel cannot be asked: {error}"
        try:
            return lookup(asker, self._next_hops, address, source, iif)
        finally:
            asker.close()

    def warnings(self) -> tuple[str, ...]:
        """What of the node's set-up stands in the way, with the remedy."""
        trouble = (self.reason,) if self.reason else ()
        return trouble + self.sysctls.warnings(self._families, self._next_hops.links(), self._next_hops.interface)

    async def cleanup(self) -> int:
        """Take out every route of ours and our rules, whoever wrote them; returns how many routes. Raises OSError."""
        fib = self._fib
        with contextlib.closing(Asker(self._opener)) as asker, contextlib.closing(self._new_writer()) as writer:
            doomed = [
                Operation(Verb.DELETE, route.prefix, table, kind_of(route.target), None)
                for table in fib.tables
                async for piece in routes(asker, Reader(), table)
                for route in piece
                if (route.table, route.protocol, route.metric) == (table, fib.protocol, fib.metric)
            ]
            refusals, _ = writer.write(doomed)
            for position, said in refusals.items():
                if said.errno not in (errno.ESRCH, errno.ENOENT):
                    raise OSError(said.errno, words.failure(doomed[position], said, self._next_hops).words)
            if fib.table != MAIN:
                rules.remove(asker, fib.table, fib.protocol)
            return len(doomed)

    async def run(self) -> None:
        """Listen, compare and repair until cancelled. Sockets that fail are opened again."""
        delay = _REOPEN[0]
        while True:
            started = self._clock()
            try:
                await self._session()
            except* (OSError, WireError) as trouble:
                cause = _first(trouble)
                self.reason = f"the kernel cannot be watched: {cause}; trying again"
                log.warning("kernel sockets failed", reason=str(cause), again_in=delay)
            if self._clock() - started > _REOPEN[1]:
                delay = _REOPEN[0]
            await asyncio.sleep(delay)
            delay = min(delay * 2, _REOPEN[1])

    # --- inside ------------------------------------------------------------------------------------------------------
    def _new_writer(self) -> Writer:
        return Writer(self._opener, Packer(self._fib.metric, self._fib.protocol))

    def _write(self, writer: Writer, operations: list[Operation]) -> bool:
        """Write one round; False when the socket failed."""
        try:
            refusals, lost = writer.write(operations)
        except OSError as error:
            said = words.unwritable(error)
            log.warning("routes could not be written", routes=len(operations), reason=said.words)
            self._fib.results(operations, dict.fromkeys(range(len(operations)), said), self._clock())
            self._fib.suspicious = True  # part of it may have been done
            self._broken = error
            self._wake.set()
            return False
        if lost:
            self.overruns += 1
            self._fib.suspicious = True
        failures = {at: words.failure(operations[at], said, self._next_hops) for at, said in refusals.items()}
        self._fib.results(operations, failures, self._clock())
        self._log_failures(operations, failures)
        return True

    def _log_failures(self, operations: list[Operation], failures: dict[int, Failure]) -> None:
        """One line for each reason, not for each route, and not again within a while."""
        reasons: dict[str, list[Operation]] = {}
        for position, failure in failures.items():
            operation = operations[position]
            if failure.errno in (errno.ESRCH, errno.ENOENT) and operation.verb is not Verb.CREATE:
                continue  # it went before we came, with its link for example: the Fib knows what to do
            reasons.setdefault(failure.words, []).append(operation)
        now = self._clock()
        self._logged = {reason: at for reason, at in self._logged.items() if now - at < _QUIET}
        for reason, refused in reasons.items():
            if reason not in self._logged:
                self._logged[reason] = now
                first = prefix_text(refused[0].prefix)
                log.warning("the kernel refused routes", routes=len(refused), first=first, reason=reason)

    async def _session(self) -> None:
        """The life of one set of sockets."""
        with contextlib.closing(self._new_writer()) as writer:
            groups = GROUPS + (RULE_GROUPS if self._fib.table != MAIN else ())
            listener = Listener(
                self._opener, groups, self._fib, self._next_hops, self.sysctls, deaf_to=writer.port, buffer=self._buffer
            )
            with contextlib.closing(listener), contextlib.closing(Asker(self._opener)) as asker:
                self._writer = writer
                self._dump_asked = True
                self._broken = None
                try:
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._listen(listener), name="kernel: listen")
                        tasks.create_task(self._compare(asker), name="kernel: compare")
                finally:
                    self._writer = None

    async def _listen(self, listener: Listener) -> None:
        """Take in what others do, and answer at once."""
        while True:
            heard = await listener.hear()
            self.overruns += heard.overrun
            if heard.links:
                self._fib.retry_now()
            if heard.unclear:
                self._dump_asked = True
            if heard.sysctls or heard.links or self._fib.due or heard.routes:
                self._settle(links=heard.links, sysctls=heard.sysctls)
            if self._dump_asked or self._fib.suspicious:
                self._wake.set()

    async def _compare(self, asker: Asker) -> None:
        """Dump when something was unclear, slowly otherwise, and do what has waited for its time."""
        nearest = period = self._clock()
        while self._broken is None:
            now = self._clock()
            self._fib.handle_timer(now)
            if self._fib.due:
                self._settle()
            at = nearest if self._dump_asked or self._fib.suspicious else period
            if now >= at:
                took = await self._dump(asker)
                nearest = self._clock() + min(max(_NEAREST, _SHARE * took), _FARTHEST)
                period = self._clock() + max(self._period, min(_LEISURE * took, _SELDOM))
                continue
            timer = self._fib.next_timer()
            wait = (at if timer is None else min(at, timer)) - now
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(wait, 0)):
                    await self._wake.wait()
            self._wake.clear()
        raise self._broken

    async def _dump(self, asker: Asker) -> float:
        """Read everything, and close the differences that show. Returns the seconds that the reading took."""
        started = self._clock()
        fib = self._fib
        self._dump_asked = fib.suspicious = False
        links, sysctls = await read_all(asker, self._reader, fib, self._next_hops, self.sysctls)
        took = self._clock() - started
        self.reason = ""
        if fib.table != MAIN and fib.install:
            try:
                rules.add(asker, fib.table, fib.protocol)
            except OSError as error:
                self.reason = f"the rules for table {fib.table} cannot be set: {error.strerror}"
        if links:
            fib.retry_now()
        self.dumps += 1
        ready = fib.ready and not self.ready
        self.ready = fib.ready
        self._settle(links=links, sysctls=sysctls, ready=ready)
        return took

    def _settle(self, *, links: bool = False, sysctls: bool = False, ready: bool = False) -> None:
        """Tell and write. What makes others decide anew is told before anything is written, the rest after it."""
        repaired = self._fib.repaired
        next_hops = self._next_hops.take_changes()
        if next_hops or links or sysctls or ready:
            self._changed(Changed(self._fib.take_changed(), next_hops, links, sysctls, ready))
        written = self.flush()
        if written:
            self._changed(Changed(written))
        if self._fib.repaired > repaired:
            log.warning("routes put back that somebody took away", routes=self._fib.repaired - repaired)


def _first(trouble: BaseExceptionGroup[BaseException]) -> BaseException:
    """One of the causes, the first."""
    cause: BaseException = trouble
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause
