"""What happens to a packet for an address, and why: every fact that takes part in the decision, in its order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from bgp_agent.core import views
from bgp_agent.core.learned import network_of
from bgp_agent.core.prefix import (
    Prefix,
    address_of,
    address_text,
    covers,
    family_of,
    host,
    is_host,
    length_of,
    parse_address,
    parse_prefix,
    prefix_text,
)
from bgp_agent.core.reports import Explanation, Offer, RouteReport, Verified
from bgp_agent.core.router import Router
from bgp_agent.core.values import RouteState


def read_target(text: str) -> Prefix:
    """An address as its host route, a prefix as it is. Raises :class:`~bgp_agent.core.prefix.PrefixError`."""
    return parse_prefix(text) if "/" in text else host(parse_address(text))


def explain(router: Router, text: str, kernel: str | None, verified: Mapping[Prefix, Verified]) -> Explanation:
    """Explain ``text``, an address or a prefix. ``kernel``: what RTM_GETROUTE answers, in words.

    Raises :class:`~bgp_agent.core.prefix.PrefixError`.
    """
    target = read_target(text)
    covering = tuple(_covering(router, target))
    steps = [_words(router, prefix, target) for prefix in covering]
    decides = next((prefix for prefix in covering if _forwards(router, prefix)), None)
    if decides is not None:
        verdict = steps[covering.index(decides)]
    else:
        verdict = _undecided(router, target, text, covering)
        steps += _pool_words(router, target, covering)
    kept = list(_kept_back(router, target))
    if kept and decides is None:
        verdict = kept[0]
    steps = kept + steps
    offers = tuple(offer for prefix in covering for offer in _offers(router, prefix))
    proof = verified.get(decides) if decides is not None else None
    return Explanation(text, verdict, decides, tuple(steps), offers, kernel, proof)


def _undecided(router: Router, target: Prefix, text: str, covering: Collection[Prefix]) -> str:
    """Why nothing of this agent decides."""
    others = "the node's other routes decide"
    address = address_of(target) if is_host(target) else None
    if address in router.next_hops.own_addresses():
        return f"{text} is an address of this node: the packet has arrived"
    if any(address == peer.packed for peer in router.settings.peers):
        return f"{text} is a BGP peer: {others}"
    for prefix in covering:
        report = views.route(router, prefix, {})
        if report is not None and report.state is RouteState.PENDING:
            return f"{prefix_text(prefix)} is pending and carries nothing yet: {others}"
    if covering:
        return f"What peers offer for {text} is refused: {others}"
    return f"No prefix of this agent covers {text}: {others}"


def _kept_back(router: Router, target: Prefix) -> Iterator[str]:
    """What the block source says this node has and may not announce, the most specific first."""
    withheld = router.own.table.source.withheld
    for prefix in sorted((each for each in withheld if covers(each, target)), key=length_of, reverse=True):
        yield f"{prefix_text(prefix)} is this node's and not announced: {withheld[prefix]}"


def _covering(router: Router, target: Prefix) -> Iterator[Prefix]:
    """Everything we know that covers the target, the most specific first."""
    for length in range(length_of(target), -1, -1):
        prefix = network_of(target, length)
        if prefix in router.own.table.blocks or prefix in router.guards or views.route(router, prefix, {}) is not None:
            yield prefix


def _forwards(router: Router, prefix: Prefix) -> bool:
    if prefix in router.own.table.blocks or prefix in router.guards:
        return True
    report = views.route(router, prefix, {})
    return report is not None and report.state in (RouteState.INSTALLED, RouteState.STALE, RouteState.SHADOWED)


def _words(router: Router, prefix: Prefix, target: Prefix) -> str:
    text = prefix_text(prefix)
    if router.own.table.held(prefix):
        state, reason = router.own.describe(prefix)
        return f"{text} is this node's own block ({state.value}: {reason}); {_ends(router, target)}"
    if prefix in router.own.table.blocks and prefix not in router.learned.routes:
        return f"{text} was this node's block and is being released: its blackhole stands until the network has let go"
    if prefix in router.guards:
        return f"{text} is a BGP peer: a host route by the gateway keeps the session apart from what it carries"
    report = views.route(router, prefix, {})
    if report is None:
        return text
    block = router.learned.own.blocks.covering(prefix) if is_host(prefix) else None
    if block is None or report.state is RouteState.REFUSED:
        return _route_words(report)
    return f"{_route_words(report)}; another node borrowed it from this node's own block {prefix_text(block)}"


def _ends(router: Router, target: Prefix) -> str:
    """Where a packet for an own block ends: the block itself forwards nothing."""
    blackhole = router.settings.blackhole
    if not is_host(target):
        rest = "the packet ends in the blackhole" if blackhole else "the node's other routes decide"
        return f"a pod's own route is more specific; without one {rest}"
    text = address_text(address_of(target))
    if router.next_hops.in_use(target):
        return f"{text} is in use here: its own route delivers the packet"
    rest = "the packet ends in the block's blackhole" if blackhole else "the node's other routes decide"
    return f"nothing here uses {text}: {rest}"


def _route_words(report: RouteReport) -> str:
    hops = " and ".join(address_text(hop) for hop in report.next_hops)
    via = f" via {hops}" if hops else ""
    return f"{prefix_text(report.prefix)} is {report.state.value}{via}: {report.reason}"


def _pool_words(router: Router, target: Prefix, covering: Collection[Prefix]) -> Iterator[str]:
    """Where the target lies, when no route of ours says it."""
    family = family_of(target)
    pools = [pool for pool in sorted(router.settings.pools) if family_of(pool) is family]
    inside = [pool for pool in pools if covers(pool, target)]
    if not pools:
        yield f"it is outside the pools: there is no {family.value} pool"
    elif not inside:
        yield f"it is outside the pools ({', '.join(map(prefix_text, pools))})"
    elif not any(covers(inside[0], prefix) for prefix in covering):
        yield f"it is inside the pool {prefix_text(inside[0])}, but no peer offers a prefix for it"


def _offers(router: Router, prefix: Prefix) -> Iterator[Offer]:
    selection = router.learned.routes.get(prefix)
    refusal = router.learned.refused.get(prefix)
    judged = {c.path: c.refused for c in selection.candidates} if selection else {}
    used = selection.used if selection else ()
    for table in router.rib.tables.values():
        path = table.paths.get(prefix)
        if path is None:
            continue
        yield Offer(
            prefix=prefix,
            peer=table.peer,
            next_hop=path.next_hop,
            as_path=path.as_path,
            communities=path.communities,
            med=path.med,
            stale=prefix in table.stale,
            best=path in used,
            refused=refusal or judged.get(path),
        )
