"""Blocks that a Route Server must not be told, or that the fabric does not take from it: the table carries them."""

from __future__ import annotations

import pytest

from lab.azure import ASN, INSTANCES
from lab.hand_over import Says
from lab.netns import wait_for
from lab.topology import NodePlan
from tests.azure.story.conftest import Build

pytestmark = [pytest.mark.netns, pytest.mark.xdist_group("azure-twin"), pytest.mark.timeout(120)]

LIMITED, SURPLUS, INSIDE = "192.168.1.0/26", "192.168.1.64/26", "10.42.128.0/26"
PLAN = (NodePlan("node-a", "10.42.1.4", "10.42.1.1", (LIMITED, SURPLUS, INSIDE), {}),)


def test_a_block_above_the_limit_and_one_inside_the_network_are_in_the_table_and_say_why(build: Build) -> None:
    peers = [{"address": each, "asn": 65515, "announce_limit": 2} for each in INSTANCES]
    lab = build(plan=PLAN, bgp={"asn": ASN, "peers": peers}, pools=["192.168.0.0/16", "10.42.128.0/24"])
    node = lab.nodes["node-a"]
    want = {SURPLUS: "10.42.1.4", INSIDE: "10.42.1.4"}
    states = {LIMITED: "announced", SURPLUS: "fallback", INSIDE: "fallback"}

    def so() -> bool:
        return node.answers() and {each["cidr"]: each["state"] for each in node.status()["blocks"]} == states

    wait_for(Says(lab, "BGP carries one block, the table the others"), so, 60)
    assert lab.twin.table() == want
    status = node.status()
    assert status["fallback"]["state"] == "bgp"
    told = " ".join(status["fallback"]["warnings"])
    assert f"{SURPLUS}: above its announce_limit of 2" in told
    assert f"{INSIDE}: it lies in the virtual network's own space 10.42.0.0/16" in told
    wait_for("ready, when the second instance has the block as well", lambda: node.status()["ready"], 60)
