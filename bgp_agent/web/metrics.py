"""Metrics for Prometheus. The table below is the whole list: the reference (docs/reference/metrics.md) is made from it.

Names follow https://prometheus.io/docs/practices/naming/: base units, ``_total`` for counters. A state is a set of
series, one for each state it can have, 1 for the one it has: alerts need no table of numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bgp_agent.core.reports import PeerReport, Status
from bgp_agent.core.values import BlockState, PeerState, RouteState, SourceState
from bgp_agent.web.reporter import Figures, Reporter

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "bgp_agent_"
MODES: Final = ("bgp", "fallback", "maintenance", "off")
TABLE_ROUTES: Final = ("written", "pending", "refused", "removing")
LAG_INTERVAL: Final = 1.0
"""Seconds between two looks at how late the event loop is."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one scrape is made from."""

    status: Status
    figures: Figures
    lag: float


Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Series:
    """One metric: its name without the prefix, what it means, its labels and where its values come from."""

    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[Snapshot], Iterable[Sample]]

    @property
    def counter(self) -> bool:
        """Does it only ever grow."""
        return self.name.endswith("_total")

    def family(self, snapshot: Snapshot) -> Metric:
        """The metric with its values."""
        kind = CounterMetricFamily if self.counter else GaugeMetricFamily
        family = kind(PREFIX + self.name, self.help, labels=self.labels)
        for labels, value in self.read(snapshot):
            family.add_metric(labels, value)
        return family


def _one(read: Callable[[Snapshot], float]) -> Callable[[Snapshot], Iterable[Sample]]:
    return lambda snapshot: [((), read(snapshot))]


def _each_peer(read: Callable[[PeerReport], float]) -> Callable[[Snapshot], Iterable[Sample]]:
    return lambda snapshot: [((peer.address,), read(peer)) for peer in snapshot.status.peers]


def _peer_states(snapshot: Snapshot) -> Iterator[Sample]:
    for peer in snapshot.status.peers:
        for state in PeerState:
            yield (peer.address, state.value), float(peer.state is state)


def _blocks(snapshot: Snapshot) -> Iterator[Sample]:
    counts = Counter(block.state for block in snapshot.status.blocks)
    return (((state.value,), float(counts[state])) for state in BlockState)


def _verified(snapshot: Snapshot) -> Iterator[Sample]:
    counts = Counter(block.verified.state for block in snapshot.status.blocks)
    return (((state,), float(counts[state])) for state in ("delivered", "misdelivered", "unknown"))


def _routes(snapshot: Snapshot) -> Iterator[Sample]:
    return (((state.value,), float(snapshot.figures.routes.get(state, 0))) for state in RouteState)


def _source(snapshot: Snapshot) -> Iterator[Sample]:
    source = snapshot.status.source
    return (((source.kind, state.value), float(source.state is state)) for state in SourceState)


def _mode(snapshot: Snapshot) -> Iterator[Sample]:
    return (((mode,), float(snapshot.status.mode == mode)) for mode in MODES)


def _fallback(snapshot: Snapshot) -> Iterator[Sample]:
    return (((state,), float(snapshot.status.fallback.state == state)) for state in MODES)


def _table_routes(snapshot: Snapshot) -> Iterator[Sample]:
    counts = Counter(route.state for route in snapshot.status.fallback.routes)
    return (((state,), float(counts[state])) for state in TABLE_ROUTES)


def _build(snapshot: Snapshot) -> Iterator[Sample]:
    node = snapshot.status.node
    yield (node.version, node.name), 1.0


METRICS: Final = (
    Series("build_info", "Version and node name; always 1.", ("version", "node"), _build),
    Series("start_time_seconds", "When the agent started, seconds since the epoch.", (),
           _one(lambda s: s.status.node.started)),
    Series("ready", "1 when /readyz says ready.", (), _one(lambda s: s.status.ready)),
    Series("mode", "1 for what attracts traffic now.", ("mode",), _mode),
    Series("event_loop_lag_seconds", "How late the event loop was at its worst in the last minute.", (),
           _one(lambda s: s.lag)),
    Series("config_reload_failures_total", "Changed config files that were refused; the last good one goes on.", (),
           _one(lambda s: s.figures.reload_failures)),
    Series("config_ok", "0 while the config file on disk is refused.", (),
           _one(lambda s: s.status.config.problem is None)),
    Series("config_restart_needed", "Changed keys that wait for a restart.", (),
           _one(lambda s: len(s.status.config.restart_needed))),
    Series("speaker_attached", "1 while the agent is attached to its speaker.", (),
           _one(lambda s: s.figures.speaker_attached)),
    Series("source_state", "1 for the state of the block source.", ("kind", "state"), _source),
    Series("blocks", "Own blocks in each state.", ("state",), _blocks),
    Series("blocks_verified", "Own blocks by the network's own answer.", ("verified",), _verified),
    Series("peer_state", "1 for the state of a peer.", ("peer", "state"), _peer_states),
    Series("peer_uptime_seconds", "How long the session is established; 0 when it is not.", ("peer",),
           _each_peer(lambda p: p.uptime)),
    Series("peer_received_prefixes", "Prefixes a peer announces now.", ("peer",), _each_peer(lambda p: p.received)),
    Series("peer_accepted_prefixes", "Prefixes of a peer that policy lets in.", ("peer",),
           _each_peer(lambda p: p.accepted)),
    Series("peer_announced_prefixes", "Prefixes whose announcement to a peer is acknowledged.", ("peer",),
           _each_peer(lambda p: p.announced)),
    Series("peer_flaps_total", "Times an established session ended.", ("peer",), _each_peer(lambda p: p.flaps)),
    Series("routes", "Learned prefixes in each state.", ("state",), _routes),
    Series("kernel_installed_routes", "Learned prefixes in the kernel.", (), _one(lambda s: s.status.kernel.installed)),
    Series("kernel_pending_routes", "Prefixes whose kernel route waits to be written.", (),
           _one(lambda s: s.status.kernel.pending)),
    Series("kernel_repaired_routes_total", "Routes put back after somebody or a link took them away.", (),
           _one(lambda s: s.status.kernel.repaired)),
    Series("kernel_warnings", "Settings of the kernel that are in the way; /status has them in words.", (),
           _one(lambda s: len(s.status.kernel.warnings))),
    Series("fallback_state", "1 for the state of the hand-over to the cloud's route tables; off without a cloud.",
           ("state",), _fallback),
    Series("fallback_routes", "Own blocks in the cloud's route tables, in each state.", ("state",), _table_routes),
    Series("cloud_reads_total", "Times a route table was read.", (), _one(lambda s: s.figures.cloud_reads)),
    Series("cloud_writes_total", "Routes written to route tables or taken out of them.", (),
           _one(lambda s: s.figures.cloud_writes)),
    Series("cloud_problem", "1 while the cloud cannot be asked or told; /status has the reason in words.", (),
           _one(lambda s: s.figures.cloud_problem)),
)  # fmt: skip


class LoopLag:
    """How late the event loop runs its timers: what blocks it shows here. The worst of the last minute, in seconds."""

    def __init__(self) -> None:
        self._recent: list[float] = []

    @property
    def worst(self) -> float:
        """Seconds."""
        return max(self._recent, default=0.0)

    async def measured(self, _app: web.Application) -> AsyncIterator[None]:
        """Measure while the application runs; for ``Application.cleanup_ctx``."""
        task = asyncio.create_task(self._measure(), name="event-loop lag")  # owned here: set-up may be another task
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            self._recent = [*self._recent[-59:], max(0.0, loop.time() - due)]


class _Agent(Collector):
    """Yields the table's metrics at each scrape."""

    def __init__(self, reporter: Reporter, lag: LoopLag) -> None:
        self._reporter = reporter
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        snapshot = Snapshot(self._reporter.status(), self._reporter.metrics(), self._lag.worst)
        return (series.family(snapshot) for series in METRICS)

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask the agent."""
        return ()


class Exposition:
    """The text of ``/metrics``, from a registry of its own: nothing else in the process can add to it."""

    def __init__(self, reporter: Reporter, lag: LoopLag, collectors: Iterable[Collector] = ()) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Agent(reporter, lag))
        for collector in collectors:
            self._registry.register(collector)

    def text(self) -> bytes:
        """The text format, version 0.0.4."""
        return generate_latest(self._registry)
