"""A cluster for the lab: Calico's objects in a real API server, and the nodes that read their blocks from it.

What Calico's IPAM would write is written here by hand, in its shapes, so that a story may take any order.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lab.kube.chart import rules
from lab.kube.crds import V1, V3, crds
from lab.kubernetes import ApiServer, Binaries, User
from lab.netns import Network, wait_for
from lab.topology import PLAN, Lab, short_folder

#: The address of the API server, in the lab's fabric: any machine of the virtual network may have it.
API_ADDRESS: Final = "10.42.0.4"
#: The block of each node.
BLOCKS: Final = {"node-a": "192.168.1.0/26", "node-b": "192.168.2.0/26", "node-c": "192.168.3.0/26"}
#: Addresses in a block of that size.
SIZE: Final = 64
#: The user that the agents are.
AGENT: Final = "agent"
#: All that an agent may do: what the chart gives it.
RULES: Final = rules()


class Cluster:
    """Calico's objects of one API group, as its IPAM would write them, and the lab that reads them."""

    def __init__(self, lab: Lab, api: ApiServer, group: str = V1) -> None:
        self.lab, self.api, self.group = lab, api, group

    # --- objects -----------------------------------------------------------------------------------------------------
    def put(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        """Create or replace one object."""
        self.api.admin.apply({"apiVersion": self.group, "kind": kind, "metadata": {"name": name}, "spec": dict(spec)})

    def drop(self, kind: str, name: str) -> None:
        """Delete one object."""
        self.api.admin.delete({"apiVersion": self.group, "kind": kind, "metadata": {"name": name}})

    def node(self, name: str, **spec: object) -> None:
        """The Node, as its kubelet registers it; without Calico's annotations. ``spec``: such as ``taints``."""
        address = next(plan.address for plan in PLAN if plan.name == name)
        status = {"addresses": [{"type": "InternalIP", "address": address}]}
        self.api.admin.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec,
                              "status": status})  # fmt: skip

    def pool(self, name: str = "pool", cidr: str = "192.168.0.0/16", **more: object) -> None:
        """An IPPool without encapsulation."""
        self.put("IPPool", name, {"cidr": cidr, "vxlanMode": "Never", "ipipMode": "Never", **more})

    def affinity(
        self, node: str, state: str = "confirmed", *, cidr: str | None = None, deleted: bool = False, kind: str = "host"
    ) -> None:
        """The BlockAffinity of a node and a block, its own one by default."""
        cidr = cidr or BLOCKS[node]
        flag: object = deleted if self.group == V3 else str(deleted).lower()
        spec = {"cidr": cidr, "node": node, "state": state, "type": kind, "deleted": flag}
        self.put("BlockAffinity", f"{node}-{dashed(cidr)}", spec)

    def block(self, cidr: str, owner: str | None, used: Mapping[int, str] | None = None) -> None:
        """An IPAMBlock of :data:`SIZE` addresses. ``used``: ordinal -> the node that uses the address."""
        allocations: list[int | None] = [None] * SIZE
        for index, ordinal in enumerate(used or {}):
            allocations[ordinal] = index
        spec = {
            "cidr": cidr, "allocations": allocations, "unallocated": [], "strictAffinity": False, "deleted": False,
            "attributes": [{"handle_id": "h", "secondary": {"node": each}} for each in (used or {}).values()],
        }  # fmt: skip
        self.put("IPAMBlock", dashed(cidr), spec | ({"affinity": f"host:{owner}"} if owner else {}))

    # --- what must come about ----------------------------------------------------------------------------------------
    def expect(self, node: str, *prefixes: str, within: float = 30.0) -> None:
        """Both route servers come to hold exactly these prefixes of a node."""
        birds = self.lab.fabric.birds.values()
        wait_for(
            f"both route servers hold exactly {prefixes} of {node}",
            lambda: [bird.prefixes(node) for bird in birds] == [set(prefixes)] * 2,
            within,
        )

    def source(self, node: str) -> tuple[str, str]:
        """State and reason of a node's block source."""
        found = self.lab.nodes[node].status()["source"]
        return found["state"], found["reason"]


@contextmanager
def clusters(
    binaries: Binaries, *, group: str = V1, rules: Sequence[Mapping[str, object]] = RULES, loose: bool = False,
    config: Mapping[str, object] | None = None, start: bool = True,
) -> Iterator[Cluster]:  # fmt: skip
    """A lab of three nodes, each with its confirmed block in one pool, and an API server in its fabric.

    ``loose``: the API server stores absurd objects; ``config``: more of the agents' configuration.
    """
    with Network() as network:
        folder = short_folder(network.tag)
        lab = Lab(network, folder)
        try:
            with _serving(lab, folder / "api", binaries) as api:
                api.define(crds(group, loose=loose))
                api.grant(AGENT, rules)
                cluster = Cluster(lab, api, group)
                cluster.pool()
                for name, block in BLOCKS.items():
                    cluster.node(name)
                    cluster.affinity(name)
                    cluster.block(block, name)
                configure(cluster, **(config or {}))
                if start:
                    lab.start()
                yield cluster
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def configure(cluster: Cluster, **config: object) -> None:
    """Write every agent's configuration: blocks from this cluster."""
    kubeconfig = str(cluster.api.kubeconfig(AGENT))
    settings = {"blocks": {"source": "calico"}, "pools": [], "kubernetes": {"kubeconfig": kubeconfig}, **config}
    for node in cluster.lab.nodes.values():
        node.configure(**settings)


def _serving(lab: Lab, folder: Path, binaries: Binaries) -> ApiServer:
    return ApiServer(folder, binaries, users=[User(AGENT)], inside=lab.fabric.inside, address=API_ADDRESS)


def dashed(cidr: str) -> str:
    """A CIDR as Calico writes it in names."""
    return cidr.replace(".", "-").replace(":", "-").replace("/", "-")
