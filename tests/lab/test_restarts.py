"""Any process may die at any time: what a restart of each one costs the others, counted by the others."""

from __future__ import annotations

import signal
import time

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
    """The best of three: on a busy machine one may take longer."""
    node, took = lab.nodes["node-b"], []
    for _ in range(3):
        start = time.monotonic()
        assert node.end_agent(signal.SIGTERM) == 0
        took.append(time.monotonic() - start)
        node.start_agent()
        wait_for("the agent answers again", lambda: node.status()["ready"] if node.answers() else False, 30)
    assert min(took) < 1.0


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


def test_what_changed_while_an_agent_was_away_is_true_when_it_is_back(lab: Lab) -> None:
    away, other = lab.nodes["node-a"], lab.nodes["node-c"]
    other.own([*other.plan.blocks, "192.168.3.64/26"])
    wait_for("node-a has the block", lambda: _has(lab, "node-a", "192.168.3.64/26"), 10)
    away.end_agent(signal.SIGKILL)
    other.own([*other.plan.blocks, "192.168.3.128/26"])
    wait_for("node-b has the change", lambda: _has(lab, "node-b", "192.168.3.128/26"), 10)
    assert _has(lab, "node-a", "192.168.3.64/26"), "a kernel without an agent keeps what it has"
    away.start_agent()
    wait_for("node-a has the new block", lambda: _has(lab, "node-a", "192.168.3.128/26"), 20)
    wait_for("node-a has let go of the old one", lambda: not _has(lab, "node-a", "192.168.3.64/26"), 20)


def test_a_frozen_agent_catches_up(lab: Lab) -> None:
    frozen, other = lab.nodes["node-a"], lab.nodes["node-c"]
    assert frozen.agent is not None
    frozen.agent.send_signal(signal.SIGSTOP)
    other.own([*other.plan.blocks, "192.168.3.192/26"])
    wait_for("node-b has the new block", lambda: _has(lab, "node-b", "192.168.3.192/26"), 10)
    assert not _has(lab, "node-a", "192.168.3.192/26")
    frozen.agent.send_signal(signal.SIGCONT)
    wait_for("node-a has it too", lambda: _has(lab, "node-a", "192.168.3.192/26"), 10)


def test_a_node_whose_agent_and_speaker_are_both_killed_keeps_its_routes_and_comes_back(lab: Lab) -> None:
    node = lab.nodes["node-b"]
    assert node.speaker is not None
    before = sorted(node.routes())
    node.end_agent(signal.SIGKILL)
    node.speaker.kill()
    node.speaker.wait()
    wait_for("the route servers have noticed", lambda: not lab.fabric.birds["rs-0"].established("node-b"), 40)
    assert sorted(node.routes()) == before
    node.start_agent()
    node.start_speaker()
    lab.wait()


def test_a_block_that_moves_is_delivered_to_its_new_owner(lab: Lab) -> None:
    old, new, block = lab.nodes["node-b"], lab.nodes["node-c"], "192.168.9.0/26"
    old.own([*old.plan.blocks, block])
    wait_for("node-a is told that node-b has it", lambda: proofs.probe(lab.nodes["node-a"], block, "node-b").right, 10)
    old.own(old.plan.blocks)
    new.own([*new.plan.blocks, block])
    wait_for("node-a is told that node-c has it", lambda: proofs.probe(lab.nodes["node-a"], block, "node-c").right, 10)
    wait_for("node-b's blackhole has become the route to it", lambda: _has(lab, "node-b", block), 10)


def _has(lab: Lab, name: str, block: str) -> bool:
    return any(line.startswith(f"{block} via") for line in lab.nodes[name].routes())


def _peer(lab: Lab, name: str, address: str) -> str:
    return next(str(peer["state"]) for peer in lab.nodes[name].status()["peers"] if peer["address"] == address)
