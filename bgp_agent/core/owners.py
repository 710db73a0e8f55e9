"""Which node each block of the cluster is on, and the address of that node.

A route server may put itself into a path as next hop. Where the owner of the block is known and on the same link, the
packets need not take the way around: :mod:`bgp_agent.core.learned` points such a route straight at the owner. That is
all it decides. Whether there is a route at all, only BGP tells.

Three kinds of facts come in any order: who owns a block, who uses an address of somebody else's block, and where the
nodes are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bgp_agent.core.ipam import Block
from bgp_agent.core.prefix import Address, Prefix


class Owners:
    """The facts, and what changed of the answers: prefix -> the owner's address of the same family.

    ``node``: this node, whose own blocks need no next hop.
    """

    def __init__(self, node: str) -> None:
        self._self = node
        self._claims: dict[str, dict[Prefix, str]] = {}  # IPAMBlock -> prefix -> node
        self._owner: dict[Prefix, str] = {}
        self._owned: dict[str, set[Prefix]] = {}
        self._addresses: dict[str, tuple[Address, ...]] = {}
        self._told: dict[Prefix, Address] = {}
        self._dirty: set[Prefix] = set()

    def block(self, name: str, block: Block | None) -> None:
        """An IPAMBlock as it is now; None: it is gone."""
        claims: dict[Prefix, str] = {}
        if block is not None and not block.going:
            claims = {block.cidr: block.owner} if block.owner is not None else {}
            claims.update(block.elsewhere)
        before = self._claims.pop(name, {})
        for prefix in before.keys() - claims.keys():
            self._own(prefix, None)
        for prefix, node in claims.items():
            if before.get(prefix) != node:
                self._own(prefix, node)
        if claims:
            self._claims[name] = claims

    def _own(self, prefix: Prefix, node: str | None) -> None:
        before = self._owner.pop(prefix, None)
        if before is not None:
            self._owned[before].discard(prefix)
            if not self._owned[before]:
                del self._owned[before]
        if node is not None:
            self._owner[prefix] = node
            self._owned.setdefault(node, set()).add(prefix)
        self._dirty.add(prefix)

    def nodes(self, addresses: Mapping[str, tuple[Address, ...] | None]) -> None:
        """Where nodes are now, those that changed; None: the node is gone."""
        for name, found in addresses.items():
            if found is None:
                self._addresses.pop(name, None)
            else:
                self._addresses[name] = found
            self._dirty |= self._owned.get(name, set())

    def take_changes(self) -> dict[Prefix, Address | None]:
        """What is another answer than the one that was told last; None: not known any more."""
        changes: dict[Prefix, Address | None] = {}
        for prefix in self._dirty:
            now = self._answer(prefix)
            if now == self._told.get(prefix):
                continue
            changes[prefix] = now
            if now is None:
                del self._told[prefix]
            else:
                self._told[prefix] = now
        self._dirty.clear()
        return changes

    def doubt(self) -> dict[Prefix, Address | None]:
        """Nothing is heard any more: every answer is taken back. :meth:`trust` gives them again."""
        self._dirty |= self._told.keys()
        gone: dict[Prefix, Address | None] = dict.fromkeys(self._told)
        self._told.clear()
        return gone

    def trust(self) -> None:
        """What is known is as it is in the cluster again."""
        self._dirty |= self._owner.keys()

    def _answer(self, prefix: Prefix) -> Address | None:
        node = self._owner.get(prefix)
        if node is None or node == self._self:
            return None
        return next(iter(_of_family(self._addresses.get(node, ()), prefix)), None)


def _of_family(addresses: Iterable[Address], prefix: Prefix) -> Iterable[Address]:
    return (address for address in addresses if len(address) == len(prefix) - 1)
