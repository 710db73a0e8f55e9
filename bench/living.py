"""What a stack does while nothing happens, and when something is taken from it."""

from __future__ import annotations

import time
from functools import partial

from pyroute2 import IPRoute

from bench import processes
from bench.rig import NODE, ROUTER_ASN, ROUTERS, Rig, block
from bench.router import updates
from bench.stacks import Ours, Stack
from bgp_agent.core.prefix import parse_address, prefix_text
from lab.netns import Namespace, wait_for
from lab.traffic import Traffic


def idle(stack_class: type[Stack], seconds: float) -> dict[str, float]:
    """CPU seconds a minute of each process, with two routers, 100 routes from each, and nothing to do."""
    with Rig(routers=2) as rig:
        stack = stack_class(rig)  # type: ignore[call-arg]  # a protocol says nothing of how it is made
        stack.start()
        for router in rig.routers:
            prefixes = [block(number) for number in range(100)]
            router.send(updates(prefixes, parse_address(router.address), (ROUTER_ASN,)))
        rig.loop.run_for(seconds / 2)  # what is new is asked about by the probe, and again
        roles = stack.processes()
        before = {role: processes.cpu(pid) for role, pid in roles.items()}
        rig.loop.run_for(seconds)
        return {role: (processes.cpu(pid) - before[role]) * 60 / seconds for role, pid in roles.items()}


def away(stack_class: type[Stack], seconds: float, *, knocks: bool, patience: float = 150.0) -> float | None:
    """A router refuses connections for so long. Seconds from its return to the session; None beyond ``patience``."""
    with Rig() as rig:
        stack = stack_class(rig)  # type: ignore[call-arg]  # as above
        stack.start()
        rig.loop.run_for(2.0)
        router = rig.routers[0]
        router.leave()
        rig.loop.run_for(seconds)
        first = time.monotonic()
        router.listen()
        if knocks:
            router.knock(NODE)
        deadline = first + patience
        while not router.established and time.monotonic() < deadline:
            rig.loop.step()
        return router.established_at - first if router.established and router.established_at else None


def flushed(stack_class: type[Stack], count: int, patience: float) -> list[float | None]:
    """A learned route is deleted by somebody: seconds until it is back, None beyond ``patience``."""
    with Rig() as rig:
        stack = stack_class(rig)  # type: ignore[call-arg]  # as above
        stack.start()
        rig.loop.run_for(0.5)
        router, watcher = rig.routers[0], rig.watcher
        prefixes = [block(number) for number in range(1000)]
        router.send(updates(prefixes, parse_address(router.address), (ROUTER_ASN,)))
        rig.loop.until("1,000 routes are there", lambda: set(prefixes) <= watcher.came.keys(), 20)
        rig.loop.run_for(2.0)
        with rig.node.entered():
            kernel = IPRoute()
        took: list[float | None] = []
        with kernel:
            for prefix in prefixes[:count]:
                watcher.came.clear()
                first = time.monotonic()
                kernel.route("del", dst=prefix_text(prefix))
                deadline = first + patience
                while prefix not in watcher.came and time.monotonic() < deadline:
                    rig.loop.step()
                if prefix not in watcher.came:
                    return [*took, None]
                took.append(watcher.came[prefix] - first)
                rig.loop.run_for(0.05)
        return took


def _shows(namespace: Namespace, words: str) -> bool:
    return words in namespace.ip("-4 route show")


def killed(kills: int, rate: int = 1000) -> tuple[int, int]:
    """The agent is killed and started again under traffic, to a learned block and to the own one: (sent, lost).

    The router is a real BIRD that forwards by what it learned. SIGKILL, three seconds without an agent, start.
    """
    with Rig(routers=0) as rig:
        folder = rig.folder
        (folder / "router.conf").write_text(
            f"router id {ROUTERS[0]};\nprotocol device {{}}\nprotocol direct {{ ipv4; }}\n"
            f"protocol static {{ ipv4; route {prefix_text(block(0))} blackhole; }}\n"
            "protocol kernel { ipv4 { export where source = RTS_BGP; }; }\n"
            f"protocol bgp {{ local {ROUTERS[0]} as {ROUTER_ASN}; neighbor {NODE} as 64512; connect delay time 1;"
            " ipv4 { import all; export where source = RTS_STATIC; next hop self; }; }\n"
        )
        rig.network.start(rig.edge, "bird", "-f", "-c", folder / "router.conf", "-s", folder / "router.ctl")
        stack = Ours(rig, peers=ROUTERS[:1])
        stack.start()
        rig.edge.ip("address add 10.128.0.1/32 dev lo")
        rig.node.ip("address add 10.64.0.1/32 dev lo")
        ways = (("learned", rig.node, "10.128.0."), ("own", rig.edge, "10.64.0.0/26"))
        for what, namespace, words in ways:
            wait_for(f"the route to the {what} block", partial(_shows, namespace, words), 20)
        traffic = Traffic(rate)
        traffic.stream("to the learned block", rig.node, rig.edge, "10.128.0.1")
        traffic.stream("to the own block", rig.edge, rig.node, "10.64.0.1")
        with traffic:
            traffic.run_for(1.0)
            for _ in range(kills):
                agent = rig.network.processes[-1]
                agent.kill()
                agent.wait()
                traffic.run_for(3.0)
                stack.start_agent()
                wait_for("the agent is ready", lambda: stack.status() is not None, 20, 0.2)
                traffic.run_for(5.0)
            counts = traffic.finish()
        return sum(count.sent for count in counts), sum(len(count.lost) for count in counts)
