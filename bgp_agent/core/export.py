"""Export: what each peer shall hear of us. Confirmed own blocks within the peer's limit, nothing else, ever.

``announce_limit`` guards the session itself: a router that counts what it holds plus what comes in (Azure Route Server
does) ends the session of a neighbour that announces too much, so what is above the limit is withheld and said.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bgp_agent.core.prefix import Address, Family, Prefix, family_of
from bgp_agent.core.settings import PeerSettings
from bgp_agent.core.values import GRACEFUL_SHUTDOWN, Announcement


@dataclass(slots=True)
class Export:
    """The wanted announcements of one peer. ``over``: what had to be left out, in the order in which it came.

    ``leaving``: all of it is about to be withdrawn, and says so (RFC 8326); nothing new is announced any more.
    """

    settings: PeerSettings
    next_hops: dict[Family, Address] = field(default_factory=dict)  # for the families that are not the session's
    wanted: dict[Prefix, Announcement] = field(default_factory=dict)
    over: dict[Prefix, None] = field(default_factory=dict)
    leaving: bool = False
    changes: dict[Prefix, Announcement | None] = field(default_factory=dict)

    def reconfigure(self, settings: PeerSettings, next_hops: dict[Family, Address]) -> None:
        """Take over changed attributes or limits: what is wanted is said again where it differs."""
        self.settings, self.next_hops = settings, next_hops
        offered = [p for p in (*self.wanted, *self.over) if self._announcement(p) is not None]
        limit = len(offered) if settings.announce_limit is None else settings.announce_limit
        within, above = offered[:limit], offered[limit:]
        for prefix in self.wanted.keys() - set(within):
            del self.wanted[prefix]
            self.changes[prefix] = None
        self.over = dict.fromkeys(above)
        for prefix in within:
            self.offer(prefix)

    def offer(self, prefix: Prefix) -> None:
        """The block may be announced: within the limit it is."""
        announcement = self._announcement(prefix)
        if announcement is None or self.wanted.get(prefix) == announcement:
            return
        if self.leaving and prefix not in self.wanted:
            return
        limit = self.settings.announce_limit
        if prefix not in self.wanted and limit is not None and len(self.wanted) >= limit:
            self.over[prefix] = None
            return
        self.over.pop(prefix, None)
        self.wanted[prefix] = self.changes[prefix] = announcement

    def withdraw(self, prefix: Prefix) -> None:
        """The block may not be announced (any more); the next one that waited takes its place."""
        self.over.pop(prefix, None)
        if self.wanted.pop(prefix, None) is None:
            return
        self.changes[prefix] = None
        if self.over:
            self.offer(next(iter(self.over)))

    def take_changes(self) -> dict[Prefix, Announcement | None]:
        """What changed since the last time; None withdraws."""
        changes, self.changes = self.changes, {}
        return changes

    def _announcement(self, prefix: Prefix) -> Announcement | None:
        given = self.settings.attributes
        if self.leaving and not given.leaving:
            given = replace(given, communities=(*given.communities, GRACEFUL_SHUTDOWN))
        family = family_of(prefix)
        if family not in self.settings.families:
            return None
        if family is family_of(self.settings.packed):
            return given
        next_hop = self.next_hops.get(family)
        if next_hop is None:
            return None
        return replace(given, next_hop=next_hop)

    def why_not(self, prefix: Prefix) -> str | None:
        """Why this peer is not told of an offered block; None when it is."""
        if prefix in self.wanted:
            return None
        family = family_of(prefix)
        if family not in self.settings.families:
            return f"its peer configuration does not list {family.value}"
        if prefix in self.over:
            return f"above its announce_limit of {self.settings.announce_limit}"
        if family not in self.next_hops and family is not family_of(self.settings.packed):
            key = "node.address6" if family is Family.IPV6 else "node.address"
            return f"this node has no {family.value} address to name as the next hop ({key})"
        return "not offered"
