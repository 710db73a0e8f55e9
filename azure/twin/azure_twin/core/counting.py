"""Routes per peer, counted as Azure counts them: routes held plus routes in the burst that comes in.

Re-advertising more than half of the limit at once ends the session (FAQ-2025; a lab at the limit of 1,000 was dropped
at 501). BIRD counts distinct prefixes held, so the twin counts itself, from the UPDATEs as BIRD received them.
What Azure calls one burst is not known: here, UPDATEs with less than ``window`` seconds between them (assumed,
settable).
"""

from __future__ import annotations

from collections.abc import Iterable


class PeerCount:
    """The count of one peer at one instance."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit = limit
        self.window = window
        self.held: set[str] = set()
        self._before = 0
        self._burst = 0
        self._last = float("-inf")

    @property
    def counted(self) -> int:
        """Held before the burst plus announced in it: what is compared with the limit."""
        return self._before + self._burst

    def update(self, announced: Iterable[str], withdrawn: Iterable[str], now: float) -> bool:
        """Count one UPDATE; tells whether the peer is over its limit now."""
        if now - self._last > self.window:
            self._before, self._burst = len(self.held), 0
        self._last = now
        self.held.difference_update(withdrawn)
        for prefix in announced:
            self._burst += 1
            self.held.add(prefix)
        return bool(self._burst) and self.counted > self.limit

    def down(self) -> None:
        """The session ended: nothing is held."""
        self.held.clear()
        self._before = self._burst = 0
        self._last = float("-inf")
