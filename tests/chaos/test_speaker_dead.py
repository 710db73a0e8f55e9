"""The speaker is killed and does not come back: nothing may go on claiming sessions that nobody holds."""

from __future__ import annotations

import pytest

from lab.netns import wait_for
from lab.topology import Lab, Node

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]


def learned(node: Node) -> list[str]:
    return [line for line in node.routes() if line.startswith("192.168.") and " via " in line]


def test_a_dead_speaker_is_no_established_session_and_its_routes_go_stale(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    assert node.speaker is not None
    node.speaker.kill()
    node.speaker.wait()
    try:
        wait_for("no peer is called established",
                 lambda: {peer["state"] for peer in node.status()["peers"]} == {"down"}, 10)  # fmt: skip
        status = node.status()
        assert not status["ready"]
        assert status["mode"] == "off"
        assert {block["state"] for block in status["blocks"]} == {"pending"}
        assert all("the speaker is not running" in peer["reason"] for peer in status["peers"])
        assert len(learned(node)) == 2, "what was learned stays for bgp.stale_time"
        wait_for("what was learned goes after bgp.stale_time", lambda: not learned(node), 20)
    finally:
        node.start_speaker()
    lab.wait(60)
