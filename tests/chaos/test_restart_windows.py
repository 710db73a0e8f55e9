"""Restarts that end sessions, judged by the others: with graceful restart (RFC 4724) nobody may notice, without all do.

The route servers here keep a lost node's routes for the time that the node asked for, unlike Azure's.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from lab import proofs
from lab.evidence import Messages, RouteEvents, Told
from lab.netns import wait_for
from lab.topology import POOL, ROUTE_SERVERS, Lab, Node
from tests.chaos.conftest import answers, configure
from tests.interop.speaker_rig import exabgps

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

#: Seconds that a route server keeps the routes of a node whose session is lost.
WINDOW: Final = 10
Disaster = Callable[[Lab, Node], None]


def route_servers_keep(lab: Lab, *, graceful: bool) -> None:
    """Let both route servers do graceful restart, or not; returns when all new sessions have told all."""
    messages = Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})
    for name, bird in lab.fabric.birds.items():
        text = lab.fabric.route_server(name).config(bird.mrt)
        bird.configure(text.replace("graceful restart off", "graceful restart on") if graceful else text)
    wait_for("every session has it so", lambda: _negotiated(lab) == {graceful}, 30)
    if graceful:
        wait_for("every End-of-RIB has come", lambda: all(_ended(lab, messages)), 30)
    lab.wait()


def _negotiated(lab: Lab) -> set[bool | None]:
    return {peer["graceful_restart"] for node in lab.nodes.values() for peer in node.status()["peers"]}


def _ended(lab: Lab, messages: Messages) -> Iterator[bool]:
    for name in ROUTE_SERVERS:
        for node in lab.nodes.values():
            yield messages.told(name, node.plan.address)[-1:] == [Told((), ())]


def restart_time(lab: Lab, seconds: int | None) -> None:
    """Let every node ask for so many seconds, or for what the other files' lab has."""
    for node in lab.nodes.values():
        configure(node, **({} if seconds is None else {"graceful_restart": f"{seconds}s"}))
    key = f'"graceful_restart": {120 if seconds is None else seconds}'
    wait_for("every ExaBGP is started with it",
             lambda: all((node.state_dir / "peers.json").read_text().count(key) == len(ROUTE_SERVERS)
                         for node in lab.nodes.values()), 30)  # fmt: skip


@pytest.fixture(scope="module")
def graceful(running_lab: Lab) -> Iterator[Lab]:
    running_lab.wait(90)
    restart_time(running_lab, WINDOW)
    route_servers_keep(running_lab, graceful=True)
    yield running_lab
    restart_time(running_lab, None)
    route_servers_keep(running_lab, graceful=False)


@pytest.fixture
def lab(graceful: Lab) -> Lab:
    """In place of the lab of the other files: converged, and with graceful restart at both ends."""
    graceful.wait(60)
    return graceful


class Others:
    """Everybody but one node: what the route servers are told, and what changes in the kernels."""

    def __init__(self, lab: Lab, node: Node, events: RouteEvents) -> None:
        self._away = node.plan.address
        #: What earlier tests gave up: its blackhole goes when its minute is over.
        self._released = {f"blackhole {prefix} " for each in lab.nodes.values()
                          for prefix in each.status()["kernel"]["releasing"]}  # fmt: skip
        self._messages = Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})
        self._events = events

    def noticed(self) -> list[object]:
        """Kernel route events, and UPDATEs with which the others answered."""
        told = [(peer, count) for (_, peer), count in self._messages.updates().items() if peer != self._away]
        seen = [line for line in self._events.seen() if not any(block in line for block in self._released)]
        return [*seen, *told]


@contextmanager
def watching(lab: Lab, node: Node) -> Iterator[Others]:
    """All nodes but this one, and the fabric with what the route servers put there."""
    hosts = [other.inside for other in lab.nodes.values() if other is not node]
    with RouteEvents(lab.network, [*hosts, lab.fabric.inside], lab.folder) as events:
        yield Others(lab, node, events)


# --- disasters -------------------------------------------------------------------------------------------------------
def end_speaker(node: Node, number: signal.Signals = signal.SIGKILL) -> None:
    assert node.speaker is not None
    node.speaker.send_signal(number)
    node.speaker.wait(20)
    wait_for("its ExaBGPs have ended", lambda: not exabgps(node.state_dir))


def lost_at_peers(lab: Lab, node: Node) -> None:
    wait_for("the route servers have lost the session",
             lambda: not any(bird.established(node.name) for bird in lab.fabric.birds.values()), 10)  # fmt: skip


def killed_speaker(lab: Lab, node: Node) -> None:
    end_speaker(node)
    lost_at_peers(lab, node)
    node.start_speaker()


def stopped_speaker(lab: Lab, node: Node) -> None:
    end_speaker(node, signal.SIGTERM)
    lost_at_peers(lab, node)
    node.start_speaker()


def killed_exabgps(_lab: Lab, node: Node) -> None:
    """The agent and the speaker live."""
    dead = exabgps(node.state_dir)
    for pid in dead:
        os.kill(pid, signal.SIGKILL)
    wait_for("others run", lambda: len(set(exabgps(node.state_dir)) - set(dead)) == len(ROUTE_SERVERS), 10)


def killed_agent_and_speaker(lab: Lab, node: Node) -> None:
    """As an out-of-memory killer that hits the whole container."""
    node.end_agent(signal.SIGKILL)
    end_speaker(node)
    lost_at_peers(lab, node)
    node.start_speaker()
    node.start_agent()


def down(node: Node) -> None:
    """Whatever runs on the node ends, and what a machine does not keep over a boot is gone. Its link keeps carrier."""
    node.end_agent(signal.SIGKILL)
    end_speaker(node)
    node.inside.ip("address flush dev eth0")  # the kernel drops the default route and what was learned with it
    node.inside.ip("route flush table all proto 179")
    shutil.rmtree(node.state_dir)
    assert node.inside.ip("route show").split()[:2] == ["blackhole", POOL]


def up(node: Node) -> None:
    node.inside.batch(
        f"address add {node.plan.address}/24 dev eth0", f"route add default via {node.plan.gateway} dev eth0"
    )
    node.start_speaker()
    node.start_agent()


def reboot(lab: Lab, node: Node) -> None:
    down(node)
    lost_at_peers(lab, node)
    up(node)


def power_cut(lab: Lab, node: Node) -> None:
    """No last word reaches a peer: it learns of it when the node opens a new session beside the old one."""
    node.inside.run("nft", "-f", "-", stdin="table ip cut { chain out { type filter hook output priority 0; drop; }; }")
    down(node)
    node.inside.run("ss", "-K", "dport", "=", ":179")  # a machine that boots knows of no old connection
    node.inside.run("nft", "delete", "table", "ip", "cut")
    assert all(bird.established(node.name) for bird in lab.fabric.birds.values())
    up(node)
    wait_for("the new agent runs", lambda: answers(node), 10)


DISASTERS: Final[dict[str, Disaster]] = {
    "the speaker is killed": killed_speaker,
    "the speaker is stopped": stopped_speaker,
    "both ExaBGPs are killed": killed_exabgps,
    "agent and speaker are killed": killed_agent_and_speaker,
    "the node reboots": reboot,
    "the node loses power": power_cut,
}


# --- tests -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("disaster", DISASTERS.values(), ids=DISASTERS)
def test_nobody_notices_a_node_that_is_back_within_its_restart_time(lab: Lab, disaster: Disaster) -> None:
    node = lab.nodes["node-a"]
    with watching(lab, node) as others:
        disaster(lab, node)
        lab.wait(WINDOW + 20)
        assert others.noticed() == []


@pytest.mark.parametrize("name", ["the speaker is killed", "both ExaBGPs are killed", "the node reboots"])
def test_without_graceful_restart_everybody_notices_the_same(lab: Lab, name: str) -> None:
    """The control: what sees nothing above can see."""
    node = lab.nodes["node-a"]
    route_servers_keep(lab, graceful=False)
    try:
        with watching(lab, node) as others:
            DISASTERS[name](lab, node)
            lab.wait(60)
            churn = " ".join(map(str, others.noticed()))
        for other in ("node-b", "node-c", "fabric"):
            assert f"{lab.network.namespaces[other].name}: Deleted 192.168.1.0/26" in churn
    finally:
        route_servers_keep(lab, graceful=True)


@pytest.mark.parametrize("again", ["before it has a session", "when it has told its blocks"])
def test_nobody_notices_two_restarts_in_one_window(lab: Lab, again: str) -> None:
    node = lab.nodes["node-a"]
    with watching(lab, node) as others:
        end_speaker(node)
        lost_at_peers(lab, node)
        node.start_speaker()
        if again == "when it has told its blocks":
            wait_for("both have acknowledged", lambda: [p["announced"] for p in node.status()["peers"]] == [2, 2], 10)
        end_speaker(node)
        node.start_speaker()
        lab.wait(WINDOW + 20)
        assert others.noticed() == []


def test_a_node_that_is_back_too_late_has_lost_its_routes_gets_them_back_and_both_are_said(lab: Lab) -> None:
    node, other = lab.nodes["node-a"], lab.nodes["node-b"]
    start = other.log("run").stat().st_size
    end_speaker(node)
    lost = time.monotonic()
    try:
        wait_for("the node says that nobody has its blocks",
                 lambda: {block["state"] for block in node.status()["blocks"]} == {"pending"}, 10)  # fmt: skip
        assert "the speaker is not running" in node.status()["peers"][0]["reason"]
        wait_for("the other node has lost the way", lambda: not has(other, "192.168.1.0/26"), WINDOW + 10)
        assert time.monotonic() - lost > WINDOW - 1, "not before the time is up"
    finally:
        node.start_speaker()
    lab.wait()
    assert has(other, "192.168.1.0/26")
    said = [line for line in other.log("run").read_bytes()[start:].decode().splitlines()
            if " prefix=192.168.1.0/26 " in line]  # fmt: skip
    assert any("state=gone reason='no peer offers it any more'" in line for line in said)
    assert any("state=accepted" in line for line in said)


def has(node: Node, block: str) -> bool:
    return any(line.startswith(f"{block} via") for line in node.routes())


def test_a_booted_node_announces_at_once_though_one_peer_is_away_and_the_other_marks_no_end(lab: Lab) -> None:
    """Others wait for every peer's End-of-RIB, minutes long, before they say a word."""
    node, there, away = lab.nodes["node-a"], lab.fabric.birds["rs-0"], lab.fabric.birds["rs-1"]
    route_servers_keep(lab, graceful=False)
    try:
        away.freeze()
        down(node)
        wait_for("rs-0 has lost the session", lambda: not there.established(node.name), 10)
        up(node)
        wait_for("rs-0 has the blocks", lambda: there.prefixes(node.name) == set(node.plan.blocks), 15)
        wait_for("and the node has the others'", lambda: has(node, "192.168.2.0/26"), 5)
    finally:
        away.thaw()
        route_servers_keep(lab, graceful=True)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_two_minutes_after_a_reboot_still_nobody_has_noticed(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    with watching(lab, node) as others, proofs.traffic_between(lab, [("pod-b1", "pod-c1")], 50) as traffic:
        reboot(lab, node)
        traffic.run_for(120)
        assert others.noticed() == []
        assert [count for count in traffic.finish() if count.lost] == []
    lab.wait()
