"""The agent's state directory while the agent runs.

The agent needs little of it: the lock that keeps a second agent away, the control socket, and the file that remembers
a drain. What runs goes on without all of these, but nobody could stop or drain the agent, and a second one could start.
So they are made again where somebody cleaned up, and a directory that takes nothing new is said.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bgp_agent.control.server import ControlServer
from bgp_agent.core.router import Change
from bgp_agent.lock import Lock, LockedError

#: Seconds between two looks.
LOOK: Final = 1.0
_COST: Final = "what runs goes on, but no ExaBGP can start there, and no drain can be remembered"


class Home:
    """Looks after the directory that ``lock`` is in.

    ``renewed`` is called when lock and socket had to be made again; what it raises as ``OSError`` is a problem too.
    ``problem``: what is wrong with the directory, with the remedy; None when all is well.
    """

    def __init__(self, lock: Lock, control: ControlServer, renewed: Callable[[], None]) -> None:
        self.problem: str | None = None
        self._folder = lock.path.parent
        self._lock = lock
        self._control = control
        self._renewed = renewed

    async def keep(self, tell: Callable[[Change], None], give_way: Callable[[], None]) -> None:
        """Look once a second and tell what changed, until cancelled or another agent has the directory."""
        while True:
            before = self.problem
            try:
                again = await self.look()
            except LockedError as error:
                tell(self._change("lost", f"it was removed, and another agent was faster: this one ends ({error})"))
                give_way()
                return
            if again:
                tell(
                    self._change("made again", "somebody removed the lock or the control socket; nothing else changed")
                )
            if self.problem != before:
                tell(self._change("unusable" if self.problem else "usable", self.problem or "it can be written again"))
            await asyncio.sleep(LOOK)

    async def look(self) -> bool:
        """Make again what is gone, and judge the rest; had anything to be made again. Raises :class:`LockedError`."""
        try:
            again = not (self._lock.stands() and self._control.stands())
            if again:
                await self._make_again()
            self.problem = trouble(self._folder)
        except OSError as error:
            self.problem = (
                f"state_dir {self._folder} was removed and cannot be made again ({error.strerror or error}): make it, "
                "for the user that runs this; until then `bgp-agent drain` and `stop` do not reach this agent"
            )
            return False
        return again

    async def _make_again(self) -> None:
        if not self._lock.stands():
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._lock.renew()
        await self._control.listen()
        self._renewed()

    def _change(self, state: str, reason: str) -> Change:
        return Change("state_dir", str(self._folder), state, reason)


def trouble(folder: Path) -> str | None:
    """Why nothing new can be kept in ``folder``, with the remedy; None when it can. Raises ``OSError``."""
    found = os.statvfs(folder)
    if found.f_flag & os.ST_RDONLY:
        return f"state_dir {folder} is read-only: mount it writable again; {_COST}"
    if not found.f_bavail or (found.f_files and not found.f_favail):
        return f"state_dir {folder} is full: make room there; {_COST}"
    return None
