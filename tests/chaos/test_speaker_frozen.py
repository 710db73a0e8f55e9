"""The speaker stands still while its ExaBGPs go on: that is said, and costs no session when it moves again."""

from __future__ import annotations

import signal

import pytest

from lab.evidence import Messages, RouteEvents
from lab.netns import wait_for
from lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]


def test_a_frozen_speaker_is_said_and_changes_nothing(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    assert node.speaker is not None
    messages = Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})
    flaps = [peer["since"] for peer in node.status()["peers"]]
    with RouteEvents(lab.network, [each.inside for each in lab.nodes.values()], lab.folder) as events:
        node.speaker.send_signal(signal.SIGSTOP)
        try:
            wait_for("the status says so", lambda: "stopped or stuck" in node.status()["reason"], 30)
        finally:
            node.speaker.send_signal(signal.SIGCONT)
        wait_for("attached again", lambda: "speaker" not in node.status()["reason"], 10)
        lab.wait()
        assert messages.updates().total() == 0
        assert events.seen() == []
    assert [peer["since"] for peer in node.status()["peers"]] == flaps
