"""A node in a namespace, and a :class:`Kernel` whose sockets are in there while its loop runs here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from bgp_agent.core.fib import Fib
from bgp_agent.core.nexthop import NextHops
from bgp_agent.core.prefix import Prefix, parse_address, parse_prefix
from bgp_agent.core.seen import MAIN
from bgp_agent.core.values import Blackhole, Hop, Target, Unicast
from bgp_agent.kernel import Changed, Kernel
from bgp_agent.kernel.sockets import BUFFER, Opener, open_socket
from lab.netns import ExpiredError, Namespace, Network, wait_for

OURS: Final = "proto 179 metric 4096"
P: Final = parse_prefix("192.168.2.0/26")
P6: Final = parse_prefix("fd01::/64")


async def until(what: str, condition: Callable[[], object], timeout: float = 5.0) -> None:
    """As lab.netns.wait_for, without holding up the loop."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise ExpiredError(f"after {timeout:g} s still not so: {what}")
        await asyncio.sleep(0.002)


def make_node(network: Network) -> Namespace:
    """A node with two links, each with both families, a default route, and routes of strangers."""
    node, gateway = network.add("node"), network.add("gateway")
    network.wire(node, "eth0", gateway, "g0", left_addresses=["10.42.1.4/24", "fd42:1::4/64"],
                 right_addresses=["10.42.1.1/24", "fd42:1::1/64"])  # fmt: skip
    network.wire(node, "eth1", gateway, "g1", left_addresses=["10.42.2.4/24", "fd42:2::4/64"],
                 right_addresses=["10.42.2.1/24", "fd42:2::1/64"])  # fmt: skip
    return node


def opener_in(node: Namespace) -> Opener:
    def opener() -> socket.socket:
        with node.entered():
            return open_socket()

    return opener


class Watcher:
    """`ip monitor route` in the node: every route event that anybody causes."""

    def __init__(self, node: Namespace) -> None:
        self._process = subprocess.Popen(
            node.command("ip", "monitor", "route"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        self._node = node
        self.mark("ready")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(" ".join(line.split()))

    def mark(self, name: str) -> list[str]:
        """Everything heard until now."""
        mark = f"203.0.113.{len(self.lines) % 200}"
        wait_for(f"the monitor hears the mark {name}", lambda: self._marked(mark), interval=0.05)
        heard, self.lines = [line for line in self.lines if "203.0.113." not in line], []
        return heard

    def _marked(self, mark: str) -> bool:
        self._node.ip(f"route replace blackhole {mark} proto 99 metric 9", check=False)
        self._node.ip(f"route del blackhole {mark} proto 99", check=False)
        return any(mark in line for line in self.lines)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Rig:
    """The node and the kernel shell on it."""

    def __init__(
        self, node: Namespace, *, table: int = MAIN, install: bool = True, buffer: int = BUFFER, period: float = 60.0,
        opener: Opener | None = None,
    ) -> None:  # fmt: skip
        self.node = node
        self.next_hops = NextHops(179)
        self.fib = Fib(4096, 179, table, install=install, interface=self.next_hops.interface, down=self.next_hops.down)
        self.told: list[Changed] = []
        self.kernel = Kernel(
            self.fib, self.next_hops, self.told.append, opener=opener or opener_in(node), buffer=buffer, period=period
        )

    def via(self, *gateways: str) -> Unicast:
        """A route by gateways that are on a link."""
        hops: set[Hop] = set()
        for gateway in gateways:
            answer = self.next_hops.resolve(parse_address(gateway))
            assert answer.hops, answer.reason
            hops.update(answer.hops)
        return Unicast(tuple(sorted(hops, key=lambda hop: (hop.interface, hop.gateway or b""))))

    def want(self, prefix: Prefix | str, target: Target | None) -> None:
        """Say it and write it."""
        self.fib.want(parse_prefix(prefix) if isinstance(prefix, str) else prefix, target)
        self.kernel.flush()

    def blackhole(self, prefix: Prefix | str) -> None:
        self.want(prefix, Blackhole())

    def shown(self, prefix: str = "", *, table: str = "main", ours: bool = True) -> list[str]:
        """The routes of a table as `ip` shows them, both families, ours alone or all."""
        words = f"route show table {table} {OURS if ours else ''} {prefix}"
        lines = self.node.ip(f"-o {words}", check=False) if ":" not in prefix else ""
        lines += self.node.ip(f"-o -6 {words}", check=False) if not prefix or ":" in prefix else ""
        return [" ".join(line.split()) for line in lines.splitlines()]

    async def ip(self, words: str) -> str:
        """`ip`, by somebody else, while the loop goes on."""
        return await asyncio.to_thread(self.node.ip, words)

    async def dumped(self) -> None:
        """Wait until a dump that began after this call is complete."""
        before = self.kernel.dumps
        self.fib.suspicious = True
        self.kernel.flush()
        self.kernel._wake.set()
        await until("the kernel has been read again", lambda: self.kernel.dumps > before)

    async def repaired(self, count: int) -> None:
        """Wait until so many routes were put back, for one second."""
        await until(f"{count} routes were put back", lambda: self.fib.repaired == count, 1.0)

    async def is_back(self, prefix: Prefix, timeout: float = 1.0) -> float:
        """Wait until our route stands in the core's eyes and was repaired; returns the seconds it took."""
        started = time.monotonic()
        await until("the route is back", lambda: prefix in self.standing() and self.fib.pending == 0, timeout)
        return time.monotonic() - started

    def standing(self) -> dict[Prefix, Target]:
        return dict(self.fib.in_kernel())


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    """The rig with its kernel shell at work and the first dump done."""
    task = asyncio.create_task(rig.kernel.run())
    try:
        await until("the kernel has been read", lambda: rig.kernel.ready or task.done())
        yield rig
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
