"""The agent's answers as values. What lacks a promised field is no agent of ours; fields that are new are skipped."""

from __future__ import annotations

import msgspec


class Verified(msgspec.Struct, frozen=True):
    """The network's own answer."""

    state: str
    node: str | None = None
    by: str | None = None
    at: str | None = None
    reason: str = ""


class Node(msgspec.Struct, frozen=True):
    """Who speaks."""

    name: str
    address: str
    version: str
    started: str
    address6: str | None = None


class Block(msgspec.Struct, frozen=True):
    """An own block."""

    cidr: str
    state: str
    reason: str
    peers: tuple[str, ...]
    verified: Verified


class Peer(msgspec.Struct, frozen=True):
    """A BGP peer."""

    address: str
    asn: int
    state: str
    since: str
    uptime_seconds: float
    received: int
    accepted: int
    announced: int
    reason: str
    flaps: int


class Route(msgspec.Struct, frozen=True):
    """A learned or refused prefix."""

    prefix: str
    state: str
    reason: str
    next_hops: tuple[str, ...]
    peers: tuple[str, ...]
    as_path: tuple[int, ...]
    verified: Verified


class Source(msgspec.Struct, frozen=True):
    """The block source."""

    kind: str
    state: str
    reason: str


class Kernel(msgspec.Struct, frozen=True):
    """The kernel's side."""

    table: int
    protocol: int
    metric: int
    installed: int
    pending: int
    repaired: int
    releasing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class TableRoute(msgspec.Struct, frozen=True):
    """An own route in the cloud's route tables."""

    prefix: str
    state: str
    reason: str = ""


class Fallback(msgspec.Struct, frozen=True):
    """The hand-over to the cloud's route table."""

    mode: str
    state: str
    routes: tuple[TableRoute, ...] = ()
    reason: str = ""
    tables: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Config(msgspec.Struct, frozen=True):
    """The config in force."""

    path: str = ""
    loaded: str = ""
    problem: str | None = None
    restart_needed: tuple[str, ...] = ()


class Status(msgspec.Struct, frozen=True):
    """The body of ``/status``."""

    node: Node
    ready: bool
    mode: str
    reason: str
    blocks: tuple[Block, ...]
    peers: tuple[Peer, ...]
    routes: tuple[Route, ...]
    routes_total: int
    source: Source
    kernel: Kernel
    fallback: Fallback
    config: Config = Config()


class RoutePage(msgspec.Struct, frozen=True):
    """The body of ``/routes``."""

    total: int
    routes: tuple[Route, ...]
    cursor: str | None


class Offer(msgspec.Struct, frozen=True):
    """What one peer offered."""

    peer: str
    next_hop: str | None
    as_path: tuple[int, ...]
    communities: tuple[str, ...]
    med: int | None
    stale: bool
    best: bool
    refused: str | None
    prefix: str = ""


class Explanation(msgspec.Struct, frozen=True):
    """The body of ``/explain``."""

    target: str
    verdict: str
    prefix: str | None
    steps: tuple[str, ...]
    offers: tuple[Offer, ...] = ()
    kernel: str | None = None
    verified: Verified | None = None


class Refusal(msgspec.Struct, frozen=True):
    """The body of an error."""

    error: str
    where: str = ""
    remedy: str = ""
