"""What /metrics counts is what the peers and the kernel count, also right after something went wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lab.bird import Bird
from lab.netns import wait_for
from lab.topology import ROUTE_SERVERS, Lab, Node

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

TOLD = [f"192.168.{128 + n // 64}.{n % 64 * 4}/30" for n in range(300)]


def metrics(node: Node) -> dict[str, float]:
    """Every sample without the prefix of the names: ``peer_flaps_total{peer="10.42.0.4"}`` -> 1.0."""
    text = node.get("/metrics")[1].decode()
    return {name: float(value) for name, value in re.findall(r"^bgp_agent_(\S+) (\S+)$", text, re.MULTILINE)}


def differences(lab: Lab) -> Iterator[str]:
    """Where a node's word is not the others' own count, one sentence each."""
    for node in lab.nodes.values():
        told = metrics(node)
        for name, counted in {**counted_by_peers(lab, node), **counted_by_the_kernel(node)}.items():
            if told.get(name) != counted:
                yield f"{node.name} says {name} {told.get(name)}, and it is {counted}"


def counted_by_peers(lab: Lab, node: Node) -> dict[str, float]:
    counted: dict[str, float] = {}
    held: set[str] = set()
    for name, address in ROUTE_SERVERS.items():
        bird, peer = lab.fabric.birds[name], f'{{peer="{address}"}}'
        prefixes, up = bird.prefixes(node.name), bird.established(node.name)
        held |= prefixes
        counted |= {
            f'peer_state{{peer="{address}",state="established"}}': up,
            f"peer_announced_prefixes{peer}": len(prefixes),
            **({f"peer_received_prefixes{peer}": len(bird.advertised(node.name))} if up else {}),
        }
    return counted | {'blocks{state="announced"}': len(held)}


def counted_by_the_kernel(node: Node) -> dict[str, float]:
    learned = [line for line in node.routes() if " via " in line and line.startswith("192.168.")]
    return {"kernel_installed_routes": len(learned)}


class Differences:
    """What is different, when somebody wants to know."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def __str__(self) -> str:
        return f"both counts are the same; {'; '.join(differences(self._lab))}"


def agree(lab: Lab) -> None:
    wait_for(Differences(lab), lambda: not list(differences(lab)), 20, 0.2)


def test_the_metrics_are_what_the_peers_and_the_kernels_count(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    flaps = f'peer_flaps_total{{peer="{ROUTE_SERVERS["rs-1"]}"}}'
    before = metrics(node)[flaps]
    agree(lab)
    lab.fabric.tell("rs-0", *TOLD)
    wait_for("they are learned", lambda: metrics(node)["kernel_installed_routes"] >= len(TOLD), 20)
    agree(lab)
    away: Bird = lab.fabric.birds["rs-1"]
    away.kill()
    wait_for("the loss is counted", lambda: metrics(node)[flaps] == before + 1, 10)
    agree(lab)
    lab.fabric.start_route_server("rs-1")
    lab.fabric.tell("rs-0")
    lab.wait()
    agree(lab)
    assert metrics(node)[flaps] == before + 1
