"""The session with one peer, by way of its ExaBGP: lines in, events and command lines out. No I/O, no clock.

Two machines run side by side. :data:`TRANSITIONS` is about ExaBGP itself: is it there, is what it holds known, does it
still answer. :data:`PEERING` is about the peer: is the session established. What is wanted goes to ExaBGP whether the
peer is there or not, ExaBGP keeps it for the next session; but *announced* is only what ExaBGP acknowledged while a
session stands that negotiated the family.

An ExaBGP that is met again is asked what it holds before anything is sent, and only differences are sent: to the peer,
a restart of the agent is nothing at all. The question is asked again every :data:`AUDIT` seconds, which finds a
frozen ExaBGP too. What the peer told while nobody listened is learned again by a route refresh (RFC 2918).

End-of-RIB (RFC 4724 section 2) is ours to send: once after each session-up, when the wanted set is known to be whole
and ExaBGP has acknowledged all of it. Sent earlier, it would let a restarted node's routes be flushed at the peer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from bgp_agent.core.prefix import Family, Prefix, family_of
from bgp_agent.core.values import (
    Announcement,
    AnnouncementsChanged,
    Audited,
    EndOfRib,
    Notified,
    PeerProblem,
    RefreshBegin,
    RefreshEnd,
    SessionDown,
    SessionUp,
    SpeakerEvent,
    Update,
)
from bgp_agent.speaker.commands import Change, Command, EndOfRibSent, Language, RefreshAsked, Show
from bgp_agent.speaker.decode import Decoder, LineError, PeerOpen, SessionState
from bgp_agent.speaker.definition import PeerDefinition
from bgp_agent.speaker.outgoing import Outgoing
from bgp_agent.speaker.pipeline import ANSWER_TIMEOUT, Pipeline
from bgp_agent.speaker.protocol import Snapshot
from bgp_agent.speaker.reasons import down_text

#: Seconds between two audits, and after one that ExaBGP refused.
AUDIT: Final = 60.0
AUDIT_AGAIN: Final = 5.0
#: Seconds by which two clocks' readings of one session-up may differ.
SAME_MOMENT: Final = 5.0


class State(Enum):
    """What the agent knows of ExaBGP."""

    DETACHED = "detached"  # no ExaBGP, or no host between
    LEARNING = "learning"  # what it holds is being asked
    READY = "ready"  # differences are sent
    SILENT = "silent"  # it stopped answering; a restart has been asked for


#: (state, event) -> next state. What is not here is refused.
TRANSITIONS: Final[dict[tuple[State, str], State]] = {
    (State.DETACHED, "attached"): State.LEARNING,
    (State.LEARNING, "attached"): State.LEARNING,
    (State.READY, "attached"): State.LEARNING,
    (State.SILENT, "attached"): State.LEARNING,
    (State.LEARNING, "audited"): State.READY,
    (State.READY, "audited"): State.READY,
    (State.SILENT, "audited"): State.SILENT,
    (State.LEARNING, "timeout"): State.SILENT,
    (State.READY, "timeout"): State.SILENT,
    (State.LEARNING, "detached"): State.DETACHED,
    (State.READY, "detached"): State.DETACHED,
    (State.SILENT, "detached"): State.DETACHED,
}


class Peering(Enum):
    """The session with the peer."""

    DOWN = "down"
    ESTABLISHED = "established"


#: (state, event) -> next state. ExaBGP says ``down`` of every failed attempt too: that is no event of an ended session.
PEERING: Final[dict[tuple[Peering, str], Peering]] = {
    (Peering.DOWN, "up"): Peering.ESTABLISHED,
    (Peering.DOWN, "adopted"): Peering.ESTABLISHED,
    (Peering.ESTABLISHED, "adopted"): Peering.ESTABLISHED,
    (Peering.ESTABLISHED, "down"): Peering.DOWN,
}


class Session:
    """One peer's session. Times are seconds, monotonic; after each call take what it left to take.

    ``problems`` counts lines that could not be used; ``problem`` is the last one in words.
    """

    def __init__(self, definition: PeerDefinition, *, audit: float = AUDIT) -> None:
        self.definition = definition
        self.state = State.DETACHED
        self.peering = Peering.DOWN
        self.problems = 0
        self.problem: str | None = None
        self._peer = definition.address
        self._audit_every = audit
        self._language = Language(definition)
        self._decoder = Decoder(definition)
        self._outgoing = Outgoing(self._language)
        self._pipeline = Pipeline()
        self._errands: deque[Command] = deque()
        self._seen: dict[Prefix, Announcement | None] = {}  # the answer to Show so far
        self._open: PeerOpen | None = None
        self._epoch: int | None = None
        self._up_at = 0.0
        self._adopted = False
        self._refreshing: set[Family] = set()  # RFC 7313: between begin and end
        self._owed: set[Family] = set()  # End-of-RIB is still to be sent
        self._announced: dict[Prefix, Announcement] = {}
        self._audit_at: float | None = None
        self._lost_update = False
        self._reported: str | None = None  # the host's problem with this peer
        self._failure: str | None = None  # the last reason of a failed attempt
        self._restart: str | None = None
        self._lines: list[bytes] = []
        self._events: list[SpeakerEvent] = []

    # --- ExaBGP comes and goes ---------------------------------------------------------------------------------------
    def attached(self, snapshot: Snapshot, now: float) -> None:
        """The host tells of this peer's ExaBGP: at first, and whenever that changed."""
        self._report(snapshot.problem)
        renewed = snapshot.epoch != self._epoch
        if snapshot.process != "running":
            self._gone(snapshot.problem or "ExaBGP is not running")
            return
        if self.state is not State.DETACHED and not renewed:
            return  # a change that ExaBGP's own lines tell
        if self.peering is Peering.ESTABLISHED and (renewed or not snapshot.established):
            self._down("ExaBGP was started again" if renewed else "it ended while no agent was attached")
        self._epoch = snapshot.epoch
        self._move("attached")
        self._restart = None
        self._pipeline.restart(snapshot.unacked)
        self._outgoing.abandon()
        if renewed:
            self._outgoing.forget()
            self._outgoing.retry()
        self._seen = {}
        self._errands = deque((Show(),))
        self._audit_at = now + self._audit_every
        if snapshot.established:
            self._adopt_session(snapshot, again=not renewed)

    def detached(self, now: float) -> None:  # noqa: ARG002 - a session's calls look alike
        """The host is out of reach. What was announced stays so: nothing says otherwise (and ExaBGP goes on)."""
        if self.state is not State.DETACHED:
            self._move("detached")
        self._pipeline.restart(0)
        self._errands.clear()
        self._lines.clear()
        self._audit_at = None

    def _gone(self, reason: str) -> None:
        """There is no ExaBGP: the session, if there was one, has ended."""
        self._epoch = None
        if self.peering is Peering.ESTABLISHED:
            self._down(reason)
        if self.state is not State.DETACHED:
            self.detached(0.0)

    def _adopt_session(self, snapshot: Snapshot, *, again: bool) -> None:
        """A session that stood before: learn the peer's routes again, owe it an End-of-RIB only if it is new to us."""
        opened = None
        if snapshot.open_line is not None:
            try:
                opened = self._decoder.decode(snapshot.open_line)
            except LineError as error:
                self._trouble(str(error))
        if isinstance(opened, PeerOpen):
            self._learn_open(opened)
        unseen = again and abs(snapshot.since - self._up_at) > SAME_MOMENT
        self._up_at = snapshot.since
        self.peering = PEERING[self.peering, "adopted"]
        self._failure = None
        if unseen:
            self._owed = set(self._families)
        self._tell_up(adopted=True)
        self.refresh()

    # --- lines from ExaBGP -------------------------------------------------------------------------------------------
    def receive(self, line: bytes, now: float) -> None:
        """One line of ExaBGP's output, with or without its newline."""
        line = line.rstrip(b"\r\n")
        if line.startswith(b"{"):
            self._event(line)
        elif line in {b"done", b"error"}:
            self._answer(good=line == b"done", now=now)
        elif line:
            self._route(line, now)

    def _event(self, line: bytes) -> None:
        try:
            value = self._decoder.decode(line)
        except LineError as error:
            self._trouble(str(error))
            self._lost_update = True
            return
        if isinstance(value, PeerOpen):
            self._learn_open(value)
        elif isinstance(value, SessionState):
            self._session_state(value)
        elif value is not None and self._passes(value):
            self._events.append(value)

    def _passes(self, value: Update | EndOfRib | RefreshBegin | RefreshEnd | Notified) -> bool:
        """An end says "that was all" only to who heard the beginning; an agent that came later did not."""
        if isinstance(value, Notified):
            return True
        if self.peering is not Peering.ESTABLISHED:
            return False
        if isinstance(value, RefreshBegin):
            self._refreshing.add(value.family)
            return True
        if isinstance(value, RefreshEnd):
            heard = value.family in self._refreshing
            self._refreshing.discard(value.family)
            return heard
        return not (isinstance(value, EndOfRib) and self._adopted)

    def _session_state(self, told: SessionState) -> None:
        if not told.up:
            self._down(down_text(told.reason))
            return
        opened = self._open
        if self.peering is Peering.ESTABLISHED:  # its end was not told
            self._down("a new session took its place")
        self._open = opened
        self.peering = PEERING[self.peering, "up"]
        self._up_at = told.at
        self._failure = None
        self._owed = set(self._families)
        self._outgoing.retry()
        self._tell_up(adopted=False)

    def _route(self, line: bytes, now: float) -> None:
        first = self._pipeline.first
        self._pipeline.heard(now)
        if not isinstance(first, Show):
            if first is None:
                self._trouble(f"a line that nobody asked for: {line[:80]!r}")
            return
        read = self._language.read_route(line.decode("ascii", "replace"))
        if read is None:
            self._trouble(f"a route that cannot be read: {line[:200]!r}")
        else:
            self._seen[read[0]] = read[1]

    def _answer(self, *, good: bool, now: float) -> None:
        command = self._pipeline.answered(now)
        match command:
            case None:
                self._trouble("an answer to a command that nobody sent")
            case Change() if good:
                self._outgoing.done(command)
                self._sync(command.prefixes)
            case Change():
                self._outgoing.failed(command)
                self._sync(())
            case Show() if good:
                self._audited(now)
            case Show():
                self._seen = {}
                self._trouble("ExaBGP refused to show what it holds")
                self._audit_at = now + AUDIT_AGAIN
            case EndOfRibSent():  # an error says that the session has ended: the next one is owed its own
                self._owed.discard(command.family)

    def _audited(self, now: float) -> None:
        first = self.state is State.LEARNING
        self._move("audited")
        seen, self._seen = self._seen, {}
        self._audit_at = now + self._audit_every
        if first and not seen and self.peering is Peering.ESTABLISHED:
            self._owed = set(self._families)  # a session that has never heard a route has heard no End-of-RIB
        self._sync(self._outgoing.adopt(seen))
        if first:
            self._events.append(Audited(self._peer))

    # --- the peer ----------------------------------------------------------------------------------------------------
    @property
    def _families(self) -> frozenset[Family]:
        return self._open.families if self._open else frozenset(self.definition.families)

    def _learn_open(self, opened: PeerOpen) -> None:
        self._open = opened
        if opened.local is not None:
            self._language.local = opened.local

    def _tell_up(self, *, adopted: bool) -> None:
        opened = self._open
        self._adopted = adopted and opened is not None and opened.refresh != "none"
        self._refreshing.clear()
        self._events.append(
            SessionUp(
                peer=self._peer,
                families=self._families,
                hold_time=opened.hold_time if opened else self.definition.hold_time,
                refresh=opened.refresh if opened else "none",
                graceful_restart=opened.graceful_restart if opened else False,
                adopted=adopted,
            )
        )
        self._sync((*self._announced, *self._outgoing.held))

    def _down(self, reason: str) -> None:
        if (self.peering, "down") not in PEERING:
            if reason != self._failure:
                self._failure = reason
                self._events.append(SessionDown(self._peer, reason, was_established=False))
            return
        self.peering = PEERING[self.peering, "down"]
        self._failure = reason
        self._open = None
        self._owed.clear()
        self._errands = deque(errand for errand in self._errands if isinstance(errand, Show))
        self._events.append(SessionDown(self._peer, reason, was_established=True))
        self._sync(tuple(self._announced))

    def _report(self, problem: str | None) -> None:
        if problem != self._reported:
            self._reported = problem
            self._events.append(PeerProblem(self._peer, problem))

    def _trouble(self, what: str) -> None:
        self.problems += 1
        self.problem = what

    def _move(self, event: str) -> None:
        self.state = TRANSITIONS[self.state, event]

    # --- announcements -----------------------------------------------------------------------------------------------
    @property
    def announced(self) -> Mapping[Prefix, Announcement]:
        """Acknowledged by ExaBGP, on an established session that negotiated the family."""
        return self._announced

    def announce(self, changes: Mapping[Prefix, Announcement | None], limit: int | None = None) -> None:
        """Change the wanted set; None asks for a withdrawal. ``limit``: prefixes that the peer holds at most."""
        self._outgoing.limit = limit
        self._outgoing.want(changes)
        self._sync(())

    def complete(self) -> None:
        """The wanted set is whole: withdraw what ExaBGP holds beyond it; End-of-RIB may be sent."""
        self._outgoing.complete()

    def _sync(self, prefixes: Iterable[Prefix]) -> None:
        """Tell what became of ``prefixes``, and what was refused."""
        families = self._families if self.peering is Peering.ESTABLISHED else frozenset()
        gained: list[Prefix] = []
        lost: list[Prefix] = []
        leaving: list[tuple[Prefix, bool]] = []
        for prefix in prefixes:
            held = self._outgoing.held.get(prefix) if family_of(prefix) in families else None
            if held is None:
                if self._announced.pop(prefix, None) is not None:
                    lost.append(prefix)
            else:
                before = self._announced.get(prefix)
                if before is None:
                    gained.append(prefix)
                if held.leaving is not (before is not None and before.leaving):
                    leaving.append((prefix, held.leaving))
                self._announced[prefix] = held
        refused = self._outgoing.take_refusals()
        if gained or lost or refused or leaving:
            self._events.append(
                AnnouncementsChanged(self._peer, tuple(gained), tuple(lost), refused, tuple(leaving))
            )  # fmt: skip

    def refresh(self) -> None:
        """Ask the peer for its whole table, if that was negotiated."""
        if self.peering is not Peering.ESTABLISHED or self._open is None or self._open.refresh == "none":
            return
        waiting = {errand.family for errand in self._errands if isinstance(errand, RefreshAsked)}
        for family in Family:
            if family in self._families - waiting:
                self._errands.append(self._language.refresh(family))

    # --- what is to be taken -----------------------------------------------------------------------------------------
    def take_lines(self) -> list[bytes]:
        """Command lines to be written to ExaBGP, each with its newline."""
        while (command := self._next()) is not None:
            self._pipeline.sent(command)
            self._lines.append(command.line)
        lines, self._lines = self._lines, []
        return lines

    def _next(self) -> Command | None:
        if self.state not in {State.LEARNING, State.READY}:
            return None
        if self._errands:
            return self._errands.popleft() if self._pipeline.open_for(self._errands[0]) else None
        if self.state is not State.READY or not self._pipeline.open_for(Show()):
            return None
        if (change := self._outgoing.next()) is not None:
            return change
        if self._owed and self._outgoing.whole and self._outgoing.settled and self._pipeline.idle:
            return self._language.end_of_rib(min(self._owed, key=lambda family: family.value))
        return None

    def take_events(self) -> list[SpeakerEvent]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def take_restart(self) -> str | None:
        """Why ExaBGP has to be started again; asked for once."""
        restart, self._restart = self._restart, None
        return restart

    # --- time --------------------------------------------------------------------------------------------------------
    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is due; 0 for at once, None for never."""
        if self.state not in {State.LEARNING, State.READY}:
            return None
        due = [moment for moment in (self._pipeline.deadline(), self._audit_at) if moment is not None]
        return min(due, default=None)

    def handle_timer(self, now: float) -> None:
        """Time has passed; calling it too early or too often does no harm."""
        if self.state not in {State.LEARNING, State.READY}:
            return
        if self._pipeline.overdue(now):
            self._move("timeout")
            self._restart = f"ExaBGP has not answered a command for {ANSWER_TIMEOUT:g} s"
            return
        if self._audit_at is not None and now >= self._audit_at:
            self._audit_at = now + self._audit_every
            if not any(isinstance(errand, Show) for errand in self._errands):
                self._errands.append(Show())
            if self._lost_update:
                self._lost_update = False
                self.refresh()
