"""Blocks that go on purpose: peers hear of it before it happens (RFC 8326), as BIRD wrote it down."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

import pytest

from lab.bird import Bird
from lab.evidence import Messages, Told
from lab.netns import wait_for
from lab.topology import Lab, Node
from tests.chaos.conftest import answers, configure

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

GRACEFUL_SHUTDOWN: Final = "65535:0"


@pytest.fixture
def node(lab: Lab) -> Iterator[Node]:
    """node-b, whose neighbours have 1 s to move away."""
    node = lab.nodes["node-b"]
    give_notice(node, "1s")
    yield node
    node.ask("undrain")


def give_notice(node: Node, duration: str) -> None:
    start = node.log("run").stat().st_size
    configure(node, graceful_shutdown=duration)
    wait_for("it is in force", lambda: b"bgp.graceful_shutdown" in node.log("run").read_bytes()[start:], 10)


def listening(lab: Lab) -> Messages:
    return Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})


def steps(messages: Messages, name: str, node: Node) -> list[str]:
    """What a BIRD was told of the node's blocks: each prefix that left, stayed or went, in order."""
    found = []
    for told in messages.told(name, node.plan.address):
        found += [f"{prefix} {_word(told)}" for prefix in told.announced]
        found += [f"{prefix} withdrawn" for prefix in told.withdrawn]
    return found


def _word(told: Told) -> str:
    return "leaves" if GRACEFUL_SHUTDOWN in told.communities else "announced"


def heard(messages: Messages, name: str, node: Node, *words: str) -> bool:
    """That, of every block, and nothing else."""
    return sorted(steps(messages, name, node)) == sorted(each(node, *words))


def has_all(bird: Bird, node: Node) -> bool:
    return bird.prefixes(node.plan.name) == set(node.plan.blocks)


def each(node: Node, *words: str) -> list[str]:
    return [f"{block} {word}" for word in words for block in sorted(node.plan.blocks)]


def test_peers_hear_that_blocks_are_about_to_go_before_a_drain_withdraws_them(lab: Lab, node: Node) -> None:
    messages, begin = listening(lab), time.monotonic()
    done = node.ask("drain", "--force")
    took = time.monotonic() - begin
    assert done.returncode == 0, done.stderr
    assert "peers have 1 s to move to other paths (GRACEFUL_SHUTDOWN)" in done.stderr
    assert took >= 1.0
    for name, bird in lab.fabric.birds.items():
        assert sorted(steps(messages, name, node)[: len(node.plan.blocks)]) == each(node, "leaves")
        assert heard(messages, name, node, "leaves", "withdrawn")
        assert bird.prefixes("node-b") == set()
    assert node.ask("undrain").returncode == 0
    for name, bird in lab.fabric.birds.items():
        wait_for("the blocks are back", partial(has_all, bird, node), 10)
        assert sorted(steps(messages, name, node)[-len(node.plan.blocks) :]) == each(node, "announced")


def test_an_undrain_before_the_withdrawal_takes_back_the_community_alone(lab: Lab, node: Node) -> None:
    give_notice(node, "60s")
    messages = listening(lab)
    with subprocess.Popen(node.command("drain", "--force"), stderr=subprocess.PIPE, text=True) as asked:
        wait_for("peers are told", lambda: all(len(steps(messages, n, node)) for n in lab.fabric.birds), 10)
        assert node.ask("undrain").returncode == 0
        assert asked.wait(10) == 1
        assert asked.stderr is not None
        assert "taken back meanwhile" in asked.stderr.read()
    for name in lab.fabric.birds:
        wait_for("it heard that they stay", partial(heard, messages, name, node, "leaves", "announced"), 10)


def test_an_agent_killed_while_peers_have_notice_withdraws_when_it_is_back(lab: Lab, node: Node) -> None:
    give_notice(node, "60s")
    messages = listening(lab)
    with subprocess.Popen(node.command("drain", "--force"), stderr=subprocess.DEVNULL) as asked:
        wait_for("peers are told", lambda: all(len(steps(messages, n, node)) for n in lab.fabric.birds), 10)
        node.end_agent(signal.SIGKILL)
        asked.wait(10)
    node.start_agent()
    for name in lab.fabric.birds:
        wait_for("it heard that they went", partial(heard, messages, name, node, "leaves", "withdrawn"), 20)


def test_peers_without_graceful_restart_hear_it_before_the_speaker_stops(lab: Lab, node: Node) -> None:
    messages = listening(lab)
    try:
        done = node.ask("stop", "--all")
        assert done.returncode == 0, done.stderr
        for name, bird in lab.fabric.birds.items():
            assert sorted(steps(messages, name, node)) == each(node, "leaves")
            assert bird.prefixes("node-b") == set()
    finally:
        for process in (node.agent, node.speaker):
            assert process is not None
            process.wait(10)
        node.start_speaker()
        node.start_agent()
        wait_for("the agent answers", lambda: answers(node), 20)
    for name, bird in lab.fabric.birds.items():
        wait_for("the blocks are back", partial(has_all, bird, node), 20)
        assert sorted(steps(messages, name, node)[len(node.plan.blocks) :]) == each(node, "announced")
