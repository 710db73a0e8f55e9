"""Network security groups: may packets between pods pass. Rules in, one answer out.

Azure takes the rules of a group by priority, the first that matches decides. A packet between two nodes passes the
groups of the interface and of the subnet, outbound and inbound. What the service tag ``VirtualNetwork`` covers includes
the prefixes of user-defined routes; nothing says that it includes what a Route Server learned, so it is not relied on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from bgp_agent.cloud.ids import ResourceId
from bgp_agent.core.prefix import Prefix, PrefixError, covers, overlaps, parse_prefix


class _Properties(msgspec.Struct, rename="camel"):
    priority: int
    direction: str
    access: str
    protocol: str = "*"
    source_address_prefix: str | None = None
    source_address_prefixes: list[str] | None = None
    source_port_range: str | None = None
    destination_address_prefix: str | None = None
    destination_address_prefixes: list[str] | None = None
    destination_port_range: str | None = None


class RuleWire(msgspec.Struct):
    """``networkSecurityGroups/{g}/securityRules/{r}``."""

    name: str
    properties: _Properties


@dataclass(frozen=True, slots=True)
class Rule:
    """``whole``: for every protocol and port; ``sources``, ``destinations``: prefixes, tags or ``*``, as written."""

    name: str
    priority: int
    inbound: bool
    allow: bool
    whole: bool
    sources: tuple[str, ...]
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A security group, and whose it is. ``rules`` None: they could not be read, ``why``."""

    id: ResourceId
    places: tuple[str, ...]
    rules: tuple[Rule, ...] | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """What a group does with packets between pods in one direction: ``passes``, ``tag``, ``partly`` or ``denied``."""

    verdict: str
    rule: str
    inbound: bool


def read_rules(wires: Iterable[RuleWire]) -> list[Rule]:
    """Rules as they are judged."""
    found = []
    for wire in wires:
        it = wire.properties
        whole = it.protocol == "*" and {it.source_port_range, it.destination_port_range} <= {"*", "0-65535"}
        sources = tuple(it.source_address_prefixes or ()) or (it.source_address_prefix or "",)
        destinations = tuple(it.destination_address_prefixes or ()) or (it.destination_address_prefix or "",)
        inbound, allow = it.direction.lower() == "inbound", it.access.lower() == "allow"
        found.append(Rule(wire.name, it.priority, inbound, allow, whole, sources, destinations))
    return found


def passage(rules: Iterable[Rule], pool: Prefix, *, inbound: bool) -> Passage:
    """The first rule that decides for packets from the pool to the pool."""
    tag = partly = ""
    for rule in sorted((each for each in rules if each.inbound is inbound), key=lambda each: each.priority):
        source, destination = _match(rule.sources, pool), _match(rule.destinations, pool)
        worst = min(source, destination)
        if worst == _NO:
            continue
        if worst == _ALL and rule.whole:
            if rule.allow:
                verdict, name = ("partly", partly) if partly else ("passes", rule.name)
            else:
                verdict, name = ("tag", tag) if tag else ("denied", rule.name)
            return Passage(verdict, name, inbound)
        if rule.allow and worst == _TAG and rule.whole:
            tag = tag or rule.name
        elif not rule.allow:
            partly = partly or rule.name
    return Passage("tag" if tag else "denied", tag or "no rule allows it", inbound)


_NO, _TAG, _SOME, _ALL = range(4)


def _match(texts: Iterable[str], pool: Prefix) -> int:
    """How far addresses of a rule cover the pool."""
    best = _NO
    for text in texts:
        if text in {"*", "0.0.0.0/0", "::/0"}:
            return _ALL
        if text.lower() == "virtualnetwork":
            best = max(best, _TAG)
            continue
        try:
            prefix = parse_prefix(text if "/" in text else f"{text}/{128 if ':' in text else 32}")
        except PrefixError:
            continue  # another tag: the Internet, a load balancer, a service
        if covers(prefix, pool):
            return _ALL
        if overlaps(prefix, pool):
            best = max(best, _SOME)
    return best
