"""The lab's network: a fabric without layer 2, two route servers, three nodes in two subnets, two pods on each.

The fabric is one namespace that routes. As on Azure every NIC is a link of its own, also within one subnet: the fabric
holds each subnet's gateway address on each of its links, answers ARP for everybody and delivers by destination. Unlike
Azure's it counts as one hop.

Both route servers run inside the fabric's namespace, each on an address of its own, and export what nodes announce,
with the node itself as next hop, into a kernel table of their own. The fabric asks, for a packet, in this order:

===== ============= =================================================================
pref  asks          what stands there
===== ============= =================================================================
32766 main          the VNet: links to the nodes, and what a test puts in the way
33000 1000 (rs-0)   blocks as rs-0 knows them
33001 1001 (rs-1)   blocks as rs-1 knows them: used for what rs-0 does not know
33002 ``blackhole`` anything else goes nowhere and nothing is said, Azure's ``None``
===== ============= =================================================================

So a ping between two pods proves that an announcement arrived: nobody else told the fabric where pods are. And it
proves that both nodes learned: a node's default route would lead to the fabric too, so each has a blackhole for the
whole pool, which only the blocks' routes are more specific than. One table a route server, because two BIRDs in one
table would each take the other's routes for left-overs of its own.
"""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from lab.bird import ROUTE_SERVER_ASN, Bird, Member, RouteServer, protocol_name
from lab.netns import Namespace, Network, wait_for

ASN: Final = 64512
VNET: Final = "10.42.0.0/16"
POOL: Final = "192.168.0.0/16"
ROUTE_SERVERS: Final = {"rs-0": "10.42.0.4", "rs-1": "10.42.0.5"}
TABLES: Final = {"rs-0": 1000, "rs-1": 1001}
GATEWAY_OF_PODS: Final = "169.254.1.1"  # Calico's: on every pod's link, held by nobody, answered by proxy ARP
STATUS_PORT: Final = 9179


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node to build. ``pods``: name -> address, inside ``blocks``."""

    name: str
    address: str
    gateway: str
    blocks: tuple[str, ...]
    pods: Mapping[str, str]


PLAN: Final = (
    NodePlan("node-a", "10.42.1.4", "10.42.1.1", ("192.168.1.0/26", "192.168.1.64/26"),
             {"pod-a1": "192.168.1.2", "pod-a2": "192.168.1.66"}),
    NodePlan("node-b", "10.42.1.5", "10.42.1.1", ("192.168.2.0/26",),
             {"pod-b1": "192.168.2.2", "pod-b2": "192.168.2.3"}),
    NodePlan("node-c", "10.42.2.4", "10.42.2.1", ("192.168.3.0/26",),
             {"pod-c1": "192.168.3.2", "pod-c2": "192.168.3.3"}),
)  # fmt: skip


def installed_program() -> tuple[str, ...]:
    """The command that belongs to the running interpreter: ``bgp-agent`` beside it, else ``python -m bgp_agent``."""
    beside = Path(sys.executable).with_name("bgp-agent")
    return (str(beside),) if beside.exists() else (sys.executable, "-m", "bgp_agent")


class StatusError(Exception):
    """The agent's HTTP did not answer; the message says how."""


class Node:
    """A node: its namespace, its pods, and the two processes of bgp-agent on it.

    ``inside``: a namespace that somebody else made and linked; else the network makes one.
    """

    def __init__(
        self, network: Network, plan: NodePlan, folder: Path, program: tuple[str, ...], inside: Namespace | None = None
    ) -> None:
        self.plan = plan
        self.name = plan.name
        self.inside = inside if inside is not None else network.add(plan.name, forwarding=True)
        self.pods = {name: network.add(name) for name in plan.pods}
        self.config = folder / f"{plan.name}.yaml"
        self.blocks_file = folder / f"{plan.name}.blocks.yaml"
        self.state_dir = folder / plan.name
        self.agent: subprocess.Popen[bytes] | None = None
        self.speaker: subprocess.Popen[bytes] | None = None
        self._network = network
        self._folder = folder
        self._program = program

    # --- the host ----------------------------------------------------------------------------------------------------
    def furnish(self) -> None:
        """Address, default route, and the pods behind their links as Calico makes them."""
        plan = self.plan
        self.inside.batch(
            f"address add {plan.address}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {plan.gateway} dev eth0",
            f"route add blackhole {POOL}",  # or the default route would do a learned route's work
        )
        self.furnish_pods()

    def furnish_pods(self) -> None:
        """The pods behind their links, as Calico makes them."""
        plan = self.plan
        for pod, address in plan.pods.items():
            inside, link = self.pods[pod], f"cali-{pod.removeprefix('pod-')}"
            self.inside.batch(
                f"link add {link} type veth peer name eth0 netns {inside.name}",
                f"link set {link} up",
                f"route add {address}/32 dev {link} scope link",
            )
            self.inside.sysctl(f"net.ipv4.conf.{link}.proxy_arp", 1)
            self.inside.sysctl(f"net.ipv4.neigh.{link}.proxy_delay", 0)
            inside.batch(
                f"address add {address}/32 dev eth0",
                "link set eth0 up",
                f"route add {GATEWAY_OF_PODS} dev eth0 scope link",
                f"route add default via {GATEWAY_OF_PODS} dev eth0",
            )

    # --- what bgp-agent reads ----------------------------------------------------------------------------------------
    def configure(self, **changes: object) -> None:
        """Write the agent's config; ``changes`` replace whole sections."""
        document: dict[str, object] = {
            "node": {"name": self.name, "address": self.plan.address},
            "pools": [POOL],
            "blocks": {"source": "file", "path": str(self.blocks_file)},
            "bgp": {
                "asn": ASN,
                "peers": [{"address": a, "asn": ROUTE_SERVER_ASN, "multihop": 8} for a in ROUTE_SERVERS.values()],
            },
            "speaker": {"spawn": False},
            "state_dir": str(self.state_dir),
        }
        self.write({**document, **changes})

    def write(self, document: Mapping[str, object]) -> None:
        """Write the agent's config, whole."""
        _replace(self.config, yaml.safe_dump(dict(document), sort_keys=False))

    def own(self, blocks: Iterable[str]) -> None:
        """Write the block file (by an atomic rename)."""
        _replace(self.blocks_file, yaml.safe_dump({"blocks": [{"cidr": block} for block in blocks]}, sort_keys=False))

    # --- the processes -----------------------------------------------------------------------------------------------
    def start_speaker(self) -> None:
        """Start ``bgp-agent speaker``; it outlives every agent."""
        self.speaker = self._start("speaker")

    def start_agent(self) -> None:
        """Start ``bgp-agent run``."""
        self.agent = self._start("run")

    def end_agent(self, number: signal.Signals) -> int:
        """Send ``number`` to the agent and wait until it is gone; its exit code (negative: killed by that signal)."""
        if self.agent is None:
            raise RuntimeError(f"{self.name}: no agent was started")
        self.agent.send_signal(number)
        return self.agent.wait(10)

    def command(self, *words: str) -> list[str]:
        """The argument list of ``bgp-agent WORDS`` on this node, with its config."""
        return self.inside.command("env", f"BGP_AGENT_CONFIG={self.config}", *self._program, *words)

    def ask(self, *words: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run ``bgp-agent WORDS`` on this node to its end."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=timeout, check=False)

    def log(self, part: str) -> Path:
        """The log of ``run`` or ``speaker``."""
        return self._folder / f"{self.name}.{part}.log"

    def get(self, path: str = "/status", timeout: float = 5.0) -> tuple[int, bytes]:
        """GET from the agent's HTTP: status and body. Raises :class:`StatusError`."""
        connection = http.client.HTTPConnection("127.0.0.1", STATUS_PORT, timeout=timeout)
        try:
            with self.inside.entered():
                connection.connect()
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise StatusError(f"{self.name}: GET {path}: {error}") from error
        finally:
            connection.close()

    def answers(self) -> bool:
        """Does the agent's HTTP answer."""
        try:
            return bool(self.get("/healthz")[0])
        except StatusError:
            return False

    def status(self) -> Any:  # noqa: ANN401 - parsed JSON: what is in it is for the reader to say
        """``/status`` as parsed JSON. Raises :class:`StatusError`."""
        return json.loads(self.get()[1])

    def routes(self) -> list[str]:
        """The kernel routes that bgp-agent holds in table main, as ``ip route`` shows them."""
        return self.inside.ip("route show table main proto 179").splitlines()

    def _start(self, part: str) -> subprocess.Popen[bytes]:
        arguments: tuple[str | Path, ...] = (*self._program, part, "-c", self.config)
        return self._network.start(self.inside, *arguments, log=self.log(part))


class Fabric:
    """The namespace that routes between all NICs, with both route servers in it."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.inside = network.add("fabric", forwarding=True)
        self.birds = {name: Bird(network, self.inside, name, folder) for name in ROUTE_SERVERS}
        self._members: list[Member] = []

    def furnish(self, nodes: Iterable[Node]) -> None:
        """A link to every node, the gateway's address on it, and the order of the tables."""
        self.inside.batch(
            *(f"address add {address}/32 dev lo" for address in ROUTE_SERVERS.values()),
            *(f"rule add pref {33000 + n} lookup {table}" for n, table in enumerate(TABLES.values())),
            "rule add pref 33002 blackhole",
        )
        for node in nodes:
            self._join(node)

    def _join(self, node: Node) -> None:
        link, plan = f"to-{node.name}", node.plan
        self.inside.batch(
            f"link add {link} type veth peer name eth0 netns {node.inside.name}",
            f"address add {plan.gateway}/32 dev {link}",
            f"link set {link} up",
            f"route add {plan.address}/32 dev {link} scope link",
        )
        self.inside.sysctl(f"net.ipv4.conf.{link}.proxy_arp", 1)
        self.inside.sysctl(f"net.ipv4.neigh.{link}.proxy_delay", 0)
        self._members.append(Member(node.name, plan.address, ASN, link))

    def route_server(self, name: str, extra: tuple[str, ...] = ()) -> RouteServer:
        """The configuration of one route server: every node is its peer. ``extra``: what it tells them besides."""
        return RouteServer(ROUTE_SERVERS[name], VNET, tuple(self._members), TABLES[name], extra=extra)

    def start_route_server(self, name: str) -> None:
        """Start one route server, or start it again."""
        bird = self.birds[name]
        bird.start(self.route_server(name).config(bird.mrt))

    def tell(self, name: str, *prefixes: str) -> None:
        """Make a running route server announce these prefixes besides what it reflects; none: stop that."""
        bird = self.birds[name]
        bird.configure(self.route_server(name, prefixes).config(bird.mrt))

    def hand(self, prefix: str, to: Node) -> None:
        """Deliver ``prefix`` to ``to`` whatever the route servers know, as a wrong user-defined route would."""
        self.inside.ip(f"route replace {prefix} via {to.plan.address} dev to-{to.name}")

    def leave(self, prefix: str) -> None:
        """Take back what :meth:`hand` did."""
        self.inside.ip(f"route delete {prefix}", check=False)


class Lab:
    """Everything together. Made inside a sandbox; ``folder`` needs a short path (Unix sockets live in it)."""

    def __init__(self, network: Network, folder: Path, program: tuple[str, ...] | None = None) -> None:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.network = network
        self.folder = folder
        self.fabric = Fabric(network, folder)
        self.nodes = {p.name: Node(network, p, folder, program or installed_program()) for p in PLAN}
        self.fabric.furnish(self.nodes.values())
        for node in self.nodes.values():
            node.furnish()
            node.configure()
            node.own(node.plan.blocks)

    def start(self) -> None:
        """Start route servers, speakers and agents; returns at once."""
        for name in ROUTE_SERVERS:
            self.fabric.start_route_server(name)
        for node in self.nodes.values():
            node.start_speaker()
        for node in self.nodes.values():
            node.start_agent()

    def pods(self) -> dict[str, tuple[Namespace, str]]:
        """Every pod with its namespace and address."""
        return {pod: (inside, node.plan.pods[pod]) for node in self.nodes.values() for pod, inside in node.pods.items()}

    def missing(self) -> list[str]:
        """What is not yet as it shall be, one sentence each; empty when converged."""
        return [*self._missing_at_peers(), *(s for node in self.nodes.values() for s in self._missing_at(node))]

    def _missing_at_peers(self) -> Iterable[str]:
        for name, bird in self.fabric.birds.items():
            sessions, table = bird.sessions(), bird.table()
            for node in self.nodes.values():
                peer = protocol_name(node.name)
                if peer not in sessions:
                    yield f"{name} has no session with {node.name}"
                elif (held := table.get(peer, set())) != set(node.plan.blocks):
                    yield f"{name} holds {', '.join(sorted(held)) or 'nothing'} of {node.name}"

    def _missing_at(self, node: Node) -> Iterable[str]:
        others = [block for other in self.nodes.values() if other is not node for block in other.plan.blocks]
        try:
            status = node.status()
        except StatusError as error:
            yield str(error)
            return
        if not status["ready"]:
            yield f"{node.name} is not ready: {status['reason']}"
        kernel = {line.split()[0] for line in node.routes()}
        proved = {
            route["prefix"] for route in status["routes"]
            if route["state"] == "installed" and route["verified"]["state"] == "delivered"
        }  # fmt: skip
        for block in others:
            if block not in kernel:
                yield f"{node.name} has no kernel route for {block}"
            elif block not in proved:
                yield f"{node.name} has no proof yet of who gets {block}"

    def ended(self) -> list[str]:
        """The processes that shall run and have ended, with where to read why."""
        parts = [(node, part, getattr(node, name)) for node in self.nodes.values()
                 for part, name in (("run", "agent"), ("speaker", "speaker"))]  # fmt: skip
        return [
            f"{node.name}: bgp-agent {part} exited {process.returncode}; its log is {node.log(part)}"
            for node, part, process in parts if process is not None and process.poll() is not None
        ]  # fmt: skip

    def wait(self, timeout: float = 60.0) -> None:
        """Wait until converged; what is missing is named when time runs out (raises ``ExpiredError``)."""
        wait_for(Missing(self), lambda: not self.missing(), timeout, 0.2)


class Missing:
    """A condition's name that is made when it is needed: what the lab lacks at that moment."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def __str__(self) -> str:
        return "converged; missing: " + "; ".join(self._lab.missing())


def short_folder(tag: str) -> Path:
    """A folder whose path leaves room for Unix sockets (108 bytes); in the sandbox's own /run it vanishes with it."""
    return Path("/run") / f"lab{'-' if tag else ''}{tag}"


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)
