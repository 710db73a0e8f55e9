"""What is in effect: the second store, which follows the first with Azure's delay after "Succeeded".

The fabric, the Route Server and the rights read this store alone.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable

from azure_twin.core.kinds import KINDS
from azure_twin.core.resources import FAILED, SUCCEEDED, Resource, Store
from azure_twin.core.settings import Timing


class Effects:
    """Changes that wait for their time."""

    def __init__(self, effective: Store, timing: Timing) -> None:
        self.effective = effective
        self.timing = timing
        self._heap: list[tuple[float, int, str, Resource | None]] = []
        self._order = itertools.count()

    def schedule(self, at: float, kind: str, key: str, value: Resource | None) -> None:
        """Have ``value`` under ``key`` (``None``: nothing) after the delay of its type, counted from ``at``."""
        when = at + KINDS[kind.lower()].effect(self.timing)
        heapq.heappush(self._heap, (when, next(self._order), key, value))

    def timer(self) -> float | None:
        """When the next one is due."""
        return self._heap[0][0] if self._heap else None

    def handle_timer(self, now: float) -> None:
        """Carry out what is due."""
        while self._heap and self._heap[0][0] <= now:
            _, _, key, value = heapq.heappop(self._heap)
            if value is None:
                self.effective.remove(key)
            else:
                self.effective.put(value)

    def catch_up(self, store: Store, busy: Iterable[str], now: float) -> None:
        """After a restart: schedule every difference that no running operation accounts for."""
        waiting = set(busy)
        for resource in store:
            held = self.effective.get(resource.key)
            if resource.key not in waiting and resource.state == SUCCEEDED and held != resource:
                self.schedule(now, resource.kind, resource.key, resource)
        for resource in self.effective:
            mine = store.get(resource.key)
            if resource.key not in waiting and (mine is None or (mine.state == FAILED and mine.etag == resource.etag)):
                self.schedule(now, resource.kind, resource.key, None)
