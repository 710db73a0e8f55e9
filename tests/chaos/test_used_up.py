"""Descriptors and memory are used up: what runs goes on, and what could not be done is done when there is room."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from lab.evidence import Messages, RouteEvents
from lab.netns import wait_for
from lab.topology import ROUTE_SERVERS, STATUS_PORT, Lab, Node
from tests.chaos.conftest import answers
from tests.interop.speaker_rig import exabgps

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

NEWS: Final = "192.168.3.128/26"
OWN_NEWS: Final = "192.168.1.128/26"
FLOOD: Final = [f"192.168.{64 + n // 64}.{n % 64 * 4}/30" for n in range(3900)]


def pid_of(node: Node, part: str) -> int:
    process = node.agent if part == "agent" else node.speaker
    assert process is not None
    return process.pid


@contextlib.contextmanager
def no_descriptor_left(pid: int) -> Iterator[None]:
    """The process keeps what it has and gets no more."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def no_memory_left(pid: int) -> Iterator[None]:
    """As :func:`no_descriptor_left`, for memory; the process may have ended meanwhile."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize(), hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, (soft, hard))


class Kept:
    """A connection to the agent's HTTP that stands already."""

    def __init__(self, node: Node) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", STATUS_PORT, timeout=5)
        with node.inside.entered():
            self._connection.connect()

    def status(self) -> Any:  # noqa: ANN401 - parsed JSON
        self._connection.request("GET", "/status")
        return json.loads(self._connection.getresponse().read())

    def close(self) -> None:
        self._connection.close()


def has(node: Node, block: str) -> bool:
    return any(line.startswith(f"{block} via") for line in node.routes())


@contextlib.contextmanager
def sessions_stay(lab: Lab) -> Iterator[None]:
    before = [bird.sessions() for bird in lab.fabric.birds.values()]
    flaps = [peer["flaps"] for node in lab.nodes.values() for peer in node.status()["peers"]]
    yield
    lab.wait()
    assert [bird.sessions() for bird in lab.fabric.birds.values()] == before
    assert [peer["flaps"] for node in lab.nodes.values() for peer in node.status()["peers"]] == flaps


def test_an_agent_without_descriptors_still_learns_and_catches_up_on_the_rest(lab: Lab) -> None:
    node, other = lab.nodes["node-a"], lab.nodes["node-c"]
    kept = Kept(node)
    with contextlib.closing(kept), sessions_stay(lab):
        with no_descriptor_left(pid_of(node, "agent")):
            other.own([*other.plan.blocks, NEWS])
            wait_for("the news are learned", lambda: has(node, NEWS), 10)
            node.own([*node.plan.blocks, OWN_NEWS])
            wait_for("the source says why it cannot be read",
                     lambda: "Too many open files" in kept.status()["source"]["reason"], 10)  # fmt: skip
            assert {block["state"] for block in kept.status()["blocks"]} == {"announced"}
        wait_for("its own news are announced", lambda: has(other, OWN_NEWS), 10)
        other.own(other.plan.blocks)
        node.own(node.plan.blocks)
        wait_for("they are old news", lambda: not has(other, OWN_NEWS) and not has(node, NEWS), 10)


def test_clients_that_hold_connections_keep_the_agent_from_nothing(lab: Lab) -> None:
    node, other = lab.nodes["node-a"], lab.nodes["node-c"]
    with contextlib.ExitStack() as stack, sessions_stay(lab):
        for _ in range(400):
            with node.inside.entered():
                client = stack.enter_context(socket.socket())
            client.setblocking(False)  # noqa: FBT003 - its only argument
            client.connect_ex(("127.0.0.1", STATUS_PORT))
        other.own([*other.plan.blocks, NEWS])
        wait_for("the news are learned", lambda: has(node, NEWS), 10)
        assert node.ask("undrain").returncode == 0
        wait_for("who asks nothing has lost his place", node.answers, 20)
        other.own(other.plan.blocks)
        wait_for("they are old news", lambda: not has(node, NEWS), 10)


def test_a_speaker_without_descriptors_keeps_its_sessions_and_takes_an_agent_when_it_has_some(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    messages = Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})
    with RouteEvents(lab.network, [node.inside], lab.folder) as events, sessions_stay(lab):
        with no_descriptor_left(pid_of(node, "speaker")):
            node.end_agent(signal.SIGKILL)
            node.start_agent()
            wait_for("it answers", lambda: answers(node), 10)
            wait_for("it says that it has no speaker", lambda: "the speaker" in node.status()["reason"], 10)
        lab.wait(30)
        assert messages.updates().total() == 0
        assert events.seen() == []


def test_an_exabgp_for_which_no_descriptor_is_left_is_started_when_there_is_one(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    dead = exabgps(node.state_dir)[0]
    with no_descriptor_left(pid_of(node, "speaker")):
        os.kill(dead, signal.SIGKILL)
        wait_for("the peer says why", lambda: any("Too many open files" in peer["reason"]
                                                  for peer in node.status()["peers"]), 10)  # fmt: skip
        assert sorted(peer["state"] for peer in node.status()["peers"]) == ["down", "established"]
    wait_for("both run", lambda: len(exabgps(node.state_dir)) == len(ROUTE_SERVERS), 40)
    lab.wait()


def start_speaker_again(lab: Lab, node: Node) -> None:
    assert node.speaker is not None
    node.speaker.kill()
    node.speaker.wait()
    wait_for("both route servers have lost it",
             lambda: not any(bird.established(node.name) for bird in lab.fabric.birds.values()), 20)  # fmt: skip
    node.start_speaker()
    lab.wait(60)


@pytest.mark.soak  # how much room its allocator has left decides when it runs out; the short form is a unit test
def test_a_speaker_whose_memory_is_used_up_keeps_its_sessions_and_hears_the_rest_when_it_has_some(lab: Lab) -> None:
    node, other = lab.nodes["node-a"], lab.nodes["node-c"]
    start_speaker_again(lab, node)  # one that has read much has room to read more
    log, words = node.log("speaker"), b"no memory is left: sessions go on"
    begin = log.stat().st_size
    with sessions_stay(lab):
        with no_memory_left(pid_of(node, "speaker")):
            other.own([*other.plan.blocks, NEWS])
            wait_for("it says so, again and again", lambda: log.read_bytes()[begin:].count(words) >= 3, 10)
            assert log.stat().st_size - begin < 4096, "but at a pace"
        wait_for("the news are learned", lambda: has(node, NEWS), 10)
        other.own(other.plan.blocks)
        wait_for("they are old news", lambda: not has(node, NEWS), 10)


def test_an_agent_whose_memory_is_used_up_ends_and_the_next_one_has_everything(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    node.end_agent(signal.SIGKILL)  # one that has had a flood has room for another
    node.start_agent()
    wait_for("the new one answers", lambda: answers(node), 10)
    lab.wait(60)
    assert node.agent is not None
    begin, before = node.log("run").stat().st_size, len(node.routes())
    messages = Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})
    with RouteEvents(lab.network, [each.inside for each in lab.nodes.values()], lab.folder) as events:
        with no_memory_left(node.agent.pid):
            lab.fabric.tell("rs-0", *FLOOD)
            assert node.agent.wait(20) == 1
        assert b"no memory is left; this agent ends, sessions and routes stay" in node.log("run").read_bytes()[begin:]
        node.start_agent()
        wait_for("all routes are in the kernel", lambda: len(node.routes()) == before + len(FLOOD), 30)
        assert [line for line in events.seen() if "Deleted" in line and "blackhole" not in line] == []
        assert messages.updates().total() == 0
    lab.fabric.tell("rs-0")
    wait_for("the flood is gone", lambda: len(node.routes()) == before, 20)
