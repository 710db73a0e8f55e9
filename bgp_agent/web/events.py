"""Changes, handed to whoever listens at ``/events``.

A reader that does not keep up is dropped rather than waited for: the agent never slows down for somebody who watches,
and what is remembered for a reader is bounded. A dropped reader connects again and asks for ``/status``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

SUBSCRIBERS: Final = 32
"""At most so many readers at a time."""
BACKLOG: Final = 1000
"""At most so many changes wait for one reader."""

Event = Mapping[str, object]
"""A change: ``kind`` (peer, block, route, source, mode, kernel, config) and what else tells it, ready for JSON."""


class TooManySubscribersError(Exception):
    """All places for readers are taken."""


class Subscription:
    """One reader's place: leave it by ``with``. Its queue is bounded; ``dropped`` once it was full."""

    def __init__(self, hub: EventHub, backlog: int) -> None:
        self._hub = hub
        self._backlog = backlog
        self._waiting: deque[Event] = deque()
        self._wake = asyncio.Event()
        self.dropped = False
        self.closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the place back; a waiting :meth:`take` returns with nothing."""
        self.closed = True
        self._hub.leave(self)
        self._wake.set()

    def put(self, event: Event) -> None:
        """Add a change, or drop the reader that has let too many wait."""
        if len(self._waiting) >= self._backlog:
            self.dropped = True
            self._waiting.clear()
            self.close()
            return
        self._waiting.append(event)
        self._wake.set()

    async def take(self) -> list[Event]:
        """All changes that wait, as soon as there is one; an empty list when the place is closed."""
        while not (self._waiting or self.closed):
            self._wake.clear()
            await self._wake.wait()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class EventHub:
    """Where the agent publishes changes; costs nothing while nobody listens."""

    def __init__(self, subscribers: int = SUBSCRIBERS, backlog: int = BACKLOG) -> None:
        self._limit = subscribers
        self._backlog = backlog
        self._subscriptions: set[Subscription] = set()

    @property
    def active(self) -> bool:
        """Does anybody listen: saves the making of events when not."""
        return bool(self._subscriptions)

    def publish(self, event: Event) -> None:
        """Hand a change to every reader."""
        for subscription in tuple(self._subscriptions):
            subscription.put(event)

    def subscribe(self) -> Subscription:
        """A new reader. Raises :class:`TooManySubscribersError`."""
        if len(self._subscriptions) >= self._limit:
            raise TooManySubscribersError(f"{self._limit} readers listen already")
        subscription = Subscription(self, self._backlog)
        self._subscriptions.add(subscription)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """Forget a reader."""
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every reader: the agent stops."""
        for subscription in tuple(self._subscriptions):
            subscription.close()
