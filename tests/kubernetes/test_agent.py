"""The whole way: Calico's objects in a real API server, agents in namespaces, what the route servers hold."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from typing import Any, Final

import pytest

from lab.kube.crds import crds
from lab.kubernetes import ApiServer, Binaries, User
from lab.netns import Network, wait_for
from lab.topology import Lab, short_folder

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

GROUP: Final = "crd.projectcalico.org/v1"
BLOCKS: Final = {"node-a": "192.168.1.0/26", "node-b": "192.168.2.0/26", "node-c": "192.168.3.0/26"}
#: All that the agent may do, and asks for.
RULES: Final = [
    {
        "apiGroups": ["crd.projectcalico.org", "projectcalico.org"],
        "resources": ["blockaffinities", "ipamblocks", "ippools"],
        "verbs": ["list", "watch"],
    }
]


class Cluster:
    """Three nodes whose blocks come from Calico's objects."""

    def __init__(self, lab: Lab, api: ApiServer) -> None:
        self.lab, self.api = lab, api

    def pool(self) -> None:
        self.put("IPPool", "pool", {"cidr": "192.168.0.0/16", "vxlanMode": "Never", "ipipMode": "Never"})

    def put(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        self.api.admin.apply({"apiVersion": GROUP, "kind": kind, "metadata": {"name": name}, "spec": spec})

    def affinity(self, node: str, state: str = "confirmed", *, deleted: str = "false") -> None:
        cidr = BLOCKS[node]
        spec = {"cidr": cidr, "node": node, "state": state, "type": "host", "deleted": deleted}
        self.put("BlockAffinity", f"{node}-{dashed(cidr)}", spec)

    def block(self, node: str, owner: str | None, used: dict[int, str]) -> None:
        """The IPAMBlock of a node's CIDR. ``used``: ordinal -> the node that uses the address."""
        attributes = [{"handle_id": "h", "secondary": {"node": each}} for each in used.values()]
        allocations: list[int | None] = [None] * 64
        for index, ordinal in enumerate(used):
            allocations[ordinal] = index
        spec = {
            "cidr": BLOCKS[node], "allocations": allocations, "attributes": attributes, "unallocated": [],
            "strictAffinity": False, "deleted": False,
        }  # fmt: skip
        self.put("IPAMBlock", dashed(BLOCKS[node]), spec | ({"affinity": f"host:{owner}"} if owner else {}))

    def expect(self, node: str, *prefixes: str) -> None:
        birds = self.lab.fabric.birds.values()
        wait_for(
            f"both route servers hold exactly {prefixes} of {node}",
            lambda: [bird.prefixes(node) for bird in birds] == [set(prefixes)] * 2,
            20.0,
        )

    def source(self, node: str) -> tuple[str, str]:
        found = self.lab.nodes[node].status()["source"]
        return found["state"], found["reason"]


def dashed(cidr: str) -> str:
    return cidr.replace(".", "-").replace("/", "-")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    binaries = Binaries.find()
    if isinstance(binaries, str):
        pytest.skip(binaries)
    with Network() as network:
        folder = short_folder(network.tag)
        lab = Lab(network, folder)
        users = [User("agent", ("agents",))]
        server = ApiServer(folder / "api", binaries, users=users, inside=lab.fabric.inside, address="10.42.0.4")
        with server:
            server.define(crds(GROUP))
            server.grant("agent", RULES)
            kubeconfig = str(server.kubeconfig("agent"))
            for node in lab.nodes.values():
                node.configure(blocks={"source": "calico"}, pools=[], kubernetes={"kubeconfig": kubeconfig})
            found = Cluster(lab, server)
            found.pool()
            for name in BLOCKS:
                found.affinity(name)
            lab.start()
            yield found
    shutil.rmtree(folder)


@pytest.fixture
def settled(cluster: Cluster) -> Cluster:
    """Each node has its own block and nothing else."""
    for name, block in BLOCKS.items():
        cluster.affinity(name)
        cluster.block(name, name, {})
        cluster.expect(name, block)
    return cluster


def test_confirmed_blocks_are_announced_and_learned_by_the_other_nodes(settled: Cluster) -> None:
    kernel = settled.lab.nodes["node-a"].routes
    wait_for("node-a has the others' blocks", lambda: all(any(b in r for r in kernel()) for b in BLOCKS.values()), 20)
    assert settled.source("node-a") == ("synced", "1 block of node-a")


def test_a_borrowed_address_is_announced_by_the_node_that_uses_it_until_it_is_released(settled: Cluster) -> None:
    settled.block("node-b", "node-b", {5: "node-c"})
    settled.expect("node-c", BLOCKS["node-c"], "192.168.2.5/32")
    settled.expect("node-b", BLOCKS["node-b"])
    settled.block("node-b", "node-b", {})
    settled.expect("node-c", BLOCKS["node-c"])


def test_a_block_that_loses_its_owner_is_withdrawn_after_its_live_addresses_are_announced(settled: Cluster) -> None:
    settled.block("node-b", "node-b", {5: "node-b", 9: "node-b"})
    settled.affinity("node-b", "pendingDeletion")
    settled.expect("node-b", "192.168.2.5/32", "192.168.2.9/32")
    settled.block("node-b", None, {5: "node-b", 9: "node-b"})
    settled.affinity("node-b", "pendingDeletion", deleted="true")
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
    settled.api.grant("agent", [RULES[0] | {"resources": ["blockaffinities", "ippools"]}])
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
        settled.api.grant("agent", RULES)
    wait_for("node-c has read everything", lambda: settled.source("node-c")[0] == "synced", 90)
