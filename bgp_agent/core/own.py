"""The node's own blocks, led from "the source names it" to "the network has forgotten it".

:mod:`bgp_agent.core.blocks` says what may follow on what; here the facts are looked at that make it follow: forwarding,
the blackhole in the kernel, the peers' acknowledgements, a drain (:mod:`bgp_agent.core.notice`), a speaker that stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from bgp_agent.core.blocks import LET_GO, OwnBlockTable, Phase
from bgp_agent.core.export import Export
from bgp_agent.core.notice import TRANSITIONS, Drain, Notice
from bgp_agent.core.peers import Peer, established
from bgp_agent.core.prefix import Family, Prefix, family_of
from bgp_agent.core.settings import Settings
from bgp_agent.core.values import BlockState, RouteState, SourceState

KernelState: TypeAlias = Callable[[Prefix], tuple[RouteState, str]]

_FORWARDING_KEYS = {Family.IPV4: "net.ipv4.ip_forward", Family.IPV6: "net.ipv6.conf.all.forwarding"}


class Own:
    """The own blocks with everything that decides about them. ``state``: the kernel's state of a prefix."""

    def __init__(self, settings: Settings, peers: Mapping[str, Peer], state: KernelState) -> None:
        self.settings = settings
        self.table = OwnBlockTable()
        self.exports: dict[str, Export] = {}
        self.forwarding: dict[Family, bool] = dict.fromkeys(Family, True)
        self.draining = Drain.OFF
        self.notice: Notice | None = None  # peers are being told that blocks are about to go
        self.ending: set[str] = set()  # peers that lose the blocks when the speaker stops
        self._peers = peers
        self._state = state

    def configure(self, settings: Settings) -> None:
        """Peers, limits and attributes as configured now."""
        self.settings = settings
        given = {peer.address: peer for peer in settings.peers}
        next_hops = dict(settings.own_addresses)
        for address in self.exports.keys() - given.keys():
            del self.exports[address]
        for address, peer in given.items():
            export = self.exports.get(address)
            if export is not None:
                export.reconfigure(peer, next_hops)
                continue
            export = self.exports[address] = Export(peer, next_hops, leaving=self.draining is Drain.LEAVING)
            for prefix in self.table.in_phase(Phase.OFFERED):
                if self._offered(prefix):
                    export.offer(prefix)
        self.table.dirty.update(self.table.blocks)

    # --- taking leave ------------------------------------------------------------------------------------------------
    @property
    def drained(self) -> bool:
        """Was a drain asked for, and not taken back."""
        return self.draining is not Drain.OFF

    def drain(self, *, on: bool, now: float | None = None) -> None:
        """Take back every announcement, or offer them again; blackholes stay.

        ``now``: peers are given notice first. None: at once, as for a drain that is remembered from an earlier run.
        """
        if not on:
            self._drain("undrain")
            self.notice = None
        elif self.draining is Drain.OFF:
            told = now is not None and self._give_notice(established(self._peers.values()), now)
            self._drain("drain" if told else "drain, nobody to tell")

    def end_sessions(self, now: float) -> None:
        """The speaker is about to stop: peers that do not keep the blocks over that (RFC 4724) are given notice."""
        losing = [p for p in established(self._peers.values()) if p.session and not p.session.graceful_restart]
        if self._give_notice(losing, now):
            self.ending = {peer.address for peer in losing}
            self._mark()

    def ended(self, peer: str) -> None:
        """The session is lost: what the next one is told does not leave with this one."""
        self.ending.discard(peer)
        self._mark()

    def _give_notice(self, peers: Iterable[Peer], now: float) -> bool:
        if self.settings.graceful_shutdown and any(peer.announced for peer in peers) and self.notice is None:
            self.notice = Notice.give(self.settings.graceful_shutdown, now)
        return self.notice is not None

    def _drain(self, event: str) -> None:
        self.draining = TRANSITIONS.get((self.draining, event), self.draining)
        self._mark()

    def _mark(self) -> None:
        for address, export in self.exports.items():
            export.leaving = self.draining is Drain.LEAVING or address in self.ending
        self.table.dirty.update(self.table.blocks)

    def look(self, now: float) -> None:
        """Have all that are given notice acknowledged it."""
        if self.notice is not None and not self._deaf():
            self.notice.heard(now)

    def _deaf(self) -> list[str]:
        """The peers that have not acknowledged GRACEFUL_SHUTDOWN for all that they hold."""
        leaving = {address for address, export in self.exports.items() if export.leaving}
        return [p.address for p in established(self._peers.values()) if p.address in leaving and not p.told_to_leave]

    def next_timer(self) -> float | None:
        """The earliest moment at which :meth:`handle_timer` has something to do."""
        notice = self.notice.until if self.notice is not None else None
        return min((t for t in (notice, self.table.next_timer()) if t is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Let time pass."""
        self.table.handle_timer(now)
        if self.notice is not None and now >= self.notice.until:
            self.notice = None
            self._drain("notice is over")

    def notice_waits_for(self) -> str | None:
        """What the notice to the peers still waits for, in words; None when it is over, or none was given."""
        if self.notice is None:
            return None
        if self.notice.told:
            return f"peers have {self.notice.grace:g} s to move to other paths (GRACEFUL_SHUTDOWN)"
        return f"waiting for {' and '.join(self._deaf())} to acknowledge GRACEFUL_SHUTDOWN"

    def leave_waits_for(self) -> str | None:
        """What a drain still waits for, in words; None when it is done, or was taken back."""
        if self.notice is not None:
            return self.notice_waits_for()
        holders = [peer.address for peer in established(self._peers.values()) if peer.announced]
        if self.draining is Drain.DRAINED and holders:
            return f"waiting for {' and '.join(holders)} to acknowledge the withdrawal"
        return None

    # --- facts -------------------------------------------------------------------------------------------------------
    def forward(self, forwarding: Mapping[Family, bool]) -> None:
        """The sysctls of forwarding, by family."""
        self.forwarding.update(forwarding)
        self.table.dirty.update(self.table.blocks)

    def touch(self, prefixes: Iterable[Prefix]) -> None:
        """Something about these changed: those that are own blocks are looked at again."""
        self.table.dirty.update(p for p in prefixes if p in self.table.blocks)

    # --- one step ----------------------------------------------------------------------------------------------------
    def step(self, prefix: Prefix, now: float) -> None:
        """Move one block as far as the facts allow, and offer or withdraw it."""
        block = self.table.blocks.get(prefix)
        if block is None:
            return
        if block.phase is Phase.GATED and self.gate(prefix) is None:
            self.table.gate_open(prefix, now)
        offered, holders = self._offered(prefix), self.holders(prefix)
        for address, export in self.exports.items():
            kept = not offered and address in holders and self._replacing(prefix, address)
            if offered or (kept and export.leaving):
                export.offer(prefix)
            elif not kept:
                export.withdraw(prefix)
                if self.draining is Drain.DRAINED and address in holders:  # perhaps an earlier run announced it
                    export.changes[prefix] = None
        if block.phase is Phase.WITHDRAWING and not holders:
            kept = any(prefix in peer.unreleased for peer in self._peers.values())
            self.table.acknowledged(prefix, now, max(LET_GO, self.settings.graceful_restart if kept else 0.0))
        self.table.dirty.discard(prefix)  # its own steps need no second look
        if prefix in self.table.heir_of:
            self.table.dirty.add(self.table.heir_of[prefix])

    def _replacing(self, prefix: Prefix, address: str) -> bool:
        """Must a peer keep a block that is no longer wanted until it has the addresses that take its place."""
        if self.draining is Drain.DRAINED or self.table.blocks[prefix].phase is not Phase.WITHDRAWING:
            return False
        peer, export = self._peers[address], self.exports[address]
        for heir in self.table.heirs(prefix):
            phase = self.table.blocks[heir].phase
            if phase is Phase.GATED and self.forwarding[family_of(heir)]:
                return True  # its blackhole is being written
            unanswered = heir not in peer.announced and heir not in peer.refused
            if phase is Phase.OFFERED and (heir in export.wanted or export.leaving) and unanswered:
                return True
        return False

    def _offered(self, prefix: Prefix) -> bool:
        phase = self.table.blocks[prefix].phase
        return phase is Phase.OFFERED and self.draining is not Drain.DRAINED and not self.table.unread(prefix)

    def holders(self, prefix: Prefix) -> list[str]:
        """The established peers that have acknowledged the block."""
        return [peer.address for peer in established(self._peers.values()) if prefix in peer.announced]

    def gate(self, prefix: Prefix) -> str | None:
        """Why packets for an own block would not be forwarded; None when they would."""
        family = family_of(prefix)
        if not self.forwarding[family]:
            return f"forwarding is off: set {_FORWARDING_KEYS[family]}=1"
        if self.settings.blackhole and self.settings.install and not self.standing(prefix):
            return f"its blackhole is not in place: {self._state(prefix)[1]}"
        return None

    def standing(self, prefix: Prefix) -> bool:
        """Is the blackhole of an own block in the kernel, ours or one that stands before ours."""
        return self.settings.blackhole and self._state(prefix)[0] in (RouteState.INSTALLED, RouteState.SHADOWED)

    # --- what is told ------------------------------------------------------------------------------------------------
    def describe(self, prefix: Prefix) -> tuple[BlockState, str]:
        """The state of an own block that is not released, and why, in one sentence."""
        block = self.table.blocks[prefix]
        holders = self.holders(prefix)
        if block.phase is Phase.WITHDRAWING:
            return BlockState.WITHHELD, f"no longer wanted; still acknowledged by {' and '.join(holders) or 'nobody'}"
        if self.draining is Drain.LEAVING:
            state = BlockState.ANNOUNCED if holders else BlockState.WITHHELD
            return state, "draining: peers are told that it goes (GRACEFUL_SHUTDOWN), then it is withdrawn"
        if self.draining is Drain.DRAINED:
            rest = f"; still acknowledged by {' and '.join(holders)}" if holders else ""
            return BlockState.WITHHELD, f"drained: announced again after `bgp-agent undrain`{rest}"
        if holders:
            words = f"acknowledged by {len(holders)} of {len(self._peers)} peers"
            words += "".join(f"; {peer}: {why}" for peer, why in self._withheld(prefix).items() if peer not in holders)
            return BlockState.ANNOUNCED, words + (self._adopted_words() if block.adopted else "")
        if block.phase is Phase.GATED:
            return BlockState.WITHHELD, self.gate(prefix) or "about to be announced"
        return self._unannounced(prefix)

    def _adopted_words(self) -> str:
        source = self.table.source
        lost = source.state is not SourceState.SYNCED
        return f"; adopted from an earlier run ({source.reason})" if lost else "; adopted from an earlier run"

    def _withheld(self, prefix: Prefix) -> dict[str, str]:
        """The peers that are not told of the block, and why."""
        reasons = {address: export.why_not(prefix) for address, export in self.exports.items()}
        return {address: reason for address, reason in reasons.items() if reason is not None}

    def _unannounced(self, prefix: Prefix) -> tuple[BlockState, str]:
        if self.table.blocks[prefix].adopted:
            return BlockState.WITHHELD, "found in the kernel from an earlier run; the source has not named it yet"
        reasons = self._withheld(prefix)
        if reasons and len(reasons) == len(self.exports):
            return BlockState.WITHHELD, "; ".join(f"{peer}: {words}" for peer, words in reasons.items())
        refusals = {a: peer.refused[prefix] for a, peer in self._peers.items() if prefix in peer.refused}
        if refusals:
            return BlockState.PENDING, "; ".join(f"{peer}: {words}" for peer, words in refusals.items())
        up = established(self._peers.values())
        if not up:
            return BlockState.PENDING, f"none of {len(self._peers)} peers is established"
        return BlockState.PENDING, f"sent; not acknowledged yet for {' or '.join(peer.address for peer in up)}"
