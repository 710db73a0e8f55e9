"""Writing routes to the kernel, without any BGP: the agent's own netlink beside a general library, one at a time."""

from __future__ import annotations

import socket
import time

from pyroute2 import IPRoute

from bench.rig import ROUTERS, Rig, block
from bgp_agent.core.fib import Operation, Verb
from bgp_agent.core.prefix import parse_address, prefix_text
from bgp_agent.core.seen import MAIN
from bgp_agent.core.values import Hop, Unicast
from bgp_agent.kernel.routes import Packer
from bgp_agent.kernel.sockets import Writer, open_socket

METRIC, PROTOCOL = 4096, 179


def batched(count: int) -> float:
    """Seconds for ``count`` routes by the agent's writer, packing included."""
    with Rig(routers=0, sample=64) as rig:

        def opened() -> socket.socket:
            with rig.node.entered():
                return open_socket()

        with rig.node.entered():
            link = socket.if_nametoindex("eth0")
        target = Unicast((Hop(link, parse_address(ROUTERS[0])),))
        writer = Writer(opened, Packer(METRIC, PROTOCOL))
        operations = [Operation(Verb.CREATE, block(number), MAIN, 1, target) for number in range(count)]
        first = time.monotonic()
        refusals, lost = writer.write(operations)
        took = time.monotonic() - first
        writer.close()
        if refusals or lost or rig.installed() != count:
            raise RuntimeError(f"the kernel took {rig.installed()} of {count} routes")
        return took


def singly(count: int) -> float:
    """Seconds for ``count`` routes by pyroute2's ``route("add")``."""
    with Rig(routers=0, sample=64) as rig:
        with rig.node.entered():
            kernel = IPRoute()
            link = socket.if_nametoindex("eth0")
        with kernel:
            first = time.monotonic()
            for number in range(count):
                kernel.route(
                    "add", dst=prefix_text(block(number)), gateway=ROUTERS[0], oif=link, priority=METRIC, proto=PROTOCOL
                )
            return time.monotonic() - first
