"""The node's own blocks: when each is announced, withheld and let go.

A block lives in one of four phases, and what may happen in each is :data:`TRANSITIONS`:

``gated``        wanted, but packets for it would not be forwarded yet: forwarding is off, or its blackhole is missing
``offered``      announced; it stays announced whatever happens to the gate later
``withdrawing``  no longer wanted; the peers have not all acknowledged the withdrawal
``releasing``    withdrawn everywhere; the blackhole stays until the network has let go

The order of a release is not free. The blackhole of a block must outlive its announcement, or the node sends the
packets that still come for it back to where they came from; and a withdrawal that nobody has acknowledged has not
happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bgp_agent.core.prefix import Prefix, PrefixSet, is_host
from bgp_agent.core.values import Blocks, SourceState

#: How long a withdrawn block's blackhole stays while the network forgets the block, in seconds.
LET_GO: Final = 60.0


class Phase(Enum):
    """Where an own block is in its life."""

    GATED = "gated"
    OFFERED = "offered"
    WITHDRAWING = "withdrawing"
    RELEASING = "releasing"


#: (phase, event) -> next phase; None: the block is gone. What is not in the table changes nothing.
TRANSITIONS: Final[Mapping[tuple[Phase, str], Phase | None]] = {
    (Phase.GATED, "gate open"): Phase.OFFERED,
    (Phase.GATED, "unwanted"): Phase.RELEASING,
    (Phase.OFFERED, "unwanted"): Phase.WITHDRAWING,
    (Phase.WITHDRAWING, "wanted"): Phase.OFFERED,
    (Phase.WITHDRAWING, "acknowledged"): Phase.RELEASING,
    (Phase.RELEASING, "wanted"): Phase.GATED,
    (Phase.RELEASING, "let go"): None,
}


@dataclass(slots=True)
class Block:
    """One own block. ``until``: when a releasing block's blackhole goes."""

    prefix: Prefix
    phase: Phase
    since: float
    until: float | None = None
    adopted: bool = False  # found announced or in the kernel; the source has not named it yet
    told: bool = False  # found announced


class OwnBlockTable:
    """All own blocks, by prefix, in the order in which they came. Changed prefixes are put into :attr:`dirty`."""

    def __init__(self) -> None:
        self.blocks: dict[Prefix, Block] = {}
        self.dirty: set[Prefix] = set()
        self.gone: set[Prefix] = set()  # blocks that left the table: what stands in the kernel for them goes
        self.heir_of: dict[Prefix, Prefix] = {}  # address -> the block that is given up and held it
        self.source = Blocks("file", SourceState.WAITING, "the source has not been read yet")
        self.synced_once = False

    # --- facts -------------------------------------------------------------------------------------------------------
    def source_says(self, blocks: Blocks, now: float) -> None:
        """Take over what the source knows. Only a synced source can take a block away, or one that can prove it."""
        self.source = blocks
        for prefix in sorted(blocks.blocks):
            self._want(prefix, now)
        if blocks.state is SourceState.SYNCED:
            self.synced_once = True
            unwanted = [p for p in self.blocks if p not in blocks.blocks]
        else:
            unwanted = [p for p in self.blocks if p in blocks.gone]
        for prefix in unwanted:
            self._event(prefix, "unwanted", now)
        self.dirty.update(p for p in self.heir_of.values() if p in self.blocks)
        left = PrefixSet(p for p in unwanted if not is_host(p))
        heirs = ((p, left.covering(p)) for p in blocks.blocks if is_host(p)) if left else ()
        self.heir_of = {heir: block for heir, block in heirs if block is not None}

    def adopt(self, prefixes: Iterable[Prefix], *, announced: bool, now: float) -> None:
        """Blocks that an earlier run of the agent left in the kernel, or announced."""
        phase = Phase.OFFERED if announced else Phase.GATED
        for prefix in prefixes:
            known = self.blocks.get(prefix)
            self.dirty.add(prefix)
            if known is None:
                self.blocks[prefix] = Block(prefix, phase, now, adopted=True, told=announced)
                if self.synced_once and prefix not in self.source.blocks:
                    self._event(prefix, "unwanted", now)
                continue
            known.told = known.told or announced
            if announced and known.phase is Phase.GATED:
                known.phase = Phase.OFFERED
            elif announced and known.phase is Phase.RELEASING:
                known.phase, known.until = Phase.WITHDRAWING, None

    def gate_open(self, prefix: Prefix, now: float) -> None:
        """Packets for the block would be forwarded: it may be announced."""
        self._event(prefix, "gate open", now)

    def acknowledged(self, prefix: Prefix, now: float, wait: float = LET_GO) -> None:
        """No established peer has the block any more; the blackhole stays for ``wait`` seconds."""
        self._event(prefix, "acknowledged", now)
        block = self.blocks.get(prefix)
        if block is not None and block.phase is Phase.RELEASING:
            block.until = now + wait

    def let_go(self, prefix: Prefix, now: float) -> None:
        """The network has forgotten the block, or another node has taken it over."""
        self._event(prefix, "let go", now)

    def _want(self, prefix: Prefix, now: float) -> None:
        known = self.blocks.get(prefix)
        if known is None:
            self.blocks[prefix] = Block(prefix, Phase.GATED, now)
            self.dirty.add(prefix)
            return
        if known.adopted:
            known.adopted = False
            self.dirty.add(prefix)
        self._event(prefix, "wanted", now)

    def _event(self, prefix: Prefix, event: str, now: float) -> None:
        block = self.blocks.get(prefix)
        if block is None or (block.phase, event) not in TRANSITIONS:
            return
        was, after = block.phase, TRANSITIONS[block.phase, event]
        self.dirty.add(prefix)
        if after is None:
            del self.blocks[prefix]
            self.gone.add(prefix)
            return
        block.phase, block.since = after, now
        block.until = None
        if after is Phase.RELEASING:  # a block that nobody was ever told of is let go at once
            block.until = now + (LET_GO if was is Phase.WITHDRAWING or block.adopted else 0.0)

    # --- answers -----------------------------------------------------------------------------------------------------
    def held(self, prefix: Prefix) -> bool:
        """Is this one of the node's own blocks, wanted or not withdrawn everywhere yet."""
        block = self.blocks.get(prefix)
        return block is not None and block.phase is not Phase.RELEASING

    def unread(self, prefix: Prefix) -> bool:
        """Was the block only found in the kernel: that says that it was ours, not that it was announced."""
        block = self.blocks[prefix]
        return block.adopted and not block.told

    def heirs(self, prefix: Prefix) -> list[Prefix]:
        """The addresses that are announced by themselves from now on, because this block is given up."""
        return [heir for heir, block in self.heir_of.items() if block == prefix and heir in self.blocks]

    def in_phase(self, phase: Phase) -> list[Prefix]:
        """The blocks in a phase, in the order in which they came."""
        return [prefix for prefix, block in self.blocks.items() if block.phase is phase]

    def next_timer(self) -> float | None:
        """When the next releasing block runs out."""
        return min((b.until for b in self.blocks.values() if b.until is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Let go of what has waited long enough."""
        for prefix in [p for p, b in self.blocks.items() if b.until is not None and now >= b.until]:
            self._event(prefix, "let go", now)
