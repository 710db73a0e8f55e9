"""The Azure lab under a hand-over: waiting for what its nodes say, and counting packets from pod to pod."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lab.azure import AzureLab
from lab.netns import wait_for
from lab.topology import Node, StatusError
from lab.traffic import Count, Traffic


class Says:
    """Shows what all nodes say when a wait runs out."""

    def __init__(self, lab: AzureLab, what: str) -> None:
        self.lab, self.what = lab, what

    def __str__(self) -> str:
        lines = [self.what]
        for node in self.lab.nodes.values():
            try:
                status = node.status()
            except StatusError as error:
                lines.append(str(error))
                continue
            lines.append(f"{node.name}: {status['mode']}, {status['reason']}; {json.dumps(status['fallback'])}")
        return "\n".join([*lines, f"table: {self.lab.twin.table()}"])


def until(lab: AzureLab, what: str, condition: Callable[[Node, Any], object], timeout: float = 40.0) -> None:
    """Until ``condition(node, status)`` holds for every node."""

    def holds() -> bool:
        try:
            return all(condition(node, node.status()) for node in lab.nodes.values())
        except StatusError:
            return False

    wait_for(Says(lab, what), holds, timeout, interval=0.05)


def settled_on_bgp(lab: AzureLab) -> None:
    """Both peers everywhere, every block carried by BGP alone, every proof delivered, no own route in the table."""

    def good(_: Node, status: Any) -> bool:  # noqa: ANN401 - parsed JSON
        return (
            bool(status["ready"])
            and status["mode"] == status["fallback"]["state"] == "bgp"
            and [each["state"] for each in status["peers"]] == ["established", "established"]
            and all(each["state"] == "announced" for each in status["blocks"])
            and not status["fallback"]["routes"]
        )

    until(lab, "every node is on BGP alone", good, 60)
    wait_for(Says(lab, "the table is empty"), lambda: not lab.twin.table(), 10)


def on_the_table(lab: AzureLab, word: str = "fallback") -> None:
    """Every block's route in the table leads to its node, and every node says so."""
    wait_for(Says(lab, "every block is in the table"), lambda: lab.twin.table() == lab.blocks(), 40)
    until(lab, f"every node is in {word}", lambda _, status: status["mode"] == word)


@contextmanager
def traffic(lab: AzureLab, rate: int = 300) -> Iterator[Traffic]:
    """Numbered packets from pod to pod, both ways within a subnet and across."""
    pods = lab.pods()
    pairs = (("pod-a1", "pod-b1"), ("pod-b1", "pod-c1"), ("pod-c1", "pod-a2"))
    flow = Traffic(rate)
    for source, target in pairs:
        flow.stream(f"{source} to {target}", pods[source][0], pods[target][0], pods[target][1])
    with flow:
        yield flow


def lost(counts: Iterable[Count]) -> dict[str, int]:
    """Stream -> packets that never came; only those with losses."""
    return {each.name: len(each.lost) for each in counts if each.lost}
