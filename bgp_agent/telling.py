"""Telling people: one line in the log and one event at ``/events`` for each change, in the words of the decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from bgp_agent.calm import Calm
from bgp_agent.core.router import Change

log: Final = structlog.get_logger("bgp_agent")

#: States that somebody should look at.
_LOUD: Final = frozenset(
    {
        "down",
        "connecting",
        "stale",
        "refused",
        "notification",
        "misdelivered",
        "lost",
        "above limit",
        "not ready",
        "unusable",
    }
)
_LEVELS: Final = frozenset({"debug", "info", "warning", "error"})
#: What the subject of a change is called in the log.
_SUBJECTS: Final = {
    "node": "node", "peer": "peer", "block": "block", "route": "prefix", "verified": "prefix", "source": "source",
    "state_dir": "path",
}  # fmt: skip


class Telling:
    """Hands changes to the log and to ``publish``. A flood of routes is told calmly.

    An agent that starts finds out within a moment how its blocks stand, and what it thinks of them in between is no
    news: until :meth:`settled` a block is told of when it is announced, or not at all.
    """

    def __init__(self, publish: Callable[[Change], None]) -> None:
        self._publish = publish
        self._calm = Calm(self._tell)
        self._held_back: dict[str, Change] | None = {}

    def tell(self, change: Change, *, quietly: bool = False) -> None:
        """Tell a change; ``quietly`` for what is the usual course of things. Needs a running loop."""
        if change.kind == "routes":
            self._calm.add(change)
            return
        if change.kind == "block" and self._held_back is not None:
            self._held_back.pop(change.subject, None)
            if change.state != "announced":
                self._held_back[change.subject] = change
                return
        self._tell(change, quietly=quietly)

    def settled(self) -> None:
        """The agent knows by now what it can know: tell how things stand, and from now on every change."""
        held_back, self._held_back = self._held_back or {}, None
        for change in held_back.values():
            self._tell(change)

    def close(self) -> None:
        """Tell what still waits."""
        self.settled()
        self._calm.close()

    def _tell(self, change: Change, *, quietly: bool = False) -> None:
        level = log.debug if quietly else log.warning if change.state in _LOUD else log.info
        subject = {} if change.subject == change.kind else {_SUBJECTS.get(change.kind, "subject"): change.subject}
        level(change.kind, **subject, state=change.state, reason=change.reason)
        self._publish(change)


def exabgp_said(peer: str, level: str, line: str) -> None:
    """ExaBGP's own words in our log."""
    getattr(log, level if level in _LEVELS else "warning")("exabgp", peer=peer, line=line)
