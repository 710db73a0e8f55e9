"""The values that cross the seams between the parts.

Facts come in as these, desired sets go out as these. All are frozen; a :class:`Path` is shared by every prefix that
came with the same attributes and compared by identity, which is what makes a RIB of 100,000 prefixes cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from bgp_agent.core.prefix import Address, Family, Prefix, PrefixSet

#: RFC 8326: who announces this is about to withdraw it.
GRACEFUL_SHUTDOWN: Final = "65535:0"


# --- what a peer tells (speaker -> core) -----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Path:
    """One peer's attributes for a set of prefixes (RFC 4271 section 5).

    ``eq=False``: equal attributes of one peer are interned by the reader, so identity is equality and a path can key a
    cache. ``error`` names what makes the attributes unusable (RFC 7606), None when they are fine.
    """

    peer: str
    next_hop: Address | None
    as_path: tuple[int, ...]
    origin: int = 0  # 0 IGP, 1 EGP, 2 incomplete
    med: int | None = None
    local_preference: int | None = None
    communities: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SessionUp:
    """The session is established. ``families``: negotiated by both ends."""

    peer: str
    families: frozenset[Family]
    hold_time: int
    refresh: str  # "enhanced" (RFC 7313), "plain" (RFC 2918) or "none"
    graceful_restart: bool  # did both ends negotiate RFC 4724
    adopted: bool = False  # the session stood before this agent attached to it


@dataclass(frozen=True, slots=True)
class SessionDown:
    """An established session ended, or an attempt failed; ``reason`` in words."""

    peer: str
    reason: str
    was_established: bool


@dataclass(frozen=True, slots=True)
class Update:
    """One UPDATE: apply ``withdrawn`` before ``announced``. ``malformed``: NLRI that could not be read, with why."""

    peer: str
    withdrawn: tuple[Prefix, ...]
    announced: tuple[tuple[Path, tuple[Prefix, ...]], ...]
    malformed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class EndOfRib:
    """End-of-RIB for one family (RFC 4724 section 2)."""

    peer: str
    family: Family


@dataclass(frozen=True, slots=True)
class RefreshBegin:
    """The peer begins to send its whole table again (RFC 7313 BoRR)."""

    peer: str
    family: Family


@dataclass(frozen=True, slots=True)
class RefreshEnd:
    """The peer has sent its whole table again (RFC 7313 EoRR)."""

    peer: str
    family: Family


@dataclass(frozen=True, slots=True)
class Notified:
    """A NOTIFICATION was sent or received (RFC 4271 section 4.5)."""

    peer: str
    sent: bool
    code: int
    subcode: int
    message: str


@dataclass(frozen=True, slots=True)
class PeerProblem:
    """Why a peer has no session that ExaBGP itself does not tell: password file missing, ExaBGP not starting, ..."""

    peer: str
    reason: str | None  # None: the problem is over


@dataclass(frozen=True, slots=True)
class AnnouncementsChanged:
    """What ExaBGP acknowledged changed: prefix -> is it announced now. ``refused`` has a reason a prefix.

    ``leaving``: announced prefixes for which GRACEFUL_SHUTDOWN came or went, and whether it is there now.
    """

    peer: str
    announced: tuple[Prefix, ...]
    withdrawn: tuple[Prefix, ...]
    refused: tuple[tuple[Prefix, str], ...] = ()
    leaving: tuple[tuple[Prefix, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Audited:
    """What this peer's ExaBGP holds is known now, and was told where a session stands."""

    peer: str


SpeakerEvent: TypeAlias = (
    SessionUp
    | SessionDown
    | Update
    | EndOfRib
    | RefreshBegin
    | RefreshEnd
    | Notified
    | PeerProblem
    | AnnouncementsChanged
    | Audited
)


# --- what is announced (core -> speaker) -----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Announcement:
    """The attributes of one prefix as one peer shall hear them. ``next_hop`` None: the session's own address."""

    next_hop: Address | None = None
    med: int | None = None
    communities: tuple[str, ...] = ()
    prepend: int = 0  # how many times the own ASN is added to the path, beyond the one BGP adds

    @property
    def leaving(self) -> bool:
        """Does it say that it is about to be withdrawn."""
        return GRACEFUL_SHUTDOWN in self.communities


# --- the kernel (core <-> kernel) ------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, order=True)
class Hop:
    """One resolved next hop: where a frame goes. ``gateway`` None: the destination itself is on the link."""

    interface: int
    gateway: Address | None
    onlink: bool = False


@dataclass(frozen=True, slots=True)
class Unicast:
    """A route by way of one or several hops (sorted; several are ECMP). ``source``: preferred source or None."""

    hops: tuple[Hop, ...]
    source: Address | None = None


@dataclass(frozen=True, slots=True)
class Blackhole:
    """Packets end here. Only ever for an own block: see docs/explanation/design.md."""


Target: TypeAlias = Unicast | Blackhole


class RouteState(Enum):
    """The states of a route in ``/status``, the words of the contract."""

    INSTALLED = "installed"
    SHADOWED = "shadowed"
    PENDING = "pending"
    REFUSED = "refused"
    STALE = "stale"


class BlockState(Enum):
    """The states of an own block in ``/status``."""

    ANNOUNCED = "announced"
    PENDING = "pending"
    WITHHELD = "withheld"
    FALLBACK = "fallback"


class PeerState(Enum):
    """The states of a peer in ``/status``."""

    ESTABLISHED = "established"
    CONNECTING = "connecting"
    DOWN = "down"
    DISABLED = "disabled"


class SourceState(Enum):
    """The states of the block source in ``/status``."""

    SYNCED = "synced"
    STALE = "stale"
    WAITING = "waiting"


# --- the block source (source -> core) -------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Blocks:
    """What the source knows now.

    ``state`` SYNCED: ``blocks`` is the whole truth, an empty set withdraws all. STALE: the truth was lost (``reason``
    says how): blocks in ``blocks`` are wanted, and of what was wanted before only ``gone`` is given up, which is proved
    to be no longer the node's. WAITING: never read yet.

    ``pools``: where pods live, None when the source cannot tell. ``withheld``: what the node has and may not announce,
    with the reason.
    """

    kind: str  # "file", "calico", "node"
    state: SourceState
    reason: str
    blocks: frozenset[Prefix] = frozenset()
    gone: frozenset[Prefix] = frozenset()
    pools: PrefixSet | None = None
    withheld: Mapping[Prefix, str] = field(default_factory=dict)
