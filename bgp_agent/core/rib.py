"""What the peers tell us: one table a peer (Adj-RIB-In, RFC 4271 section 3.2), and which of it is still believed.

A peer's paths outlive its session for a while: they turn *stale* when it is lost and are swept when the peer has told
its whole table again, or when the time is up. Who says that a table is whole differs from peer to peer:

- an End-of-RIB, from peers with graceful restart (RFC 4724);
- the end of an enhanced refresh (RFC 7313);
- silence, from all others: nothing for :data:`QUIET` seconds, at most :data:`LONGEST` after the session came up. Azure
  Route Server is one of those: it never sends an End-of-RIB.

The agent may be started beside a session that has stood for days. It then knows nothing of what the peer told before,
asks for a refresh, and the same rules say when it has heard everything; until then the peer is *unheard*. It may also
lose sight of a session that goes on: what the peer does not tell again after that was withdrawn meanwhile.

A peer that was asked and says nothing at all is *mute*: it has no routes, or it does not answer refreshes (OpenBGPD
negotiates them and refuses each). Its silence is believed where nothing depends on it, and otherwise its session has to
start again, which makes it tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from bgp_agent.core.prefix import Family, Prefix, family_of
from bgp_agent.core.values import EndOfRib, Path, RefreshBegin, RefreshEnd, Update

QUIET: Final = 10.0
LONGEST: Final = 60.0
#: A refresh that was begun and never ended is forgotten after this long; nothing is swept for it.
REFRESH_LIMIT: Final = 300.0
#: How many refused surplus prefixes of one peer are remembered by name.
SURPLUS_NAMES: Final = 1000


class Whole(Enum):
    """How it is known that a peer has told its whole table."""

    MARKED = "marked"  # it says so: End-of-RIB, or the end of an enhanced refresh
    SILENCE = "silence"  # it says nothing more
    ANSWER = "answer"  # it answers what it was asked, and then says nothing more
    NEVER = "never"  # the session is older than we are, and the peer does not tell again


@dataclass(slots=True)
class PeerTable:
    """One peer's paths. ``stale`` and ``refreshing`` hold what has not been told again.

    ``stale`` maps a prefix to the moment it is given up. A peer that flaps does not win time with each flap: what it
    has not told again keeps the moment it was given at the first loss.
    """

    peer: str
    limit: int  # max-prefix: paths beyond it are counted, not kept
    paths: dict[Prefix, Path] = field(default_factory=dict)
    stale: dict[Prefix, float] = field(default_factory=dict)
    refreshing: dict[Family, set[Prefix]] = field(default_factory=dict)
    surplus: dict[Prefix, None] = field(default_factory=dict)  # in the order they came
    surplus_dropped: set[Family] = field(default_factory=set)  # of these more came than are remembered by name
    unconfirmed: set[Prefix] = field(default_factory=set)  # told before the session was out of sight, not again since
    taken_back: set[Prefix] = field(default_factory=set)  # withdrawn by an unheard peer before it told them
    awaiting: set[Family] = field(default_factory=set)  # families whose whole table has not been heard
    up: bool = False
    reason: str = ""  # why the session is down, while paths are stale
    owes_answer: bool = False  # it was asked for its table and has not said a word
    quiet_at: float | None = None
    limit_at: float | None = None
    stale_at: float | None = None
    forget_refresh_at: float | None = None
    unheard: bool = True  # since the agent started the peer has not told its whole table, nor has its time run out
    heard_by: float | None = None  # an unheard peer is waited for until then, and longer while its session stands

    @property
    def overfull(self) -> bool:
        """Did the peer tell more than max-prefix, so that some of it is refused."""
        return bool(self.surplus or self.surplus_dropped)

    def timers(self) -> Iterable[float]:
        """When this table wants to be looked at again."""
        waited = self.heard_by if self.unheard and not self.up else None
        moments = (self.quiet_at, self.limit_at, self.stale_at, self.forget_refresh_at, waited)
        return (t for t in moments if t is not None)

    def heard(self) -> None:
        """The whole table was told, or was waited for long enough."""
        self.unheard, self.heard_by = False, None
        self.taken_back.clear()

    def forget_surplus(self, family: Family | None = None) -> None:
        """What was refused will be told again (of one family, or all), or is gone with the session."""
        if family is None:
            self.surplus.clear()
            self.surplus_dropped.clear()
            return
        self.surplus = {p: None for p in self.surplus if family_of(p) is not family}
        self.surplus_dropped.discard(family)

    def spoke_of(self, prefix: Prefix) -> bool:
        """Has the peer said anything of the prefix, be it good or bad."""
        return prefix in self.paths or prefix in self.taken_back


class Rib:
    """All peers' tables. Whatever changes a prefix puts it into :attr:`dirty`; the router takes it from there."""

    def __init__(self, stale_time: float) -> None:
        self.stale_time = stale_time
        self.tables: dict[str, PeerTable] = {}
        self.dirty: set[Prefix] = set()
        self.wants_refresh: set[str] = set()  # peers to ask for their table again: room was made below max-prefix
        self.mute: set[str] = set()  # peers that were asked, had their time and said nothing
        self._started_again: set[str] = set()

    # --- peers -------------------------------------------------------------------------------------------------------
    def add_peer(self, peer: str, limit: int) -> None:
        """Know a peer. A raised limit asks for the surplus; a lowered one refuses what came last."""
        table = self.tables.get(peer)
        if table is None:
            self.tables[peer] = PeerTable(peer, limit)
            return
        grown, table.limit = limit > table.limit, limit
        if grown and (table.surplus or table.surplus_dropped):
            self.wants_refresh.add(peer)
        for prefix in list(table.paths)[limit:]:
            self._forget(table, prefix)
            self._refuse(table, prefix)

    def remove_peer(self, peer: str) -> None:
        """Forget a peer and everything it told: the configuration says so, which is evidence."""
        table = self.tables.pop(peer, None)
        if table is not None:
            self.dirty.update(table.paths)

    def session_up(
        self, peer: str, families: Iterable[Family], now: float, whole: Whole = Whole.SILENCE
    ) -> None:  # fmt: skip
        """The session stands: from now on the peer tells its table."""
        table = self.tables[peer]
        if table.up and whole is not Whole.NEVER:  # it was out of sight and may be another session by now
            table.unconfirmed = table.paths.keys() - table.stale.keys()
            table.refreshing.clear()
        table.up, table.reason = True, ""
        table.awaiting = set(families)
        table.owes_answer = whole is Whole.ANSWER
        table.quiet_at = now + QUIET if whole in {Whole.SILENCE, Whole.ANSWER} else None
        table.limit_at = None if whole is Whole.NEVER else now + LONGEST
        table.stale_at = None  # swept when the table is whole; the limit above bounds it
        table.forget_surplus()
        for prefix in [p for p in (*table.stale, *table.unconfirmed) if family_of(p) not in table.awaiting]:
            self._remove(table, prefix)

    def session_down(self, peer: str, reason: str, now: float) -> None:
        """The session is lost, or there was none to begin with: what it told turns stale."""
        table = self.tables[peer]
        was_up, table.up = table.up, False
        table.reason = reason
        self._expect(table, now)
        table.awaiting.clear()
        table.refreshing.clear()
        table.unconfirmed.clear()
        table.forget_surplus()
        table.owes_answer = False
        table.quiet_at = table.limit_at = table.forget_refresh_at = None
        if was_up:
            table.stale = dict.fromkeys(table.paths, now + self.stale_time) | table.stale
            table.stale_at = min(table.stale.values(), default=None)
            self.dirty.update(table.paths)
            self.handle_timer(now)  # a stale_time of 0 gives up at once

    def expect(self, now: float) -> None:
        """From now on every peer could be heard; what was adopted from the kernel waits for it like a stale path."""
        for table in self.tables.values():
            self._expect(table, now)

    def _expect(self, table: PeerTable, now: float) -> None:
        if table.unheard and not table.up and table.heard_by is None:
            table.heard_by = now + self.stale_time

    # --- routes ------------------------------------------------------------------------------------------------------
    def take(self, event: Update | EndOfRib | RefreshBegin | RefreshEnd, now: float) -> None:
        """What a peer says of its routes."""
        self.tables[event.peer].owes_answer = False
        match event:
            case Update():
                self.apply(event, now)
            case EndOfRib():
                self.end_of_rib(event.peer, event.family)
            case RefreshBegin():
                self.refresh_begin(event.peer, event.family, now)
            case _:
                self.refresh_end(event.peer, event.family)

    def apply(self, update: Update, now: float) -> None:
        """One UPDATE; withdrawals come before announcements, as one message may carry a prefix in both."""
        table = self.tables[update.peer]
        if table.quiet_at is not None:
            table.quiet_at = now + QUIET
        for prefix in update.withdrawn:
            self._withdraw(table, prefix)
        for path, prefixes in update.announced:
            if len(table.paths) + len(prefixes) > table.limit:
                prefixes = self._within_limit(table, prefixes)  # noqa: PLW2901  # the rest is surplus
            table.paths.update(dict.fromkeys(prefixes, path))
            for waiting in (table.stale, table.surplus):
                if waiting:
                    for prefix in prefixes:
                        waiting.pop(prefix, None)
            for marks in (*table.refreshing.values(), table.unconfirmed, table.taken_back):
                if marks:
                    marks.difference_update(prefixes)
            self.dirty.update(prefixes)

    def _within_limit(self, table: PeerTable, prefixes: tuple[Prefix, ...]) -> tuple[Prefix, ...]:
        room = table.limit - len(table.paths)
        kept = []
        for prefix in prefixes:
            if prefix in table.paths:
                kept.append(prefix)
            elif room > 0:
                room -= 1
                kept.append(prefix)
            else:
                self._refuse(table, prefix)
        return tuple(kept)

    def _refuse(self, table: PeerTable, prefix: Prefix) -> None:
        if len(table.surplus) < SURPLUS_NAMES:
            table.surplus[prefix] = None
        elif prefix not in table.surplus:
            table.surplus_dropped.add(family_of(prefix))

    def _withdraw(self, table: PeerTable, prefix: Prefix) -> None:
        if prefix in table.paths:
            self._remove(table, prefix)
        elif prefix in table.surplus:
            del table.surplus[prefix]
        elif table.unheard and len(table.taken_back) < table.limit:
            table.taken_back.add(prefix)
            self.dirty.add(prefix)

    def _remove(self, table: PeerTable, prefix: Prefix) -> None:
        self._forget(table, prefix)
        if table.surplus or table.surplus_dropped:  # there is room now
            self.wants_refresh.add(table.peer)

    def _forget(self, table: PeerTable, prefix: Prefix) -> None:
        table.paths.pop(prefix, None)
        table.stale.pop(prefix, None)
        table.unconfirmed.discard(prefix)
        self.dirty.add(prefix)

    def take_refreshes(self) -> list[str]:
        """The peers to ask for their tables again, once. What was surplus and has no name here is told again."""
        wanted, self.wants_refresh = self.wants_refresh, set()
        asked = [peer for peer in sorted(wanted) if peer in self.tables and self.tables[peer].up]
        for peer in asked:
            self.tables[peer].surplus_dropped.clear()
        return asked

    def take_mute(self, now: float, *, adopted: bool) -> list[str]:
        """The peers whose sessions have to start again, for they are mute and routes depend on what they would say.

        ``adopted``: are there routes that nobody has judged yet. Sessions start again one at a time.
        """
        chosen: list[str] = []
        for table in [self.tables[peer] for peer in sorted(self.mute) if peer in self.tables]:
            self.mute.discard(table.peer)
            if not table.owes_answer:
                continue
            if not (adopted or table.unconfirmed):
                self._complete(table, set(table.awaiting))
            elif chosen or any(t.peer in self._started_again and not t.up for t in self.tables.values()):
                table.quiet_at = now + QUIET
            else:
                self._started_again.add(table.peer)
                chosen.append(table.peer)
        self.mute.clear()
        return chosen

    # --- whole tables ------------------------------------------------------------------------------------------------
    def end_of_rib(self, peer: str, family: Family) -> None:
        """The peer has told everything of this family."""
        self._complete(self.tables[peer], {family})

    def refresh_begin(self, peer: str, family: Family, now: float) -> None:
        """The peer starts to tell everything again; until the end nothing is doubted."""
        table = self.tables[peer]
        table.refreshing[family] = {p for p in table.paths if family_of(p) is family}
        table.forget_refresh_at = now + REFRESH_LIMIT
        table.unconfirmed -= table.refreshing[family]  # this refresh tells of them
        table.forget_surplus(family)

    def refresh_end(self, peer: str, family: Family) -> None:
        """What was not told again is gone (RFC 7313 section 4)."""
        table = self.tables[peer]
        for prefix in table.refreshing.pop(family, ()):
            self._remove(table, prefix)
        if not table.refreshing:
            table.forget_refresh_at = None
        self._complete(table, {family})

    def _complete(self, table: PeerTable, families: set[Family]) -> None:
        if not table.up:
            return
        table.awaiting -= families
        for prefix in [p for p in (*table.stale, *table.unconfirmed) if family_of(p) in families]:
            self._remove(table, prefix)
        if not table.awaiting:
            table.quiet_at = table.limit_at = None
            table.heard()

    # --- time --------------------------------------------------------------------------------------------------------
    def next_timer(self) -> float | None:
        """The earliest moment at which :meth:`handle_timer` has something to do."""
        return min((t for table in self.tables.values() for t in table.timers()), default=None)

    def handle_timer(self, now: float) -> None:
        """Sweep what has run out."""
        for table in self.tables.values():
            if table.forget_refresh_at is not None and now >= table.forget_refresh_at:
                table.refreshing.clear()
                table.forget_refresh_at = None
            due = [t for t in (table.quiet_at, table.limit_at) if t is not None]
            if due and now >= min(due):
                if table.owes_answer:
                    table.quiet_at = table.limit_at = None
                    self.mute.add(table.peer)
                else:
                    self._complete(table, set(table.awaiting))
            if not table.up and table.heard_by is not None and now >= table.heard_by:
                table.heard()
            if table.stale_at is not None and now >= table.stale_at:
                for prefix in [p for p, deadline in table.stale.items() if now >= deadline]:
                    self._remove(table, prefix)
                table.stale_at = min(table.stale.values(), default=None)

    @property
    def settling(self) -> tuple[PeerTable, ...]:
        """The tables that may still be missing something they held before."""
        return tuple(table for table in self.tables.values() if table.unheard)
