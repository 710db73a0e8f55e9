"""Changed peer definitions, handed to the speaker one session at a time.

A changed definition means that this peer's ExaBGP starts again. When all peers change at once (another hold time, a new
password everywhere) doing so at once would leave the node without any session for a moment, so a session that stands is
restarted only while all others stand and hold what they are to be told, or have had their time to. New and removed
peers do not wait, nor do those that are down: there is nothing to lose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from bgp_agent.speaker.definition import PeerDefinition

#: How long a session waits for the others before it restarts, in seconds.
PATIENCE: Final = 30.0
#: How long it may take until the speaker has ended a session and told so, in seconds: until then it seems to stand.
GOING: Final = 5.0
#: How long a peer that has been told everything is given to act on it before the next session restarts, in seconds:
#: that ExaBGP has sent a route does not say that the router forwards by it already.
SETTLE: Final = 1.0
_LOOK: Final = 0.05


class Rolling:
    """``tell`` gets the complete set of definitions to be in force; ``stands``: is this peer's session established.

    ``serves``: does the peer also hold all that it is to be told; until then the next one waits.
    """

    def __init__(
        self, tell: Callable[[Mapping[str, PeerDefinition]], None], stands: Callable[[str], bool],
        patience: float = PATIENCE, *, serves: Callable[[str], bool] | None = None, settle: float = SETTLE,
    ) -> None:  # fmt: skip
        self._tell = tell
        self._stands = stands
        self._serves = serves or stands
        self._patience = patience
        self._settle = settle
        self._restarted = False  # in this round: the first one need not wait for anybody to settle
        self._told: dict[str, PeerDefinition] = {}
        self._wanted: dict[str, PeerDefinition] = {}
        self._changed = asyncio.Event()

    def want(self, definitions: Mapping[str, PeerDefinition]) -> None:
        """These are the peers from now on."""
        self._wanted = dict(definitions)
        kept = {address: self._told[address] for address in self._wanted if address in self._told}
        at_once = {a: d for a, d in self._wanted.items() if a not in kept or not self._stands(a)}
        self._put(kept | at_once)
        self._changed.set()

    def _put(self, definitions: dict[str, PeerDefinition]) -> None:
        if definitions != self._told:
            self._told = definitions
            self._tell(definitions)

    def _next(self) -> str | None:
        """A session that still has to restart: one that is down meanwhile before those that stand."""
        waiting = [a for a, d in self._wanted.items() if self._told.get(a) != d]
        return min(waiting, key=self._stands, default=None)

    async def run(self) -> None:
        """Restart one session after the other, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._restarted = False
            while self._next() is not None:
                await self._until(self._free, self._patience)
                if self._restarted:
                    await asyncio.sleep(self._settle)
                if (address := self._next()) is not None:
                    self._put(self._told | {address: self._wanted[address]})
                    self._restarted = True
                    await self._until(lambda gone=address: not self._stands(gone), GOING)  # type: ignore[misc]  # bound

    def _free(self) -> bool:
        """May the next one restart: all serve, or it is down and has nothing to lose."""
        address = self._next()
        return address is None or not self._stands(address) or all(map(self._serves, self._told))

    async def _until(self, condition: Callable[[], bool], patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                while not condition():  # noqa: ASYNC110 - asked, not told
                    await asyncio.sleep(_LOOK)
        except TimeoutError:
            return
