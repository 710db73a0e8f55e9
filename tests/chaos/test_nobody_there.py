"""The node comes back before its peers do."""

from __future__ import annotations

import signal

import pytest

from lab.netns import wait_for
from lab.topology import ROUTE_SERVERS, Lab, Node
from tests.chaos.conftest import answers

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]


def learned(node: Node) -> list[str]:
    return sorted(line for line in node.routes() if line.startswith("192.168.") and " via " in line)


def test_routes_of_an_earlier_run_stay_for_stale_time_when_no_peer_is_there(lab: Lab) -> None:
    node = lab.nodes["node-c"]
    before = learned(node)
    assert node.speaker is not None
    node.end_agent(signal.SIGKILL)
    node.speaker.kill()
    node.speaker.wait()
    for bird in lab.fabric.birds.values():
        bird.kill()
    try:
        node.start_speaker()
        node.start_agent()
        wait_for("the agent shows them as stale",
                 lambda: answers(node) and {r["state"] for r in node.status()["routes"]} == {"stale"}, 20)  # fmt: skip
        assert learned(node) == before
        wait_for("they go after bgp.stale_time", lambda: not learned(node), 25)
        assert node.get("/readyz")[0] == 503
    finally:
        for name in ROUTE_SERVERS:
            lab.fabric.start_route_server(name)
    lab.wait(60)
    assert learned(node) == before
