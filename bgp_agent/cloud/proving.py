"""Asking the network itself: what each Route Server instance has of us, and which routes our interface follows.

Both questions are operations that take Azure seconds, so they are asked seldom, and often only while a decision waits
for the answer. An answer is told with the time at which it was *asked for*: it cannot know of anything later.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from bgp_agent.cloud import ids, resources
from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.errors import CloudError, Conflict, Denied
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.core.proof import Effective, Learned, Row

log: Final = structlog.get_logger("bgp_agent")

PROOF: Final = (2.0, 300.0)
"""Seconds between two questions: while a decision waits for the answer, and otherwise."""
SLOWEST: Final = 15.0
"""Seconds that an answer which does not come, or does not help, makes the urgent ones slower at most."""


class Proving:
    """``changed`` is called when there was an answer. Until :meth:`about` is told nobody is asked."""

    def __init__(self, arm: Arm, changed: Callable[[], None], clock: Callable[[], float]) -> None:
        self.connection: ResourceId | None = None
        self.interface: ResourceId | None = None
        self.learned: Learned | None = None
        self.effective: Effective | None = None
        self.unprovable: str | None = None  # why effective routes cannot be had
        self.unlearned: str | None = None  # why learned routes cannot be had
        self._arm, self._changed, self._clock = arm, changed, clock
        self._urgent = False
        self._for: object = None
        self._pause = PROOF[0]
        self._ask = asyncio.Event()
        self._random = random.Random()  # noqa: S311 - spreads load, keeps no secret

    def about(self, connection: ResourceId | None, interface: ResourceId | None) -> None:
        """Whom to ask about; what was not known before is asked about at once."""
        if (connection, interface) != (self.connection, self.interface):
            self.connection, self.interface = connection, interface
            self._ask.set()

    def want(self, what: object, *, urgent: bool) -> None:
        """``urgent``: a decision about ``what`` waits; a new one is asked about at once."""
        if urgent and (not self._urgent or what != self._for):
            self._pause = PROOF[0]
            self._ask.set()
        self._urgent, self._for = urgent, what

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            self._ask.clear()
            await self.ask()
            pause = (self._pause if self._urgent else PROOF[1]) * self._random.uniform(0.9, 1.1)
            self._pause = min(self._pause * 1.5, SLOWEST)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ask.wait()

    async def ask(self) -> None:
        """Once, whatever can be asked."""
        if self.connection is not None:
            self.unlearned = await self._attempt(self._ask_server(self.connection), self.unlearned)
        if self.interface is not None:
            self.unprovable = await self._attempt(self._ask_interface(self.interface), self.unprovable)
        if self.connection is not None or self.interface is not None:
            self._changed()

    async def _attempt(self, question: Awaitable[None], before: str | None) -> str | None:
        """Ask; why there was no answer and will be none soon."""
        try:
            await question
        except (Denied, Conflict) as error:
            right = error.action if isinstance(error, Denied) else None
            grant = f": grant {right}" if right else ""
            return f"the network's own answer cannot be had ({error}){grant}; hand-overs wait azure.settle instead"
        except CloudError as error:
            log.debug("no proof this time", reason=str(error))
            return before
        return None

    async def _ask_server(self, connection: ResourceId) -> None:
        at = self._clock()
        found = await resources.learned_routes(self._arm, connection)
        self.learned = Learned(at, {name: frozenset(each.prefix for each in has) for name, has in found.items()})

    async def _ask_interface(self, nic: ResourceId) -> None:
        at = self._clock()
        found = await resources.effective_routes(self._arm, nic)
        rows = tuple(Row(each.prefix, each.source, each.active, each.next_hops) for each in found)
        self.effective = Effective(at, ids.name(nic), rows)
