"""A node with two links and a router at the end of each, both families; whoever judges it is not the agent.

Both routers are real BIRDs in one namespace, ``world``, which holds the addresses behind them too: a packet that leaves
the node by either link has arrived. What stands in the node's kernel is asked of ``ip``.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lab.bird import Bird
from lab.evidence import RouteEvents
from lab.netns import Network, wait_for
from lab.topology import Node, NodePlan, StatusError, installed_program, short_folder
from lab.traffic import Traffic

OURS: Final = "proto 179 metric 4096"
NODE_ASN: Final = 64512
NODE, NODE6 = "10.99.0.1", "fd99::1"  # on the loopback: a session depends on its own link alone
BLOCKS: Final = ("192.168.1.0/26", "fd77:1::/64")
POOLS: Final = ("192.168.0.0/16", "fd77::/16")
SOON: Final = 1.0  # seconds; what is promised for a route that can be written

#: What each router announces when nothing is said, and what they announce together.
LEFT, LEFT6 = "192.168.10.0/24", "fd77:10::/64"
RIGHT, RIGHT6 = "192.168.20.0/24", "fd77:20::/64"
BOTH, BOTH6 = "192.168.7.0/24", "fd77:7::/64"


@dataclass(frozen=True, slots=True)
class Side:
    """One link of the node: its addresses, the router's, and those of a second router on the same wire."""

    link: str
    node: tuple[str, str]
    router: tuple[str, str]
    other: tuple[str, str]
    asn: int
    routes: tuple[str, ...]


SIDES: Final = {
    "left": Side("eth0", ("10.99.1.1", "fd99:1::1"), ("10.99.1.2", "fd99:1::2"), ("10.99.1.77", "fd99:1::77"), 65001,
                 (LEFT, LEFT6, BOTH, BOTH6)),
    "right": Side("eth1", ("10.99.2.1", "fd99:2::1"), ("10.99.2.2", "fd99:2::2"), ("10.99.2.77", "fd99:2::77"), 65002,
                  (RIGHT, RIGHT6, BOTH, BOTH6)),
}  # fmt: skip


def host_in(prefix: str, number: int = 7) -> str:
    """An address of ``world`` inside one of the prefixes above."""
    network, _, _ = prefix.partition("/")
    return f"{network}{number}" if ":" in network else f"{network.rpartition('.')[0]}.{number}"


@dataclass(slots=True)
class Router:
    """A BIRD at the end of a link. ``routes``: what it announces, with the next hop, None for its own address."""

    side: Side
    bird: Bird
    routes: dict[str, str | None] = field(default_factory=dict)

    def start(self) -> None:
        """Start, or kill and start again, with what ``routes`` holds."""
        self.bird.kill()
        self.bird.start(self._text())

    def tell(self, *prefixes: str) -> None:
        """Announce just these, with the router itself as next hop."""
        self.announce(dict.fromkeys(prefixes))

    def announce(self, routes: Mapping[str, str | None]) -> None:
        """Announce just these, each with its next hop."""
        self.routes = dict(routes)
        self.bird.configure(self._text())

    def _text(self) -> str:
        return "\n".join([
            "log stderr all;", f"router id {self.side.router[0]};", "protocol device {}",
            self._static(4), self._static(6),
            "filter told {",
            "  if source != RTS_STATIC then reject;",
            *(f"  if net = {prefix} then bgp_next_hop = {hop};" for prefix, hop in self.routes.items() if hop),
            "  accept;",
            "}",
            "protocol bgp node {",
            f"  local {self.side.router[0]} as {self.side.asn}; neighbor {NODE} as {NODE_ASN};",
            "  multihop; strict bind on; hold time 9; graceful restart aware; connect delay time 1;",
            "  error wait time 1, 1; error forget time 1;",
            "  ipv4 { import all; export filter told; };",
            f"  ipv6 {{ import all; export filter told; next hop address {self.side.router[1]}; }};",
            "}",
        ])  # fmt: skip

    def _static(self, version: int) -> str:
        routes = (f"route {prefix} blackhole;" for prefix in self.routes if (":" in prefix) == (version == 6))
        return f"protocol static static{version} {{ ipv{version}; {' '.join(routes)} }}"


class Crossroads:
    """The node, the world, and the agent between them."""

    def __init__(self, network: Network, folder: Path) -> None:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.network = network
        self.folder = folder
        plan = NodePlan("node", NODE, SIDES["left"].router[0], BLOCKS, {})
        self.node = Node(network, plan, folder, installed_program())
        self.inside = self.node.inside
        self.world = network.add("world", forwarding=True)
        self.world.sysctl("net.ipv6.conf.all.keep_addr_on_down", 1)
        self.inside.ip(f"address add {NODE}/32 dev lo")
        self.inside.ip(f"address add {NODE6}/128 dev lo")
        for side in SIDES.values():
            self.wire(side)
            self.world.ip(f"rule add from {side.router[0]} lookup {side.asn}")
        for prefix in (LEFT, LEFT6, RIGHT, RIGHT6, BOTH, BOTH6):
            for number in range(1, 9):
                address = host_in(prefix, number)
                self.world.ip(f"address add {address}/{128 if ':' in address else 32} dev lo")
        self.routers = {name: Router(side, Bird(network, self.world, name, folder)) for name, side in SIDES.items()}
        self.left, self.right = self.routers.values()
        self.peers: list[dict[str, object]] = []  # more of them

    # --- the network -------------------------------------------------------------------------------------------------
    def wire(self, side: Side) -> None:
        """Join node and world by this side's link, with all its addresses; again, when it was deleted."""
        self.network.wire(self.inside, side.link, self.world, side.link)
        self.address(side)
        for four, six in (side.router, side.other):
            self.world.ip(f"address add {four}/24 dev {side.link}")
            self.world.ip(f"address add {six}/64 dev {side.link} nodad")
        self.world.ip(f"route replace {NODE}/32 via {side.node[0]} table {side.asn}")

    def address(self, side: Side) -> None:
        """Give the node's end what it lacks of its addresses."""
        four, six = side.node
        self.inside.ip(f"address replace {four}/24 dev {side.link}")
        self.inside.ip(f"address replace {six}/64 dev {side.link} nodad")

    def readdress(self) -> None:
        """Give both links what they lack of their addresses, and the way back to the node."""
        for side in SIDES.values():
            self.address(side)
            self.world.ip(f"route replace {NODE}/32 via {side.node[0]} table {side.asn}")

    def carried(self) -> list[int]:
        """How many packets the node has sent by each link."""
        shown = (json.loads(self.inside.ip(f"-s -j link show {side.link}")) for side in SIDES.values())
        return [int(link["stats64"]["tx"]["packets"]) for (link,) in shown]

    # --- the program -------------------------------------------------------------------------------------------------
    def configure(self, **changes: object) -> None:
        """Write the agent's config; ``changes`` replace keys of ``bgp``, or whole sections."""
        bgp: dict[str, object] = {
            "asn": NODE_ASN, "hold_time": "9s", "stale_time": "30s",
            "peers": [
                *({"address": side.router[0], "asn": side.asn, "families": ["ipv4", "ipv6"]}
                  for side in SIDES.values()),
                *self.peers,
            ],
        }  # fmt: skip
        of_bgp = {key: changes.pop(key) for key in list(changes) if key in ("stale_time", "graceful_restart")}
        sections = {
            "node": {"name": "node", "address": NODE, "address6": NODE6},
            "pools": list(POOLS), "bgp": bgp | of_bgp, **changes,
        }  # fmt: skip
        self.node.configure(**sections)

    def start(self) -> None:
        """Routers, speaker and agent."""
        self.configure()
        self.node.own(BLOCKS)
        for router in self.routers.values():
            router.routes = dict.fromkeys(router.side.routes)
            router.start()
        self.node.start_speaker()
        self.node.start_agent()

    def restore(self) -> None:
        """Everything as it was, and converged."""
        self.configure()
        self.node.own(BLOCKS)
        self.readdress()
        for router in self.routers.values():
            if not router.bird.ask("show status"):
                router.start()
            router.tell(*router.side.routes)
        self.wait()

    def stop_agent(self) -> None:
        """Kill it: what it wrote stays."""
        self.node.end_agent(signal.SIGKILL)

    # --- what is seen ------------------------------------------------------------------------------------------------
    def routes(self, words: str = OURS) -> dict[str, frozenset[str]]:
        """Routes of table main by ``ip``: prefix -> its gateways; a blackhole's is "blackhole"."""
        found = {}
        for version in ("-4", "-6"):
            for route in json.loads(self.inside.ip(f"-j {version} route show table main {words}") or "[]"):
                hops = route.get("nexthops", [route])
                gateways = {hop["gateway"] for hop in hops if "gateway" in hop}
                found[_prefix(route["dst"], version)] = frozenset(gateways or {route.get("type", "")})
        return found

    def via(self, prefix: str) -> frozenset[str]:
        """The gateways of our route for a prefix; empty when there is none."""
        return self.routes().get(prefix, frozenset())

    def events(self) -> RouteEvents:
        """Every route event of the node from now on."""
        return RouteEvents(self.network, [self.inside], self.folder)

    def traffic(self, *prefixes: str, rate: int = 1000, each: int = 1) -> Traffic:
        """Numbered packets from the node to ``each`` addresses of every prefix, ``rate`` a second each."""
        traffic = Traffic(rate)
        for prefix in prefixes:
            for number in range(1, each + 1):
                traffic.stream(f"{prefix} {number}", self.inside, self.world, host_in(prefix, number))
        return traffic

    def status(self, prefix: str) -> tuple[str, str]:
        """A route's state and reason in /status; empty ones when it is not there."""
        with contextlib.suppress(StatusError):
            for route in self.node.status()["routes"]:
                if route["prefix"] == prefix:
                    return route["state"], route["reason"]
        return "", ""

    def peer(self, name: str) -> Mapping[str, Any]:
        """What /status says of a router."""
        address = SIDES[name].router[0]
        return next(peer for peer in self.node.status()["peers"] if peer["address"] == address)

    # --- waiting -----------------------------------------------------------------------------------------------------
    def standard(self) -> dict[str, frozenset[str]]:
        """The kernel's routes when all is well."""
        left, right = SIDES["left"].router, SIDES["right"].router
        return {
            **dict.fromkeys(BLOCKS, frozenset({"blackhole"})),
            LEFT: frozenset({left[0]}), LEFT6: frozenset({left[1]}),
            RIGHT: frozenset({right[0]}), RIGHT6: frozenset({right[1]}),
            BOTH: frozenset({left[0], right[0]}), BOTH6: frozenset({left[1], right[1]}),
        }  # fmt: skip

    def missing(self) -> Iterator[str]:
        """What is not as it shall be."""
        kernel, wanted = self.routes(), self.standard()
        if kernel != wanted:
            odd = {prefix for prefix in kernel.keys() | wanted.keys() if kernel.get(prefix) != wanted.get(prefix)}
            yield f"the kernel differs at {sorted(odd)}"
        try:
            status = self.node.status()
        except StatusError as error:
            yield str(error)
            return
        if not status["ready"]:
            yield f"not ready: {status['reason']}"
        lost = [peer for peer in status["peers"] if peer["state"] != "established"]
        yield from (f"{peer['address']}: {peer['reason']}" for peer in lost)

    def wait(self, timeout: float = 30.0) -> None:
        """Wait until converged."""
        wait_for(_Missing(self), lambda: not any(self.missing()), timeout, 0.1)

    def wait_for_routes(self, what: str, changed: Mapping[str, Iterable[str] | None], timeout: float = 10.0) -> None:
        """Wait until the kernel has the usual routes but for ``changed``: other gateways, or None for no route."""
        wanted = self.standard()
        for prefix, gateways in changed.items():
            if gateways is None:
                wanted.pop(prefix, None)
            else:
                wanted[prefix] = frozenset(gateways)
        wait_for(what, lambda: self.routes() == wanted, timeout)


class _Missing:
    def __init__(self, crossroads: Crossroads) -> None:
        self._crossroads = crossroads

    def __str__(self) -> str:
        return f"converged: {'; '.join(self._crossroads.missing())} ({self._crossroads.folder})"


def _prefix(destination: str, version: str) -> str:
    if destination == "default" or "/" in destination:
        return destination
    return f"{destination}/{32 if version == '-4' else 128}"


def deleted(events: RouteEvents, *prefixes: str) -> list[str]:
    """The events that took a route of one of these prefixes (of any, when none is named) out of the kernel."""
    lines = [line for line in events.seen() if ": Deleted " in line]
    return [line for line in lines if not prefixes or any(f" {prefix} " in line for prefix in prefixes)]


def taken(events: RouteEvents) -> set[str]:
    """The prefixes of :func:`deleted`."""
    return {line.partition("Deleted ")[2].removeprefix("blackhole ").split()[0] for line in deleted(events)}


@contextlib.contextmanager
def crossroads() -> Iterator[Crossroads]:
    """Converged, and gone afterwards."""
    with Network() as network:
        folder = short_folder(network.tag)
        made = Crossroads(network, folder)
        made.start()
        made.wait(60)
        yield made
    shutil.rmtree(folder)
