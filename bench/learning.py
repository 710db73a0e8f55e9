"""From a router's UPDATE to the kernel's route: whole tables, and one prefix at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from operator import contains
from typing import Final

from bench import processes
from bench.rig import ROUTER_ASN, Rig, block
from bench.router import updates
from bench.stacks import ExaBgp, Stack
from bgp_agent.core.prefix import Prefix, parse_address

#: Of a large table each 64th route is watched.
SAMPLE: Final = 64
WATCHED_WHOLE: Final = 2000


@dataclass(frozen=True, slots=True)
class Table:
    """One table learned. ``seconds``: from the first byte sent to the last route. CPU in seconds, memory in MiB."""

    seconds: float
    cpu: dict[str, float]
    memory: dict[str, float]


def table(stack_class: type[Stack], size: int) -> Table:
    """Let a fresh stack learn ``size`` prefixes with the same attributes."""
    with Rig(sample=SAMPLE if size > WATCHED_WHOLE else 1) as rig:
        stack = stack_class(rig)  # type: ignore[call-arg]  # a protocol says nothing of how it is made
        stack.start()
        rig.loop.run_for(0.5)
        prefixes = [block(number) for number in range(size)]
        said = updates(prefixes, parse_address(rig.routers[0].address), (ROUTER_ASN,))
        watched = prefixes if size <= WATCHED_WHOLE else prefixes[::SAMPLE]
        roles = stack.processes()
        before = {role: processes.cpu(pid) for role, pid in roles.items()}
        rig.watcher.came.clear()
        first = time.monotonic()
        rig.routers[0].send(said)
        if isinstance(stack, ExaBgp):
            rig.loop.until(f"ExaBGP told {size} prefixes", lambda: stack.learned[-1][1] >= size, 120)
            last = stack.learned[-1][0]
        else:
            came = rig.watcher.came
            rig.loop.until(f"{stack.name} installed {size} routes", lambda: len(came) >= len(watched), 120)
            last = max(came[prefix] for prefix in watched)
            rig.loop.until("the kernel has them all", lambda: rig.installed() >= size, 30)
        used = {role: processes.cpu(pid) - before[role] for role, pid in roles.items()}
        rig.loop.run_for(1.0)
        return Table(last - first, used, {role: processes.resident(pid) for role, pid in roles.items()})


def one_by_one(stack_class: type[Stack], count: int) -> list[float]:
    """Seconds from one prefix's UPDATE to its route (for ExaBGP alone: to its line), ``count`` times."""
    with Rig() as rig:
        stack = stack_class(rig)  # type: ignore[call-arg]  # as above
        stack.start()
        rig.loop.run_for(0.5)
        arrived = stack.heard if isinstance(stack, ExaBgp) else rig.watcher.came
        next_hop = parse_address(rig.routers[0].address)
        took = []
        for number in range(count):
            prefix: Prefix = block(number)
            said = updates([prefix], next_hop, (ROUTER_ASN,))
            first = time.monotonic()
            rig.routers[0].send(said)
            rig.loop.until(f"{stack.name} has prefix {number}", partial(contains, arrived, prefix), 10)
            took.append(arrived[prefix] - first)
            rig.loop.run_for(0.01)
        return took
