"""One node with the real program, one wire, and somebody else's BGP daemon at its other end."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from lab.neighbours.plan import LOOPBACK, NODE, NODE6, NODE_ASN, ROUTER, ROUTER6, ROUTER_ASN, Feature, Neighbour, Plan
from lab.netns import Network, wait_for
from lab.topology import Node, NodePlan, StatusError, installed_program, short_folder
from tests.interop.speaker_rig import exabgps

BLOCKS: Final = ("192.168.1.0/26", "192.168.1.64/26", "192.168.1.128/26", "fd77:1::/64")
THEIRS: Final = ("192.168.7.0/24", "fd77:7::/64")
#: Feature -> the test that proves it.
PROVED: Final[dict[Feature, str]] = {}
TestT = TypeVar("TestT", bound=Callable[..., object])


def proves(feature: Feature) -> Callable[[TestT], TestT]:
    """Name the row of docs/reference/interop.md that a test stands for; what a daemon cannot do is skipped there."""

    def mark(test: TestT) -> TestT:
        PROVED[feature] = test.__name__
        test.__dict__["feature"] = feature
        return test

    return mark


def of_version(prefixes: object, address: str) -> set[str]:
    """Of these prefixes, those of the address's family."""
    return {prefix for prefix in prefixes if (":" in prefix) == (":" in address)}  # type: ignore[attr-defined]


class Rig:
    """The node is ready once :meth:`set_up` returns; tests change it as they like and set it up again."""

    def __init__(self, network: Network, folder: Path, kind: type[Neighbour]) -> None:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.folder = folder
        plan = NodePlan("node", NODE, ROUTER, BLOCKS, {})
        self.node = Node(network, plan, folder, installed_program())
        router = network.add("router", forwarding=True)
        network.wire(
            self.node.inside, "eth0", router, "eth0",
            left_addresses=[f"{NODE6}/64"], right_addresses=[f"{ROUTER}/24", f"{ROUTER6}/64"],
        )  # fmt: skip
        router.ip(f"address add {LOOPBACK}/32 dev lo")
        self.node.furnish()
        self.neighbour = kind(network, router, folder / "router")
        self.others: list[dict[str, object]] = []  # more peers for the node
        self._peer: dict[str, object] = {}
        self._started = False

    def set_up(self, plan: Plan | None = None, /, **peer: object) -> Neighbour:
        """Both sides as told (``peer``: keys of the peers' configuration) and converged; the neighbour for the test."""
        plan = plan or Plan()
        again = not self._started or plan != self.neighbour.plan or not self.neighbour_runs
        if again:
            self.neighbour.kill()
            self.neighbour.plan, self.neighbour.routes = plan, dict.fromkeys(THEIRS)
        self._peer = peer
        self.configure()
        self.node.own(BLOCKS)
        if not self._started:
            self.node.start_speaker()
            self.node.start_agent()
            self._started = True
        if again:
            self.neighbour.start()
        for prefix in [prefix for prefix in self.neighbour.routes if prefix not in THEIRS]:
            self.neighbour.withdraw(prefix)
        for prefix in [prefix for prefix in THEIRS if prefix not in self.neighbour.routes]:
            self.neighbour.announce(prefix)
        self.converged()
        return self.neighbour

    @property
    def neighbour_runs(self) -> bool:
        return self.neighbour.process is None or self.neighbour.process.poll() is None

    def configure(self, **changes: object) -> None:
        """Write the agent's config; ``changes`` are keys of the peers."""
        sessions = self.neighbour.plan.sessions
        self.node.configure(
            node={"name": "node", "address": NODE, "address6": NODE6},
            pools=["192.168.0.0/16", "fd77::/16"],
            bgp={
                "asn": NODE_ASN, "stale_time": "30s",
                "peers": [
                    *({"address": router, "asn": ROUTER_ASN, **self._peer, **changes} for router in sessions),
                    *self.others,
                ],
            },
            probe={"mode": "off"},
        )  # fmt: skip

    def converged(self, timeout: float = 30.0) -> None:
        """Wait until every session is up, the neighbour holds the blocks and the kernel has the neighbour's routes."""
        wait_for(Missing(self), lambda: not any(self.missing()), timeout, 0.1)

    def missing(self) -> Iterator[str]:
        """What is not yet as it shall be."""
        for router, node in self.neighbour.plan.sessions.items():
            peer, theirs = self.peer(router), of_version(self.neighbour.routes, node)
            if peer.get("state") != "established":
                yield f"the node has no session with {router}: {peer.get('reason')}"
            if not self.neighbour.established(node):
                yield f"{router} has no session"
            elif (held := set(self.neighbour.held(node))) != of_version(BLOCKS, node):
                yield f"{router} holds {held}"
            if (kernel := self.kernel(node)) != theirs:
                yield f"the kernel has {kernel}, not {theirs}"

    def holds(self, node: str) -> bool:
        """Has the neighbour exactly the node's blocks on this session."""
        return self.neighbour.established(node) and set(self.neighbour.held(node)) == of_version(BLOCKS, node)

    def routes(self, address: str = NODE) -> dict[str, str]:
        """The learned routes in the kernel of an address's family: prefix -> gateway."""
        version = "-6" if ":" in address else "-4"
        lines = self.node.inside.ip(f"{version} route show table main proto 179").splitlines()
        words = [line.split() for line in lines if " via " in line]
        return {w[0]: w[w.index("via") + 1] for w in words if "/" in w[0]}

    def kernel(self, address: str = NODE) -> set[str]:
        """The prefixes of :meth:`routes`."""
        return set(self.routes(address))

    def peer(self, address: str = ROUTER) -> Mapping[str, Any]:
        """A peer in /status; an empty one while the agent does not answer or does not know it."""
        try:
            peers = self.node.status()["peers"]
        except StatusError:
            return {}
        return next((peer for peer in peers if peer["address"] == address), {})

    def route(self, prefix: str) -> Mapping[str, Any]:
        """A route in /status, an empty one when it is not there."""
        return next((route for route in self.node.status()["routes"] if route["prefix"] == prefix), {})

    @property
    def exabgps(self) -> list[int]:
        """The node's ExaBGPs."""
        return exabgps(self.node.state_dir)


class Missing:
    """A condition's name that is made when it is needed."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def __str__(self) -> str:
        return "converged; " + "; ".join(self._rig.missing()) + f" ({self._rig.folder})"


@contextlib.contextmanager
def rig_with(kind: type[Neighbour]) -> Iterator[Rig]:
    """A rig that is gone afterwards."""
    with Network() as network:
        folder = short_folder(network.tag)
        yield Rig(network, folder, kind)
    shutil.rmtree(folder)
