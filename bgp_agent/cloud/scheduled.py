"""What Azure is about to do to this machine: scheduled events, as a sentence that asks for maintenance.

Never approved from here: others on the machine need the notice, too. No answer takes nothing back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from bgp_agent.cloud.imds import Event, Imds, ImdsError

log: Final = structlog.get_logger("bgp_agent")

EVENTS: Final = 1.0
"""Seconds between two looks (Azure's own advice)."""
NO_IMDS: Final = 60.0
"""Seconds until IMDS is asked again after it did not answer, while nothing is announced."""


class Scheduled:
    """:attr:`words`: what is announced; ``changed`` is called when that is another thing. :attr:`machine`: our name."""

    def __init__(self, imds: Imds, changed: Callable[[], None]) -> None:
        self.machine: str | None = None
        self.words: str | None = None
        self._imds, self._changed = imds, changed

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            pause = await self.look()
            await asyncio.sleep(pause)

    async def look(self) -> float:
        """Once; seconds until the next time."""
        try:
            found = await self._imds.events()
        except ImdsError as error:
            log.debug("no answer about scheduled events", reason=str(error))
            return NO_IMDS if self.words is None else EVENTS * 5
        if self.machine is not None:
            self._note([each for each in found.events if self.machine in each.machines])
        return EVENTS

    def _note(self, ours: list[Event]) -> None:
        words = " and ".join(map(event_words, ours)) or None
        if words != self.words:
            log.warning("Azure announces an event", what=words) if words else log.info("the announced event is over")
            self.words = words
            self._changed()


def event_words(event: Event) -> str:
    """``Azure is to Redeploy this machine (Scheduled, not before 12:00:00 UTC)``."""
    due = "now"
    if event.not_before is not None:
        due = time.strftime("not before %H:%M:%S UTC", time.gmtime(event.not_before))
    return f"Azure is to {event.kind} this machine ({event.status}, {due})"
