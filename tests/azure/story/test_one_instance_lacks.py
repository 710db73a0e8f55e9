"""One instance of Route Server acknowledges a block and does not have it: half of the network would lose it.

BIRD behind that instance takes the UPDATE, keeps its session and drops the route (the twin's ``lacks``). Of the nodes
node-b alone follows instance 1, so packets from there are the judges of what node-c says of its block.
"""

from __future__ import annotations

from typing import Any

import pytest

from lab.azure import AzureLab
from lab.hand_over import Says, lost, on_the_table, settled_on_bgp, traffic, until
from lab.netns import wait_for
from tests.azure.story.conftest import Build

pytestmark = [pytest.mark.netns, pytest.mark.xdist_group("azure-twin"), pytest.mark.timeout(180)]

BLOCK, OWNER = "192.168.3.0/26", "10.42.2.4"
CAUSE = f"RouteServiceRole_IN_1 has not learned {BLOCK}"


def lacking(lab: AzureLab, *blocks: str) -> None:
    """Instance 1 runs, and lacks these."""
    lab.twin.twin("POST", "instances/1", {"state": "up", "lacks": blocks})


def told(lab: AzureLab, what: str, condition: Any) -> None:  # noqa: ANN401 - of a status
    """Until the block's node says so; the others have nothing to do with it."""
    wait_for(Says(lab, what), lambda: condition(lab.nodes["node-c"].status()), 60, interval=0.05)


def test_the_return_waits_while_one_instance_silently_lacks_a_block_and_ends_by_itself(build: Build) -> None:
    lab = build()
    settled_on_bgp(lab)
    lab.twin.twin("POST", "instances/1", {"state": "down"})
    on_the_table(lab)
    with traffic(lab) as flow:
        lacking(lab, BLOCK)
        until(lab, "all peers are back", lambda _, s: [p["state"] for p in s["peers"]] == ["established"] * 2)
        told(
            lab, "the cause is told", lambda s: CAUSE in s["fallback"]["reason"] and CAUSE in s["fallback"]["warnings"]
        )
        wait_for(Says(lab, "the others return"), lambda: lab.twin.table() == {BLOCK: OWNER}, 60)
        flow.run_for(4.0)  # twice `revert_after`
        status = lab.nodes["node-c"].status()
        assert [each["state"] for each in status["peers"]] == ["established", "established"]
        assert status["fallback"]["state"] == "fallback"
        assert lab.twin.table() == {BLOCK: OWNER}
        lacking(lab)
        settled_on_bgp(lab)
        counts = flow.finish()
    assert lost(counts) == {}
    assert CAUSE not in str(lab.nodes["node-c"].status())
