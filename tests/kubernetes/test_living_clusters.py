"""Clusters that change under running agents: Calico comes late, moves to its other group, or is not there at all."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from lab.evidence import Messages
from lab.kube.cluster import BLOCKS, Cluster, clusters, configure
from lab.kube.crds import V1, V3, crds
from lab.kubernetes import Binaries
from lab.netns import wait_for
from lab.topology import PLAN

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    binaries = Binaries.find()
    if isinstance(binaries, str):
        pytest.skip(binaries)
    with clusters(binaries, start=False) as found:
        yield found


def furnish(cluster: Cluster) -> None:
    """Every node's block, in the cluster's group."""
    cluster.pool()
    for name, block in BLOCKS.items():
        cluster.affinity(name)
        cluster.block(block, name)


def expect_all(cluster: Cluster) -> None:
    for name, block in BLOCKS.items():
        cluster.expect(name, block)


def undefine(cluster: Cluster, group: str) -> None:
    """Delete the definitions of a group, and with them every object."""
    for each in crds(group):
        cluster.api.admin.delete(each)
    path = f"/apis/{group}/ipamblocks"
    wait_for(f"{group} is not served", lambda: cluster.api.admin.request("GET", path)[0] == 404, 60)


def test_a_cluster_that_is_migrated_to_the_other_group_withdraws_nothing_and_goes_on_there(cluster: Cluster) -> None:
    cluster.lab.start()
    expect_all(cluster)
    cluster.api.define(crds(V3))
    moved = Cluster(cluster.lab, cluster.api, V3)
    furnish(moved)
    messages = Messages({name: bird.mrt for name, bird in cluster.lab.fabric.birds.items()})
    undefine(cluster, V1)
    moved.block("192.168.2.0/26", "node-b", {5: "node-c"})
    moved.expect("node-c", BLOCKS["node-c"], "192.168.2.5/32", within=60)
    for name, block in BLOCKS.items():
        wait_for(f"{name} reads the other group", lambda name=name: cluster.source(name)[0] == "synced", 60)  # type: ignore[misc]  # a lambda's default
        if name != "node-c":
            moved.expect(name, block)
    told = [each for bird in cluster.lab.fabric.birds for node in PLAN for each in messages.told(bird, node.address)]
    assert told, "the borrowed address was announced"
    assert not any(each.withdrawn for each in told), "nothing was taken back on the way"


def test_calico_that_is_installed_after_the_agents_is_found(cluster: Cluster) -> None:
    undefine(cluster, V1)
    cluster.lab.start()
    wait_for("node-a says what is missing", lambda: answers(cluster, "node-a", "neither as"), 60)
    assert cluster.source("node-a")[0] == "waiting"
    cluster.api.define(crds(V1))
    furnish(cluster)
    expect_all(cluster)


def test_pod_cidrs_of_the_node_are_announced_when_it_gets_them_until_it_is_deleted(cluster: Cluster) -> None:
    configure(cluster, blocks={"source": "node"}, pools=["192.168.0.0/16"])
    cluster.lab.start()
    wait_for("node-a waits for its pod CIDR", lambda: answers(cluster, "node-a", "no pod CIDR"), 60)
    cluster.node("node-a", podCIDR=BLOCKS["node-a"], podCIDRs=[BLOCKS["node-a"]])
    cluster.node("node-b", podCIDR="10.9.0.0/24", podCIDRs=["10.9.0.0/24"])
    cluster.expect("node-a", BLOCKS["node-a"])
    wait_for("node-b says why not", lambda: withheld(cluster, "node-b") == ["10.9.0.0/24"], 20)
    cluster.lab.nodes["node-a"].end_agent(signal.SIGKILL)
    cluster.api.admin.delete("/api/v1/nodes/node-a")
    cluster.lab.nodes["node-a"].start_agent()
    wait_for("the new agent finds no Node", lambda: answers(cluster, "node-a", "there is no Node"), 60)
    cluster.expect("node-a", BLOCKS["node-a"])
    cluster.node("node-a", podCIDR=BLOCKS["node-a"], podCIDRs=[BLOCKS["node-a"]])
    wait_for("it has a Node again", lambda: cluster.source("node-a")[0] == "synced", 60)
    cluster.api.admin.delete("/api/v1/nodes/node-a")
    cluster.expect("node-a")


def withheld(cluster: Cluster, node: str) -> list[str]:
    blocks = cluster.lab.nodes[node].status()["blocks"]
    return [each["cidr"] for each in blocks if each["state"] == "withheld"]


def answers(cluster: Cluster, node: str, words: str) -> bool:
    return cluster.lab.nodes[node].answers() and words in cluster.source(node)[1]
