"""The network's own answer to "who gets a packet for this block", in the right case and in the wrong one."""

from __future__ import annotations

import json
from functools import partial

import pytest

from lab import proofs
from lab.netns import wait_for
from lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

QUICK = 5.0  # milliseconds, the promise


def test_every_node_hears_the_right_owner_of_every_block_in_under_five_milliseconds(lab: Lab) -> None:
    answers = list(proofs.probe_all(lab))
    assert [answer for answer in answers if not answer.right] == []
    for slow in [answer for answer in answers if answer.milliseconds >= QUICK]:  # a busy machine: give it a few turns
        wait_for(f"{slow.asked_by} is told in under {QUICK:g} ms who has {slow.block}", partial(quick, lab, slow))


def quick(lab: Lab, before: proofs.Probe) -> bool:
    again = proofs.probe(lab.nodes[before.asked_by], before.block, before.owner)
    return again.right and again.milliseconds < QUICK


def test_a_block_that_the_fabric_hands_to_another_node_names_that_node(lab: Lab) -> None:
    lab.fabric.hand("192.168.3.0/26", lab.nodes["node-b"])
    try:
        answer = proofs.probe(lab.nodes["node-a"], "192.168.3.0/26", "node-c")
        assert (answer.state, answer.node) == ("misdelivered", "node-b")
        wait_for("/status of node-a names node-b too", lambda: _verified(lab)["node"] == "node-b", 5)
    finally:
        lab.fabric.leave("192.168.3.0/26")
    wait_for("node-a sees it delivered again",
             lambda: proofs.probe(lab.nodes["node-a"], "192.168.3.0/26", "node-c").right, 5)  # fmt: skip


def test_silence_is_no_evidence_it_is_said_and_changes_nothing(lab: Lab) -> None:
    lab.fabric.inside.ip("route add blackhole 192.168.3.0/26")
    try:
        assert proofs.probe(lab.nodes["node-a"], "192.168.3.0/26", "node-c").state == "unknown"
        assert any(line.startswith("192.168.3.0/26 ") for line in lab.nodes["node-a"].routes())
    finally:
        lab.fabric.inside.ip("route delete blackhole 192.168.3.0/26")


def test_the_command_exits_0_only_for_delivered(lab: Lab) -> None:
    good = lab.nodes["node-a"].ask("probe", "192.168.2.0/26", "--json")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["node"] == "node-b"
    lab.fabric.hand("192.168.2.0/26", lab.nodes["node-c"])
    try:
        wrong = lab.nodes["node-a"].ask("probe", "192.168.2.0/26", "--json")
        assert wrong.returncode == 1
        assert json.loads(wrong.stdout)["node"] == "node-c"
    finally:
        lab.fabric.leave("192.168.2.0/26")


def _verified(lab: Lab) -> dict[str, str]:
    routes = lab.nodes["node-a"].status()["routes"]
    found: dict[str, str] = next(route["verified"] for route in routes if route["prefix"] == "192.168.3.0/26")
    return found
