"""Somebody switches forwarding off: nothing is withdrawn, and it does not go unsaid."""

from __future__ import annotations

import pytest

from lab.netns import wait_for
from lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]


def test_forwarding_that_is_switched_off_unreadies_is_logged_once_and_withdraws_nothing(lab: Lab) -> None:
    node = lab.nodes["node-b"]
    start = node.log("run").stat().st_size

    def said(state: str) -> list[str]:
        lines = node.log("run").read_bytes()[start:].decode().splitlines()
        words = repr(state) if " " in state else state
        return [line for line in lines if "node=node-b" in line and f" state={words} " in line]

    node.inside.sysctl("net.ipv4.ip_forward", 0)
    try:
        wait_for("the log says so", lambda: said("not ready"), 5)
        assert node.get("/readyz")[0] == 503
        assert {block["state"] for block in node.status()["blocks"]} == {"announced"}
        assert all(bird.prefixes("node-b") == set(node.plan.blocks) for bird in lab.fabric.birds.values())
    finally:
        node.inside.sysctl("net.ipv4.ip_forward", 1)
    wait_for("the log says that it is over", lambda: said("ready"), 5)
    assert ["ipv4 forwarding is off" in line for line in said("not ready")] == [True]
