"""Somebody cleans /run: the state directory is gone under an agent and a speaker that run."""

from __future__ import annotations

import shutil
import signal

import pytest

from lab.evidence import Messages
from lab.netns import wait_for
from lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]


def test_a_speaker_makes_its_place_again_and_the_next_agent_finds_it(lab: Lab) -> None:
    node = lab.nodes["node-b"]
    messages = Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})
    shutil.rmtree(node.state_dir)
    wait_for("the speaker's socket is there again", (node.state_dir / "speaker.sock").exists, 5)
    node.end_agent(signal.SIGKILL)
    node.start_agent()
    lab.wait(60)
    assert messages.updates().total() == 0, "no session was touched"
    assert (node.state_dir / "peers.json").exists(), "and the next speaker starts without an agent"


def test_a_second_speaker_that_comes_after_the_first_is_back_ends(lab: Lab) -> None:
    node = lab.nodes["node-b"]
    first = node.speaker
    assert first is not None
    messages = Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})
    shutil.rmtree(node.state_dir)
    wait_for("the first speaker's socket is there again", (node.state_dir / "speaker.sock").exists, 5)
    node.start_speaker()
    second, node.speaker = node.speaker, first
    assert second is not None
    assert second.wait(20) != 0
    node.end_agent(signal.SIGKILL)
    node.start_agent()
    lab.wait(60)
    assert messages.updates().total() == 0, "no session was touched"
    assert first.poll() is None


def test_a_second_speaker_that_was_faster_stays_and_the_first_ends(lab: Lab) -> None:
    node = lab.nodes["node-b"]
    first = node.speaker
    assert first is not None
    first.send_signal(signal.SIGSTOP)  # or it might be back within the time that the second takes to start
    shutil.rmtree(node.state_dir)
    node.start_speaker()
    wait_for("the second speaker's socket is there", (node.state_dir / "speaker.sock").exists, 20)
    first.send_signal(signal.SIGCONT)
    assert first.wait(20) == 0, "a planned stop: it gives way"
    node.end_agent(signal.SIGKILL)
    node.start_agent()
    lab.wait(60)
    assert node.speaker is not None
    assert node.speaker.poll() is None


def test_an_agent_makes_lock_and_socket_again_so_that_it_can_be_asked_and_a_second_one_is_refused(lab: Lab) -> None:
    node = lab.nodes["node-b"]
    first, start = node.agent, node.log("run").stat().st_size
    assert first is not None
    shutil.rmtree(node.state_dir)
    made_again = [node.state_dir / "agent.lock", node.state_dir / "agent.sock"]
    wait_for("lock and socket are there again", lambda: all(path.exists() for path in made_again), 5)
    node.start_agent()
    second, node.agent = node.agent, first
    assert second is not None
    assert second.wait(10) == 1
    said = node.log("run").read_bytes()[start:].decode()
    assert f"process {first.pid} holds {node.state_dir}/agent.lock" in said
    assert "state='made again' reason='somebody removed the lock or the control socket" in said
    assert node.ask("undrain").stdout == "announcing again\n"
    assert first.poll() is None
