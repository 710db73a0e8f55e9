"""When to start an ExaBGP, when to give it up, and how long to wait before the next try.

The states of one ExaBGP and what may follow what, as a table; a clock is passed in.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final


class State(Enum):
    """The states of one peer's ExaBGP; the value is the word of the snapshot."""

    STOPPED = "stopped"  # not wanted, or waiting for the next try
    STARTING = "starting"  # the process runs, its pipes have not come yet
    RUNNING = "running"  # its pipes are in hand
    ENDING = "ending"  # told to end


class Event(Enum):
    """What happens to an ExaBGP."""

    STARTED = "started"
    PIPES = "pipes"
    STOP = "stop"
    EXITED = "exited"


#: (state, event) -> next state. What is not here cannot happen and raises KeyError.
TRANSITIONS: Final = {
    (State.STOPPED, Event.STARTED): State.STARTING,
    (State.STOPPED, Event.STOP): State.STOPPED,
    (State.STARTING, Event.PIPES): State.RUNNING,
    (State.STARTING, Event.STOP): State.ENDING,
    (State.STARTING, Event.EXITED): State.STOPPED,
    (State.RUNNING, Event.PIPES): State.RUNNING,  # ExaBGP replaced its helper: new pipes
    (State.RUNNING, Event.STOP): State.ENDING,
    (State.RUNNING, Event.EXITED): State.STOPPED,
    (State.ENDING, Event.PIPES): State.ENDING,  # they come too late
    (State.ENDING, Event.STOP): State.ENDING,
    (State.ENDING, Event.EXITED): State.STOPPED,
}


class Backoff:
    """How long to wait before an ExaBGP that ended by itself is started again.

    The first end costs nothing to speak of, each further one within ``window`` seconds doubles the wait. Seconds.
    """

    def __init__(self, first: float = 0.2, most: float = 30.0, window: float = 120.0) -> None:
        self._first, self._most, self._window = first, most, window
        self._ends: deque[float] = deque(maxlen=16)

    def ended(self, now: float) -> float:
        """It ended at ``now``: the time to wait."""
        while self._ends and now - self._ends[0] > self._window:
            self._ends.popleft()
        self._ends.append(now)
        return float(min(self._first * 2 ** (len(self._ends) - 1), self._most))

    @property
    def looping(self) -> bool:
        """It ended three times in short succession: somebody should look."""
        return len(self._ends) >= 3
