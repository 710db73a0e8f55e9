"""Calico's IPAM, read for one node: which blocks are its own, which addresses it uses elsewhere, who owns the rest.

Three kinds of objects decide, and they come in any order, each from a watch of its own:

BlockAffinity  "this node may carve addresses from that block". Only a *confirmed* one counts; ``pending`` is a claim
               that may still be lost, ``pendingDeletion`` and ``deleted`` one that is being given up.
IPAMBlock      the block itself: its owner, and which node really uses each of its addresses.
IPPool         the address space, and whether it may be told to anybody (``disableBGPExport``).

A node announces its confirmed blocks. An address that it uses and that no announced block of its own holds is announced
by itself: borrowed from another node's block when the pool was exhausted, or left over in a block that lost its owner.

Facts only ever replace facts: nothing here forgets because nothing was heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bgp_agent.core.prefix import Prefix, PrefixSet, covers, is_host, prefix_text

#: States of an affinity that make it count; the empty one is how old releases wrote "confirmed".
CONFIRMED: Final = frozenset({"confirmed", ""})
#: Addresses announced one by one at most; what is above is withheld, so that a mistake does not flood the network.
MAX_ADDRESSES: Final = 1000


@dataclass(frozen=True, slots=True)
class Affinity:
    """A BlockAffinity of type ``host``. ``going``: it is marked as deleted."""

    cidr: Prefix
    node: str
    state: str
    going: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """An IPAMBlock. ``owner``: the node of its affinity, None when it has none; ``used``: the addresses in use here.

    ``elsewhere``: its addresses that are in use on another node than its owner and this one, with that node. ``going``:
    it is marked as deleted.
    """

    cidr: Prefix
    owner: str | None
    used: frozenset[Prefix] = frozenset()
    going: bool = False
    elsewhere: tuple[tuple[Prefix, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Pool:
    """An IPPool. ``export``: may its blocks be announced."""

    cidr: Prefix
    name: str
    export: bool = True


@dataclass(frozen=True, slots=True)
class Own:
    """What the node is to announce, and what it has but is not to announce, with the reason."""

    blocks: frozenset[Prefix] = frozenset()
    withheld: Mapping[Prefix, str] = field(default_factory=dict)


class Ipam:
    """The facts, by object name, and what follows from them for ``node``. A value of None takes an object away.

    ``allowed``: the configured pools; nothing outside of them is announced. None: whatever the IPPools hold.
    """

    def __init__(self, node: str, allowed: PrefixSet | None = None) -> None:
        self.node = node
        self.allowed = allowed
        self._affinities: dict[str, Affinity] = {}  # of this node alone
        self._blocks: dict[str, Block] = {}
        self._pools: dict[str, Pool] = {}
        self._using: dict[str, Block] = {}  # the blocks in which this node uses an address
        self._at: dict[Prefix, Block] = {}  # the blocks by their CIDR
        self._space: PrefixSet | None = None  # what pools() told last

    # --- facts -------------------------------------------------------------------------------------------------------
    def affinity(self, name: str, value: Affinity | None) -> None:
        """A BlockAffinity as it is now. Another node's is nothing to us."""
        if value is not None and value.node == self.node:
            self._affinities[name] = value
        else:
            self._affinities.pop(name, None)

    def block(self, name: str, value: Block | None) -> None:
        """An IPAMBlock as it is now."""
        self._using.pop(name, None)
        before = self._blocks.pop(name, None)
        if before is not None:
            self._at.pop(before.cidr, None)
            if self._space is not None and before.cidr in self._space and (value is None or value.cidr != before.cidr):
                self._space = None
        if value is None:
            return
        self._blocks[name] = self._at[value.cidr] = value
        if self._space is not None and self._space.covering(value.cidr) is None:
            self._space = None
        if value.used:
            self._using[name] = value

    def pool(self, name: str, value: Pool | None) -> None:
        """An IPPool as it is now."""
        self._space = None
        if value is None:
            self._pools.pop(name, None)
        else:
            self._pools[name] = value

    # --- answers -----------------------------------------------------------------------------------------------------
    def own(self) -> Own:
        """What follows for this node. Proportional to what the node has, not to the cluster."""
        blocks: set[Prefix] = set()
        withheld: dict[Prefix, str] = {}
        for each in sorted(self._affinities.values(), key=lambda a: a.cidr):
            if each.going or each.state not in CONFIRMED:
                continue
            block = self._at.get(each.cidr)
            reason = self._forbidden(each.cidr)
            if block is not None and block.owner not in {None, self.node}:
                reason = f"its IPAMBlock belongs to {block.owner}: two nodes claim it"
            if reason is None:
                blocks.add(each.cidr)
            else:
                withheld[each.cidr] = reason
        self._addresses(blocks, withheld)
        return Own(frozenset(blocks), withheld)

    def _addresses(self, blocks: set[Prefix], withheld: dict[Prefix, str]) -> None:
        """Add the addresses that no announced block holds. In a block whose pool is gone they are announced, too."""
        held = PrefixSet(blocks)
        loose = sorted(a for block in self._using.values() for a in block.used if held.covering(a) is None)
        count = 0
        for address in loose:
            pool = self._pool_of(address)
            if pool is not None and not pool.export:
                withheld[address] = _not_exported(pool)
            elif self.allowed is not None and self.allowed.covering(address) is None:
                withheld[address] = "outside the configured `pools`"
            elif count >= MAX_ADDRESSES:
                withheld[address] = f"above the {MAX_ADDRESSES:,} addresses that are announced one by one"
            else:
                blocks.add(address)
                count += 1

    def _forbidden(self, cidr: Prefix) -> str | None:
        """Why a block may not be announced whoever owns it."""
        if self.allowed is not None and self.allowed.covering(cidr) is None:
            return "outside the configured `pools`"
        pool = self._pool_of(cidr)
        if pool is None:
            return "outside every IPPool: only its addresses in use are announced"
        return None if pool.export else _not_exported(pool)

    def _pool_of(self, prefix: Prefix) -> Pool | None:
        """The longest pool that covers a prefix."""
        found = [pool for pool in self._pools.values() if covers(pool.cidr, prefix)]
        return max(found, key=lambda pool: pool.cidr[-1], default=None)

    def pools(self) -> PrefixSet:
        """Where pods live: the IPPools, and every block that outlived its pool."""
        if self._space is None:
            pools = PrefixSet(pool.cidr for pool in self._pools.values())
            orphans = [block.cidr for block in self._blocks.values() if pools.covering(block.cidr) is None]
            self._space = PrefixSet([*pools, *orphans])
        return self._space

    def reason(self, own: Own) -> str:
        """What was found, in one sentence."""
        hosts = sum(map(is_host, own.blocks))
        words = f"{_count(len(own.blocks) - hosts, 'block')} of {self.node}"
        if hosts:
            words += f", {_count(hosts, 'address', 'addresses')} outside of them"
        if own.withheld:
            first, why = next(iter(sorted(own.withheld.items())))
            words += (
                f"; {_count(len(own.withheld), 'prefix', 'prefixes')} withheld, such as {prefix_text(first)}: {why}"
            )
        return words


def _not_exported(pool: Pool) -> str:
    return f"disableBGPExport is set on IPPool {pool.name}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
