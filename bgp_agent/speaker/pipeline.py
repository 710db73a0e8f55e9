"""Commands that ExaBGP has not answered yet, in the order in which its answers come.

ExaBGP answers with ``done`` or ``error`` and says not to what, so that everything rests on the order. It keeps it but
for commands that need an established session: without one, these are refused at once, before the answers to what was
sent earlier. Such commands travel alone.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from bgp_agent.speaker.commands import Command, Earlier, EndOfRibSent, RefreshAsked

#: Unanswered lines at most: enough to keep ExaBGP busy, few enough to keep its queue shallow.
WINDOW: Final = 4
#: Seconds without any answer after which ExaBGP counts as frozen.
ANSWER_TIMEOUT: Final = 10.0
#: Seconds by which a timer may be late. Later than that it was the agent that slept, and answers wait to be read.
LATE: Final = 1.0

_ALONE: Final = (EndOfRibSent, RefreshAsked)


class Pipeline:
    """The window of unanswered commands."""

    def __init__(self) -> None:
        self._waiting: deque[Command] = deque()
        self._deadline: float | None = None

    def restart(self, earlier: int) -> None:
        """Begin anew with ExaBGP; ``earlier`` answers are still to come for what others sent."""
        self._waiting = deque(Earlier() for _ in range(earlier))
        self._deadline = None

    @property
    def idle(self) -> bool:
        """Has everything been answered."""
        return not self._waiting

    @property
    def first(self) -> Command | None:
        """The command that ExaBGP is answering."""
        return self._waiting[0] if self._waiting else None

    def open_for(self, command: Command) -> bool:
        """May ``command`` be sent now."""
        if not self._waiting:
            return True
        if isinstance(command, _ALONE) or isinstance(self._waiting[-1], _ALONE):
            return False
        return len(self._waiting) < WINDOW

    def sent(self, command: Command) -> None:
        """``command`` goes out now."""
        self._waiting.append(command)

    def heard(self, now: float) -> None:
        """ExaBGP is answering: it is not frozen."""
        self._deadline = now + ANSWER_TIMEOUT if self._waiting else None

    def answered(self, now: float) -> Command | None:
        """The final answer to the oldest command came; None when nothing was waiting for one."""
        command = self._waiting.popleft() if self._waiting else None
        self.heard(now)
        return command

    # --- the deadline: whoever sends has no clock, so it starts at the first look at one ------------------------------
    def deadline(self) -> float | None:
        """When to call :meth:`overdue` next; 0 for at once, None for never."""
        if not self._waiting:
            return None
        return 0.0 if self._deadline is None else self._deadline

    def overdue(self, now: float) -> bool:
        """Has ExaBGP been silent for too long. Starts the deadline where none runs yet."""
        if not self._waiting:
            return False
        if self._deadline is None or now > self._deadline + LATE:
            self._deadline = now + ANSWER_TIMEOUT
        return now >= self._deadline
