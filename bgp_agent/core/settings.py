"""What the core must be told by the configuration, as values.

The core does not know the configuration's model: the agent translates, once at the start and again at each reload.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bgp_agent.core.prefix import Address, Family, PrefixSet
from bgp_agent.core.values import Announcement


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """One peer. Limits count prefixes; ``attributes`` go with every announcement to it."""

    address: str
    packed: Address
    asn: int
    families: frozenset[Family]
    max_prefixes: int = 4000
    warn_prefixes: int | None = None
    announce_limit: int | None = None
    attributes: Announcement = field(default_factory=Announcement)


@dataclass(frozen=True, slots=True)
class Settings:
    """The part of the configuration that decisions depend on. ``min_peers`` None: all of them. Times are seconds."""

    node: str
    own_asn: int
    pools: PrefixSet
    peers: tuple[PeerSettings, ...]
    refuse: PrefixSet = field(default_factory=PrefixSet)
    allow_own_as: int = 1
    stale_time: float = 120.0
    graceful_restart: float = 0.0  # how long a peer may keep our routes when the session is lost (RFC 4724)
    graceful_shutdown: float = 0.0  # how long a block is announced as leaving before it is withdrawn (RFC 8326)
    max_paths: int = 8
    min_peers: int | None = 1
    blackhole: bool = True
    install: bool = True
    own_addresses: tuple[tuple[Family, Address], ...] = ()  # next hops of a family that is not the session's own

    def needed(self, family: Family) -> int:
        """How many peers must have a block of this family before it counts as announced where it matters."""
        able = sum(family in peer.families for peer in self.peers)
        return able if self.min_peers is None else min(self.min_peers, able)
