"""Peers that stop answering without a word: only the hold timer tells, so these tests wait for it."""

from __future__ import annotations

import pytest

from lab import proofs
from lab.netns import wait_for
from lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.soak, pytest.mark.timeout(300)]

HOLD = 30.0  # seconds, what the nodes propose


def still_up(lab: Lab, address: str) -> list[str]:
    """The nodes that say that their session with this peer is established."""
    peers = {name: node.status()["peers"] for name, node in lab.nodes.items()}
    return [n for n, all_ in peers.items() for p in all_ if (p["address"], p["state"]) == (address, "established")]


def test_a_frozen_route_server_costs_no_packet_and_is_back_soon_after_it_thaws(lab: Lab) -> None:
    bird = lab.fabric.birds["rs-0"]
    with proofs.traffic_between(lab, proofs.crossing(lab, lab.nodes["node-a"])) as traffic:
        bird.freeze()
        try:
            wait_for("every node has given up on rs-0", lambda: not still_up(lab, "10.42.0.4"), HOLD + 15)
        finally:
            bird.thaw()
        lab.wait(60)
        assert [count for count in traffic.finish() if count.lost] == []
