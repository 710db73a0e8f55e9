"""The hand-over between BGP and the cloud's route table inside the agent: where its facts come from and go to.

:mod:`~bgp_agent.core.attraction` decides, :mod:`~bgp_agent.cloud.azure` acts. Here both meet, and here wait those who
take BGP away on purpose (a drain, a speaker that stops) until the route table carries the blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from bgp_agent.config import Config, Found
from bgp_agent.core.attraction import Attraction, CloudView
from bgp_agent.core.handover import Answer, Mode, Times
from bgp_agent.core.prefix import Prefix
from bgp_agent.core.reports import Verified
from bgp_agent.core.router import Change, Router

if TYPE_CHECKING:
    from bgp_agent.cloud.azure import Azure

LOOK: Final = 0.05
"""Seconds between two looks of those who wait."""
WATCH: Final = 1.0
"""Seconds between two questions for the canary."""
SILENT: Final = 3
"""Questions in a row that nobody answered before a canary that was answered counts as silent."""
SPEAKER: Final = "speaker"


class Cloud(Protocol):
    """What carries out the decisions: :class:`bgp_agent.cloud.azure.Azure`."""

    def view(self) -> CloudView:
        """All that is known now."""

    def want(self, prefixes: frozenset[Prefix], keep: frozenset[Prefix], *, urgent: bool) -> None:
        """The own routes that shall stand in the tables, and those that are not to be touched."""

    async def run(self) -> None:
        """Until cancelled."""


class Moving:
    """``settle``: decide anew; ``probe(prefix)``: ask the network who gets its packets."""

    def __init__(
        self, config: Config, router: Router, probe: Callable[[Prefix], Awaitable[Verified]],
        settle: Callable[[], None], found: Callable[[Found], None],
    ) -> None:  # fmt: skip
        self._probe, self._settle = probe, settle
        self.attraction = Attraction(router, Mode(config.fallback.mode), times(config), time.monotonic())
        self.cloud: Cloud = _azure(config, settle, found)
        self.watched: Prefix | None = None
        self._canary = asyncio.Event()  # there is one

    def configure(self, config: Config) -> None:
        """A reload: mode and times as configured now."""
        self.attraction.mode = Mode(config.fallback.mode)
        self.attraction.handover.times = times(config)

    async def run(self) -> None:
        """Talk to the cloud and watch canaries, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.cloud.run(), name="Azure")
            group.create_task(self._watching(), name="canary")

    def look(self, now: float) -> list[Change]:
        """Take in what changed, decide, and tell the cloud."""
        attraction = self.attraction
        attraction.view = self.cloud.view()
        changes = attraction.look(now)
        (self._canary.clear if attraction.handover.canary is None else self._canary.set)()
        self.cloud.want(attraction.wanted, attraction.keep, urgent=attraction.urgent)
        return changes

    def next_timer(self) -> float | None:
        """When to look again if nothing changes."""
        return self.attraction.next_timer()

    # --- the canary --------------------------------------------------------------------------------------------------
    async def _watching(self) -> None:
        """Ask for the block that BGP carries alone: did it answer before, and does it go on answering."""
        heard, silences, since = False, 0, 0.0
        while True:
            canary = self.attraction.handover.canary
            if canary != self.watched or since != self.attraction.handover.since:
                self.watched, heard, silences = canary, False, 0
                since = self.attraction.handover.since
            if canary is None:
                await self._canary.wait()
                continue
            out = canary not in self.attraction.difference.present
            answer = await self._asked(canary)
            if (self.attraction.handover.canary, self.attraction.handover.since) == (canary, since):
                heard, silences = heard or answer, 0 if answer else silences + 1
                if out and answer:
                    self._answered(Answer.ANSWERED)
                elif out and heard and silences >= SILENT:
                    self._answered(Answer.SILENT)
            await asyncio.sleep(WATCH)

    async def _asked(self, canary: Prefix) -> bool:
        with contextlib.suppress(ValueError):
            return (await self._probe(canary)).state == "delivered"
        return False

    def _answered(self, answer: Answer) -> None:
        if self.attraction.answer is not answer:
            self.attraction.answer = answer
            self._settle()

    # --- those who take BGP away -------------------------------------------------------------------------------------
    def cannot(self) -> str | None:
        """Why the traffic cannot be moved to a route table; None when it can."""
        return self.attraction.cannot_move()

    async def moved(self, who: str, why: str, progress: Callable[[str], None]) -> str | None:
        """Ask for maintenance and wait until the route table carries every block; why it never will.

        Whoever asked takes it back by :meth:`back`; so does a cancellation while it waits.
        """
        self.attraction.asked[who] = why
        self._settle()
        said = ""
        try:
            while not self.attraction.handover.bgp_may_go:
                if (reason := self.cannot()) is not None:
                    self.back(who)
                    return reason
                if (words := self.attraction.explain(time.monotonic())) != said:
                    progress(words)
                    said = words
                await asyncio.sleep(LOOK)
        except asyncio.CancelledError:
            self.back(who)
            raise
        return None

    def back(self, who: str) -> None:
        """Nobody of that name asks any more."""
        if self.attraction.asked.pop(who, None) is not None:
            self._settle()

    async def before_the_speaker_stops(self, _seconds: float) -> None:
        """Return when its sessions may end. It counts until the speaker is back."""
        if self.cannot() is None:
            await self.moved(SPEAKER, "the speaker stops", lambda _: None)


def times(config: Config) -> Times:
    """``fallback.after``, ``fallback.revert_after`` and ``azure.settle``."""
    settle = config.azure.settle if config.azure is not None else 0.0
    return Times(config.fallback.after, config.fallback.revert_after, settle)


def _azure(config: Config, changed: Callable[[], None], found: Callable[[Found], None]) -> Azure:
    """Azure's libraries are imported only where ``azure`` is configured."""
    from bgp_agent.cloud.azure import Azure, Settings  # noqa: PLC0415
    from bgp_agent.cloud.opening import wanted  # noqa: PLC0415

    azure = config.azure
    if azure is None:
        raise ValueError("the section azure is not configured")
    settings = Settings(
        node=config.node.name or "",
        state_dir=Path(config.state_dir),
        arm_url=azure.arm_url,
        imds_url=azure.imds_url,
        allow_http=azure.allow_http,
        manage_peering=azure.manage_peering,
        known=wanted(config),
        peers=bool(config.bgp.peers),
    )
    return Azure(settings, changed, found)
