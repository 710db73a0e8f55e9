"""One thread, one selector: everything that is measured is stamped by the same clock, right after the same wait.

The bench shares the machine with what it measures, so it sleeps until a socket has something and does little then.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from typing import Final

from lab.netns import ExpiredError

Ready = Callable[[float], None]
"""Called with the moment (monotonic seconds) at which the descriptor had something."""

TICK: Final = 0.05


class Loop:
    """Waits for descriptors. ``every`` is called about 20 times a second with the time, for keepalives."""

    def __init__(self) -> None:
        self.every: list[Ready] = []
        self._selector = selectors.EpollSelector()
        self._next = 0.0

    def add(self, descriptor: int, ready: Ready, *, write: bool = False) -> None:
        """Watch a descriptor for reading, or instead for writing too."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0)
        if descriptor in self._selector.get_map():
            self._selector.modify(descriptor, events, ready)
        else:
            self._selector.register(descriptor, events, ready)

    def remove(self, descriptor: int) -> None:
        """Watch it no more."""
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def step(self, longest: float = TICK) -> None:
        """Wait once."""
        ready = self._selector.select(longest)
        now = time.monotonic()
        for key, _events in ready:
            if key.fd in self._selector.get_map():
                key.data(now)
        if now >= self._next:
            self._next = now + TICK
            for call in list(self.every):
                call(now)

    def until(self, what: str, condition: Callable[[], object], timeout: float) -> None:
        """Go on until the condition holds. Raises :class:`ExpiredError` with its name after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise ExpiredError(f"after {timeout:g} s still not so: {what}")
            self.step()

    def run_for(self, seconds: float) -> None:
        """Let time pass, and answer meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.step(min(left, TICK))

    def close(self) -> None:
        """Let go of the selector."""
        self._selector.close()
