"""Desired against seen: which of our routes the kernel lacks, has wrong or has too many.

Three rules keep strangers' routes untouched, because the kernel would overwrite them without a word:

* a first write is CREATE and EXCL, so that it fails where anybody stands at (prefix, metric);
* a REPLACE goes only where the last knowledge shows our protocol at that key, and nobody beside it;
* a DELETE names protocol, metric and type, and no gateway.

And one keeps ours: a prefix that was found as ours and that nobody has spoken of is *adopted*. It stays until
:meth:`Fib.want` says what shall become of it, so that a restarted agent changes nothing that is right.

With a table of our own, unicast routes live there and blackholes in main (beside a pod's own /32 there); a prefix that
changes its kind is written in the new place first and taken out of the old one when that stands. Main is asked first,
all of it but its default route, so whatever there covers a prefix of ours forwards in its place.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Final, NamedTuple

from bgp_agent.core.prefix import Address, Prefix, address_text, is_host, network, prefix_text
from bgp_agent.core.seen import MAIN, KernelRoute, Seen, Strange, TableView, protocol_text
from bgp_agent.core.values import Blackhole, Hop, RouteState, Target, Unicast

_operation: Final = tuple.__new__  # a NamedTuple's own constructor costs three times as much

FIRST_RETRY: Final = 0.5  # seconds; doubles at each failure
ROUND: Final = 4096  # operations; more at once only cost memory, and the first ones time
LONGEST_RETRY: Final = 30.0  # seconds
#: By these the kernel refuses a unicast route for its next hop: the fault of whoever told it, and of that route alone.
_NEXT_HOP: Final = frozenset({errno.EINVAL, errno.ENETUNREACH, errno.EHOSTUNREACH})


class Verb(Enum):
    """What is done to the route at our key."""

    CREATE = "create"
    REPLACE = "replace"
    DELETE = "delete"


class Operation(NamedTuple):
    """One change of one route. ``kind``: the ``rtm_type`` that is written, or deleted. A DELETE has no target."""

    verb: Verb
    prefix: Prefix
    table: int
    kind: int
    target: Target | None


class Failure(NamedTuple):
    """Why the kernel refused an operation: its errno, and the sentence for people."""

    errno: int
    words: str


@dataclass(slots=True)
class _Retry:
    """A failed operation that waits. ``at``: monotonic seconds. ``next_hop``: that is what the kernel refused."""

    at: float
    delay: float
    words: str
    next_hop: bool


def _link_number(index: int) -> str:
    return f"link {index}"


def _never(_index: int) -> None:
    return None


class Fib:
    """Our routes as they shall be and as they are. Pure; ``now`` is monotonic seconds.

    ``install`` False: nothing is ever written, everything is still read. ``interface`` names a link for the reasons.
    ``down`` tells why nothing can be sent over a link: a route over it is not tried before :meth:`retry_now`.
    """

    def __init__(
        self,
        metric: int,
        protocol: int,
        table: int = MAIN,
        *,
        install: bool = True,
        interface: Callable[[int], str] = _link_number,
        down: Callable[[int], str | None] = _never,
    ) -> None:
        self.metric = metric
        self.protocol = protocol
        self.table = table
        self.install = install
        self.repaired = 0  # routes that somebody or a link took away and that we put back
        self.suspicious = False  # something was heard that only a dump can explain; the shell clears it as it dumps
        self._interface = interface
        self._down = down
        self._routes = TableView(table, protocol, metric)
        self._holes = self._routes if table == MAIN else TableView(MAIN, protocol, metric)
        self._apart = table != MAIN  # unicast routes have a table of their own
        self._views = {view.table: view for view in (self._routes, self._holes)}
        self._lengths: list[int] | None = None  # of what is in main, the longest first; None: to be looked at again
        self._unread = set(self._views)  # tables that were never dumped
        self._want: dict[Prefix, Target] = {}
        self._dismissed: set[Prefix] = set()  # "not wanted" was said, and ours may still be there
        self._due: dict[Prefix, None] = {}  # to be compared, and written, at the next operations()
        self._retries: dict[Prefix, _Retry] = {}
        self._next_retry: float | None = None
        self._held: dict[Prefix, int] = {}  # prefixes whose very key a stranger has: his protocol
        self._blocked: dict[Prefix, str] = {}  # prefixes whose link is down, and that sentence
        self._taken: set[Prefix] = set()  # wanted routes that went without our doing
        self._changed: set[Prefix] = set()

    # --- what is wanted ----------------------------------------------------------------------------------------------
    def want(self, prefix: Prefix, target: Target | None) -> None:
        """Say what the prefix shall have. None: nothing of ours, and what is ours there goes."""
        self.want_many(((prefix, target),))

    def want_many(self, wanted: Iterable[tuple[Prefix, Target | None]]) -> None:
        """As :meth:`want`, for many prefixes."""
        want, due, changed = self._want, self._due, self._changed
        dismissed, retries, held, blocked = self._dismissed, self._retries, self._held, self._blocked
        for prefix, target in wanted:
            if target is None:
                self._unwant(prefix)
                continue
            before = want.get(prefix)
            if before is target:
                continue
            want[prefix] = target
            if before == target:
                continue
            due[prefix] = None
            changed.add(prefix)
            if dismissed:
                dismissed.discard(prefix)
            if retries:
                retries.pop(prefix, None)
            if held:
                held.pop(prefix, None)
            if blocked:
                blocked.pop(prefix, None)

    def _unwant(self, prefix: Prefix) -> None:
        self._want.pop(prefix, None)
        self._taken.discard(prefix)
        self._retries.pop(prefix, None)
        self._held.pop(prefix, None)
        self._blocked.pop(prefix, None)
        self._due.pop(prefix, None)
        if self._unread or prefix in self._routes.ours or prefix in self._holes.ours:
            self._dismissed.add(prefix)
            self._due[prefix] = None
        self._changed.add(prefix)

    # --- what the kernel shows ---------------------------------------------------------------------------------------
    @property
    def tables(self) -> tuple[int, ...]:
        """The tables to dump and to listen to."""
        return tuple(self._views)

    @property
    def ready(self) -> bool:
        """Has every table been read once. Nothing is written before."""
        return not self._unread

    def begin(self, table: int) -> None:
        """A dump of the table (both families) begins."""
        self._views[table].begin()

    def rows(self, table: int, routes: Iterable[KernelRoute]) -> None:
        """Routes of the dump that is running, in any number of pieces."""
        for prefix in self._views[table].rows(routes):
            self._differs(prefix)

    def end(self, table: int) -> None:
        """The dump came to its end, so what it did not show is gone. An aborted dump never says this."""
        view = self._views[table]
        vanished, changed, again = view.end()
        self._unread.discard(table)
        self._lengths = None
        for prefix in vanished:
            self._differs(prefix)
        for prefix in changed:
            if prefix in self._want:
                self._due[prefix] = None
            if prefix in self._want or is_host(prefix) or self._apart:
                self._changed.add(prefix)
        if again:
            self.suspicious = True

    def new(self, route: KernelRoute) -> None:
        """Somebody else's RTM_NEWROUTE."""
        view = self._views.get(route.table)
        if view is None:
            return
        prefix = route.prefix
        if route.protocol == self.protocol and route.metric == self.metric:
            if view.ours.get(prefix) != route.target or not route.plain:
                self.suspicious = True  # overwritten, appended or joined: the message does not say what stands now
        else:
            self._stranger(view, route, present=True)

    def deleted(self, route: KernelRoute) -> None:
        """Somebody else's RTM_DELROUTE."""
        view = self._views.get(route.table)
        if view is None:
            return
        prefix = route.prefix
        if route.protocol == self.protocol and route.metric == self.metric:
            known = view.ours.get(prefix)
            if known == route.target:
                view.drop(prefix)
                view.touch(prefix)
                self._lengths = None
                self._differs(prefix)
            elif known is not None:
                self.suspicious = True  # one next hop of several, or something we never saw
        else:
            self._stranger(view, route, present=False)

    def _stranger(self, view: TableView, route: KernelRoute, *, present: bool) -> None:
        """Somebody else's route came or went. At our very key it may have taken ours, or be about to."""
        prefix = route.prefix
        view.note(prefix, route.metric, route.protocol, present=present)
        self._lengths = None
        wanted = prefix in self._want
        if wanted or is_host(prefix) or self._apart:  # an address in use here decides about what may be learned
            self._changed.add(prefix)
        if route.metric == self.metric and (wanted or prefix in view.ours):
            self.suspicious = True  # in the place of ours, before it, or inside of it: the message does not say
            self._due[prefix] = None

    def _differs(self, prefix: Prefix) -> None:
        """Ours at the prefix is not what it was."""
        if prefix in self._want:
            if self.ready:
                self._taken.add(prefix)
            self._due[prefix] = None
        elif prefix in self._dismissed:
            self._due[prefix] = None
        self._changed.add(prefix)

    # --- closing the difference --------------------------------------------------------------------------------------
    def operations(self) -> list[Operation]:
        """What to do now, in this order; every result goes to :meth:`results` before this is asked again.

        At most :data:`ROUND` at a time, and a prefix may need two rounds, so ask until the list is empty.
        """
        operations: list[Operation] = []
        while self._due and not operations and not self._unread and self.install:
            self._compare(self._next_round(), operations)
        return operations

    def _next_round(self) -> list[Prefix]:
        prefixes = list(islice(self._due, ROUND))
        if len(prefixes) == len(self._due):
            self._due = {}  # a dictionary that was emptied one by one is slow to look for its first key
        else:
            for prefix in prefixes:
                del self._due[prefix]
        return prefixes

    def _compare(self, prefixes: Iterable[Prefix], operations: list[Operation]) -> None:
        append, step, create = operations.append, self._step, Verb.CREATE
        want, ours, others, held = self._want, self._routes.ours, self._routes.others, self._held
        plain = not self._apart
        blocked: dict[int, str | None] = {}  # by the identity of a target, for this round
        operation: Operation | None
        for prefix in prefixes:
            if self._blocked:
                self._blocked.pop(prefix, None)
            target = want.get(prefix)
            # The bulk of a bulk, a new route where nobody is, in short; everything else, and the same, in _step().
            if plain and type(target) is Unicast and prefix not in ours and prefix not in others and not held:
                operation = _operation(Operation, (create, prefix, MAIN, 1, target))
            elif (operation := step(prefix)) is None:
                continue
            if type(target) is Unicast and operation[4] is target:
                key = id(target)
                why = blocked[key] if key in blocked else blocked.setdefault(key, self._why_blocked(target))
                if why is not None:
                    self._blocked[prefix] = why
                    self._changed.add(prefix)
                    continue
            append(operation)

    def _why_blocked(self, target: Unicast) -> str | None:
        down = {why for hop in target.hops if (why := self._down(hop.interface)) is not None}
        return f"network unreachable: {', '.join(sorted(down))}" if down else None

    def _step(self, prefix: Prefix) -> Operation | None:
        target = self._want.get(prefix)
        if target is None:
            return self._removal(prefix)
        hole = type(target) is Blackhole
        home = self._holes if hole else self._routes
        seen = home.ours.get(prefix)
        kind = 6 if hole else 1
        if self._held:
            self._held.pop(prefix, None)
        if seen is not target and seen != target:
            holder = home.holder(prefix) if prefix in home.others else None
            if holder is None:
                return Operation(Verb.CREATE if seen is None else Verb.REPLACE, prefix, home.table, kind, target)
            self._held[prefix] = holder
            if seen is None:
                self._retries.pop(prefix, None)
                return None
            return Operation(Verb.DELETE, prefix, home.table, home.kind(prefix), None)  # a REPLACE would hit the holder
        self._taken.discard(prefix)
        self._retries.pop(prefix, None)
        old = self._routes if hole else self._holes
        if old is not home and prefix in old.ours:
            return Operation(Verb.DELETE, prefix, old.table, old.kind(prefix), None)
        return None

    def _removal(self, prefix: Prefix) -> Operation | None:
        if prefix in self._dismissed:
            for view in (self._routes, self._holes):
                if prefix in view.ours:
                    return Operation(Verb.DELETE, prefix, view.table, view.kind(prefix), None)
            self._dismissed.discard(prefix)
        return None

    def results(self, operations: Sequence[Operation], failures: Mapping[int, Failure], now: float) -> None:
        """What became of ``operations``: each was done, but those whose position is in ``failures``."""
        for position, operation in enumerate(operations):
            if failures and position in failures:
                self._failed(operation, failures[position], now)
            elif operation[4] is None:
                self._removed(operation)
            else:
                self._written(operation)
        done = [operation[1] for operation in operations]
        self._lengths = None
        for view in self._views.values():
            view.touch_all(done)
        self._changed.update(done)
        if self._taken:
            self._settle(self._taken.intersection(done))

    def _settle(self, prefixes: Iterable[Prefix]) -> None:
        for prefix in prefixes:
            target = self._want.get(prefix)
            home = self._holes if isinstance(target, Blackhole) else self._routes
            if target is not None and home.ours.get(prefix) == target:
                self._taken.discard(prefix)
                self.repaired += 1

    def _written(self, operation: Operation) -> None:
        _, prefix, table, _, target = operation
        if target is not None:
            self._views[table].put(prefix, target)
        if self._retries:
            self._retries.pop(prefix, None)
        if self._apart:
            self._due[prefix] = None  # a prefix that changed its kind leaves its old place now

    def _removed(self, operation: Operation) -> None:
        prefix = operation.prefix
        self._views[operation.table].drop(prefix)
        self._retries.pop(prefix, None)
        if prefix in self._want or self._apart:
            self._due[prefix] = None
        else:
            self._dismissed.discard(prefix)

    def _failed(self, operation: Operation, failure: Failure, now: float) -> None:
        prefix, view = operation.prefix, self._views[operation.table]
        if failure.errno in (errno.ENOENT, errno.ESRCH) and operation.verb is not Verb.CREATE and prefix in view.ours:
            view.drop(prefix)  # it went before we came: a REPLACE becomes a CREATE, a DELETE has nothing left to do
            if prefix in self._want:
                self._taken.add(prefix)
            self._due[prefix] = None
            return
        if failure.errno == errno.EEXIST:
            self.suspicious = True  # the dump tells who stands there
        before = self._retries.get(prefix)
        delay = min(before.delay * 2, LONGEST_RETRY) if before else FIRST_RETRY
        next_hop = failure.errno in _NEXT_HOP and isinstance(operation.target, Unicast)
        self._retries[prefix] = _Retry(now + delay, delay, failure.words, next_hop)
        if self._next_retry is None or now + delay < self._next_retry:
            self._next_retry = now + delay

    # --- time --------------------------------------------------------------------------------------------------------
    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called, None for never."""
        return self._next_retry

    def handle_timer(self, now: float) -> None:
        """Failed operations whose time has come are due again."""
        if self._next_retry is None or now < self._next_retry:
            return
        self._next_retry = None
        for prefix, retry in self._retries.items():
            if retry.at <= now:
                self._due[prefix] = None
            elif self._next_retry is None or retry.at < self._next_retry:
                self._next_retry = retry.at

    def retry_now(self) -> None:
        """Links or addresses changed: what failed may work now, and waits no longer."""
        self._due.update(dict.fromkeys(self._retries))
        self._due.update(dict.fromkeys(self._blocked))

    # --- what is told ------------------------------------------------------------------------------------------------
    @property
    def due(self) -> bool:
        """Is there anything that :meth:`operations` would look at."""
        return bool(self._due)

    @property
    def installed(self) -> int:
        """Our unicast routes in the kernel."""
        return self._routes.unicast

    @property
    def pending(self) -> int:
        """Prefixes that are not as wanted and wait to be written. One that a stranger holds does not count."""
        return len(self._due.keys() | self._retries.keys() | self._blocked.keys()) if self.install else 0

    @property
    def writable(self) -> int:
        """Those of the :attr:`pending` prefixes with neither a link that is down nor a next hop that is refused."""
        return len(self._writable()) if self.install else 0

    def _writable(self) -> dict[Prefix, None]:
        unable = self._blocked.keys() | {prefix for prefix, retry in self._retries.items() if retry.next_hop}
        return {prefix: None for prefix in (*self._retries, *self._due) if prefix not in unable}

    def waiting(self) -> str | None:
        """Why the first of the :attr:`pending` prefixes waits, in one sentence; None when nothing waits.

        One that is :attr:`writable` comes first.
        """
        if not self.pending:
            return None
        prefix = next(iter(self._writable() or self._retries or self._due or self._blocked))
        return f"{prefix_text(prefix)}: {self._why_unwritten(prefix)}"

    def in_kernel(self) -> Mapping[Prefix, Target]:
        """Every route of ours in the kernel that we could have written: unicast, and blackholes."""
        return {
            prefix: seen
            for view in self._views.values()
            for prefix, seen in view.ours.items()
            if not isinstance(seen, Strange)
        }

    def adopted(self) -> Mapping[Prefix, Seen]:
        """Routes found as ours that nobody has spoken of yet."""
        return {
            prefix: seen
            for view in self._views.values()
            for prefix, seen in view.ours.items()
            if prefix not in self._want and prefix not in self._dismissed
        }

    def take_changed(self) -> set[Prefix]:
        """Prefixes whose state may have changed since this was last asked."""
        changed, self._changed = self._changed, set()
        return changed

    def standing(self, prefix: Prefix) -> RouteState:
        """As :meth:`state` without the words: cheap enough to count a large table."""
        target = self._want.get(prefix)
        home = self._holes if isinstance(target, Blackhole) else self._routes
        alone = prefix not in self._routes.others and prefix not in self._holes.others
        if alone and self._apart and home is self._routes:
            alone = self._cover(prefix) is None
        if alone and target is not None and home.ours.get(prefix) == target:
            return RouteState.INSTALLED
        return self.state(prefix)[0]

    def stands(self, prefix: Prefix) -> bool:
        """Is ours in the kernel as it is wanted, whoever forwards."""
        target = self._want.get(prefix)
        home = self._holes if isinstance(target, Blackhole) else self._routes
        return target is not None and home.ours.get(prefix) == target

    def state(self, prefix: Prefix) -> tuple[RouteState, str]:
        """The state of one prefix, and why, in one sentence."""
        target = self._want.get(prefix)
        if target is None:
            return self._unspoken(prefix)
        better = self._better(prefix, self._holes if isinstance(target, Blackhole) else self._routes)
        if self.stands(prefix):
            if better is not None:
                return RouteState.SHADOWED, f"{better}; ours stands ready behind it at metric {self.metric}"
            return RouteState.INSTALLED, self._describe(target)
        if prefix in self._held:
            who = protocol_text(self._held[prefix])
            return RouteState.SHADOWED, (
                f"{who} holds {prefix_text(prefix)} at our own metric {self.metric}; "
                "ours is written when that route goes, or with another kernel.metric"
            )
        return RouteState.PENDING, self._why_unwritten(prefix)

    def _why_unwritten(self, prefix: Prefix) -> str:
        if not self.install:
            return "not written: kernel.install is off"
        if self._unread:
            return "not written yet: the kernel's routes have not been read"
        retry = self._retries.get(prefix)
        if retry is not None:
            return retry.words
        return self._blocked.get(prefix, "about to be written")

    def _unspoken(self, prefix: Prefix) -> tuple[RouteState, str]:
        if any(prefix in view.ours for view in self._views.values()):
            if prefix not in self._dismissed:
                return RouteState.INSTALLED, "found in the kernel at the start and left as it is until it is confirmed"
            retry = self._retries.get(prefix)
            return RouteState.PENDING, f"not deleted: {retry.words}" if retry else "about to be deleted"
        return RouteState.PENDING, "not wanted, and not in the kernel"

    def _better(self, prefix: Prefix, home: TableView) -> str | None:
        """Who forwards for this prefix in our place, in words."""
        places = [home] if home is self._holes else [home, self._holes]
        for view in places:
            for metric, protocol in view.others.get(prefix, ()):
                if metric <= self.metric or view is not home:  # an own table is asked after main
                    return f"{protocol_text(protocol)} holds {prefix_text(prefix)} with metric {metric}"
        cover = self._cover(prefix) if home is not self._holes else None
        if cover is None:
            return None
        strangers = self._holes.others.get(cover)
        who = protocol_text(strangers[0][1]) if strangers else "a route of our own"
        return f"{who} holds {prefix_text(cover)} in table main, which is asked before table {self.table}"

    def _cover(self, prefix: Prefix) -> Prefix | None:
        """The longest prefix in main that is wider than this one, the default route left aside."""
        main = self._holes
        if self._lengths is None:
            self._lengths = sorted({p[-1] for p in (*main.others, *main.ours)} - {0}, reverse=True)
        address = Address(prefix[:-1])
        wider = (network(address, length) for length in self._lengths if length < prefix[-1])
        return next((p for p in wider if p in main.others or p in main.ours), None)

    def _describe(self, target: Target) -> str:
        if isinstance(target, Blackhole):
            return f"blackhole in the kernel at metric {self.metric}"
        return f"in the kernel {' and '.join(map(self._hop_text, target.hops))}"

    def _hop_text(self, hop: Hop) -> str:
        link = self._interface(hop.interface)
        return f"on {link}" if hop.gateway is None else f"via {address_text(hop.gateway)} on {link}"
