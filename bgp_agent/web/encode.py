"""Reports as JSON: the field names of the contract (docs/reference/http.md). Fields are added, never renamed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

from bgp_agent.core.prefix import address_text, prefix_text
from bgp_agent.core.reports import (
    BlockReport,
    ConfigReport,
    Explanation,
    FallbackReport,
    KernelReport,
    NodeReport,
    Offer,
    PeerReport,
    Reachable,
    RouteReport,
    Status,
    Verified,
)

Json = dict[str, object]


def time_text(seconds: float | None) -> str | None:
    """Seconds since the epoch as RFC 3339 in UTC, to the second."""
    return None if seconds is None else _second_text(int(seconds))


@lru_cache(maxsize=1024)  # the proofs of a thousand routes share their seconds, and making the text is half the work
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def status(report: Status, routes: Iterable[RouteReport]) -> Json:
    """The body of ``/status``."""
    return {
        "node": node(report.node),
        "ready": report.ready,
        "mode": report.mode,
        "reason": report.reason,
        "blocks": [block(one) for one in report.blocks],
        "peers": [peer(one) for one in report.peers],
        "routes": [route(one) for one in routes],
        "routes_total": report.routes_total,
        "source": {
            "kind": report.source.kind,
            "state": report.source.state.value,
            "reason": report.source.reason,
        },
        "kernel": kernel(report.kernel),
        "fallback": fallback(report.fallback),
        "config": config(report.config),
    }


def node(report: NodeReport) -> Json:
    """Who speaks."""
    return {
        "name": report.name,
        "address": report.address,
        "address6": report.address6,
        "version": report.version,
        "started": time_text(report.started),
    }


def verified(report: Verified) -> Json:
    """The network's answer; also the whole body of ``/probe``."""
    return {
        "state": report.state,
        "node": report.node,
        "by": report.by,
        "at": time_text(report.at),
        "reason": report.reason,
    }


def block(report: BlockReport) -> Json:
    """One own block."""
    return {
        "cidr": prefix_text(report.prefix),
        "state": report.state.value,
        "reason": report.reason,
        "peers": report.peers,
        "verified": verified(report.verified),
        "reachable": None if report.reachable is None else reachable(report.reachable),
    }


def reachable(report: Reachable) -> Json:
    """The cloud's own answer for a block."""
    return {"by": report.by, "reason": report.reason, "at": time_text(report.at)}


def peer(report: PeerReport) -> Json:
    """One BGP peer."""
    return {
        "address": report.address,
        "asn": report.asn,
        "state": report.state.value,
        "since": time_text(report.since),
        "uptime_seconds": round(report.uptime, 1),
        "received": report.received,
        "accepted": report.accepted,
        "announced": report.announced,
        "reason": report.reason,
        "flaps": report.flaps,
        "hold_time": report.hold_time,
        "families": report.families,
        "graceful_restart": report.graceful_restart,
        "refresh": report.refresh,
    }


def route(report: RouteReport) -> Json:
    """One learned or refused prefix."""
    return {
        "prefix": prefix_text(report.prefix),
        "state": report.state.value,
        "reason": report.reason,
        "next_hops": [address_text(one) for one in report.next_hops],
        "peers": report.peers,
        "as_path": report.as_path,
        "verified": verified(report.verified),
    }


def kernel(report: KernelReport) -> Json:
    """The kernel's side."""
    return {
        "table": report.table,
        "protocol": report.protocol,
        "metric": report.metric,
        "installed": report.installed,
        "pending": report.pending,
        "repaired": report.repaired,
        "releasing": [prefix_text(one) for one in report.releasing],
        "warnings": report.warnings,
    }


def fallback(report: FallbackReport) -> Json:
    """The hand-over to the cloud's route table."""
    return {
        "mode": report.mode,
        "state": report.state,
        "reason": report.reason,
        "routes": [
            {"prefix": prefix_text(each.prefix), "state": each.state, "reason": each.reason} for each in report.routes
        ],
        "tables": report.tables,
        "covers": report.covers,
        "canary": None if report.canary is None else prefix_text(report.canary),
        "warnings": report.warnings,
    }


def config(report: ConfigReport) -> Json:
    """The config in force."""
    return {
        "path": report.path,
        "loaded": time_text(report.loaded),
        "problem": report.problem,
        "restart_needed": report.restart_needed,
    }


def offer(report: Offer) -> Json:
    """What one peer offered."""
    return {
        "prefix": prefix_text(report.prefix),
        "peer": report.peer,
        "next_hop": None if report.next_hop is None else address_text(report.next_hop),
        "as_path": report.as_path,
        "communities": report.communities,
        "med": report.med,
        "stale": report.stale,
        "best": report.best,
        "refused": report.refused,
    }


def explanation(report: Explanation) -> Json:
    """The body of ``/explain``."""
    return {
        "target": report.target,
        "verdict": report.verdict,
        "prefix": None if report.prefix is None else prefix_text(report.prefix),
        "steps": report.steps,
        "offers": [offer(one) for one in report.offers],
        "kernel": report.kernel,
        "verified": None if report.verified is None else verified(report.verified),
    }
