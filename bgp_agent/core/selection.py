"""Best paths: which of the peers' offers for a prefix forward its packets (RFC 4271 section 9.1.2.2).

Candidates are compared by, in this order: is the session alive (a stale path loses to any live one), has the link to
the next hop a carrier (the kernel would send into the void until the hold time ends the session), is it here to stay
(with GRACEFUL_SHUTDOWN its local preference is the lowest, RFC 8326 section 4.1), local preference,
length of the AS path, origin, MED among paths of one neighbouring AS, external before internal. What is still equal
after that is used together, as ECMP, up to ``kernel.max_paths`` next hops; the lowest peer address names the best of
them. Paths whose next hop does not resolve take no part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from bgp_agent.core.prefix import Address, address_text, parse_address
from bgp_agent.core.values import GRACEFUL_SHUTDOWN, Hop, Path, Unicast

Resolve: TypeAlias = Callable[[Address], "tuple[tuple[Hop, ...], str]"]
"""A next hop to its hops, or to no hops and the reason."""
Carrier: TypeAlias = Callable[[Address], bool]
"""Is there a carrier on the way to a next hop that resolves."""


def always(_next_hop: Address) -> bool:
    """There is one, or nobody looks."""
    return True


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One peer's path for a prefix, as the decision sees it."""

    path: Path
    stale: bool
    refused: str | None  # why policy refuses the path, None when it is welcome
    internal: bool = False  # from a peer of our own AS


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The decision for every prefix with these candidates: shared, compared by identity.

    ``target`` None: nothing to install, ``reason`` says why. ``used``: the paths that forward, all of them ``stale`` or
    none. ``owner``: the node that has the prefix, where a path does not tell it and the cluster does.
    """

    candidates: tuple[Candidate, ...]
    used: tuple[Path, ...]
    target: Unicast | None
    reason: str
    stale: bool = False
    refused: bool = False  # every candidate was refused
    owner: Address | None = None

    @property
    def best(self) -> Path:
        """The path that stands for the prefix in reports."""
        return (self.used or tuple(c.path for c in self.candidates))[0]


def _rank(candidate: Candidate) -> tuple[int, int, int]:
    path = candidate.path
    preference = path.local_preference if candidate.internal and path.local_preference is not None else 100
    return (-preference, len(path.as_path), path.origin)


def _leaves(candidate: Candidate) -> bool:
    return GRACEFUL_SHUTDOWN in candidate.path.communities


def _peer_order(candidate: Candidate) -> tuple[int, Address]:
    address = parse_address(candidate.path.peer)
    return len(address), address


def _lowest_med(candidates: Sequence[Candidate]) -> list[Candidate]:
    """MED decides only among paths that came by the same neighbouring AS; a missing one counts as 0."""
    lowest: dict[int | None, int] = {}
    for candidate in candidates:
        neighbour = candidate.path.as_path[0] if candidate.path.as_path else None
        lowest[neighbour] = min(lowest.get(neighbour, 1 << 32), candidate.path.med or 0)
    return [
        c for c in candidates if (c.path.med or 0) == lowest[c.path.as_path[0] if c.path.as_path else None]
    ]  # fmt: skip


def select(candidates: Sequence[Candidate], resolve: Resolve, max_paths: int, carrier: Carrier = always) -> Selection:
    """Decide among one prefix's candidates (at least one, in any order)."""
    kept = tuple(sorted(candidates, key=_peer_order))
    welcome = [c for c in kept if c.refused is None]
    if not welcome:
        return Selection(kept, (), None, _together(kept, lambda c: c.refused or ""), refused=True)
    resolved = {c: resolve(c.path.next_hop) if c.path.next_hop else ((), "there is none") for c in welcome}
    able = [c for c in welcome if resolved[c][0]]
    if not able:
        reason = _together(welcome, lambda c: f"the next hop {_hop_text(c)}does not resolve: {resolved[c][1]}")
        return Selection(kept, (), None, f"waiting: {reason}")
    dark = [c for c in able if c.path.next_hop and not carrier(c.path.next_hop)]
    ranks = {c: (c.stale, c in dark, _leaves(c), *_rank(c)) for c in able}
    first = min(ranks.values())
    equal = _lowest_med([c for c in able if ranks[c] == first])
    equal = [c for c in equal if not c.internal] or equal
    hops = sorted({hop for c in equal for hop in resolved[c][0]})[:max_paths]
    used = [c for c in equal if not set(resolved[c][0]).isdisjoint(hops)]
    words = _words(used, len(equal) - len(used), len(kept) - len(equal)) + _dark_words(dark)
    return Selection(kept, tuple(c.path for c in used), Unicast(tuple(hops)), words, stale=used[0].stale)


def _hop_text(candidate: Candidate) -> str:
    return f"{address_text(candidate.path.next_hop)} " if candidate.path.next_hop else ""


def _together(candidates: Sequence[Candidate], reason: Callable[[Candidate], str]) -> str:
    """One reason, or each peer's where they differ."""
    reasons = {c.path.peer: reason(c) for c in candidates}
    if len(set(reasons.values())) == 1:
        return next(iter(reasons.values()))
    return "; ".join(f"{peer}: {words}" for peer, words in reasons.items())


def _dark_words(dark: Sequence[Candidate]) -> str:
    hops = sorted({c.path.next_hop for c in dark if c.path.next_hop})
    return f"; no carrier on the way to {' and '.join(map(address_text, hops))}" if hops else ""


def _words(used: Sequence[Candidate], cut: int, others: int) -> str:
    peers = " and ".join(c.path.peer for c in used)
    if used[0].stale:
        return f"kept from {peers}, whose session is lost; no live peer offers it"
    more = f"; {cut} as good above kernel.max_paths" if cut else ""
    more += "; about to be withdrawn (GRACEFUL_SHUTDOWN), and no other path is there" if _leaves(used[0]) else ""
    return f"learned from {peers}" + (f", better than {others} other{'s' * (others > 1)}" if others else "") + more
