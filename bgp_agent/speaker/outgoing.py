"""What one ExaBGP shall announce, what it holds, and the next command that closes the difference.

Two promises rest here. At most one command for a prefix is unanswered at any time: ExaBGP can send several that it took
in one turn in the wrong order, and the peer stays wrong for ever while ExaBGP's own table looks right. And nothing is
withdrawn on missing knowledge: a prefix that ExaBGP holds and nobody asked for stays until the wanted set is known to
be :meth:`whole <Outgoing.complete>`, or somebody asked for its withdrawal by name.

What is new goes out before what is old is taken back, so that a block that is split or joined is never without a way
to it. Only as far as there is room, though: ExaBGP never holds more than ``limit``, also not for a moment, and not
because another agent left something there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

from bgp_agent.core.prefix import Prefix
from bgp_agent.core.values import Announcement
from bgp_agent.speaker.commands import LINE, Change, Language


class _Group(NamedTuple):
    """Prefixes that fit in one line: one verb, one family, the same attributes. ``lot``: what is left of a bad line."""

    withdraw: bool
    size: int
    attributes: Announcement | None
    lot: int


class Outgoing:
    """The wanted and the held announcements of one peer. Held are the ones that ExaBGP acknowledged."""

    def __init__(self, language: Language) -> None:
        self._language: Final = language
        #: None: asked to be withdrawn, remembered until the wanted set is whole.
        self._wanted: dict[Prefix, Announcement | None] = {}
        #: None: held with attributes that no announcement describes.
        self._held: dict[Prefix, Announcement | None] = {}
        self._sent: set[Prefix] = set()
        self._refused: dict[Prefix, str] = {}
        self._new_refusals: dict[Prefix, str] = {}
        self._whole = False
        self.limit: int | None = None  # prefixes that are held at most
        self._making = 0  # unanswered announcements
        self._queue: tuple[dict[_Group, dict[Prefix, None]], ...] = ({}, {})  # announcements, withdrawals
        self._queued: dict[Prefix, _Group] = {}
        self._lots: dict[Prefix, int] = {}
        self._last_lot = 0

    @property
    def held(self) -> Mapping[Prefix, Announcement | None]:
        """What ExaBGP holds for the peer, as far as its answers tell."""
        return self._held

    @property
    def whole(self) -> bool:
        """Is the wanted set the whole truth."""
        return self._whole

    @property
    def settled(self) -> bool:
        """Is there nothing left to send and nothing unanswered."""
        return not self._queued and not self._sent

    def want(self, changes: Mapping[Prefix, Announcement | None]) -> None:
        """Change the wanted set; None asks for a withdrawal."""
        for prefix, announcement in changes.items():
            wanted = None if announcement is None else self._language.canonical(announcement)
            self._refused.pop(prefix, None)
            if wanted is not None and (reason := self._language.refuse(prefix, wanted)) is not None:
                self._refuse(prefix, reason)  # what is held for it stays: a bad wish is no wish for a withdrawal
            if wanted is None and self._whole:
                self._wanted.pop(prefix, None)
            else:
                self._wanted[prefix] = wanted
            self._consider(prefix)

    def complete(self) -> None:
        """From now on what is held and not wanted is withdrawn."""
        self._whole = True
        for prefix in [prefix for prefix, wanted in self._wanted.items() if wanted is None]:
            del self._wanted[prefix]
        for prefix in [prefix for prefix in self._held if prefix not in self._wanted]:
            self._consider(prefix)

    def forget(self) -> None:
        """The ExaBGP is a new one: it holds nothing."""
        self.adopt({})

    def abandon(self) -> None:
        """No answer will come to what was sent; an audit has to tell what became of it."""
        unanswered, self._sent = self._sent, set()
        self._making = 0
        for prefix in unanswered:
            self._consider(prefix)

    def adopt(self, held: Mapping[Prefix, Announcement | None]) -> list[Prefix]:
        """Take over what ExaBGP says that it holds; the prefixes for which that was news."""
        before, self._held = self._held, dict(held)
        news = [prefix for prefix, known in before.items() if prefix not in held or held[prefix] != known]
        news += [prefix for prefix in held if prefix not in before]
        for prefix in (*news, *(prefix for prefix in self._wanted if prefix not in held)):
            self._consider(prefix)
        return news

    def retry(self) -> None:
        """Send once more what ExaBGP refused."""
        refused, self._refused = self._refused, {}
        for prefix in refused:
            self.want({prefix: self._wanted.get(prefix)})

    # --- commands and their answers ----------------------------------------------------------------------------------
    def next(self) -> Change | None:
        """The next command to send; None when nothing is waiting that may be sent now.

        ExaBGP puts what it takes in one turn into UPDATEs with the withdrawals first, so those wait for the answers to
        the announcements before them.
        """
        for group, waiting in self._queue[False].items():
            if prefixes := tuple(islice(self._fitting(waiting), LINE)):
                self._take(prefixes)
                self._making += 1
                return self._language.announce(prefixes, group.attributes or Announcement())
        for group, waiting in () if self._making else self._queue[True].items():
            prefixes = tuple(islice(waiting, LINE))
            self._take(prefixes)
            return self._language.withdraw(prefixes, group.attributes)
        return None

    def _fitting(self, waiting: Iterable[Prefix]) -> Iterator[Prefix]:
        """Of prefixes to be announced those that there is room for; one that is held already takes none."""
        if self.limit is None:
            yield from waiting
            return
        room = self.limit - len(self._held) - sum(prefix not in self._held for prefix in self._sent)
        for prefix in waiting:
            new = prefix not in self._held
            if room > 0 or not new:
                room -= new
                yield prefix

    def _take(self, prefixes: tuple[Prefix, ...]) -> None:
        for prefix in prefixes:
            self._dequeue(prefix)
        self._sent.update(prefixes)

    def done(self, change: Change) -> None:
        """ExaBGP acknowledged a command."""
        self._making -= not change.withdraw
        for prefix in change.prefixes:
            if change.withdraw:
                self._held.pop(prefix, None)
            else:
                self._held[prefix] = change.attributes
        self._answered(change.prefixes)

    def failed(self, change: Change) -> None:
        """ExaBGP answered ``error``, and applied nothing: halve the line until the bad prefix stands alone."""
        self._making -= not change.withdraw
        if len(change.prefixes) == 1:
            verb = "withdraw" if change.withdraw else "announce"
            self._refuse(change.prefixes[0], f"ExaBGP refused to {verb} it; its log says why")
            self._answered(change.prefixes)
            return
        middle = len(change.prefixes) // 2
        for half in (change.prefixes[:middle], change.prefixes[middle:]):
            self._last_lot += 1
            self._sent.difference_update(half)
            for prefix in half:
                self._lots[prefix] = self._last_lot
                self._consider(prefix)

    def take_refusals(self) -> tuple[tuple[Prefix, str], ...]:
        """The prefixes refused since the last call, and why."""
        refusals, self._new_refusals = self._new_refusals, {}
        return tuple(refusals.items())

    def _refuse(self, prefix: Prefix, reason: str) -> None:
        self._refused[prefix] = self._new_refusals[prefix] = reason

    def _answered(self, prefixes: Iterable[Prefix]) -> None:
        self._sent.difference_update(prefixes)
        for prefix in prefixes:
            self._lots.pop(prefix, None)
            self._consider(prefix)

    # --- the queue ---------------------------------------------------------------------------------------------------
    def _consider(self, prefix: Prefix) -> None:
        """Queue what has to be said of the prefix now, if anything; an unanswered command comes first."""
        self._dequeue(prefix)
        if prefix in self._sent or (group := self._missing(prefix)) is None:
            return
        self._queue[group.withdraw].setdefault(group, {})[prefix] = None
        self._queued[prefix] = group

    def _dequeue(self, prefix: Prefix) -> None:
        if (group := self._queued.pop(prefix, None)) is not None:
            waiting = self._queue[group.withdraw][group]
            del waiting[prefix]
            if not waiting:
                del self._queue[group.withdraw][group]

    def _missing(self, prefix: Prefix) -> _Group | None:
        """What stands between wanted and held."""
        held = self._held.get(prefix)
        wanted = self._wanted.get(prefix)
        if prefix in self._refused:
            return None
        if wanted is not None:
            if wanted == held:
                return None
            return _Group(withdraw=False, size=len(prefix), attributes=wanted, lot=self._lots.get(prefix, 0))
        if prefix not in self._held or not (self._whole or prefix in self._wanted):
            return None
        return _Group(withdraw=True, size=len(prefix), attributes=held, lot=self._lots.get(prefix, 0))
