"""Pages over a table that changes between them.

A page ends with a prefix, not with a position: the next one begins after that prefix, so that a route that comes or
goes meanwhile neither shifts the others nor makes one appear twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from bgp_agent.core.prefix import Prefix, overlaps, prefix_text
from bgp_agent.core.values import RouteState


@dataclass(frozen=True, slots=True)
class Selection:
    """The prefixes of one page. ``total``: of all pages together; ``cursor``: None on the last page."""

    prefixes: tuple[Prefix, ...]
    total: int
    cursor: str | None


def order(prefix: Prefix) -> tuple[int, Prefix]:
    """The order of pages: IPv4 before IPv6, then by address, then by length."""
    return len(prefix), prefix


def select(
    states: Mapping[Prefix, RouteState],
    *,
    state: RouteState | None = None,
    prefix: Prefix | None = None,
    cursor: Prefix | None = None,
    limit: int,
) -> Selection:
    """Choose one page of ``states``. One pass over the table, memory for one page."""
    matching = states.keys() if state is None else [p for p, s in states.items() if s is state]
    if prefix is not None:
        matching = [p for p in matching if overlaps(p, prefix)]
    total = len(matching)
    left = matching if cursor is None else [p for p in matching if order(p) > order(cursor)]
    page = heapq.nsmallest(limit, left, key=order) if limit < len(left) else sorted(left, key=order)
    more = len(left) > len(page)
    return Selection(tuple(page), total, prefix_text(page[-1]) if more and page else None)
