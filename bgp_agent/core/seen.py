"""What the kernel shows: routes as values, and the knowledge of one table.

The kernel's identity of a route is (table, prefix, metric), and it lets anybody overwrite anybody. Ours are told by
protocol *and* metric together; whoever else is at a prefix is remembered only as far as it decides something: by metric
and protocol. Routes with a TOS are outside of that identity and never come this far.

A dump takes time, and the world goes on meanwhile. What was written or heard of while a dump ran is newer than the
dump's row, so such prefixes are *touched*: the dump's word on them is not taken, and where it disagrees another dump is
asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from bgp_agent.core.prefix import Prefix
from bgp_agent.core.values import Blackhole, Hop, Target, Unicast

MAIN: Final = 254

#: ``rtm_type`` (linux/rtnetlink.h) of the routes that are not plain unicast.
KINDS: Final = {2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable",
                8: "prohibit", 9: "throw", 10: "nat", 11: "xresolve"}  # fmt: skip

#: ``rtm_protocol`` (linux/rtnetlink.h, iproute2's rt_protos): who put a route there.
PROTOCOLS: Final = {1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 11: "zebra", 12: "bird",
                    15: "ntk", 16: "dhcp", 17: "mrouted", 18: "keepalived", 42: "babel", 80: "felix", 84: "openr",
                    186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp"}  # fmt: skip


def protocol_text(protocol: int) -> str:
    """A protocol as people know it: ``protocol bird (12)``."""
    name = PROTOCOLS.get(protocol)
    return f"protocol {name} ({protocol})" if name else f"protocol {protocol}"


@dataclass(frozen=True, slots=True)
class Strange:
    """A route that is none of what we would write: its ``rtm_type``, which a DELETE has to name."""

    kind: int


Seen: TypeAlias = Target | Strange


class KernelRoute(NamedTuple):
    """One route of a dump or a notification. A tuple, because a dump makes 100,000 of them."""

    table: int
    prefix: Prefix
    metric: int
    protocol: int
    target: Seen
    plain: bool = True  # nothing in it but what we would have written: no weights, encapsulation, nexthop object, MTU
    dead: tuple[Hop, ...] = ()  # next hops that the kernel itself does not use (RTNH_F_DEAD)

    def strange(self) -> Strange:
        """What is left to know of a route that is not plain."""
        if isinstance(self.target, Strange):
            return self.target
        return Strange(6 if isinstance(self.target, Blackhole) else 1)


def kind_of(seen: Seen) -> int:
    """The ``rtm_type`` of a route."""
    if isinstance(seen, Strange):
        return seen.kind
    return 6 if isinstance(seen, Blackhole) else 1


class TableView:
    """The last knowledge of one table: our routes, and who else stands at which prefix."""

    __slots__ = ("_disagrees", "_fresh", "_touched", "_unseen", "metric", "others", "ours", "protocol", "table",
                 "unicast")  # fmt: skip

    def __init__(self, table: int, protocol: int, metric: int) -> None:
        self.table = table
        self.protocol = protocol
        self.metric = metric
        self.ours: dict[Prefix, Seen] = {}
        self.others: dict[Prefix, tuple[tuple[int, int], ...]] = {}  # sorted (metric, protocol)
        self.unicast = 0  # how many of ours are unicast
        self._unseen: set[Prefix] | None = None  # while a dump runs: ours that it has not shown yet
        self._fresh: dict[Prefix, tuple[tuple[int, int], ...]] = {}
        self._touched: set[Prefix] = set()
        self._disagrees = False

    def put(self, prefix: Prefix, target: Seen) -> None:
        """Ours is at the prefix now, with this target."""
        before = self.ours.get(prefix)
        if type(before) is not type(target):
            self.unicast += (type(target) is Unicast) - (type(before) is Unicast)
        self.ours[prefix] = target

    def drop(self, prefix: Prefix) -> None:
        """Ours is not at the prefix any more."""
        self.unicast -= isinstance(self.ours.pop(prefix, None), Unicast)

    def touch(self, prefix: Prefix) -> None:
        """Something newer than a running dump is known of the prefix."""
        if self._unseen is not None:
            self._touched.add(prefix)

    def touch_all(self, prefixes: Iterable[Prefix]) -> None:
        """As :meth:`touch`, for many."""
        if self._unseen is not None:
            self._touched.update(prefixes)

    def note(self, prefix: Prefix, metric: int, protocol: int, *, present: bool) -> None:
        """A stranger's route appeared at the prefix, or went."""
        before = self.others.get(prefix, ())
        if present:
            after = tuple(sorted({*(entry for entry in before if entry[0] != metric), (metric, protocol)}))
        else:
            after = tuple(entry for entry in before if entry != (metric, protocol))
        if after:
            self.others[prefix] = after
        else:
            self.others.pop(prefix, None)
        self.touch(prefix)

    def holder(self, prefix: Prefix) -> int | None:
        """The protocol of a stranger at our very key, (prefix, metric), or None."""
        for metric, protocol in self.others.get(prefix, ()):
            if metric == self.metric:
                return protocol
        return None

    # --- dumps -------------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """A dump begins; one that was running is forgotten."""
        self._unseen = set(self.ours)
        self._fresh = {}
        self._touched = set()
        self._disagrees = False

    def rows(self, routes: Iterable[KernelRoute]) -> list[Prefix]:
        """Rows of the dump. Returns the prefixes at which ours is not what was known."""
        unseen, ours, protocol, metric = self._unseen, self.ours, self.protocol, self.metric
        if unseen is None:
            return []
        differing = []
        for route in routes:
            if route.table != self.table:
                continue
            prefix = route.prefix
            if route.protocol == protocol and route.metric == metric:
                unseen.discard(prefix)
                shown = route.target if route.plain else route.strange()
                known = ours.get(prefix)
                if known is shown:
                    continue
                if known == shown:
                    ours[prefix] = shown  # one object for all routes alike: the next dump compares by identity
                    continue
                if prefix in self._touched:
                    self._disagrees = True
                    continue
                self.put(prefix, shown)
                differing.append(prefix)
            else:
                self._fresh[prefix] = tuple(sorted({*self._fresh.get(prefix, ()), (route.metric, route.protocol)}))
        return differing

    def end(self) -> tuple[list[Prefix], set[Prefix], bool]:
        """The dump is whole: (ours that vanished, prefixes at which the strangers changed, ask for another dump)."""
        unseen, touched, fresh = self._unseen, self._touched, self._fresh
        if unseen is None:
            return [], set(), True
        again = self._disagrees
        vanished = []
        for prefix in unseen:
            if prefix not in self.ours:
                continue
            if prefix in touched:
                again = True
            else:
                vanished.append(prefix)
        for prefix in vanished:
            self.drop(prefix)
        others = self.others
        for prefix in touched:
            if fresh.get(prefix) != others.get(prefix):
                again = True
                if prefix in others:
                    fresh[prefix] = others[prefix]
                else:
                    fresh.pop(prefix, None)
        changed = {prefix for prefix in others.keys() | fresh.keys() if others.get(prefix) != fresh.get(prefix)}
        self.others = fresh
        self._unseen, self._fresh, self._touched, self._disagrees = None, {}, set(), False
        return vanished, changed, again

    def kind(self, prefix: Prefix) -> int:
        """The ``rtm_type`` of ours at the prefix."""
        return kind_of(self.ours[prefix])
