"""Somebody cleans /run: the state directory is gone under a speaker that runs."""

from __future__ import annotations

import shutil
import signal

import pytest

from lab.evidence import Messages
from lab.netns import wait_for
from lab.topology import Lab
from tests.chaos.conftest import answers

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


def test_of_two_speakers_of_one_state_directory_one_ends(lab: Lab) -> None:
    node = lab.nodes["node-b"]
    first = node.speaker
    assert first is not None
    shutil.rmtree(node.state_dir)
    node.start_speaker()
    second = node.speaker
    assert second is not None
    wait_for("one of them has ended", lambda: (first.poll() is None) is not (second.poll() is None), 20)
    node.speaker = first if first.poll() is None else second
    node.end_agent(signal.SIGKILL)
    node.start_agent()
    wait_for("the agent answers", lambda: answers(node), 10)
    lab.wait(60)
    assert (first.poll() is None) is not (second.poll() is None)
