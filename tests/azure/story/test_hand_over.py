"""The hand-over between BGP and the route table on the Azure twin, with every packet counted."""

from __future__ import annotations

import signal

import pytest

from lab.azure import INSTANCES, TABLE
from lab.hand_over import Says, lost, on_the_table, settled_on_bgp, traffic, until
from lab.netns import wait_for
from tests.azure.story.conftest import Build

pytestmark = [pytest.mark.netns, pytest.mark.xdist_group("azure-twin"), pytest.mark.timeout(180)]


def test_a_planned_hand_over_of_every_kind_loses_no_packet(build: Build) -> None:
    """Drain and undrain, and a speaker that is replaced: the table carries the blocks before BGP goes."""
    lab = build()
    settled_on_bgp(lab)
    node = lab.nodes["node-b"]
    with traffic(lab) as flow:
        done = node.ask("drain")
        assert done.returncode == 0, done.stderr
        assert lab.twin.table() == {"192.168.2.0/26": "10.42.1.5"}
        assert node.status()["mode"] == "maintenance"
        assert node.status()["blocks"][0]["state"] == "fallback"
        assert node.ask("undrain").returncode == 0
        settled_on_bgp(lab)
        assert node.speaker is not None
        node.speaker.terminate()
        node.speaker.wait(30)
        assert "192.168.2.0/26" in lab.twin.table()
        node.start_speaker()
        settled_on_bgp(lab)
        counts = flow.finish()
    assert lost(counts) == {}


def test_one_instance_stopped_then_the_other_and_both_back_lose_no_packet(build: Build) -> None:
    lab = build()
    settled_on_bgp(lab)
    with traffic(lab) as flow:
        lab.twin.twin("POST", "instances/1", {"state": "down"})
        on_the_table(lab)
        lab.twin.twin("POST", "instances/0", {"state": "down"})
        until(lab, "no peer is left", lambda _, s: all(p["state"] != "established" for p in s["peers"]))
        flow.run_for(1.0)
        on_the_table(lab)
        for number in range(len(INSTANCES)):
            lab.twin.twin("POST", f"instances/{number}", {"state": "up"})
        until(lab, "BGP is watched before it is trusted", lambda _, s: "established" in str(s["peers"]))
        settled_on_bgp(lab)
        counts = flow.finish()
    assert lost(counts) == {}


def test_the_way_back_takes_out_one_route_first(build: Build) -> None:
    lab = build(azure={"arm_url": "http://169.254.169.254", "allow_http": True, "settle": "6s"})
    settled_on_bgp(lab)
    lab.twin.twin("POST", "instances/1", {"state": "down"})
    on_the_table(lab)
    lab.twin.twin("POST", "instances/1", {"state": "up"})
    node = lab.nodes["node-a"]  # it has two blocks
    wait_for(Says(lab, "node-a watches a canary"), lambda: node.status()["fallback"]["canary"], 40)
    canary = node.status()["fallback"]["canary"]
    wait_for(Says(lab, "its route is out"), lambda: canary not in lab.twin.table(), 10)
    other = ({*node.plan.blocks} - {canary}).pop()
    assert lab.twin.table()[other] == node.plan.address
    wait_for(
        Says(lab, "the network says that BGP carries it"),
        lambda: (
            [b["reachable"]["by"] for b in node.status()["blocks"] if b["reachable"] and b["cidr"] == canary] == ["bgp"]
        ),
        10,
    )
    settled_on_bgp(lab)


def test_with_fallback_always_both_instances_may_die_and_no_packet_is_lost(build: Build) -> None:
    lab = build(fallback={"mode": "always"})
    on_the_table(lab)
    until(lab, "both peers", lambda _, s: [p["state"] for p in s["peers"]] == ["established"] * 2)
    with traffic(lab) as flow:
        for number in range(len(INSTANCES)):
            lab.twin.twin("POST", f"instances/{number}", {"state": "down"})
        until(lab, "no peer is left", lambda _, s: all(p["state"] != "established" for p in s["peers"]))
        flow.run_for(1.0)
        counts = flow.finish()
    assert lost(counts) == {}


def test_bgp_that_returns_while_propagation_is_switched_off_gets_no_traffic_and_the_cause_is_told(build: Build) -> None:
    """Propagation was switched off in the meantime: BGP has everything, and the fabric follows none of it."""
    lab = build()
    settled_on_bgp(lab)
    lab.twin.twin("POST", "instances/1", {"state": "down"})
    on_the_table(lab)
    table = lab.twin.arm("GET", f"routeTables/{TABLE}")
    properties = {**table["properties"], "disableBgpRoutePropagation": True}
    lab.twin.arm("PUT", f"routeTables/{TABLE}", {"location": table["location"], "properties": properties})
    with traffic(lab) as flow:
        lab.twin.twin("POST", "instances/1", {"state": "up"})
        until(
            lab, "the cause is told",
            lambda _, s: "propagation is switched off in route table pods" in str(s["fallback"]["warnings"]), 90,
        )  # fmt: skip
        flow.run_for(2.0)
        on_the_table(lab)
        counts = flow.finish()
    assert lost(counts) == {}


def test_an_agent_killed_while_the_table_carries_goes_on_from_what_the_table_shows(build: Build) -> None:
    lab = build()
    settled_on_bgp(lab)
    with traffic(lab) as flow:
        lab.twin.twin("POST", "instances/1", {"state": "down"})
        on_the_table(lab)
        for node in lab.nodes.values():
            node.end_agent(signal.SIGKILL)
        lab.twin.twin("POST", "instances/1", {"state": "up"})
        assert lab.twin.table() == lab.blocks()
        for node in lab.nodes.values():
            node.start_agent()
        settled_on_bgp(lab)
        counts = flow.finish()
    assert lost(counts) == {}
