"""``status``, ``routes``, ``explain`` and ``probe``: what the running agent says."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import msgspec

from bgp_agent.cli import answers, output
from bgp_agent.cli.client import Agent
from bgp_agent.cli.main import FAILED, GOOD
from bgp_agent.cli.places import agent_url
from bgp_agent.web.limits import LIMIT_MOST


def status(arguments: argparse.Namespace) -> int:
    """``bgp-agent status``: exit 0 when ready."""
    body, found = Agent(agent_url(arguments)).ask("/status", answers.Status)
    if arguments.json:
        output.json_text(body)
    else:
        _picture(found)
    return GOOD if found.ready else FAILED


def _picture(found: answers.Status) -> None:
    node = found.node
    print(f"{output.toned(output.clean(node.name), 'bold')}: {output.state('ready' if found.ready else 'not ready')}, "
          f"{output.clean(found.reason)}")  # fmt: skip
    addresses = ", ".join(one for one in (node.address, node.address6) if one) or "its address is not known yet"
    attraction = "nothing attracts traffic" if found.mode == "off" else f"traffic by {found.mode}"
    print(output.clean(f"{attraction} · {addresses} · bgp-agent {node.version} since {node.started}"))
    problems = list(_problems(found))
    if problems:
        print("\nproblems:")
        for problem in problems:
            print(f"  {output.clean(problem)}")
    print()
    output.table(
        ("PEER", "AS", "STATE", "FOR", "IN", "USED", "OUT", "FLAPS", "WHY"),
        [(p.address, str(p.asn), p.state, age(p.since), str(p.received), str(p.accepted), str(p.announced),
          str(p.flaps), p.reason) for p in found.peers],
    )  # fmt: skip
    print()
    output.table(
        ("BLOCK", "STATE", "PEERS", "PROOF", "WHY"),
        [(b.cidr, b.state, str(len(b.peers)), proof(b.verified), b.reason) for b in found.blocks],
        spare=("PEERS",),
    )
    print()
    for line in _rest(found):
        print(output.clean(line))


def _problems(found: answers.Status) -> Iterator[str]:
    """What a person should look at, the nearest cause first."""
    if found.config.problem:
        yield f"config: the changed file is refused, the last good one goes on: {found.config.problem}"
    if found.config.restart_needed:
        yield f"config: waits for a restart: {', '.join(found.config.restart_needed)}"
    yield from (f"kernel: {warning}" for warning in found.kernel.warnings)
    if found.source.state != "synced":
        yield f"source: {found.source.state}: {found.source.reason}"
    yield from (f"peer {p.address}: {p.state}: {p.reason}" for p in found.peers if p.state != "established")
    yield from (f"block {b.cidr}: {b.state}: {b.reason}" for b in found.blocks if b.state != "announced")
    for kind, items in (("block", [(b.cidr, b.verified) for b in found.blocks]),
                        ("route", [(r.prefix, r.verified) for r in found.routes])):  # fmt: skip
        yield from (f"{kind} {name}: misdelivered to {v.node}" for name, v in items if v.state == "misdelivered")
    if found.kernel.pending:
        learned = any(route.state == "pending" for route in found.routes)
        why = ": `bgp-agent routes --state pending` says why" if learned else ""
        yield f"kernel: {found.kernel.pending} routes wait to be written{why}"


def _rest(found: answers.Status) -> Iterator[str]:
    kernel, fallback = found.kernel, found.fallback
    counts = Counter(route.state for route in found.routes)
    states = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
    shown = "" if len(found.routes) == found.routes_total else f" (of the first {len(found.routes)})"
    yield f"routes    {found.routes_total}" + (f": {states}{shown}" if states else "")
    yield f"source    {found.source.kind}, {found.source.state}: {found.source.reason}"
    yield (f"kernel    {kernel.installed} installed, {kernel.pending} pending, {kernel.repaired} repaired "
           f"(table {kernel.table}, protocol {kernel.protocol}, metric {kernel.metric})")  # fmt: skip
    yield f"fallback  {fallback.mode}, {fallback.state}" + (f": {fallback.reason}" if fallback.reason else "")
    for route in fallback.routes:
        yield f"          {route.prefix} {route.state}: {route.reason}"
    for warning in fallback.warnings:
        yield f"          {warning}"
    if found.config.path:
        yield f"config    {found.config.path}, read {found.config.loaded}"


def age(since: str) -> str:
    """How long ago a time of the agent's was, in two units: ``3d4h``, ``12s``; ``-`` when that cannot be read."""
    try:
        seconds = max(0, int(time.time() - datetime.fromisoformat(since).timestamp()))
    except ValueError:
        return "-"
    for name, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= size:
            return f"{seconds // size}{name}{seconds % size // part}{smaller}"
    return f"{seconds}s"


def proof(verified: answers.Verified) -> str:
    """The network's answer in a few words."""
    if verified.state == "unknown":
        return "not known"
    when = f", {age(verified.at)} ago" if verified.at else ""
    return f"{verified.state} to {verified.node or 'nobody'}{when}"


def routes(arguments: argparse.Namespace) -> int:
    """``bgp-agent routes``: page by page until the limit."""
    agent = Agent(agent_url(arguments))
    left = arguments.limit or None
    found: list[answers.Route] = []
    raw: list[msgspec.Raw] = []
    cursor, total = arguments.cursor, 0
    while True:
        limit = min(LIMIT_MOST, left) if left else LIMIT_MOST
        body, page = agent.ask("/routes", answers.RoutePage, state=arguments.state, prefix=arguments.prefix,
                               limit=limit, cursor=cursor)  # fmt: skip
        total = page.total
        cursor = page.cursor
        if arguments.json:
            raw += msgspec.json.decode(body, type=_Raw).routes
        else:
            found += page.routes
        left = left and left - len(page.routes)
        if cursor is None or left == 0 or not page.routes:
            break
    if arguments.json:
        output.json_text(msgspec.json.encode({"total": total, "routes": raw, "cursor": cursor}))
    else:
        _route_table(found, total, cursor)
    return GOOD


class _Raw(msgspec.Struct):
    """A page whose routes are handed on as they came."""

    routes: list[msgspec.Raw]


def _route_table(found: list[answers.Route], total: int, cursor: str | None) -> None:
    if not found:
        print("no routes")
        return
    output.table(
        ("PREFIX", "STATE", "NEXT HOPS", "FROM", "AS PATH", "PROOF", "WHY"),
        [(r.prefix, r.state, ",".join(r.next_hops) or "-", ",".join(r.peers) or "-",
          " ".join(map(str, r.as_path)) or "-", proof(r.verified), r.reason) for r in found],
        spare=("FROM", "AS PATH", "NEXT HOPS"),
    )  # fmt: skip
    if cursor is not None:
        print(f"\n{len(found)} of {total}: --limit 0 shows all, --cursor {output.clean(cursor)} the next ones")


def explain(arguments: argparse.Namespace) -> int:
    """``bgp-agent explain``: exit 0 whenever there is an answer."""
    body, found = Agent(agent_url(arguments)).ask("/explain", answers.Explanation, for_=arguments.target)
    if arguments.json:
        output.json_text(body)
        return GOOD
    print(f"{output.toned(output.clean(found.target), 'bold')}: {output.clean(found.verdict)}")
    steps = [step for step in found.steps if step != found.verdict]
    if steps:
        print("\nwhy:")
        for number, step in enumerate(steps, 1):
            print(f"  {number}. {output.clean(step)}")
    if found.offers:
        print("\noffered:")
        for offer in found.offers:
            print(f"  {output.clean(_offered(offer))}")
    if found.kernel:
        print(f"\nthe kernel says: {output.clean(found.kernel)}")
    if found.verified:
        print(f"the network says: {output.clean(_verdict(found.verified))}")
    return GOOD


def _offered(offer: answers.Offer) -> str:
    path = " ".join(map(str, offer.as_path)) or "empty"
    extra = [f"MED {offer.med}"] if offer.med is not None else []
    extra += [f"communities {' '.join(offer.communities)}"] if offer.communities else []
    extra += ["stale"] if offer.stale else []
    fate = f"refused: {offer.refused}" if offer.refused else "best" if offer.best else "accepted, not used"
    more = "".join(f", {one}" for one in extra)
    return f"{offer.prefix} by {offer.peer}: next hop {offer.next_hop or 'none'}, AS path {path}{more}: {fate}"


def probe(arguments: argparse.Namespace) -> int:
    """``bgp-agent probe``: exit 0 only when it was delivered."""
    body, found = Agent(agent_url(arguments)).ask("/probe", answers.Verified, for_=arguments.target)
    if arguments.json:
        output.json_text(body)
    else:
        print(f"{output.clean(arguments.target)}: {output.clean(_verdict(found))}")
    return GOOD if found.state == "delivered" else FAILED


def _verdict(found: answers.Verified) -> str:
    if found.state == "unknown":
        return f"not known: {found.reason or 'no answer came'}"
    reason = f" ({found.reason})" if found.reason else ""
    asked = f", asked by {found.by}" if found.by else ""
    return f"{found.state} to {found.node or 'nobody'}{asked}{f' at {found.at}' if found.at else ''}{reason}"
