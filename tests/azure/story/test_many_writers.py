"""Eight agents, one route table, no peering: each writes its own routes, nobody touches what is not its own."""

from __future__ import annotations

import pytest

from lab.azure import TABLE
from lab.hand_over import Says, until
from lab.netns import wait_for
from lab.topology import NodePlan
from tests.azure.story.conftest import Build

pytestmark = [pytest.mark.netns, pytest.mark.xdist_group("azure-twin"), pytest.mark.timeout(180)]

EIGHT = tuple(
    NodePlan(f"node-{n}", f"10.42.1.{3 + n}", "10.42.1.1", (f"192.168.{n}.0/26", f"192.168.{n}.64/26"), {})
    for n in range(1, 9)
)
STRANGER = {"addressPrefix": "172.16.0.0/16", "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.42.1.200"}


def test_eight_agents_without_peerings_fill_one_table_and_lose_nothing_of_anybody(build: Build) -> None:
    lab = build(plan=EIGHT, peers=False, agents=False)
    lab.twin.arm("PUT", f"routeTables/{TABLE}/routes/firewall", {"properties": STRANGER})
    alike = {**STRANGER, "addressPrefix": "172.17.0.0/16"}
    lab.twin.arm("PUT", f"routeTables/{TABLE}/routes/bgp-agent_old", {"properties": alike})
    lab.start_agents()
    others = {"172.16.0.0/16": "10.42.1.200", "172.17.0.0/16": "10.42.1.200"}
    wait_for(Says(lab, "all 16 blocks are in the table"), lambda: lab.twin.table() == {**lab.blocks(), **others}, 90)
    until(lab, "every node lives by the table and says why", lambda _, s: (
        s["mode"] == "fallback" and s["ready"] and "has no bgpConnection for this node" in s["fallback"]["reason"]
    ))  # fmt: skip
    node = lab.nodes["node-1"]
    node.own(("192.168.1.0/26",))
    gone = Says(lab, "a block that is given up leaves the table")
    wait_for(gone, lambda: "192.168.1.64/26" not in lab.twin.table(), 30)
    left = {block: hop for block, hop in lab.blocks().items() if block != "192.168.1.64/26"}
    assert lab.twin.table() == {**left, **others}
