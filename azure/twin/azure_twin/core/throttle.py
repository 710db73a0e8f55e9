"""Throttling: ARM's token buckets by principal and kind of request, and the network provider's five-minute budget.

learn.microsoft.com "request-limits-and-throttling": read 250 (+25/s), write 200 (+10/s), delete 200 (+10/s);
the provider 10,000 reads and 1,000 writes in 5 minutes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from azure_twin.core.errors import ArmError
from azure_twin.core.settings import Throttling

WINDOW: Final = 300.0
MAX_PRINCIPALS: Final = 1024
_HEADER: Final = {"read": "reads", "write": "writes", "delete": "deletes"}


@dataclass(slots=True)
class Bucket:
    """A token bucket: ``rate`` tokens a second up to ``size``."""

    size: float
    rate: float
    tokens: float
    at: float

    def take(self, now: float) -> float:
        """Take one token; the answer is 0, or the seconds until there is one."""
        self.tokens = min(self.size, self.tokens + max(0.0, now - self.at) * self.rate)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / self.rate if self.rate else WINDOW


class Throttle:
    """All buckets of the subscription."""

    def __init__(self, limits: Throttling) -> None:
        self.limits = limits
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._window: dict[str, tuple[float, int]] = {}

    def admit(self, principal: str, kind: str, now: float) -> dict[str, str]:
        """Let one request in (``kind``: read, write, delete); gives its headers, or raises 429 with ``Retry-After``."""
        if not self.limits.enabled:
            return {}
        bucket = self._bucket(principal, kind, now)
        wait = bucket.take(now)
        if wait:
            raise self._refused("SubscriptionRequestsThrottled", kind, wait)
        self._provider(kind, now)
        return {f"x-ms-ratelimit-remaining-subscription-{_HEADER[kind]}": str(int(bucket.tokens))}

    def drain(self, now: float) -> None:
        """Empty every bucket (a fault on demand)."""
        for bucket in self._buckets.values():
            bucket.tokens, bucket.at = 0.0, now

    def _bucket(self, principal: str, kind: str, now: float) -> Bucket:
        found = self._buckets.get((principal, kind))
        if found is None:
            while len(self._buckets) >= MAX_PRINCIPALS * 3:
                del self._buckets[next(iter(self._buckets))]
            size, rate = {
                "read": (self.limits.read_bucket, self.limits.read_rate),
                "write": (self.limits.write_bucket, self.limits.write_rate),
                "delete": (self.limits.delete_bucket, self.limits.delete_rate),
            }[kind]
            found = self._buckets[principal, kind] = Bucket(size, rate, size, now)
        return found

    def _provider(self, kind: str, now: float) -> None:
        side = "read" if kind == "read" else "write"
        limit = self.limits.provider_reads if side == "read" else self.limits.provider_writes
        if not limit:
            return
        start, count = self._window.get(side, (now, 0))
        if now - start >= WINDOW:
            start, count = now, 0
        if count >= limit:
            raise self._refused("TooManyRequests", side, start + WINDOW - now)
        self._window[side] = (start, count + 1)

    @staticmethod
    def _refused(code: str, kind: str, wait: float) -> ArmError:
        seconds = max(1, math.ceil(wait))
        return ArmError(
            429,
            code,
            f"Number of '{kind}' requests exceeded the limit. Please try again after '{seconds}' seconds "
            "after additional "
            "tokens are available. Refer to https://aka.ms/arm-throttling for additional information.",
            headers={"Retry-After": str(seconds)},
        )
