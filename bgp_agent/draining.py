"""Drain, undrain and stop: what the control socket asks of the agent.

A drain is remembered by a file in ``state_dir``, so that it outlives restarts: a node that was taken out of traffic
does not come back because its agent was upgraded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from bgp_agent.control.messages import Outcome

MARK: Final = "drained"
_LOOK: Final = 0.05  # seconds between two looks at what the peers have acknowledged


class Drainable(Protocol):
    """The agent, as far as it matters here."""

    def drain(self, *, on: bool) -> None:
        """Take back every announcement, or offer them again."""

    def cannot_move(self) -> str | None:
        """Why the traffic cannot be moved to a route table first; None when it can."""

    async def move(self, progress: Callable[[str], None]) -> str | None:
        """Move the traffic to the route table and wait until that is in effect; why it never will be."""

    def moved_back(self) -> None:
        """What was moved for a drain need not stay."""

    def drained(self) -> bool:
        """Was a drain asked for, and not taken back."""

    def leave_waits_for(self) -> str | None:
        """What a drain still waits for, in words; None when nothing is announced any more."""

    def stop(self) -> None:
        """End soon."""

    async def stop_speaker(self) -> str | None:
        """End the speaker; None when it ended, else why not."""


class Control:
    """Fulfils :class:`bgp_agent.control.server.Actions`."""

    def __init__(self, agent: Drainable, state_dir: Path) -> None:
        self._agent = agent
        self._mark = state_dir / MARK

    async def drain(self, *, force: bool, progress: Callable[[str], None]) -> Outcome:
        """Give the peers notice, withdraw everything and wait for their acknowledgements.

        Cancelled when its time is up; the drain itself goes on.
        """
        refusal = None if force else await self._hand_over(progress)
        if refusal is not None:
            return Outcome(
                good=False,
                reason=f"refused: {refusal}, so the pods of this node would be cut off; "
                "`bgp-agent drain --force` does it all the same",
            )
        try:
            self._mark.touch(mode=0o600)
        except OSError as error:
            self._agent.moved_back()
            return Outcome(
                good=False,
                reason=f"refused: {self._mark} cannot be written ({error.strerror or error}), so a restart would undo "
                "the drain: make state_dir writable first; nothing is changed",
            )
        self._agent.drain(on=True)
        self._agent.moved_back()  # a drained node asks for it by itself
        await left(self._agent.leave_waits_for, progress)
        if not self._agent.drained():
            return Outcome(good=False, reason="the drain was taken back meanwhile, by `bgp-agent undrain`")
        return Outcome(good=True, reason="drained: nothing is announced any more; `bgp-agent undrain` takes it back")

    async def _hand_over(self, progress: Callable[[str], None]) -> str | None:
        """To the route table, so that no packet is lost; why that cannot be had."""
        reason = self._agent.cannot_move()
        return reason if reason is not None else await self._agent.move(progress)

    async def undrain(self, *, progress: Callable[[str], None]) -> Outcome:
        """Announce again."""
        del progress  # it is over at once
        self._agent.drain(on=False)
        try:
            self._mark.unlink(missing_ok=True)
        except OSError as error:
            if self._mark.exists():
                reason = (
                    f"announcing again, but {self._mark} cannot be taken out ({error.strerror or error}): the next "
                    "start drains again; make state_dir writable and undrain once more"
                )
                return Outcome(good=False, reason=reason)
        return Outcome(good=True, reason="announcing again")

    async def stop(self, *, everything: bool, progress: Callable[[str], None]) -> Outcome:
        """End the agent, with ``everything`` the speaker first."""
        if everything:
            progress("ending the speaker")
            trouble = await self._agent.stop_speaker()
            if trouble is not None:
                return Outcome(good=False, reason=trouble)
        self._agent.stop()
        rest = "the speaker ended too" if everything else "sessions, routes and announcements stay"
        return Outcome(good=True, reason=f"the agent ends; {rest}")


async def left(waits_for: Callable[[], str | None], progress: Callable[[str], None]) -> None:
    """Until there is nothing to wait for; each news once."""
    said = ""
    while (words := waits_for()) is not None:
        if words != said:
            progress(words)
            said = words
        await asyncio.sleep(_LOOK)
