"""What the core says about itself: the values behind ``/status``, ``routes``, ``explain`` and the log.

The reason of a state is a sentence made where the state is decided; every surface shows these same words.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bgp_agent.core.prefix import Address, Prefix
from bgp_agent.core.values import BlockState, PeerState, RouteState, SourceState


@dataclass(frozen=True, slots=True)
class Verified:
    """The network's own answer to "who gets a packet for this prefix"."""

    state: str = "unknown"  # delivered, misdelivered, unknown
    node: str | None = None  # who got it
    by: str | None = None  # who asked
    at: float | None = None  # when, seconds since the epoch
    reason: str = "not asked yet"


@dataclass(frozen=True, slots=True)
class Reachable:
    """What the cloud says of a block: ``by`` is ``bgp``, ``udr``, or None when its packets go elsewhere or nowhere."""

    by: str | None
    reason: str
    at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class BlockReport:
    """An own block, borrowed or ownerless address. ``peers``: those that were acknowledged, or would be."""

    prefix: Prefix
    state: BlockState
    reason: str
    peers: tuple[str, ...]
    verified: Verified = field(default_factory=Verified)
    reachable: Reachable | None = None


@dataclass(frozen=True, slots=True)
class PeerReport:
    """A configured peer. ``since``: seconds since the epoch of the last change of ``state``."""

    address: str
    asn: int
    state: PeerState
    reason: str
    since: float
    uptime: float  # seconds; 0 unless established
    received: int  # prefixes the peer announces now
    accepted: int  # of these, how many policy lets in
    announced: int  # prefixes acknowledged towards it
    flaps: int  # established -> down, since this agent started
    hold_time: int | None = None
    families: tuple[str, ...] = ()
    graceful_restart: bool | None = None
    refresh: str | None = None


@dataclass(frozen=True, slots=True)
class RouteReport:
    """A learned or refused prefix. ``next_hops``: the gateways in the kernel, or as learned where there are none."""

    prefix: Prefix
    state: RouteState
    reason: str
    next_hops: tuple[Address, ...]
    peers: tuple[str, ...]
    as_path: tuple[int, ...]
    verified: Verified = field(default_factory=Verified)


@dataclass(frozen=True, slots=True)
class SourceReport:
    """The block source."""

    kind: str
    state: SourceState
    reason: str


@dataclass(frozen=True, slots=True)
class KernelReport:
    """The kernel's side; counts are of prefixes, ``repaired`` since the start."""

    table: int
    protocol: int
    metric: int
    installed: int
    pending: int
    repaired: int
    releasing: tuple[Prefix, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableRouteReport:
    """A route of ours in the cloud's tables. ``state``: written, pending, refused or removing."""

    prefix: Prefix
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class FallbackReport:
    """The hand-over between BGP and the cloud's route table.

    ``tables``: their names; ``covers``: whom they serve and who loses a block that only they hold; ``canary``: the one
    block that BGP carries alone to see whether it does.
    """

    mode: str
    state: str
    routes: tuple[TableRouteReport, ...] = ()
    reason: str = ""
    tables: tuple[str, ...] = ()
    covers: str = ""
    canary: Prefix | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeReport:
    """Who speaks."""

    name: str
    address: str
    version: str
    started: float  # seconds since the epoch
    address6: str | None = None


@dataclass(frozen=True, slots=True)
class ConfigReport:
    """The config file that is in force; ``problem`` when a newer one was refused (the last good one goes on)."""

    path: str
    loaded: float  # seconds since the epoch
    problem: str | None = None
    restart_needed: tuple[str, ...] = ()  # changed keys that take effect at the next start


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that ``/status`` shows but the routes."""

    node: NodeReport
    ready: bool
    mode: str  # what attracts traffic now: bgp, fallback, maintenance, off
    reason: str
    blocks: tuple[BlockReport, ...]
    peers: tuple[PeerReport, ...]
    source: SourceReport
    kernel: KernelReport
    fallback: FallbackReport
    config: ConfigReport
    routes_total: int


@dataclass(frozen=True, slots=True)
class Offer:
    """What one peer offered for a prefix, and what policy made of it. ``refused`` None: accepted."""

    prefix: Prefix
    peer: str
    next_hop: Address | None
    as_path: tuple[int, ...]
    communities: tuple[str, ...]
    med: int | None
    stale: bool
    best: bool
    refused: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happens to a packet for ``target``: ``verdict`` in one sentence, ``steps`` in the order of decision."""

    target: str
    verdict: str
    prefix: Prefix | None  # the most specific prefix of ours that decides, None when none does
    steps: tuple[str, ...]
    offers: tuple[Offer, ...] = ()
    kernel: str | None = None  # what RTM_GETROUTE answers
    verified: Verified | None = None


@dataclass(frozen=True, slots=True)
class RoutePage:
    """One page of ``/routes``. ``cursor``: pass it to get the next page, None on the last."""

    routes: tuple[RouteReport, ...]
    total: int  # of the routes that match the filter
    cursor: str | None
