"""From the node's own block to the UPDATE at the router."""

from __future__ import annotations

import time
from functools import partial
from operator import contains

from pyroute2 import IPRoute

from bench.rig import OWN, Rig, block
from bench.stacks import ExaBgp, Ours, Stack
from bgp_agent.core.prefix import prefix_text


def one_by_one(stack_class: type[Stack], count: int) -> list[float]:
    """Seconds from the event to the UPDATE, ``count`` times.

    The event is for us a replaced block file (ten blocks and the new one), for ExaBGP alone a command, for the routers
    a blackhole route that somebody put into the kernel: what Calico does for a block, and what they watch.
    """
    with Rig() as rig:
        stack = stack_class(rig)  # type: ignore[call-arg]  # a protocol says nothing of how it is made
        stack.start()
        rig.loop.run_for(2.0)
        heard = rig.routers[0].heard
        took, few = [], [prefix_text(block(number, OWN)) for number in range(10)]
        with rig.node.entered():
            kernel = IPRoute()
        with kernel:
            if isinstance(stack, Ours):
                stack.own(few)
                rig.loop.until("the router hears the first blocks", lambda: len(heard) >= len(few), 20)
            for number in range(10, 10 + count):
                prefix = block(number, OWN)
                text = prefix_text(prefix)
                first = time.monotonic()
                if isinstance(stack, Ours):
                    stack.own([*few, text])
                elif isinstance(stack, ExaBgp):
                    stack.announce(prefix)
                else:
                    kernel.route("add", dst=text, type="blackhole", proto=80)
                rig.loop.until(f"the router hears {text}", partial(contains, heard, prefix), 20)
                took.append(heard[prefix] - first)
                rig.loop.run_for(0.02)
        return took


def many(stack_class: type[Stack], count: int) -> float:
    """Seconds until the router has heard of ``count`` blocks that came at once."""
    with Rig() as rig:
        stack = stack_class(rig)  # type: ignore[call-arg]  # as above
        stack.start()
        rig.loop.run_for(1.0)
        heard = rig.routers[0].heard
        prefixes = [block(number, OWN) for number in range(count)]
        heard.clear()
        fresh = set(prefixes) - {prefixes[0]}
        first = time.monotonic()
        if isinstance(stack, Ours):
            stack.own([prefix_text(prefix) for prefix in prefixes])
        elif isinstance(stack, ExaBgp):
            stack.announce_many(prefixes)
        rig.loop.until(
            f"the router hears {count} blocks", lambda: len(heard) >= len(fresh) and fresh <= heard.keys(), 120
        )
        return max(heard[prefix] for prefix in fresh) - first
