"""Who attracts the traffic for the own blocks: BGP, or the cloud's route table. A table of transitions, with evidence.

A user-defined route (UDR) beats a BGP route for the same prefix on Azure, so the two never compete: while the UDR
stands, BGP cannot be seen, and a UDR that is taken out too early is an outage. Therefore

- a UDR is *added* on little evidence: fewer peers than wanted for ``after`` seconds, or somebody asked for it;
- a UDR is *taken out* on all evidence there is: enough peers for ``revert_after`` seconds, every block acknowledged by
  each of them, nothing known that speaks against it; then one block goes first, the canary, and is watched for
  ``settle`` seconds before the others follow. When it falls silent all UDRs come back, and the next try waits longer;
- BGP may go, where that was asked for, only when every UDR is in effect.

What the table of the cloud holds is a fact, not a memory: an agent that was killed in any state begins with what it
finds there, and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bgp_agent.core.prefix import Prefix, prefix_text

#: How often a failed return doubles the wait before the next one: at most 64 times ``revert_after``.
MAX_DOUBLINGS: Final = 6
#: Seconds that are waited after a failed return even where ``revert_after`` is less.
LEAST: Final = 1.0


class State(Enum):
    """Where the node stands."""

    BGP = "bgp"  # BGP attracts; no UDR is wanted
    SHORT = "short"  # BGP attracts; too few peers, but not for long yet
    FALLBACK = "fallback"  # UDRs attract
    RETURNING = "returning"  # UDRs attract; BGP is back and being watched
    CANARY = "canary"  # one UDR is out, BGP attracts for that block
    MAINTENANCE = "maintenance"  # UDRs attract; somebody takes BGP away on purpose


class Event(Enum):
    """What moves it on."""

    LOST = "fewer peers than wanted"
    FOUND = "peers and acknowledgements are back"
    OVERDUE = "`fallback.after` has passed"
    STABLE = "`fallback.revert_after` has passed, and nothing speaks against it"
    DENIED = "the network's own answer speaks against it"
    GONE = "the canary's block is gone"
    SILENT = "the canary is not answered any more"
    PROVED = "the canary was watched for `azure.settle`"
    ASKED = "maintenance is asked for"
    RELEASED = "nobody asks for maintenance any more"
    KEPT = "routes for blocks of ours were found in the table"
    ALWAYS = "`fallback.mode` is `always`"


#: (state, event) -> next state. An event that is not in the table for a state changes nothing.
TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = {
    (State.BGP, Event.LOST): State.SHORT,
    (State.BGP, Event.ASKED): State.MAINTENANCE,
    (State.BGP, Event.KEPT): State.FALLBACK,
    (State.SHORT, Event.FOUND): State.BGP,
    (State.SHORT, Event.OVERDUE): State.FALLBACK,
    (State.SHORT, Event.ASKED): State.MAINTENANCE,
    (State.SHORT, Event.KEPT): State.FALLBACK,
    (State.FALLBACK, Event.FOUND): State.RETURNING,
    (State.FALLBACK, Event.ASKED): State.MAINTENANCE,
    (State.RETURNING, Event.LOST): State.FALLBACK,
    (State.RETURNING, Event.STABLE): State.CANARY,
    (State.RETURNING, Event.ASKED): State.MAINTENANCE,
    (State.CANARY, Event.LOST): State.FALLBACK,
    (State.CANARY, Event.DENIED): State.RETURNING,
    (State.CANARY, Event.SILENT): State.RETURNING,
    (State.CANARY, Event.GONE): State.RETURNING,
    (State.CANARY, Event.PROVED): State.BGP,
    (State.CANARY, Event.ASKED): State.MAINTENANCE,
    (State.MAINTENANCE, Event.RELEASED): State.FALLBACK,
    (State.BGP, Event.ALWAYS): State.FALLBACK,
    (State.SHORT, Event.ALWAYS): State.FALLBACK,
    (State.RETURNING, Event.ALWAYS): State.FALLBACK,
    (State.CANARY, Event.ALWAYS): State.FALLBACK,
}


class Mode(Enum):
    """``fallback.mode``: ``off`` adds no UDR, and takes out what is left of another time as carefully as ever."""

    OFF = "off"
    STANDBY = "standby"
    ALWAYS = "always"


class Answer(Enum):
    """What the data path says of the canary since its UDR went."""

    UNKNOWN = "unknown"  # nobody can be asked
    ANSWERED = "answered"
    SILENT = "silent"  # it was answered before, and is not any more


@dataclass(frozen=True, slots=True)
class Times:
    """``fallback.after``, ``fallback.revert_after`` and ``azure.settle``, in seconds."""

    after: float = 10.0
    revert_after: float = 60.0
    settle: float = 30.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What is so at one moment.

    ``blocks``: what traffic is to be attracted for, without what BGP is not to carry (``only_table``: above a peer's
    limit, so that the table has to). ``enough``: as many peers are established as are wanted. ``acknowledged``: these
    blocks are acknowledged by each of them. ``present``: own UDRs that the table holds, whatever their next hop; None:
    the table has not been read yet. ``astray``: those that lead elsewhere. ``in_effect``: those with the right next hop
    that the fabric honours by now. ``denied``: the network's own answer that BGP does not attract, or would not, in
    words. ``asked``: why maintenance is wanted. ``answer``: of the canary.
    """

    blocks: frozenset[Prefix]
    enough: bool
    acknowledged: frozenset[Prefix]
    present: frozenset[Prefix] | None
    in_effect: frozenset[Prefix] = frozenset()
    astray: frozenset[Prefix] = frozenset()
    only_table: frozenset[Prefix] = frozenset()
    denied: str | None = None
    asked: str | None = None
    answer: Answer = Answer.UNKNOWN
    peers: str = ""  # in words: "1 of 2 peers established"

    @property
    def ready(self) -> bool:
        """Could BGP attract everything that it is to carry."""
        return self.enough and self.blocks <= self.acknowledged


class Handover:
    """The state, and which UDRs are wanted by it. Call :meth:`look` whenever a fact changes or a timer is due."""

    def __init__(self, mode: Mode, times: Times, now: float) -> None:
        self.mode = mode
        self.times = times
        self.state = State.BGP
        self.since = now
        self.reason = "nothing is known yet"
        self.canary: Prefix | None = None
        self.failures = 0  # returns that the network did not honour, since the last one that it did
        self.wanted: frozenset[Prefix] = frozenset()
        self.bgp_may_go = False
        self._kept = False  # routes for our blocks that nobody here put there, or that lead elsewhere
        self._found: frozenset[Prefix] = frozenset()  # what the table held for our blocks when it was looked at last
        self._ready_since: float | None = None
        self._canary_out: float | None = None  # since when its UDR is out of the table

    # --- what follows from it ----------------------------------------------------------------------------------------
    @property
    def patience(self) -> float:
        """Seconds that BGP has to be good before the next return."""
        doubled = 2 ** min(self.failures, MAX_DOUBLINGS)
        return max(self.times.revert_after, LEAST if self.failures else 0.0) * float(doubled)

    def next_timer(self) -> float | None:
        """When to :meth:`look` again if no fact changes."""
        match self.state:
            case State.SHORT if self.mode is Mode.STANDBY:
                return self.since + self.times.after
            case State.RETURNING if self._ready_since is not None:
                return self._ready_since + self.patience
            case State.CANARY if self._canary_out is not None:
                return self._canary_out + self.times.settle
            case _:
                return None

    # --- what happens ------------------------------------------------------------------------------------------------
    def look(self, facts: Facts, now: float) -> None:
        """Take in what is so; afterwards :attr:`wanted` and :attr:`bgp_may_go` are true to it."""
        self._remember(facts, now)
        left = len(State)  # each state is passed once at most
        while left and (event := self._event(facts, now)) is not None and self._move(event, facts, now):
            left -= 1
        self._derive(facts)

    def _remember(self, facts: Facts, now: float) -> None:
        if facts.present is not None:
            found = facts.present & facts.blocks
            unasked = found - self._found - self.wanted
            self._kept = bool(unasked | (found & facts.astray)) and self.state in {State.BGP, State.SHORT}
            self._found = found
        if not facts.ready or facts.denied is not None:
            self._ready_since = None
        elif self._ready_since is None:
            self._ready_since = now
        if self.state is State.CANARY and facts.present is not None:
            if self.canary in facts.present:
                self._canary_out = None
            elif self._canary_out is None:
                self._canary_out = now

    def _event(self, facts: Facts, now: float) -> Event | None:
        """What has happened, by rank: what somebody asks for, what the configuration says, what the peers do."""
        if self.mode is not Mode.OFF and facts.asked is not None:
            return Event.ASKED
        if self.state is State.MAINTENANCE:
            return Event.RELEASED
        if self.mode is Mode.ALWAYS:
            return Event.ALWAYS
        if self._kept:
            self._kept = False
            return Event.KEPT
        return self._of_bgp(facts, now)

    def _of_bgp(self, facts: Facts, now: float) -> Event | None:
        event: Event | None = Event.FOUND if facts.ready and facts.denied is None else None
        match self.state:
            case State.BGP | State.SHORT if facts.enough and facts.denied is None:
                event = Event.FOUND  # a block that is not acknowledged yet is no reason to doubt the others
            case State.BGP:
                event = Event.LOST
            case State.SHORT:
                overdue = self.mode is Mode.STANDBY and now >= self.since + self.times.after
                event = Event.OVERDUE if overdue else None
            case State.RETURNING:
                stable = self._ready_since is not None and now >= self._ready_since + self.patience
                event = (Event.STABLE if stable else None) if facts.ready else Event.LOST
            case State.CANARY:
                event = self._verdict(facts, now) if facts.ready else Event.LOST
        return event

    def _verdict(self, facts: Facts, now: float) -> Event | None:
        if facts.denied is not None:
            return Event.DENIED
        if self.canary is not None and self.canary not in facts.blocks:
            return Event.GONE
        if facts.answer is Answer.SILENT:
            return Event.SILENT
        settled = self._canary_out is not None and now >= self._canary_out + self.times.settle
        return Event.PROVED if settled else None

    def _move(self, event: Event, facts: Facts, now: float) -> bool:
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            return False
        if event in {Event.DENIED, Event.SILENT}:
            self.failures += 1
            self._ready_since = now if facts.denied is None else None
        elif self.state is State.BGP and now >= self.since + self.patience:
            self.failures = 0  # one block that was proved says little of the others; BGP that lasted does
        elif event is Event.OVERDUE and facts.denied is not None:
            self.failures += 1
        elif event is Event.FOUND:
            self._ready_since = now  # how good BGP was before somebody took it away says nothing of now
        self.reason = self._words(event, facts)
        self.state, self.since = following, now
        self.canary, self._canary_out = None, None
        if following is State.CANARY:
            self.canary = min(facts.blocks, default=None)
            if self.canary is None or (facts.present is not None and self.canary not in facts.present):
                self._canary_out = now
        return True

    def _words(self, event: Event, facts: Facts) -> str:
        canary = "no block" if self.canary is None else prefix_text(self.canary)
        words = f"{facts.denied}; {event.value}" if facts.denied else event.value
        match event:
            case Event.ASKED:
                words = f"maintenance: {facts.asked}"
            case Event.DENIED:
                words = f"BGP does not carry {canary}: {facts.denied}; its route is back in the table"
            case Event.SILENT:
                words = f"{canary} fell silent without its route in the table, which is back"
            case Event.PROVED if facts.answer is Answer.ANSWERED:
                words = f"{canary} was answered by BGP alone for {self.times.settle:g} s"
            case Event.PROVED:
                words = f"not proved: nobody could be asked for {canary} during {self.times.settle:g} s"
        return words

    def explain(self, facts: Facts, now: float) -> str:
        """Why it stands where it stands, and what it waits for."""
        waits = ""
        match self.state:
            case State.SHORT if self.mode is Mode.STANDBY:
                waits = f"the route table takes over in {self._left(now):.0f} s"
            case State.FALLBACK if self.mode is not Mode.ALWAYS and not facts.ready and facts.enough:
                waits = "waiting for every block to be acknowledged by the peers"
            case State.FALLBACK | State.RETURNING if self.mode is not Mode.ALWAYS and facts.denied is not None:
                waits = f"BGP is not returned to: {facts.denied}"
            case State.RETURNING:
                waits = f"BGP is back, and takes over if it stays so for another {self._left(now):.0f} s"
            case State.CANARY if self.canary is not None and self._canary_out is None:
                waits = f"taking out the route of {prefix_text(self.canary)} first, to see whether BGP carries it"
            case State.CANARY if self.canary is not None:
                waits = f"{prefix_text(self.canary)} is watched for another {self._left(now):.0f} s"
            case State.MAINTENANCE if not self.bgp_may_go:
                waits = "waiting for the routes in the table to be in effect"
        return f"{self.reason}; {waits}" if waits else self.reason

    def _left(self, now: float) -> float:
        due = self.next_timer()
        return 0.0 if due is None else max(0.0, due - now)

    def _derive(self, facts: Facts) -> None:
        found = (facts.present or frozenset()) & facts.blocks
        match self.state:
            case State.BGP if facts.ready and facts.denied is None:
                wanted = facts.only_table
            case State.BGP | State.SHORT:  # not the moment to take anything out
                wanted = facts.only_table | found
            case State.CANARY:
                wanted = (facts.blocks - {self.canary}) | facts.only_table
            case _:
                wanted = facts.blocks | facts.only_table
        if self.mode is Mode.OFF and facts.present is not None:
            wanted &= facts.present
        self.wanted = frozenset(wanted)
        self.bgp_may_go = self.state is State.MAINTENANCE and facts.blocks | facts.only_table <= facts.in_effect
