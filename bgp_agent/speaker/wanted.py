"""A wanted peer, as the agent's side keeps it: its session, and what another session would have to be told again."""

from __future__ import annotations

from collections.abc import Mapping

from bgp_agent.core.prefix import Prefix
from bgp_agent.core.values import Announcement, PeerProblem, SessionDown, SessionUp, SpeakerEvent
from bgp_agent.speaker.definition import PeerDefinition
from bgp_agent.speaker.session import Session


class Wanted:
    """A wanted peer: its session, and what has to be told again to another one."""

    def __init__(self, definition: PeerDefinition) -> None:
        self.definition = definition
        self.session = Session(definition)
        self.wanted: dict[Prefix, Announcement] = {}
        self.limit: int | None = None
        self.complete = False
        self.epoch = 0
        self.established = False
        self.troubled = False  # a problem was told and is not over

    def redefine(self, definition: PeerDefinition) -> list[SpeakerEvent]:
        """Another definition means another ExaBGP: begin anew, with the same wanted set; what that ends."""
        events: list[SpeakerEvent] = []
        if self.established:
            reason = "its definition changed; the session starts again"
            events.append(SessionDown(self.definition.address, reason, was_established=True))
        if self.troubled:
            events.append(PeerProblem(self.definition.address, None))
        self.definition = definition
        self.session = Session(definition)
        self.epoch = 0  # what the old ExaBGP still says is not for this session
        self.established = self.troubled = False
        if self.wanted:
            self.session.announce(dict(self.wanted), self.limit)
        if self.complete:
            self.session.complete()
        return events

    def announce(self, changes: Mapping[Prefix, Announcement | None], limit: int | None) -> None:
        """Remember and pass on."""
        self.limit = limit
        for prefix, announcement in changes.items():
            if announcement is None:
                self.wanted.pop(prefix, None)
            else:
                self.wanted[prefix] = announcement
        self.session.announce(changes, limit)

    def take_events(self) -> list[SpeakerEvent]:
        """What the session has to tell; what of it would have to be taken back is remembered."""
        events = self.session.take_events()
        for event in events:
            if isinstance(event, SessionUp | SessionDown):
                self.established = isinstance(event, SessionUp)
            elif isinstance(event, PeerProblem):
                self.troubled = event.reason is not None
        return events
