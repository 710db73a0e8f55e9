"""Reports of the router's knowledge, made when somebody asks: the values behind ``/status`` and ``routes``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bgp_agent.core.attraction import Attraction
from bgp_agent.core.blocks import Phase
from bgp_agent.core.notice import Drain
from bgp_agent.core.peers import Peer
from bgp_agent.core.prefix import Address, Prefix, family_of, prefix_text
from bgp_agent.core.reports import BlockReport, KernelReport, PeerReport, RouteReport, Verified
from bgp_agent.core.router import Router
from bgp_agent.core.selection import Selection
from bgp_agent.core.values import BlockState, PeerState, RouteState, Unicast

UNKNOWN = Verified()


def blocks(
    router: Router,
    verified: Mapping[Prefix, Verified],
    attraction: Attraction | None = None,
    wall: Callable[[float], float] = lambda moment: moment,
) -> tuple[BlockReport, ...]:
    """The own blocks, in the order of their addresses. What is being released is the kernel's report.

    ``wall`` turns the agent's clock into seconds since the epoch.
    """
    reports = []
    for prefix in sorted(p for p in router.own.table.blocks if router.own.table.held(p)):
        state, reason = router.own.describe(prefix)
        holders = tuple(router.own.holders(prefix))
        reachable = None
        if attraction is not None:
            state, reason = attraction.block(prefix, state, reason)
            reachable = attraction.reachable(prefix, wall)
        reports.append(BlockReport(prefix, state, reason, holders, verified.get(prefix, UNKNOWN), reachable))
    for prefix, reason in router.own.table.source.withheld.items():
        if not router.own.table.held(prefix):
            reports.append(BlockReport(prefix, BlockState.WITHHELD, reason, ()))
    return tuple(sorted(reports, key=lambda report: report.prefix))


def peers(router: Router, now: float, wall: Callable[[float], float]) -> tuple[PeerReport, ...]:
    """The peers, as configured. ``wall`` turns ``now``'s clock into seconds since the epoch."""
    return tuple(_peer(router, peer, now, wall) for peer in router.peers.values())


def _peer(router: Router, peer: Peer, now: float, wall: Callable[[float], float]) -> PeerReport:
    table, session = router.rib.tables[peer.address], peer.session
    return PeerReport(
        address=peer.address,
        asn=peer.asn,
        state=peer.state,
        reason=_peer_reason(router, peer),
        since=wall(peer.since),
        uptime=now - peer.since if peer.established else 0.0,
        received=len(table.paths) + len(table.surplus),
        accepted=router.learned.accepted(peer.address),
        announced=len(peer.announced),
        flaps=peer.flaps,
        hold_time=session.hold_time if session else None,
        families=tuple(sorted(f.value for f in session.families)) if session else (),
        graceful_restart=session.graceful_restart if session else None,
        refresh=session.refresh if session else None,
    )


def _peer_reason(router: Router, peer: Peer) -> str:
    table, given = router.rib.tables[peer.address], peer.settings
    if table.overfull:
        more = f"{len(table.surplus)}{' or more' if table.surplus_dropped else ''}"
        return f"{peer.reason}; {more} prefixes above max_prefixes {given.max_prefixes} are refused"
    if given.warn_prefixes is not None and len(table.paths) > given.warn_prefixes:
        return f"{peer.reason}; {len(table.paths)} prefixes are above warn_prefixes {given.warn_prefixes}"
    if table.stale and peer.state is not PeerState.ESTABLISHED:
        return f"{peer.reason}; {len(table.stale)} prefixes it told are kept as stale for now"
    return peer.reason


# --- routes ----------------------------------------------------------------------------------------------------------
def route(router: Router, prefix: Prefix, verified: Mapping[Prefix, Verified]) -> RouteReport | None:
    """One learned, refused or adopted prefix; None when nothing is known of it."""
    selection = router.learned.routes.get(prefix)
    if selection is not None:
        return _selected(router, prefix, selection, verified)
    refused = router.learned.refused.get(prefix)
    if refused is not None:
        return _refused(router, prefix, refused)
    if prefix in router.adopted:
        target = router.fib.adopted().get(prefix)
        hops = _gateways(target) if isinstance(target, Unicast) else ()
        reason = "in the kernel from an earlier run; kept until every peer has told its table"
        return RouteReport(prefix, RouteState.STALE, reason, hops, (), ())
    for table in router.rib.tables.values():
        if prefix in table.surplus:
            reason = f"above max_prefixes {table.limit} of {table.peer}"
            return RouteReport(prefix, RouteState.REFUSED, reason, (), (table.peer,), ())
    return None


def _selected(router: Router, prefix: Prefix, selection: Selection, verified: Mapping[Prefix, Verified]) -> RouteReport:
    best = selection.best
    offering = tuple(c.path.peer for c in selection.candidates)
    if selection.target is None:
        state = RouteState.REFUSED if selection.refused else RouteState.PENDING
        hops: tuple[Address, ...] = (best.next_hop,) if best.next_hop else ()
        return RouteReport(prefix, state, selection.reason, hops, offering, best.as_path)
    state, reason = router.fib.state(prefix)
    if selection.stale and state is RouteState.INSTALLED:
        state = RouteState.STALE
    words = f"{selection.reason}; {reason}"
    hops = _gateways(selection.target)
    return RouteReport(prefix, state, words, hops, offering, best.as_path, verified.get(prefix, UNKNOWN))


def _refused(router: Router, prefix: Prefix, reason: str) -> RouteReport:
    paths = [t.paths[prefix] for t in router.rib.tables.values() if prefix in t.paths]
    hops = tuple(dict.fromkeys(p.next_hop for p in paths if p.next_hop))
    path = paths[0].as_path if paths else ()
    return RouteReport(prefix, RouteState.REFUSED, reason, hops, tuple(p.peer for p in paths), path)


def _gateways(target: Unicast) -> tuple[Address, ...]:
    return tuple(hop.gateway for hop in target.hops if hop.gateway is not None)


def states(router: Router) -> dict[Prefix, RouteState]:
    """The state of every prefix that :func:`route` has a report for."""
    standing, refused = router.fib.standing, RouteState.REFUSED
    found: dict[Prefix, RouteState] = {}
    for table in router.rib.tables.values():
        found.update(dict.fromkeys(table.surplus, refused))
    found.update(dict.fromkeys(router.adopted, RouteState.STALE))
    found.update(dict.fromkeys(router.learned.refused, refused))
    for prefix, selection in router.learned.routes.items():
        if selection.target is None:
            found[prefix] = refused if selection.refused else RouteState.PENDING
        else:
            state = standing(prefix)
            found[prefix] = RouteState.STALE if selection.stale and state is RouteState.INSTALLED else state
    return found


_DRAINS: Final = {Drain.LEAVING: "draining", Drain.DRAINED: "drained"}


# --- the kernel and the whole ----------------------------------------------------------------------------------------
def kernel(router: Router, warnings: tuple[str, ...]) -> KernelReport:
    """The kernel's side. ``installed`` counts learned routes, so the host routes to peers are left out."""
    fib = router.fib
    guards = sum(map(fib.stands, router.guards))
    releasing = tuple(sorted(router.own.table.in_phase(Phase.RELEASING)))
    return KernelReport(
        table=fib.table,
        protocol=fib.protocol,
        metric=fib.metric,
        installed=fib.installed - guards,
        pending=fib.pending,
        repaired=fib.repaired,
        releasing=releasing,
        warnings=warnings,
    )


def mode(router: Router, attraction: Attraction | None = None) -> tuple[str, str]:
    """What attracts traffic now, and why: ``bgp``, ``fallback``, ``maintenance`` or ``off``."""
    up = sum(peer.established for peer in router.peers.values())
    words = f"{up} of {len(router.peers)} peers established"
    word = "off" if router.own.draining is Drain.DRAINED or not up else "bgp"
    if attraction is not None:
        word = attraction.mode_word(word)
        if word in {"fallback", "maintenance"} or attraction.view.problem:
            words = f"{words}; {attraction.handover.reason}"
    return word, f"{_DRAINS[router.own.draining]}; {words}" if router.own.drained else words


def readiness(router: Router, attraction: Attraction | None = None) -> tuple[bool, str]:
    """Is the node ready for pods, and the first reason why not."""
    own = router.own
    if not own.table.synced_once:
        return False, f"the blocks are not known yet: {own.table.source.reason}"
    if own.drained:
        return False, f"{_DRAINS[own.draining]}: `bgp-agent undrain` ends it"
    for prefix in own.table.blocks:
        if not own.table.held(prefix):
            continue
        has, needed = len(own.holders(prefix)), own.settings.needed(family_of(prefix))
        if has >= max(needed, attraction is not None) or (attraction is not None and attraction.attracts(prefix)):
            continue  # looked at every second while not ready: words are made only where they are needed
        state, reason = own.describe(prefix)
        if state is not BlockState.WITHHELD:
            return False, f"block {prefix_text(prefix)} is on {has} of {needed} needed peers: {reason}"
    for family in sorted({family_of(p) for p in own.table.blocks}, key=lambda f: f.value):
        if not own.forwarding[family]:
            return False, f"{family.value} forwarding is off"
    if router.fib.writable:  # what waits for a link or a next hop is no fault of the node, and shown by its routes
        return False, f"{router.fib.writable} routes wait to be written to the kernel, such as {router.fib.waiting()}"
    return True, mode(router, attraction)[1]
