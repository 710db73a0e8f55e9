"""Which block is on which node, and where that node is: for routes that point straight at the owner.

An answer is only as good as it is fresh. A block that moved while nothing was heard would draw packets to the wrong
node, where the peer that told the route sends them right. So :data:`KEPT` seconds after a watch was lost the answers
are taken back, and given again when all is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from bgp_agent.core.ipam import Block
from bgp_agent.core.owners import Owners
from bgp_agent.core.prefix import Address, Prefix
from bgp_agent.kubernetes.api import Api
from bgp_agent.kubernetes.nodes import Meta, Nodes

KEPT: Final = 30.0
"""Seconds for which owners are believed when nothing is heard."""

Located: TypeAlias = Mapping[Prefix, Address | None]
"""Prefixes with the address of the node that has them; None: it is not known any more."""


class Whereabouts:
    """Tells ``deliver`` the owners that changed, and ``noticed`` that :attr:`problem` did. ``node``: this one."""

    def __init__(self, node: str, deliver: Callable[[Located], None], noticed: Callable[[], None]) -> None:
        self._owners = Owners(node)
        self._deliver = deliver
        self._noticed = noticed
        self._noted: str | None = None
        self._meta: dict[str, Meta] = {}
        self._nodes: Nodes | None = None
        self._blocks_problem: str | None = None
        self._doubted = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def problem(self) -> str | None:
        """Why it is not known where nodes are; None when it is, or is being read for the first time."""
        return None if self._nodes is None or not self._nodes.asked else self._nodes.problem

    async def follow(self, api: Api) -> None:
        """Follow the nodes until cancelled."""
        self._nodes = Nodes(api, self._on_nodes, self._meta)
        await self._nodes.run()

    def on_blocks(self, changes: Mapping[str, Block | None]) -> None:
        """IPAMBlocks, those that changed."""
        for name, block in changes.items():
            self._owners.block(name, block)
        self._tell()

    def heard(self, problem: str | None) -> None:
        """Do the watches of blocks stand; ``problem``: why not."""
        if problem != self._blocks_problem:
            self._blocks_problem = problem
            self._judge()

    def close(self) -> None:
        """Nothing is told any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_nodes(self, changes: Mapping[str, tuple[Address, ...] | None]) -> None:
        self._owners.nodes(changes)
        self._judge()
        self._tell()
        if self.problem != self._noted:
            self._noted = self.problem
            self._noticed()

    def _judge(self) -> None:
        stands = self._blocks_problem is None and self._nodes is not None and self._nodes.problem is None
        if not stands:
            if self._timer is None and not self._doubted:
                self._timer = asyncio.get_running_loop().call_later(KEPT, self._doubt)
            return
        self.close()
        if self._doubted:
            self._doubted = False
            self._owners.trust()
            self._tell()

    def _doubt(self) -> None:
        self._timer = None
        self._doubted = True
        if changes := self._owners.doubt():
            self._deliver(changes)

    def _tell(self) -> None:
        if not self._doubted and (changes := self._owners.take_changes()):
            self._deliver(changes)
