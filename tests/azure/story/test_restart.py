"""An agent that begins while BGP carries the blocks: what it finds is right, so it writes nothing."""

from __future__ import annotations

import signal

import pytest

from lab.azure import TABLE
from lab.hand_over import lost, settled_on_bgp, traffic
from tests.azure.story.conftest import Build

pytestmark = [pytest.mark.netns, pytest.mark.xdist_group("azure-twin"), pytest.mark.timeout(180)]


def test_an_agent_killed_while_bgp_carries_writes_no_route_when_it_is_back(build: Build) -> None:
    """`fallback.after` is one second here; the route table's ETag is the judge: every write changes it."""
    lab = build()
    settled_on_bgp(lab)
    etag = lab.twin.arm("GET", f"routeTables/{TABLE}")["etag"]
    with traffic(lab) as flow:
        for node in lab.nodes.values():
            node.end_agent(signal.SIGKILL)
        for node in lab.nodes.values():
            node.start_agent()
        settled_on_bgp(lab)
        counts = flow.finish()
    assert lab.twin.arm("GET", f"routeTables/{TABLE}")["etag"] == etag
    assert lost(counts) == {}
