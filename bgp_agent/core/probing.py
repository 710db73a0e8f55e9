"""Who is asked when, and what an answer or a silence means.

A changed prefix is asked at once; one that nobody answered for is asked again after 1, 4 and 15 seconds; all others
take turns, the longest unasked first, at most one a second. No more than ``RATE`` probes leave in any second,
whatever the reason. Nothing here looks at a prefix that has nothing to do now: every queue is ordered by the time its
members fall due, so a hundred thousand resting prefixes cost nothing.

Silence is never evidence: a time-out keeps the last answer with its time, and says that none came since.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, TypeAlias

from bgp_agent.core.prefix import Prefix
from bgp_agent.core.reports import Verified

RATE: Final = 20
"""Probes in any one second, in all."""

RETRIES: Final = (1.0, 4.0, 15.0)
"""Seconds after which a silent prefix is asked again; then it takes its turn with all others."""

TURN: Final = 1.0
"""Seconds between two probes of resting prefixes, at least."""

REST: Final = 15.0
"""Seconds for which an answered prefix rests, at least: a small cluster need not be asked every second."""

JITTER: Final = 0.5
"""A turn takes up to this share longer, so that nodes started together do not stay in step."""

_Queue: TypeAlias = "OrderedDict[Prefix, float]"


class Schedule:
    """Hands out the prefixes to probe now. Times are seconds of one monotonic clock.

    A prefix that was handed out is in flight until :meth:`answered` or :meth:`silent` is called for it.
    """

    def __init__(self, random_source: random.Random) -> None:
        self._random = random_source
        self._sent: deque[float] = deque(maxlen=RATE)
        # Every prefix is in exactly one of these; each is in the order in which its members fall due.
        self._new: _Queue = OrderedDict()
        self._changed: _Queue = OrderedDict()
        self._retries: tuple[_Queue, ...] = tuple(OrderedDict() for _ in RETRIES)
        self._resting: _Queue = OrderedDict()
        self._flying: _Queue = OrderedDict()
        self._again: set[Prefix] = set()  # changed while in flight: what comes back is about the time before
        self._silences: dict[Prefix, int] = {}
        self._known: set[Prefix] = set()
        self._next_turn = float("-inf")
        self._preferred = 0

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, prefix: object) -> bool:
        return prefix in self._known

    def changed(self, prefix: Prefix, now: float) -> None:
        """Ask for ``prefix`` as soon as the rate allows; a prefix not seen before becomes known."""
        self.changed_many((prefix,), now)

    def changed_many(self, prefixes: Iterable[Prefix], now: float) -> None:
        """As :meth:`changed`, for many."""
        for prefix in prefixes:
            if prefix not in self._known:
                self._known.add(prefix)
                self._new[prefix] = now
                continue
            self._silences.pop(prefix, None)
            if prefix in self._flying:
                self._again.add(prefix)
            elif prefix not in self._new and prefix not in self._changed:
                self._drop(prefix)
                self._changed[prefix] = now

    def forget(self, prefix: Prefix) -> None:
        """Never ask for ``prefix`` again; also for one that is unknown or in flight."""
        if prefix in self._known:
            self._known.discard(prefix)
            self._drop(prefix)
            self._again.discard(prefix)
            self._silences.pop(prefix, None)

    def answered(self, prefix: Prefix, now: float) -> None:
        """An answer came: the prefix rests until its turn."""
        if self._land(prefix, now):
            self._silences.pop(prefix, None)
            self._resting[prefix] = now + REST

    def silent(self, prefix: Prefix, now: float) -> None:
        """Nobody answered: asked again after the next of :data:`RETRIES`, then in turn."""
        if self._land(prefix, now):
            silences = self._silences.get(prefix, 0)
            self._silences[prefix] = silences + 1
            if silences < len(RETRIES):
                self._retries[silences][prefix] = now + RETRIES[silences]
            else:
                self._resting[prefix] = now + REST

    def spend(self, now: float) -> None:
        """Count one probe that was sent without being handed out here (asked for by a person)."""
        self._sent.append(now)

    def due(self, now: float, limit: int = RATE) -> list[Prefix]:
        """At most ``limit`` prefixes to probe now; they count as sent."""
        out: list[Prefix] = []
        while len(out) < limit and self._free_at() <= now:
            prefix = self._pick(now)
            if prefix is None:
                break
            self._flying[prefix] = now
            self._sent.append(now)
            out.append(prefix)
        return out

    def next_time(self) -> float | None:
        """When :meth:`due` has something next, None while there is nothing to wait for."""
        times = [next(iter(queue.values())) for queue in (self._changed, self._new, *self._retries) if queue]
        if self._resting:
            times.append(max(next(iter(self._resting.values())), self._next_turn))
        return max(min(times), self._free_at()) if times else None

    def _free_at(self) -> float:
        """When the next probe may leave: the RATE-th last one must be a second old."""
        return self._sent[0] + 1.0 if len(self._sent) == RATE else float("-inf")

    def _pick(self, now: float) -> Prefix | None:
        """The next prefix. The three hasty kinds take turns: a flapping prefix cannot starve the first question."""
        for step in range(3):
            kind = (self._preferred + step) % 3
            queues = ((self._changed,), self._retries, (self._new,))[kind]
            for queue in queues:
                if queue and next(iter(queue.values())) <= now:
                    self._preferred = kind + 1
                    return queue.popitem(last=False)[0]
        if self._resting and self._next_turn <= now and next(iter(self._resting.values())) <= now:
            self._next_turn = now + TURN * (1 + self._random.random() * JITTER)
            return self._resting.popitem(last=False)[0]
        return None

    def _land(self, prefix: Prefix, now: float) -> bool:
        """Take ``prefix`` out of the air; False when it was forgotten meanwhile, or has to be asked again at once."""
        if self._flying.pop(prefix, None) is None:
            return False
        if prefix in self._again:
            self._again.discard(prefix)
            self._changed[prefix] = now
            return False
        return True

    def _drop(self, prefix: Prefix) -> None:
        for queue in (self._new, self._changed, *self._retries, self._resting, self._flying):
            if queue.pop(prefix, None) is not None:
                return


# --- what an answer means --------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Delivered:
    """The owner got the packet. ``node``: its name or address; ``how``: the proof in words."""

    node: str
    how: str


@dataclass(frozen=True, slots=True)
class Misdelivered:
    """Somebody who does not own the prefix got the packet."""

    node: str
    how: str


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing that proves anything; ``why`` in words."""

    why: str


Evidence: TypeAlias = Delivered | Misdelivered | Silence


def judge(last: Verified, evidence: Evidence, *, by: str, at: float) -> Verified:
    """What is known after ``evidence``. ``by``: who asked; ``at``: the time, seconds since the epoch."""
    match evidence:
        case Delivered(node, how):
            return Verified("delivered", node, by, at, how)
        case Misdelivered(node, how):
            return Verified("misdelivered", node, by, at, how)
        case Silence(why) if last.at is None:
            return replace(last, reason=why)
        case Silence(why):
            return replace(last, reason=f"no answer since {instant(last.at)} ({_last_word(last)}): {why}")


def owner_changed(last: Verified) -> Verified:
    """The prefix has another owner now: what was proved, was proved for the former one."""
    if last.at is None:
        return Verified()
    return Verified(reason=f"not asked since the owner changed ({_last_word(last)} at {instant(last.at)})")


def instant(at: float) -> str:
    """A time as people read it, to the second, in UTC (RFC 3339)."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _last_word(last: Verified) -> str:
    return f"{last.state} to {last.node}"
