"""The whole way: Calico's objects in a real API server, agents in namespaces, what the route servers hold."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from lab.kube.cluster import AGENT, BLOCKS, RULES, Cluster, clusters
from lab.kubernetes import Binaries
from lab.netns import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    binaries = Binaries.find()
    if isinstance(binaries, str):
        pytest.skip(binaries)
    with clusters(binaries) as found:
        yield found


@pytest.fixture
def settled(cluster: Cluster) -> Cluster:
    """Each node has its own block and nothing else."""
    for name, block in BLOCKS.items():
        cluster.affinity(name)
        cluster.block(block, name)
        cluster.expect(name, block)
    return cluster


def test_confirmed_blocks_are_announced_and_learned_by_the_other_nodes(settled: Cluster) -> None:
    kernel = settled.lab.nodes["node-a"].routes
    wait_for("node-a has the others' blocks", lambda: all(any(b in r for r in kernel()) for b in BLOCKS.values()), 20)
    assert settled.source("node-a") == ("synced", "1 block of node-a")


def test_a_route_goes_straight_to_a_node_on_the_link_and_by_the_gateway_to_any_other(settled: Cluster) -> None:
    def expect(block: str, gateway: str) -> None:
        routes = settled.lab.nodes["node-a"].routes
        wait_for(f"{block} by {gateway}", lambda: any(r.startswith(f"{block} via {gateway} ") for r in routes()), 20)

    expect(BLOCKS["node-b"], "10.42.1.5")
    expect(BLOCKS["node-c"], "10.42.1.1")
    settled.block(BLOCKS["node-b"], "node-b", {5: "node-c"})
    expect("192.168.2.5", "10.42.1.1")


def test_a_borrowed_address_is_announced_by_the_node_that_uses_it_until_it_is_released(settled: Cluster) -> None:
    settled.block(BLOCKS["node-b"], "node-b", {5: "node-c"})
    settled.expect("node-c", BLOCKS["node-c"], "192.168.2.5/32")
    settled.expect("node-b", BLOCKS["node-b"])
    settled.block(BLOCKS["node-b"], "node-b")
    settled.expect("node-c", BLOCKS["node-c"])


def test_a_block_that_loses_its_owner_is_withdrawn_after_its_live_addresses_are_announced(settled: Cluster) -> None:
    settled.block(BLOCKS["node-b"], "node-b", {5: "node-b", 9: "node-b"})
    settled.affinity("node-b", "pendingDeletion")
    settled.expect("node-b", "192.168.2.5/32", "192.168.2.9/32")
    settled.block(BLOCKS["node-b"], None, {5: "node-b", 9: "node-b"})
    settled.affinity("node-b", "pendingDeletion", deleted=True)
    settled.expect("node-b", "192.168.2.5/32", "192.168.2.9/32")


def test_an_api_server_that_is_gone_withdraws_nothing_not_even_from_an_agent_that_starts_then(
    settled: Cluster,
) -> None:
    node = settled.lab.nodes["node-a"]
    settled.api.kill()
    wait_for("node-a says so", lambda: settled.source("node-a")[0] == "stale", 60)
    node.end_agent(signal.SIGKILL)
    node.start_agent()
    wait_for("the new agent answers", lambda: node.answers() and settled.source("node-a")[0] == "waiting", 30)
    settled.expect("node-a", BLOCKS["node-a"])
    settled.api.start()
    wait_for("node-a has read everything", lambda: settled.source("node-a")[0] == "synced", 90)
    settled.expect("node-a", BLOCKS["node-a"])


def test_a_right_that_is_missing_is_named(settled: Cluster) -> None:
    settled.api.grant(AGENT, [dict(RULES[0]) | {"resources": ["blockaffinities", "ippools"]}])
    node = settled.lab.nodes["node-c"]
    node.end_agent(signal.SIGTERM)
    node.start_agent()
    try:
        wait_for(
            "the missing right is named",
            lambda: node.answers() and 'cannot list resource "ipamblocks"' in settled.source("node-c")[1],
            30,
        )
        settled.expect("node-c", BLOCKS["node-c"])
    finally:
        settled.api.grant(AGENT, RULES)
    wait_for("node-c has read everything", lambda: settled.source("node-c")[0] == "synced", 90)
