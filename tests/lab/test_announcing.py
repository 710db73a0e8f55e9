"""The block file is the truth: two route servers hold exactly what it says, and the other nodes learn it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.netns import wait_for
from lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

SOON = 5.0  # seconds, the promise for a changed file


def held(lab: Lab, name: str) -> Callable[[], list[set[str]]]:
    """What each route server holds of a node."""
    return lambda: [bird.prefixes(name) for bird in lab.fabric.birds.values()]


def expect_held(lab: Lab, name: str, blocks: set[str], timeout: float = SOON) -> None:
    look = held(lab, name)
    wait_for(f"both route servers hold exactly {sorted(blocks)} of {name}", lambda: look() == [blocks] * 2, timeout)


def kernel(lab: Lab, name: str) -> dict[str, str]:
    """The node's routes of ours: prefix -> the line that `ip route` shows."""
    lines = lab.nodes[name].routes()
    return {line.split()[1 if line.startswith("blackhole") else 0]: line for line in lines}


def test_a_changed_file_is_at_both_route_servers_within_five_seconds(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    for blocks in (
        {"192.168.1.0/26", "192.168.1.64/26", "192.168.1.128/26"},
        {"192.168.1.64/26", "192.168.9.0/26"},
        {"192.168.1.0/26", "192.168.1.64/26"},
    ):
        node.own(sorted(blocks))
        expect_held(lab, "node-a", blocks)


def test_a_new_block_becomes_a_route_on_every_other_node_and_goes_with_its_block(lab: Lab) -> None:
    node = lab.nodes["node-c"]
    node.own([*node.plan.blocks, "192.168.3.64/26"])
    wait_for(
        "node-a and node-b have the new block in their kernels", lambda: learned(lab) == {"node-a", "node-b"}, SOON
    )
    node.own(node.plan.blocks)
    wait_for("node-a and node-b have let go of it", lambda: not learned(lab), SOON)


def learned(lab: Lab, block: str = "192.168.3.64/26") -> set[str]:
    """The nodes that have a route for a block in their kernel by way of another node."""
    return {name for name in lab.nodes if "via" in kernel(lab, name).get(block, "")}


def test_an_empty_list_withdraws_all_and_the_blocks_come_back(lab: Lab) -> None:
    node = lab.nodes["node-b"]
    node.own([])
    expect_held(lab, "node-b", set())
    node.own(node.plan.blocks)
    expect_held(lab, "node-b", set(node.plan.blocks))


@pytest.mark.parametrize(
    ("disaster", "text"),
    [("deleted", None), ("empty", ""), ("a bare list", "[{cidr: 192.168.2.0/26}]\n"), ("cut off", "blocks: [{cid")],
)
def test_a_block_file_that_is_lost_or_broken_withdraws_nothing(lab: Lab, disaster: str, text: str | None) -> None:
    node = lab.nodes["node-b"]
    if text is None:
        node.blocks_file.unlink()
    else:
        node.blocks_file.write_text(text)
    wait_for(f"the source says that the file is {disaster}", lambda: node.status()["source"]["state"] == "stale", SOON)
    assert held(lab, "node-b")() == [set(node.plan.blocks)] * 2
    assert node.status()["source"]["reason"]


def test_a_block_outside_of_the_pools_is_refused_and_withdraws_nothing(lab: Lab) -> None:
    node = lab.nodes["node-b"]
    node.own([*node.plan.blocks, "10.42.1.0/24"])
    wait_for("the source refuses a block outside of the pools", lambda: node.status()["source"]["state"] == "stale")
    assert held(lab, "node-b")() == [set(node.plan.blocks)] * 2


def test_the_own_block_is_a_blackhole_so_that_unused_addresses_do_not_loop(lab: Lab) -> None:
    for node in lab.nodes.values():
        for block in node.plan.blocks:
            assert kernel(lab, node.name)[block].startswith("blackhole")
