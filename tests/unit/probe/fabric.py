"""Three nodes, each with a block of both families, behind one router that stands for the network."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable

from bgp_agent.core.prefix import Address, Prefix, PrefixSet, parse_address, parse_prefix
from bgp_agent.core.reports import Verified
from bgp_agent.probe.service import Prober
from lab.netns import ExpiredError, Namespace, Network, wait_for

PORT = 61179
POOLS = [parse_prefix("192.168.0.0/16"), parse_prefix("fd10::/16")]
NODES = ("a", "b", "c")


class Node:
    """A namespace as a node: number 1, 2 or 3 gives its addresses, blocks and links."""

    def __init__(self, inside: Namespace, number: int) -> None:
        self.inside = inside
        self.name = f"node-{NODES[number - 1]}"
        self.address4 = parse_address(f"10.0.{number}.2")
        self.address6 = parse_address(f"fd00:{number}::2")
        self.router6 = f"fd00:{number}::1"
        self.block4 = parse_prefix(f"192.168.{number}.0/26")
        self.block6 = parse_prefix(f"fd10:{number}::/122")

    def reaches_router(self) -> bool:
        """A link that just came up can lose its first IPv6 packets."""
        return "1 received" in self.inside.run("ping", "-c1", "-W1", self.router6, check=False)

    def make(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.inside.entered():
            return socket.socket(family, kind, protocol)

    def prober(self, **more: object) -> Probe:
        return Probe(self, **more)


class Probe(Prober):
    """A prober in a node's namespace, with what it delivered."""

    def __init__(self, node: Node, **more: object) -> None:
        self.seen: list[tuple[Prefix, Verified]] = []
        super().__init__(node.name, PORT, self.seen.extend, make=node.make, **more)  # type: ignore[arg-type]  # test's own
        self.pools(POOLS)
        self.uplinks(["eth0"])
        self.own(PrefixSet([node.block4, node.block6]))

    def learn(self, *others: Node) -> None:
        for other in others:
            self.learned(other.block4, other.address4)
            self.learned(other.block6, other.address6)


class Fabric:
    """The nodes and the router; ``hand`` decides who gets a block."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.router = network.add("r", forwarding=True)
        self.nodes = [self._node(number) for number in (1, 2, 3)]
        self.a, self.b, self.c = self.nodes
        for node in self.nodes:
            self.hand(node.block4, node)
            self.hand(node.block6, node)
            wait_for(f"{node.name} reaches the router", node.reaches_router)

    def _node(self, number: int) -> Node:
        name = NODES[number - 1]
        inside = self.network.add(name, forwarding=True)
        self.network.wire(
            inside, "eth0", self.router, f"to-{name}",
            left_addresses=[f"10.0.{number}.2/24", f"fd00:{number}::2/64"],
            right_addresses=[f"10.0.{number}.1/24", f"fd00:{number}::1/64"],
        )  # fmt: skip
        inside.ip(f"route add default via 10.0.{number}.1")
        inside.ip(f"-6 route add default via fd00:{number}::1")
        inside.ip(f"route add blackhole 192.168.{number}.0/26 metric 4096")
        inside.ip(f"-6 route add blackhole fd10:{number}::/122 metric 4096")
        for scope in ("all", "default", "eth0"):
            inside.sysctl(f"net.ipv4.conf.{scope}.rp_filter", 1)
        return Node(inside, number)

    def hand(self, prefix: Prefix, node: Node | None) -> None:
        """Let the network hand ``prefix`` to ``node``; None: to nobody."""
        text = socket.inet_ntop(socket.AF_INET if len(prefix) == 5 else socket.AF_INET6, prefix[:-1])
        flag = "" if len(prefix) == 5 else "-6 "
        target = "blackhole"
        if node:
            address: Address = node.address4 if len(prefix) == 5 else node.address6
            family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
            target = f"via {socket.inet_ntop(family, address)}"
        if len(prefix) == 5 or node is not None:
            self.router.ip(f"{flag}route replace {_typed(target, f'{text}/{prefix[-1]}')}")
        else:
            self.router.ip(f"{flag}route del {text}/{prefix[-1]}")
            self.router.ip(f"{flag}route add blackhole {text}/{prefix[-1]}")

    def pod(self, node: Node, address: str, name: str) -> Namespace:
        """A pod behind ``node``, as Calico wires it: a veth, a host route, the default route by way of the node."""
        inside = self.network.add(name)
        self.network.wire(node.inside, f"veth-{name}", inside, "eth0")
        flag, bits, gateway = ("-6 ", 128, "fe80::1") if ":" in address else ("", 32, "169.254.1.1")
        node.inside.ip(f"{flag}address add {gateway}/{64 if flag else 32} dev veth-{name} {'nodad' if flag else ''}")
        node.inside.ip(f"{flag}route add {address}/{bits} dev veth-{name}")
        inside.ip(f"{flag}address add {address}/{bits} dev eth0 {'nodad' if flag else ''}")
        inside.ip(f"{flag}route add default via {gateway} dev eth0 onlink")
        return inside


def _typed(target: str, prefix: str) -> str:
    return f"blackhole {prefix}" if target == "blackhole" else f"{prefix} {target}"


@contextlib.asynccontextmanager
async def running(*probers: Prober) -> AsyncIterator[None]:
    """The probers run meanwhile, and listen already when the body starts."""
    tasks = [asyncio.create_task(prober.run()) for prober in probers]
    try:
        await until("all listen", lambda: all(prober.state == "on" for prober in probers))
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(what: str, condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait until ``condition()`` is true, or raise naming ``what``."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise ExpiredError(f"after {timeout:g} s still not so: {what}")
        await asyncio.sleep(0.005)
