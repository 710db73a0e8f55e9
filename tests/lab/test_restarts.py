"""Any process may die at any time: what a restart of each one costs the others, counted by the others."""

from __future__ import annotations

import signal

import pytest

from lab import proofs
from lab.netns import wait_for
from lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]


@pytest.mark.parametrize(
    ("number", "times"), [(signal.SIGKILL, 1), (signal.SIGTERM, 1), (signal.SIGKILL, 2), (signal.SIGTERM, 2)]
)
def test_nobody_notices_an_agent_that_ends_and_comes_back(lab: Lab, number: signal.Signals, times: int) -> None:
    """No UPDATE at any peer, no kernel route event on any node, no packet lost on 4 streams of 200 packets/s each."""
    seen = proofs.survive(lab, lab.nodes["node-a"], number, times)
    assert seen.updates == 0
    assert seen.events == ()
    assert [count for count in seen.counts if count.lost] == []
    assert seen.sent > 4 * 200 * 2


def test_a_stopped_agent_exits_within_a_second(lab: Lab) -> None:
    node = lab.nodes["node-b"]
    assert node.agent is not None
    node.agent.send_signal(signal.SIGTERM)
    assert node.agent.wait(1.0) == 0
    node.start_agent()


def test_a_killed_speaker_comes_back_and_everything_with_it(lab: Lab) -> None:
    node = lab.nodes["node-c"]
    assert node.speaker is not None
    with proofs.traffic_between(lab, [("pod-a1", "pod-b1"), ("pod-b1", "pod-a1")]) as others:
        node.speaker.kill()
        node.speaker.wait()
        wait_for("both route servers have lost node-c",
                 lambda: not any(bird.established("node-c") for bird in lab.fabric.birds.values()), 40)  # fmt: skip
        node.start_speaker()
        lab.wait()
        assert [count for count in others.finish() if count.lost] == []


def test_a_route_server_that_is_killed_costs_nothing_while_the_other_one_lives(lab: Lab) -> None:
    with proofs.traffic_between(lab, proofs.crossing(lab, lab.nodes["node-a"])) as traffic:
        lab.fabric.birds["rs-1"].kill()
        wait_for("every node has noticed",
                 lambda: all(_peer(lab, name, "10.42.0.5") != "established" for name in lab.nodes), 20)  # fmt: skip
        lab.fabric.start_route_server("rs-1")
        lab.wait()
        assert [count for count in traffic.finish() if count.lost] == []


def test_a_route_server_that_restarts_gets_every_block_back(lab: Lab) -> None:
    lab.fabric.birds["rs-0"].stop()
    lab.fabric.start_route_server("rs-0")
    lab.wait(30)


def _peer(lab: Lab, name: str, address: str) -> str:
    return next(str(peer["state"]) for peer in lab.nodes[name].status()["peers"] if peer["address"] == address)
