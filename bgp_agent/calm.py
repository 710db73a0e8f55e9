"""A table that comes in a hundred pieces is one piece of news a second, not a hundred.

The first one is told at once, for a person who watches. What follows within a second is told in one line when it is
over, with the sum; the last state is always told.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from bgp_agent.core.router import Change

#: Seconds between two lines about many routes.
PAUSE: Final = 1.0


class Calm:
    """Hands changes of many routes on to ``say``, at most one in :data:`PAUSE` seconds."""

    def __init__(self, say: Callable[[Change], None]) -> None:
        self._say = say
        self._waiting: Change | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, change: Change) -> None:
        """Tell it now, or with what else comes soon. Needs a running loop."""
        if self._timer is None:
            self._say(change)
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self._on_timer)
        elif self._waiting is None:
            self._waiting = change
        else:
            self._waiting = _sum(self._waiting, change)

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self.add(waiting)

    def close(self) -> None:
        """Tell what waits, and no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting is not None:
            self._say(self._waiting)
            self._waiting = None


def _sum(earlier: Change, later: Change) -> Change:
    """The later one, for the routes of both. A route that changed twice counts twice."""
    count = earlier.count + later.count
    return replace(later, count=count, reason=re.sub(r"^\d+", str(count), later.reason))
