"""A lab on the Azure twin: Route Server, ARM, IMDS and the fabric, and three nodes that find all of it by themselves.

Nobody tells the nodes who their peers are, what their AS number is or where the route tables are: `azure` in the
config is all. A ping between two pods proves that the fabric was told, by BGP or by a route in the table: a node has
nothing but its default route, and the fabric drops what it knows no owner of.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self

from lab.netns import Namespace, Network, wait_for
from lab.topology import POOL, Node, NodePlan, installed_program

SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000001"
NETWORK: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.Network"
TABLE: Final = "pods"
#: Inside the fabric the twin answers for IMDS and ARM there.
METADATA: Final = "http://169.254.169.254"
INSTANCES: Final = ("10.42.0.4", "10.42.0.5")
ASN: Final = 64512

PLAN: Final = (
    NodePlan("node-a", "10.42.1.4", "10.42.1.1", ("192.168.1.0/26", "192.168.1.64/26"),
             {"pod-a1": "192.168.1.2", "pod-a2": "192.168.1.66"}),
    NodePlan("node-b", "10.42.1.5", "10.42.1.1", ("192.168.2.0/26",), {"pod-b1": "192.168.2.2"}),
    NodePlan("node-c", "10.42.2.4", "10.42.2.1", ("192.168.3.0/26",), {"pod-c1": "192.168.3.2"}),
)  # fmt: skip


def twin_config(tag: str, port: int, plan: Iterable[NodePlan] = PLAN, *, peers: bool = True, extra: str = "") -> str:
    """The twin's configuration for a plan; ``peers``: does the Route Server know the nodes already."""
    nodes = list(plan)
    subnet = {each.name: "nodes" if each.address.startswith("10.42.1.") else "others" for each in nodes}
    connections = "\n".join(f"  - {{name: {n.name}, address: {n.address}, asn: {ASN}}}" for n in nodes)
    nics = "\n".join(
        f"- {{name: {n.name}, subnet: {subnet[n.name]}, address: {n.address}, ip_forwarding: true}}" for n in nodes
    )
    return f"""
timing: fast
throttling: {{enabled: false}}
listen: ['127.0.0.1:{port}']
fabric: {{tag: '{tag}'}}
virtual_networks:
- name: vnet1
  address_space: [10.42.0.0/16]
  subnets:
  - {{name: RouteServerSubnet, prefix: 10.42.0.0/26}}
  - {{name: nodes, prefix: 10.42.1.0/24, route_table: {TABLE}}}
  - {{name: others, prefix: 10.42.2.0/24, route_table: {TABLE}}}
route_tables: [{{name: {TABLE}}}]
route_server:
  name: rs1
  virtual_network: vnet1
  peers:{" []" if not peers else ""}
{connections if peers else ""}
nics:
{nics}
vms: [{", ".join(f"{{name: {n.name}}}" for n in nodes)}]
{extra}
"""


class Twin:
    """``azure-twin run`` as a process, and its API."""

    def __init__(self, folder: Path, config: str, port: int) -> None:
        self.folder, self.url = folder, f"http://127.0.0.1:{port}"
        self.config = folder / "twin.yaml"
        self.config.write_text(config)
        self._process: subprocess.Popen[bytes] | None = None
        self._token = ""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process; raises RuntimeError when it was not started."""
        if self._process is None:
            raise RuntimeError("the Azure twin was not started")
        return self._process

    def start(self) -> None:
        """Start (again), and wait until it answers and is settled."""
        with (self.folder / "twin.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "azure_twin", "run", "-c", self.config],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": str(self.folder)},  # so that it leaves nothing, also when killed
            )  # fmt: skip
        wait_for("the Azure twin is up", self._up, timeout=60)

    def _up(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError((self.folder / "twin.log").read_text()[-3000:])
        try:
            return bool(self.status()["settled"])
        except (urllib.error.URLError, ConnectionError):
            return False

    def close(self) -> None:
        """End it; its namespaces go with it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def http(self, method: str, path: str, body: object = None, *, token: str = "", **query: str) -> tuple[int, Any]:
        """One request: status and parsed answer."""
        full = f"{self.url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Metadata": "true"}
        request = urllib.request.Request(full, data, headers, method=method)  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def arm(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - parsed JSON
        """An ARM request that must succeed; ``path`` below the network provider, or a whole one."""
        if not self._token:
            query = {"api-version": "2018-02-01", "resource": "https://management.azure.com/"}
            self._token = self.http("GET", "/metadata/identity/oauth2/token", **query)[1]["access_token"]
        full = path if path.startswith("/") else f"{NETWORK}/{path}"
        status, answer = self.http(method, full, body, token=self._token, **{"api-version": "2025-07-01"})
        if status >= 300:
            raise AssertionError(f"{method} {path}: {status} {answer}")
        return answer

    def twin(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - parsed JSON
        """A request to the twin's own API that must succeed."""
        status, answer = self.http(method, f"/twin/{path}", body)
        if status != 200:
            raise AssertionError(f"{method} /twin/{path}: {status} {answer}")
        return answer

    def status(self) -> Any:  # noqa: ANN401 - parsed JSON
        """The twin's own view."""
        return self.http("GET", "/twin/status")[1]

    def table(self, name: str = TABLE) -> dict[str, str]:
        """Prefix -> next hop of a route table."""
        found = self.arm("GET", f"routeTables/{name}")["properties"]["routes"]
        return {e["properties"]["addressPrefix"]: e["properties"].get("nextHopIpAddress", "") for e in found}


class AzureLab:
    """The twin and its nodes. ``sections``: what the agents' configs say beyond the least."""

    def __init__(
        self, network: Network, folder: Path, program: tuple[str, ...] | None = None, *, port: int = 9180,
        plan: tuple[NodePlan, ...] = PLAN, peers: bool = True, twin: str = "", **sections: object,
    ) -> None:  # fmt: skip
        self.tag = network.tag or "lab"
        folder.mkdir(mode=0o700, exist_ok=True)
        self.network, self.folder = network, folder
        self.twin = Twin(folder, twin_config(self.tag, port, plan, peers=peers, extra=twin), port)
        self._program = program or installed_program()
        self.plan, self._sections = plan, sections
        self.nodes: dict[str, Node] = {}

    def start(self, *, agents: bool = True) -> None:
        """Bring everything up; does not wait for sessions."""
        self.twin.start()
        for plan in self.plan:
            inside = Namespace(f"{self.tag}-{plan.name}")
            inside.sysctl("net.ipv4.ip_forward", 1)
            node = self.nodes[plan.name] = Node(self.network, plan, self.folder, self._program, inside)
            node.furnish_pods()
            self.configure(node)
            node.own(plan.blocks)
        if agents:
            self.start_agents()

    def start_agents(self) -> None:
        """A speaker and an agent on every node."""
        for node in self.nodes.values():
            node.start_speaker()
            node.start_agent()

    def configure(self, node: Node, **changes: object) -> None:
        """Write a node's config."""
        azure = {"arm_url": METADATA, "allow_http": True, "settle": "2s"}
        sections: dict[str, Any] = {
            "azure": azure, "fallback": {"after": "1s", "revert_after": "2s"}, **self._sections, **changes
        }  # fmt: skip
        node.write({
            "node": {"name": node.name}, "pools": [POOL],
            "blocks": {"source": "file", "path": str(node.blocks_file)},
            "speaker": {"spawn": False}, "state_dir": str(node.state_dir), **sections,
        })  # fmt: skip

    def pods(self) -> dict[str, tuple[Namespace, str]]:
        """Pod -> its namespace and address."""
        return {pod: (node.pods[pod], a) for node in self.nodes.values() for pod, a in node.plan.pods.items()}

    def blocks(self) -> dict[str, str]:
        """Block -> address of its node."""
        return {block: node.plan.address for node in self.nodes.values() for block in node.plan.blocks}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the twin; the nodes' processes end with the network."""
        self.twin.close()
