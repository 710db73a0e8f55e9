"""The set-up of every measurement: a node, routers at the other end of its wire, and one program under test on it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bench.loop import Loop
from bench.router import Router
from bench.watcher import Watcher
from bgp_agent.core.prefix import Prefix, parse_address
from lab.netns import Network

NODE: Final = "10.0.0.1"
ROUTERS: Final = ("10.0.0.2", "10.0.0.3")
NODE_ASN: Final = 64512
ROUTER_ASN: Final = 65001
#: Where the routers' blocks are, /26 after /26: 131,072 of them.
LEARNED: Final = int.from_bytes(parse_address("10.128.0.0"), "big")
#: Where the node's own are.
OWN: Final = int.from_bytes(parse_address("10.64.0.0"), "big")
POOLS: Final = ("10.128.0.0/9", "10.64.0.0/10")


def block(number: int, base: int = LEARNED) -> Prefix:
    """The ``number``-th /26."""
    return Prefix((base + number * 64).to_bytes(4, "big") + b"\x1a")


class Rig:
    """Two namespaces and a wire; gone, with all processes, when ``with`` ends. ``routers``: how many listen."""

    def __init__(self, routers: int = 1, *, sample: int = 1) -> None:
        self.loop = Loop()
        self.network = Network()
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.folder.chmod(0o755)  # FRR's daemons are another user's
        self.node = self.network.add("node", forwarding=True)
        self.edge = self.network.add("edge", forwarding=True)
        self.network.wire(
            self.node, "eth0", self.edge, "eth0",
            left_addresses=[f"{NODE}/24"], right_addresses=[f"{address}/24" for address in ROUTERS],
        )  # fmt: skip
        self.watcher = Watcher(self.loop, self.node, sample=sample)
        self.routers = [Router(self.loop, self.edge, address, ROUTER_ASN) for address in ROUTERS[:routers]]
        for router in self.routers:
            router.listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.network.processes:
            process.kill()  # what is measured is measured: nobody's orderly end is waited for
        for router in self.routers:
            router.close()
        self.watcher.close()
        self.network.close()
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def installed(self) -> int:
        """How many /26 are in the node's main table now."""
        return self.node.run("ip", "-4", "route", "show", "table", "main").count("/26 ")
