"""What happens to a packet for an address, and why: every fact that takes part in the decision, in its order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bgp_agent.core import views
from bgp_agent.core.learned import network_of
from bgp_agent.core.prefix import (
    Prefix,
    address_text,
    covers,
    family_of,
    host,
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
    steps: list[str] = []
    decides: Prefix | None = None
    verdict = ""
    for prefix in _covering(router, target):
        words = _words(router, prefix)
        steps.append(words)
        if decides is None and _forwards(router, prefix):
            decides, verdict = prefix, words
    if decides is None:
        verdict = f"No prefix of this agent covers {text}: the node's other routes decide"
        steps.append(_pool_words(router, target))
    if kernel is not None:
        steps.append(f"the kernel would send it: {kernel}")
    offers = tuple(offer for prefix in _covering(router, target) for offer in _offers(router, prefix))
    return Explanation(text, verdict, decides, tuple(steps), offers, kernel, verified.get(decides) if decides else None)


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


def _words(router: Router, prefix: Prefix) -> str:
    text = prefix_text(prefix)
    if router.own.table.held(prefix):
        state, reason = router.own.describe(prefix)
        ends = "a pod's own route is more specific; without one the packet ends in the blackhole"
        return f"{text} is this node's own block ({state.value}: {reason}); {ends}"
    if prefix in router.own.table.blocks and prefix not in router.learned.routes:
        return f"{text} was this node's block and is being released: its blackhole stands until the network has let go"
    if prefix in router.guards:
        return f"{text} is a peer: a host route by the gateway keeps the session apart from what it carries"
    report = views.route(router, prefix, {})
    return _route_words(report) if report is not None else text


def _route_words(report: RouteReport) -> str:
    hops = " and ".join(address_text(hop) for hop in report.next_hops)
    via = f" via {hops}" if hops else ""
    return f"{prefix_text(report.prefix)} is {report.state.value}{via}: {report.reason}"


def _pool_words(router: Router, target: Prefix) -> str:
    family = family_of(target)
    pools = [pool for pool in sorted(router.settings.pools) if family_of(pool) is family]
    inside = [prefix_text(pool) for pool in pools if covers(pool, target)]
    if inside:
        return f"it is inside the pool {inside[0]}, but no peer offers a prefix for it"
    return f"it is outside the pools ({', '.join(map(prefix_text, pools)) or f'there is no {family.value} pool'})"


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
            peer=table.peer,
            next_hop=path.next_hop,
            as_path=path.as_path,
            communities=path.communities,
            med=path.med,
            stale=prefix in table.stale,
            best=path in used,
            refused=refusal or judged.get(path),
        )
