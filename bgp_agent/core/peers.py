"""The peers' states, as a table, and what each peer has acknowledged.

A session is up when ExaBGP says ``up`` and down when it says ``down`` after an ``up``; failed attempts in between
change the reason, not the state. A *problem* is what keeps ExaBGP from trying at all: a missing password file, an
ExaBGP that does not start. With a problem the peer is ``down``, not ``connecting``: waiting does not help, somebody
must act.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from bgp_agent.core.prefix import Prefix
from bgp_agent.core.settings import PeerSettings
from bgp_agent.core.values import AnnouncementsChanged, PeerProblem, PeerState, SessionDown, SessionUp

#: (state, event) -> next state. An event that is not in the table for a state changes nothing.
TRANSITIONS: Final[Mapping[tuple[PeerState, str], PeerState]] = {
    (PeerState.CONNECTING, "up"): PeerState.ESTABLISHED,
    (PeerState.CONNECTING, "problem"): PeerState.DOWN,
    (PeerState.ESTABLISHED, "down"): PeerState.CONNECTING,
    (PeerState.ESTABLISHED, "problem"): PeerState.DOWN,
    (PeerState.DOWN, "up"): PeerState.ESTABLISHED,
    (PeerState.DOWN, "solved"): PeerState.CONNECTING,
    (PeerState.DISABLED, "solved"): PeerState.CONNECTING,
}


@dataclass(slots=True)
class Peer:
    """One configured peer. Times are of the clock that ``now`` comes from."""

    settings: PeerSettings
    since: float
    state: PeerState = PeerState.CONNECTING
    reason: str = "the speaker has not said anything about it yet"
    flaps: int = 0
    announced: set[Prefix] = field(default_factory=set)  # acknowledged, on an established session
    refused: dict[Prefix, str] = field(default_factory=dict)  # ExaBGP did not take these
    session: SessionUp | None = None
    heard: bool = False  # has the speaker told how its session is
    audited: bool = False  # what its ExaBGP holds of an earlier run is known
    leaving: set[Prefix] = field(default_factory=set)  # acknowledged with GRACEFUL_SHUTDOWN (RFC 8326)
    unreleased: set[Prefix] = field(default_factory=set)  # announced when the session was lost: it may keep them

    @property
    def address(self) -> str:
        """The peer's address as text: its name everywhere."""
        return self.settings.address

    @property
    def asn(self) -> int:
        """The peer's AS number."""
        return self.settings.asn

    def on_up(self, event: SessionUp, now: float) -> None:
        """The session is established."""
        self.session, self.heard = event, True
        self.unreleased.clear()
        families = ", ".join(sorted(f.value for f in event.families)) or "no family in common"
        self._go("up", f"established, {families}", now)

    def on_down(self, event: SessionDown, now: float) -> None:
        """The session is lost, or an attempt failed."""
        self.heard = True
        self._lost()
        if self.state is not PeerState.DOWN:  # a problem explains more than a failed attempt
            self.reason = event.reason or "the session ended without a reason"
        self._go("down", self.reason, now)

    def on_problem(self, event: PeerProblem, now: float) -> None:
        """ExaBGP cannot even try, or can again."""
        self.heard = True
        if event.reason is None:
            self._go("solved", "trying to connect", now)
            return
        self._lost()
        self._go("problem", event.reason, now)
        self.reason = event.reason

    def on_announcements(self, event: AnnouncementsChanged) -> None:
        """Keep what was acknowledged, and what ExaBGP refused."""
        self.announced.update(event.announced)
        self.announced.difference_update(event.withdrawn)
        self.leaving.difference_update(event.withdrawn)
        for prefix, on in event.leaving:
            (self.leaving.add if on else self.leaving.discard)(prefix)
        for prefix in (*event.announced, *event.withdrawn):
            self.refused.pop(prefix, None)
        self.refused.update(event.refused)

    def _lost(self) -> None:
        self.flaps += self.established
        self.session = None
        self.unreleased |= self.announced
        self.announced.clear()
        self.leaving.clear()
        self.refused.clear()

    def _go(self, event: str, reason: str, now: float) -> None:
        after = TRANSITIONS.get((self.state, event))
        if after is not None:
            self.state, self.since, self.reason = after, now, reason

    @property
    def told_to_leave(self) -> bool:
        """Has it acknowledged GRACEFUL_SHUTDOWN for all that it holds, as far as ExaBGP takes it."""
        return self.announced <= self.leaving | self.refused.keys()

    @property
    def established(self) -> bool:
        """Is there a session."""
        return self.state is PeerState.ESTABLISHED


def established(peers: Iterable[Peer]) -> list[Peer]:
    """Those with a session."""
    return [peer for peer in peers if peer.established]
