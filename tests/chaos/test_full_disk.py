"""The disk of the state directory is full, or read-only: what runs goes on, it is said, and it heals by itself."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from lab.bird import ROUTE_SERVER_ASN
from lab.evidence import Messages, RouteEvents
from lab.netns import wait_for
from lab.topology import ROUTE_SERVERS, Lab, Node
from tests.chaos.conftest import answers, configure
from tests.interop.speaker_rig import exabgps

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]


def mount(node: Node, *words: str) -> None:
    subprocess.run(["mount", *words, str(node.state_dir)], check=True)


def done(*words: str) -> bool:
    return not subprocess.run(words, capture_output=True, check=False).returncode


def end(node: Node) -> None:
    node.end_agent(signal.SIGKILL)
    assert node.speaker is not None
    node.speaker.kill()
    node.speaker.wait()


def start(node: Node) -> None:
    node.start_speaker()
    node.start_agent()


@pytest.fixture(scope="module")
def node(running_lab: Lab) -> Iterator[Node]:
    """Node-a with a small disk of its own for the state directory."""
    node = running_lab.nodes["node-a"]
    end(node)
    mount(node, "-t", "tmpfs", "-o", "size=128k,mode=0755", "small")
    start(node)
    yield node
    end(node)
    wait_for("nothing of it is used", lambda: not exabgps(node.state_dir))
    subprocess.run(["umount", str(node.state_dir)], check=True)
    start(node)


@pytest.fixture
def lab(lab: Lab, node: Node) -> Lab:
    assert node.state_dir.is_mount()
    lab.wait(60)
    return lab


@contextlib.contextmanager
def full(node: Node) -> Iterator[None]:
    """Somebody else's file takes what room there is."""
    try:
        fill(node)
        yield
    finally:
        filler(node).unlink()


def filler(node: Node) -> Path:
    return node.state_dir / "filler"


def fill(node: Node) -> None:
    with filler(node).open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert not os.statvfs(node.state_dir).f_bavail


@contextlib.contextmanager
def read_only(node: Node) -> Iterator[None]:
    """The kernel makes no disk read-only on which files are open for writing, but for an error of the disk itself."""
    mount(node, "--bind", str(node.state_dir))
    wait_for("nobody is just writing", lambda: done("mount", "-o", "remount,bind,ro", str(node.state_dir)))
    try:
        yield
    finally:
        wait_for("nobody is just reading", lambda: done("umount", str(node.state_dir)))


@contextlib.contextmanager
def unnoticed(lab: Lab) -> Iterator[None]:
    """No UPDATE at a route server, no route event on any node, no session lost."""
    messages = Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})
    before = [bird.sessions() for bird in lab.fabric.birds.values()]
    with RouteEvents(lab.network, [each.inside for each in lab.nodes.values()], lab.folder) as events:
        yield
        assert [line for line in events.seen() if "blackhole" not in line] == []
    assert messages.updates().total() == 0
    assert [bird.sessions() for bird in lab.fabric.birds.values()] == before


def said(node: Node, words: str) -> bool:
    return words in node.status()["reason"]


def logged(node: Node, part: str, start: int, words: str) -> int:
    return node.log(part).read_bytes()[start:].decode().count(words)


@pytest.mark.parametrize(
    ("disaster", "words"), [(full, "is full: make room there"), (read_only, "is read-only: mount it writable again")]
)  # fmt: skip
def test_a_disk_that_takes_nothing_is_said_with_the_remedy_and_noticed_by_nobody(
    lab: Lab, node: Node, disaster: object, words: str
) -> None:
    begin = node.log("run").stat().st_size
    with unnoticed(lab):
        with disaster(node):  # type: ignore[operator]  # one of the two above
            wait_for("the status says so", partial(said, node, words), 5)
            assert node.status()["ready"]
            assert logged(node, "run", begin, f"state=unusable reason='state_dir {node.state_dir} {words}") == 1
        wait_for("the status says no more of it", lambda: not said(node, words), 5)
        assert logged(node, "run", begin, "state=usable") == 1


def test_an_agent_that_is_killed_while_the_disk_is_full_comes_back_unnoticed(lab: Lab, node: Node) -> None:
    with unnoticed(lab), full(node):
        node.end_agent(signal.SIGKILL)
        (node.state_dir / "agent.lock").write_bytes(b"")  # else the next one writes its number where this one's was
        fill(node)
        node.start_agent()
        wait_for("it is ready", lambda: answers(node) and node.status()["ready"], 20)
        assert node.ask("undrain").returncode == 0, "and its control socket is there"


def test_an_exabgp_that_is_killed_while_the_disk_is_full_comes_back(lab: Lab, node: Node) -> None:
    with full(node):
        dead = exabgps(node.state_dir)[0]
        os.kill(dead, signal.SIGKILL)
        wait_for("another one runs", lambda: dead not in exabgps(node.state_dir)
                 and len(exabgps(node.state_dir)) == len(ROUTE_SERVERS), 10)  # fmt: skip
        lab.wait()


def test_peers_that_cannot_be_kept_for_the_next_start_are_kept_when_there_is_room(lab: Lab, node: Node) -> None:
    del lab  # converged
    begin, kept = node.log("speaker").stat().st_size, node.state_dir / "peers.json"
    before = kept.read_bytes()
    with full(node):
        configure(node, hold_time="12s")
        wait_for("the speaker says so", lambda: logged(node, "speaker", begin, "cannot be kept for the next start"), 20)
        assert logged(node, "speaker", begin, "make room there") >= 1
        wait_for("both sessions have the new hold time", lambda: hold_times(node) == [12, 12], 30)
        assert kept.read_bytes() == before, "the old list is whole"
    wait_for("they are kept", lambda: kept.read_text().count('"hold_time": 12') == len(ROUTE_SERVERS), 10)
    assert logged(node, "speaker", begin, "are kept for the next start again") == 1
    configure(node)
    wait_for("both sessions have the old hold time again", lambda: hold_times(node) == [9, 9], 30)


def hold_times(node: Node) -> list[int]:
    return [peer["hold_time"] for peer in node.status()["peers"]]


def test_a_peer_that_is_taken_out_while_the_disk_is_read_only_costs_the_other_one_nothing(lab: Lab, node: Node) -> None:
    stays = lab.fabric.birds["rs-0"]
    flaps = node.status()["peers"][0]["flaps"]
    with read_only(node):
        configure(node, peers=[{"address": ROUTE_SERVERS["rs-0"], "asn": ROUTE_SERVER_ASN, "multihop": 8}])
        wait_for("rs-1 has lost the session", lambda: not lab.fabric.birds["rs-1"].established(node.name), 20)
        wait_for("its ExaBGP has ended", lambda: len(exabgps(node.state_dir)) == 1, 10)
        configure(node)
        wait_for("the other one's cannot start", lambda: [p["state"] for p in node.status()["peers"]] ==
                 ["established", "down"], 20)  # fmt: skip
        assert stays.established(node.name)
        assert node.status()["peers"][0]["flaps"] == flaps
    lab.wait(60)


def test_a_drain_that_cannot_be_remembered_is_refused_and_withdraws_nothing(lab: Lab, node: Node) -> None:
    with unnoticed(lab), read_only(node):
        done = node.ask("drain", "--force")
        assert done.returncode == 1
        assert "Read-only file system" in done.stderr
        assert "make state_dir writable first" in done.stderr


def test_an_agent_that_cannot_start_on_a_read_only_disk_says_why_and_its_routes_stay(lab: Lab, node: Node) -> None:
    begin = node.log("run").stat().st_size
    with unnoticed(lab):
        with read_only(node):
            node.end_agent(signal.SIGKILL)
            node.start_agent()
            assert node.agent is not None
            assert node.agent.wait(10) == 1
            assert logged(node, "run", begin, f"{node.state_dir}/agent.lock: Read-only file system") == 1
            assert logged(node, "run", begin, "Traceback") == 0
        node.start_agent()
        wait_for("it is ready", lambda: answers(node) and node.status()["ready"], 20)


def test_an_exabgp_that_cannot_start_on_a_read_only_disk_says_why_and_starts_when_it_can(lab: Lab, node: Node) -> None:
    with read_only(node):
        os.kill(exabgps(node.state_dir)[0], signal.SIGKILL)
        wait_for("the peer says why", lambda: any("mount it writable" in peer["reason"]
                                                  for peer in node.status()["peers"]), 10)  # fmt: skip
        assert sorted(peer["state"] for peer in node.status()["peers"]) == ["down", "established"]
        assert node.status()["ready"]
    lab.wait(60)
