"""What the Route Server's instances hold, and when NICs hear of it.

Each instance reports what its BIRD holds, whole; what changed reaches the NICs after ``bgp_effect`` and, if dampening
is set, not within that time of the prefix's last change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NO_ADVERTISE = (65535, 65282)


@dataclass(frozen=True, slots=True)
class Learned:
    """A route that a peer announced. ``as_path`` as received; ``best`` is BIRD's own choice among the peers."""

    prefix: str
    peer: str
    next_hop: str
    as_path: tuple[int, ...]
    communities: tuple[tuple[int, int], ...] = ()
    best: bool = True


Held = dict[tuple[str, str], Learned]


class Instance:
    """One instance of the Route Server as the fabric sees it. ``up``: its BIRD runs and is reachable."""

    def __init__(self, dampening: float, delay: float) -> None:
        self.up = False
        self.held: Held = {}
        self.programmed: dict[str, tuple[Learned, ...]] = {}
        self._dampening = dampening
        self._delay = delay
        self._waiting: dict[str, float] = {}
        self._changed: dict[str, float] = {}

    def report(self, routes: Iterable[Learned], now: float) -> None:
        """Take over what BIRD holds; prefixes that differ wait for their time."""
        held = {(each.prefix, each.peer): each for each in routes}
        differs = {key[0] for key in held.keys() | self.held.keys() if held.get(key) != self.held.get(key)}
        self.held = held
        for prefix in differs:
            quiet = self._changed.get(prefix, -self._dampening) + self._dampening
            self._waiting[prefix] = max(now + self._delay, quiet)

    def handle_timer(self, now: float) -> bool:
        """Program what is due; tells whether anything changed."""
        due = [prefix for prefix, at in self._waiting.items() if at <= now]
        if not due:
            return False
        by_prefix: dict[str, list[Learned]] = {}
        wanted = set(due)
        for (prefix, _), route in self.held.items():
            if prefix in wanted:
                by_prefix.setdefault(prefix, []).append(route)
        for prefix in due:
            del self._waiting[prefix]
            if self._dampening:
                self._changed[prefix] = now
            if found := by_prefix.get(prefix):
                self.programmed[prefix] = tuple(found)
            else:
                self.programmed.pop(prefix, None)
        return True

    def timer(self) -> float | None:
        """When the next prefix is due."""
        return min(self._waiting.values(), default=None)


def nearest(routes: Iterable[Learned]) -> tuple[str, ...]:
    """The next hops of the routes with the shortest AS path: ECMP among equals (FAQ-2025)."""
    found = list(routes)
    shortest = min((len(each.as_path) for each in found), default=0)
    return tuple(sorted({each.next_hop for each in found if len(each.as_path) == shortest}))
