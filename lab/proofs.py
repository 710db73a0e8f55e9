"""What the lab proves, as values: pings, the network's own answers, and an agent that dies under traffic.

Used by ``make lab``, which shows them to a person, and by the tests, which judge them.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from lab.azure import AzureLab
from lab.evidence import Messages, RouteEvents
from lab.netns import wait_for
from lab.topology import Lab, Missing, Node
from lab.traffic import Count, Traffic

TOO_MANY: Final = 429  # the HTTP status of a limited rate


@dataclass(frozen=True, slots=True)
class Ping:
    """One echo from pod to pod. ``milliseconds`` None: no answer within a second."""

    source: str
    target: str
    milliseconds: float | None


def ping_all(lab: Lab | AzureLab) -> list[Ping]:
    """Every pod pings every other one, once."""
    pods = lab.pods()

    def one(pair: tuple[str, str]) -> Ping:
        source, target = pair
        answer = pods[source][0].run("ping", "-n", "-c1", "-W1", pods[target][1], check=False)
        found = re.search(r"time=([\d.]+) ms", answer)
        return Ping(source, target, float(found[1]) if found else None)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, [(source, target) for source in pods for target in pods if source != target]))


@dataclass(frozen=True, slots=True)
class Probe:
    """The network's answer to "who gets a packet for this block", as one node's agent asked it."""

    asked_by: str
    block: str
    owner: str
    state: str
    node: str | None
    reason: str
    milliseconds: float  # of the whole question over HTTP

    @property
    def right(self) -> bool:
        """Was it the owner who answered."""
        return self.state == "delivered" and self.node == self.owner


def probe(asking: Node, block: str, owner: str) -> Probe:
    """Ask once, now; an agent that was asked too often is asked again a little later."""
    deadline = time.monotonic() + 5.0
    while True:
        start = time.monotonic()
        code, body = asking.get(f"/probe?for={block}")
        elapsed = (time.monotonic() - start) * 1000
        if code != TOO_MANY or start > deadline:
            break
        time.sleep(0.2)
    answer = json.loads(body)
    if code != 200:
        return Probe(asking.name, block, owner, f"HTTP {code}", None, str(answer), elapsed)
    return Probe(asking.name, block, owner, answer["state"], answer["node"], answer["reason"], elapsed)


def probe_all(lab: Lab | AzureLab) -> Iterator[Probe]:
    """Every node asks for every block of the others."""
    for asking in lab.nodes.values():
        for owner in lab.nodes.values():
            if owner is not asking:
                yield from (probe(asking, block, owner.name) for block in owner.plan.blocks)


@dataclass(frozen=True, slots=True)
class Survival:
    """What the others saw while an agent was away: the promise is that they saw nothing."""

    node: str
    times: int
    away: float  # seconds without an agent, in all
    counts: tuple[Count, ...]
    updates: int  # UPDATE messages that any route server received from any node
    events: tuple[str, ...]  # kernel route events on any node

    @property
    def sent(self) -> int:
        """Packets sent, over all streams."""
        return sum(count.sent for count in self.counts)

    @property
    def lost(self) -> int:
        """Packets lost, over all streams."""
        return sum(len(count.lost) for count in self.counts)

    @property
    def unnoticed(self) -> bool:
        """Did nobody notice."""
        return not (self.lost or self.updates or self.events)


def crossing(lab: Lab | AzureLab, node: Node) -> Iterator[tuple[str, str]]:
    """Pairs of pods, both ways, between ``node`` and every other node."""
    first = next(iter(node.pods))
    for other in lab.nodes.values():
        if other is not node:
            last = list(other.pods)[-1]
            yield first, last
            yield last, first


def traffic_between(lab: Lab | AzureLab, pairs: Iterable[tuple[str, str]], rate: int = 200) -> Traffic:
    """Streams between pods, ``rate`` packets a second each."""
    pods = lab.pods()
    traffic = Traffic(rate)
    for source, target in pairs:
        traffic.stream(f"{source} → {target}", pods[source][0], *pods[target])
    return traffic


def survive(lab: Lab, node: Node, number: signal.Signals, times: int = 1, pause: float = 1.0) -> Survival:
    """End ``node``'s agent by ``number`` under traffic, start it again, ``times`` in a row; count what was noticed.

    ``pause``: seconds before the first end, without an agent each time, and after the last start is complete.
    """
    messages = Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})
    watched = [each.inside for each in lab.nodes.values()]
    away = 0.0
    with RouteEvents(lab.network, watched, lab.folder) as events, traffic_between(lab, crossing(lab, node)) as traffic:
        traffic.run_for(pause)
        for _ in range(times):
            start = time.monotonic()
            node.end_agent(number)
            traffic.run_for(pause)
            node.start_agent()
            wait_for(Missing(lab), lambda: not lab.missing(), 60, 0.1)
            away += time.monotonic() - start
        traffic.run_for(pause)
        counts = traffic.finish()
        return Survival(node.name, times, away, tuple(counts), messages.updates().total(), tuple(events.seen()))
