"""What becomes of each learned prefix: the RIB, the import policy and the choice of paths, put together.

A decision is made for a set of candidates, not for a prefix: 100,000 prefixes that two peers announced with the same
attributes share one :class:`~bgp_agent.core.selection.Selection`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final, NamedTuple

from bgp_agent.core.importing import RANGE, Clear, ImportPolicy, OwnBlocks, refuse_path, refuse_prefix
from bgp_agent.core.prefix import Address, Prefix, PrefixSet, address_text, covers, family_of, length_of, network
from bgp_agent.core.rib import PeerTable, Rib
from bgp_agent.core.selection import Candidate, Carrier, Resolve, Selection, always, select
from bgp_agent.core.values import Hop, Path

#: How many decisions are remembered before the memory is started anew: a bound, not a tuning knob.
REMEMBERED: Final = 100_000
#: A block with up to this many prefixes inside it is enumerated; for a larger one the tables are scanned.
ENUMERATED: Final = 4096

_decision: Final = tuple.__new__  # a NamedTuple's own constructor costs three times as much


class Decision(NamedTuple):
    """What became of a prefix that was judged. ``other``: the decision, or the reason of its refusal, is a new one."""

    prefix: Prefix
    before: Selection | None
    now: Selection | None
    other: bool


class Learned:
    """Every learned prefix with its decision.

    :attr:`routes` holds those that the prefix rules let in (a selection may still say that every path was refused or
    that no next hop resolves), :attr:`refused` the others with the reason.
    """

    def __init__(
        self, rib: Rib, policy: ImportPolicy, resolve: Resolve, max_paths: int, carrier: Carrier = always
    ) -> None:
        self.rib = rib
        self.policy = policy
        self.max_paths = max_paths
        self.own = OwnBlocks(PrefixSet(), lambda _: False, lambda _: False)
        self.asns: dict[str, int] = {}  # of the peers
        self.routes: dict[Prefix, Selection] = {}
        self.refused: dict[Prefix, str] = {}
        self.owners: dict[Prefix, Address] = {}  # the nodes that have the blocks, as the cluster tells
        self._resolve = resolve
        self._carrier = carrier
        self._candidates: dict[tuple[Path, bool, int], Candidate] = {}
        self._selections: dict[tuple[object, ...], Selection] = {}
        self._counted: dict[str, int] | None = None
        self._clear = Clear(policy, self.own)

    # --- deciding ----------------------------------------------------------------------------------------------------
    def decide(self, prefix: Prefix) -> Selection | None:
        """Judge one prefix anew; None when nothing of it is left or policy keeps it out."""
        return next(self.decide_all((prefix,))).now

    def decide_all(self, prefixes: Iterable[Prefix]) -> Iterator[Decision]:
        """Judge each prefix anew. The tables must not change before the last one is taken."""
        self._counted = None
        if self._clear.policy is not self.policy or self._clear.own is not self.own:
            self._clear = Clear(self.policy, self.own)
        clear, routes, refused = self._clear.ranges, self.routes, self.refused
        tables = [table for table in self.rib.tables.values() if table.paths]
        offering = [table.paths for table in tables]
        fresh = not any(table.stale for table in tables)
        owners, peers = self.owners, self.policy.peers
        for prefix in prefixes:
            before = routes.get(prefix)
            refusal = refused.pop(prefix, None) if refused else None
            offers = [path for paths in offering if (path := paths.get(prefix)) is not None]
            if not offers:
                if before is not None:
                    del routes[prefix]
                yield _decision(Decision, (prefix, before, None, before is not None or refusal is not None))
                continue
            size = len(prefix)
            span = RANGE[size]
            if prefix[:span] not in clear or prefix[-1] < span * 8:
                reason = refuse_prefix(self.policy, self.own, prefix)
                if reason is not None:
                    refused[prefix] = reason
                    if before is not None:
                        del routes[prefix]
                    yield _decision(Decision, (prefix, before, None, before is not None or refusal != reason))
                    continue
                self._clear.learn(prefix)
            # While nothing is stale the key of a decision is made of the offers alone.
            owner = owners.get(prefix) if owners else None
            if owner is not None and not any(path.next_hop in peers for path in offers):
                owner = None
            now = self._selections.get((size, owner, *offers)) if fresh else None
            if now is None:
                now = self._select(prefix, owner, [table for table in tables if prefix in table.paths])
            routes[prefix] = now
            yield _decision(Decision, (prefix, before, now, now is not before or refusal is not None))

    def _select(self, prefix: Prefix, owner: Address | None, tables: list[PeerTable]) -> Selection:
        size = len(prefix)
        key = (size, owner, *[t.paths[prefix] for t in tables], *[t.peer for t in tables if prefix in t.stale])
        found = self._selections.get(key)
        if found is None:
            if len(self._selections) >= REMEMBERED:
                self.forget_decisions()
            candidates = [self._candidate(t.paths[prefix], prefix in t.stale, prefix) for t in tables]
            if owner is None:
                found = select(candidates, self._resolve, self.max_paths, self._carrier)
            else:
                found = self._straight(candidates, owner)
            self._selections[key] = found
        return found

    def _straight(self, candidates: list[Candidate], owner: Address) -> Selection:
        """As a path that named the owner as next hop, where a peer has put itself there and the owner is on-link."""
        hops, reason = self._resolve(owner)
        if not hops or any(hop.gateway != owner for hop in hops) or not self._carrier(owner):
            return replace(select(candidates, self._resolve, self.max_paths, self._carrier), owner=owner)
        peers = self.policy.peers

        def resolve(next_hop: Address) -> tuple[tuple[Hop, ...], str]:
            return (hops, reason) if next_hop in peers else self._resolve(next_hop)

        def carrier(next_hop: Address) -> bool:
            return next_hop in peers or self._carrier(next_hop)

        found = select(candidates, resolve, self.max_paths, carrier)
        words = found.reason
        if any(path.next_hop in peers for path in found.used):
            words += f"; straight to {address_text(owner)}, the node that has it, which is on-link"
        return replace(found, owner=owner, reason=words)

    def _candidate(self, path: Path, stale: bool, prefix: Prefix) -> Candidate:
        key = (path, stale, len(prefix))
        known = self._candidates.get(key)
        if known is None:
            asn = self.asns[path.peer]
            refused = refuse_path(self.policy, path, asn, family_of(prefix))
            known = self._candidates[key] = Candidate(path, stale, refused, asn == self.policy.own_asn)
        return known

    def forget_decisions(self) -> None:
        """The next decisions are made afresh: a rule, a next hop or a limit has changed."""
        self._candidates.clear()
        self._selections.clear()

    # --- what must be judged again -----------------------------------------------------------------------------------
    def everything(self) -> set[Prefix]:
        """Every prefix that any peer announces."""
        return {prefix for table in self.rib.tables.values() for prefix in table.paths}

    def covering(self, block: Prefix) -> Iterator[Prefix]:
        """The learned prefixes that cover a block, itself included."""
        tables = [t.paths for t in self.rib.tables.values() if t.paths]
        for length in range(length_of(block) + 1) if tables else ():
            wider = network_of(block, length)
            if any(wider in paths for paths in tables):
                yield wider

    def touching(self, block: Prefix) -> Iterator[Prefix]:
        """The learned prefixes that overlap an own block: covering it, equal to it or inside it."""
        yield from self.covering(block)
        tables = [t.paths for t in self.rib.tables.values() if t.paths]
        room = (len(block) - 1) * 8 - length_of(block)
        if not room:
            return
        if (2 << room) <= ENUMERATED:
            yield from (p for p in _inside(block) if any(p in paths for paths in tables))
            return
        for paths in tables:
            yield from (p for p in paths if p != block and covers(block, p))

    def through(self, next_hops: AbstractSet[Address]) -> list[Prefix]:
        """The prefixes for which one of these next hops is a candidate."""
        verdicts: dict[Selection, bool] = {}
        found = []
        for prefix, selection in self.routes.items():
            verdict = verdicts.get(selection)
            if verdict is None:
                verdict = selection.owner in next_hops or any(
                    c.path.next_hop in next_hops for c in selection.candidates
                )
                verdicts[selection] = verdict
            if verdict:
                found.append(prefix)
        return found

    # --- counting ----------------------------------------------------------------------------------------------------
    def accepted(self, peer: str) -> int:
        """How many of a peer's prefixes policy lets in. Counted when asked, and remembered until something changes."""
        if self._counted is None:
            self._counted = dict.fromkeys(self.rib.tables, 0)
            for selection in self.routes.values():
                for candidate in selection.candidates:
                    if candidate.refused is None:
                        self._counted[candidate.path.peer] = self._counted.get(candidate.path.peer, 0) + 1
        return self._counted.get(peer, 0)


def network_of(prefix: Prefix, length: int) -> Prefix:
    """The covering prefix of a shorter (or the same) length."""
    return network(prefix[:-1], length)  # type: ignore[arg-type]  # a prefix without its length is an address


def _inside(block: Prefix) -> Iterator[Prefix]:
    """Every prefix that is more specific than ``block``."""
    size = len(block) - 1
    first = int.from_bytes(block[:-1], "big")
    bits = size * 8
    for length in range(length_of(block) + 1, bits + 1):
        step = 1 << (bits - length)
        tail = bytes((length,))
        for value in range(first, first + (1 << (bits - length_of(block))), step):
            yield Prefix(value.to_bytes(size, "big") + tail)
