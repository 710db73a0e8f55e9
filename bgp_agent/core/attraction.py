"""Who attracts the traffic for the own blocks: the facts of the hand-over, put together from router and cloud.

:mod:`~bgp_agent.core.handover` decides; here its facts are made: which blocks are to be attracted, what the peers have
acknowledged, what the route tables hold, what is in effect by the network's own answer, and what speaks against BGP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from bgp_agent.core import proof
from bgp_agent.core.blocks import Phase
from bgp_agent.core.cloudtable import Difference, Node, Table, difference, table_name
from bgp_agent.core.handover import Answer, Facts, Handover, Mode, State, Times
from bgp_agent.core.prefix import Address, Prefix, family_of, prefix_text
from bgp_agent.core.reports import FallbackReport, Reachable, TableRouteReport
from bgp_agent.core.router import Change, Router
from bgp_agent.core.values import BlockState

#: Seconds after the start for which a peer that nothing was heard of counts as if it were there.
HEARING: Final = 10.0
#: What ``mode`` and ``fallback.state`` say of each state.
WORDS: Final[Mapping[State, str]] = {
    State.BGP: "bgp",
    State.SHORT: "bgp",
    State.FALLBACK: "fallback",
    State.RETURNING: "fallback",
    State.CANARY: "fallback",
    State.MAINTENANCE: "maintenance",
}


@dataclass(frozen=True, slots=True)
class CloudView:
    """What the cloud's shell knows now.

    ``tables`` None: not all were read yet. ``provable``: effective routes of an interface in a subnet of theirs can be
    read. ``alone``: why this node has no peering at all, and so has to live by the tables. ``refused``: what Azure said
    to a write. ``event``: what Azure is about to do to this machine. ``pending``: seconds the open writes should take.
    """

    tables: tuple[Table, ...] | None = None
    node: Node | None = None
    network: proof.Network = field(default_factory=proof.Network)
    provable: bool = False
    alone: str | None = None
    refused: Mapping[Prefix, str] = field(default_factory=dict)
    event: str | None = None
    problem: str | None = None
    notes: tuple[str, ...] = ()
    pending: float = 0.0
    covers: str = ""  # whom a fallback serves, and who loses the block
    reads: int = 0  # of route tables, since the start
    writes: int = 0


class Attraction:
    """Call :meth:`look` whenever something changed or a timer is due; ``wanted`` goes to the cloud's shell."""

    def __init__(self, router: Router, mode: Mode, times: Times, now: float) -> None:
        self.view = CloudView()
        self.mode = mode
        self.handover = Handover(mode, times, now)
        self.difference = Difference()
        self.answer = Answer.UNKNOWN
        self.asked: dict[str, str] = {}  # who asks for maintenance -> why
        self.facts = Facts(frozenset(), enough=False, acknowledged=frozenset(), present=None)
        self._router = router
        self.keep: frozenset[Prefix] = frozenset()
        self._compared: tuple[tuple[object, ...], Difference] = ((), Difference())
        self._looked = now
        self._right_since: dict[Prefix, float] = {}
        self._acknowledged_at = self._table_at = now
        self._last: tuple[object, object] = (None, None)
        self._said: tuple[str, str] | None = None
        self._heard_by = now + HEARING

    # --- looking -----------------------------------------------------------------------------------------------------
    def look(self, now: float) -> list[Change]:
        """Take in what is so now, and decide; what the log should say of it."""
        view, self._looked = self.view, now
        self.handover.mode = Mode.ALWAYS if self._alone() else self.mode
        for _ in range(2):  # what is wanted depends on what is there, and what is lacking on what is wanted
            self.difference = self._compare()
            self.facts = self._facts(now)
            self.handover.look(self.facts, now)
            if self.handover.state is not State.CANARY:
                self.answer = Answer.UNKNOWN  # it was about that canary, and the next one is another question
        self.difference = self._compare()
        if view.tables is None:
            return []
        said = (self.handover.state.value, self.handover.reason)
        changed, self._said = said != self._said, said
        return [Change("fallback", "attraction", *said)] if changed else []

    def _alone(self) -> bool:
        """Without a peering this node is as with ``fallback.mode: always``."""
        up = any(peer.established for peer in self._router.peers.values())
        return self.view.alone is not None and not up and self.mode is not Mode.OFF

    def _compare(self) -> Difference:
        tables, node, wanted = self.view.tables, self.view.node, self.handover.wanted
        if tables is None or node is None:
            return Difference()
        given = (tables, node, wanted, self.keep)
        if self._compared[0] != given:  # with hundreds of routes it takes milliseconds, and most looks change nothing
            self._compared = (given, difference(tables, wanted, node, self.keep))
        return self._compared[1]

    def _facts(self, now: float) -> Facts:
        router, view, own = self._router, self.view, self._router.own
        offered = [p for p in own.table.in_phase(Phase.OFFERED) if not own.table.unread(p)]
        only = {} if own.drained else {p: why for p in offered if (why := self._only_table(p)) is not None}
        blocks = frozenset(offered) - only.keys()
        needed = {p: own.settings.needed(family_of(p)) for p in blocks}
        acknowledged = frozenset(p for p in blocks if len(own.holders(p)) >= max(1, needed[p]))
        up = [peer.address for peer in router.peers.values() if peer.established]
        least = own.settings.min_peers
        enough = bool(router.peers) and len(up) >= min(least or len(router.peers), len(router.peers))
        enough = enough or not self._heard(now)
        known = view.tables is not None and view.node is not None
        present = self.difference.present & (blocks | only.keys()) if known else None
        self.keep = self._undecided(self.difference.present - blocks - only.keys())
        self._note(acknowledged, tuple(up), present, now)
        in_effect = frozenset(p for p in self.difference.right if self._in_effect(p, now))
        return Facts(
            blocks=blocks,
            enough=enough,
            acknowledged=acknowledged,
            present=self._still_present(present),
            in_effect=in_effect,
            astray=self.difference.astray,
            only_table=frozenset(only),
            denied=self._denied(blocks, acknowledged, enough=enough),
            asked=self._asked(),
            answer=self.answer,
            peers=view.alone if view.alone and not up else f"{len(up)} of {len(router.peers)} peers established",
        )

    def _heard(self, now: float) -> bool:
        """Is it known how the sessions are. Right after the start it is not, and that is no evidence of a loss."""
        peers = self._router.peers.values()
        return now >= self._heard_by or (bool(peers) and all(peer.heard for peer in peers))

    def _note(
        self, acknowledged: frozenset[Prefix], up: tuple[str, ...], present: frozenset[Prefix] | None, now: float
    ) -> None:
        """Keep since when things are as they are: an older answer of the network is about another world."""
        if self._last[0] != (acknowledged, up):
            self._acknowledged_at = now
        if self._last[1] != present:
            self._table_at = now
        self._last = ((acknowledged, up), present)
        right = self.difference.right
        self._right_since = {p: self._right_since.get(p, now) for p in right}

    def _undecided(self, others: frozenset[Prefix]) -> frozenset[Prefix]:
        """Which routes for what is not to be attracted stay: an own block may be held back, or not be read yet."""
        table = self._router.own.table
        return frozenset(filter(table.held, others)) if table.synced_once else others

    def _only_table(self, prefix: Prefix) -> str | None:
        """Why BGP is not to carry an offered block, so that a table has to."""
        own = self._router.own
        space = proof.inside(prefix, self.view.network.space)
        if space is not None:
            return f"it lies in the virtual network's own space {prefix_text(space)}, where no BGP route counts"
        able = sum(prefix in export.wanted for export in own.exports.values())
        if own.exports and able < max(1, own.settings.needed(family_of(prefix))):
            reasons = [why for export in own.exports.values() if (why := export.why_not(prefix)) is not None]
            return "; ".join(dict.fromkeys(reasons)) or "no peer is to be told of it"
        return None

    def _here(self) -> tuple[Address, ...]:
        node = self.view.node
        return () if node is None else tuple(a for a in (node.address, node.address6) if a is not None)

    def _in_effect(self, prefix: Prefix, now: float) -> bool:
        """Does the fabric follow the table by now: by its own answer, or after ``azure.settle`` where none is had."""
        since, effective = self._right_since[prefix], self.view.network.effective
        if self.view.provable and effective is not None and effective.at >= since:
            return effective.carrier(prefix, self._here()) == "udr"
        return now >= since + self.handover.times.settle

    def _still_present(self, present: frozenset[Prefix] | None) -> frozenset[Prefix] | None:
        """A canary whose UDR is out of the table and still in effect is not out yet."""
        canary, effective = self.handover.canary, self.view.network.effective
        if present is None or canary is None or canary in present or effective is None:
            return present
        still = effective.at >= self._table_at and effective.carrier(canary, self._here()) == "udr"
        return present | {canary} if still else present

    def _denied(self, blocks: frozenset[Prefix], acknowledged: frozenset[Prefix], *, enough: bool) -> str | None:
        """The network's own answer that BGP does not carry what the peers have acknowledged, in words."""
        network = self.view.network
        words = proof.muted(network)
        if words is not None or not enough or not blocks or not blocks <= acknowledged:
            return words
        words = proof.lacking(network.learned, blocks, self._acknowledged_at)
        if words is None and self.handover.state in {State.BGP, State.SHORT, State.CANARY}:
            by_bgp = blocks - self.difference.present
            since = max(self._acknowledged_at, self._table_at)
            words = proof.ineffective(network, by_bgp, self._here(), since)
        return words

    def _asked(self) -> str | None:
        reasons = ["the node is drained"] if self._router.own.drained else []
        reasons += self.asked.values()
        if self.view.event is not None:
            reasons.append(self.view.event)
        return " and ".join(dict.fromkeys(reasons)) or None

    # --- what follows ------------------------------------------------------------------------------------------------
    @property
    def wanted(self) -> frozenset[Prefix]:
        """The UDRs that shall be there."""
        return self.handover.wanted

    @property
    def urgent(self) -> bool:
        """Does a decision wait for the network's answer."""
        waiting = self.difference.right - self.facts.in_effect
        state = self.handover.state
        doubt = state is State.SHORT and self.facts.denied is not None
        return bool(waiting) or doubt or state in {State.RETURNING, State.CANARY}

    def next_timer(self) -> float | None:
        """When to look again if nothing changes."""
        settle = self.handover.times.settle
        pending = self.difference.right - self.facts.in_effect
        times = [self._right_since[p] + settle for p in pending]
        due = self.handover.next_timer()
        times += [] if due is None else [due]
        times += [] if self._heard(self._looked) else [self._heard_by]
        return min((each for each in times if each > self._looked), default=None)  # else only an answer helps

    def cannot_move(self) -> str | None:
        """Why the traffic cannot be handed to a route table; None when it can."""
        if self.mode is Mode.OFF:
            return "fallback.mode is off"
        if self.view.tables is None:
            return f"the route tables have not been read yet{f': {self.view.problem}' if self.view.problem else ''}"
        if not self.view.tables:
            return "no route table is known; name it in azure.route_tables"
        problems = {p: why for p, why in self.problems().items() if p in self.facts.blocks | self.facts.only_table}
        return next((f"{prefix_text(p)}: {why}" for p, why in sorted(problems.items())), None)

    def problems(self) -> dict[Prefix, str]:
        """Blocks that a table should hold and cannot, and why."""
        refused = {p: why for p, why in self.view.refused.items() if p not in self.difference.right}
        return {**refused, **self.difference.problems}

    # --- what is told ------------------------------------------------------------------------------------------------
    def attracts(self, prefix: Prefix) -> bool:
        """Does each table lead the block here, as far as they were read."""
        return prefix in self.difference.right

    def mode_word(self, otherwise: str) -> str:
        """What attracts traffic now; ``otherwise``: what it would be without a cloud."""
        word = WORDS[self.handover.state]
        blocks = self.facts.blocks | self.facts.only_table
        if word == "bgp" or (blocks and not blocks & self.difference.right):
            return otherwise
        return word

    def explain(self, now: float) -> str:
        """Why it stands where it stands."""
        words = f"{self.facts.peers}; {self.handover.explain(self.facts, now)}"
        if self.view.pending:
            words += f"; the open writes take about {self.view.pending:.0f} s"
        return words

    def block(self, prefix: Prefix, state: BlockState, reason: str) -> tuple[BlockState, str]:
        """A block's state with the tables in view: a UDR beats BGP."""
        if self.attracts(prefix):
            return BlockState.FALLBACK, f"its route in the route table leads here; BGP: {reason}"
        problem = self.problems().get(prefix) if prefix in self.wanted else None
        if problem is not None:
            return state, f"{reason}; not in the route table: {problem}"
        if prefix in self.wanted:
            return state, f"{reason}; its route is about to be written to the route table"
        return state, reason

    def reachable(self, prefix: Prefix, wall: Callable[[float], float]) -> Reachable | None:
        """The network's own answer for a block; None when it was not asked, or the answer is about an older world."""
        network = self.view.network
        effective = network.effective
        if effective is None or effective.at < max(self._acknowledged_at, self._table_at):
            return None
        by = effective.carrier(prefix, self._here())
        if by in {"bgp", "udr"}:
            kind = "a BGP route" if by == "bgp" else "a user-defined route"
            return Reachable(by, f"{kind} is in effect on {effective.nic}", wall(effective.at))
        what = "a route elsewhere" if by == "elsewhere" else "no route"
        words = f"{what} is in effect on {effective.nic}{proof.cause(network, prefix)}"
        return Reachable(None, words, wall(effective.at))

    def report(self, now: float) -> FallbackReport:
        """For ``/status``."""
        view, diff = self.view, self.difference
        problems = self.problems()
        routes = []
        for prefix in sorted(self.wanted | (diff.present & (self.facts.blocks | self.facts.only_table))):
            if prefix in diff.right:
                effect = prefix in self.facts.in_effect
                state, reason = "written", "in effect" if effect else "written; the fabric follows within a minute"
                if prefix not in self.wanted:
                    state, reason = "removing", "not wanted any more"
            elif prefix in problems:
                state, reason = "refused", problems[prefix]
            else:
                state, reason = "pending", view.problem or "about to be written"
            routes.append(TableRouteReport(prefix, state, reason))
        off = self.handover.mode is Mode.OFF
        return FallbackReport(
            mode=self.mode.value,
            state="off" if off else WORDS[self.handover.state],
            routes=tuple(routes),
            reason=self.explain(now),
            tables=tuple(table_name(each.id) for each in view.tables or ()),
            covers=view.covers,
            canary=self.handover.canary,
            warnings=(*([view.problem] if view.problem else []), *diff.warnings, *self._causes(), *view.notes),
        )

    def _causes(self) -> list[str]:
        """What the network's answer has against BGP, and blocks that BGP cannot carry."""
        found = [self.facts.denied] if self.facts.denied else []
        return found + [f"{prefix_text(p)}: {self._only_table(p)}" for p in sorted(self.facts.only_table)]
