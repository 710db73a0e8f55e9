"""BIRD 2: one protocol for each session, routes from a static protocol, reconfigured as a whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from lab.bird import Bird as Process
from lab.neighbours.plan import NODE_ASN, ROUTER_ASN, Held, Neighbour, version_of
from lab.netns import Namespace, Network


class Bird(Neighbour):
    """BIRD 2."""

    name: ClassVar = "BIRD"
    package: ClassVar = "bird2"
    release: ClassVar = "2.0.12"
    programs: ClassVar = ("bird", "birdc")

    def __init__(self, network: Network, inside: Namespace, folder: Path) -> None:
        super().__init__(network, inside, folder)
        self._bird = Process(network, inside, "bird", folder)

    def start(self) -> None:
        self._bird.start(self._text())

    def kill(self) -> None:
        self._bird.kill()

    def established(self, node: str) -> bool:
        return self._bird.established(self._protocol(node))

    def held(self, node: str) -> dict[str, Held]:
        answer = self._bird.ask(f"show route all protocol {self._protocol(node)}")
        entries = re.split(r"^(?=[0-9a-f.:]+/\d+ )", answer, flags=re.MULTILINE)[1:]
        return {entry.split()[0]: _held(entry) for entry in entries}

    def updates(self, node: str) -> int:
        return sum(self._bird.nlri_received([self._protocol(node)])[self._protocol(node)])

    def put(self, prefix: str, next_hop: str | None) -> None:  # noqa: ARG002 - the whole configuration is told
        self._bird.configure(self._text())

    take = put

    @staticmethod
    def _protocol(node: str) -> str:
        return "node6" if ":" in node else "node4"

    def _text(self) -> str:
        return "\n".join([
            "log stderr all;", "router id 10.99.1.2;", "protocol device {}", "protocol direct { ipv4; ipv6; }",
            *(self._static(version) for version in (4, 6)),
            *(self._session(router, node) for router, node in self.plan.sessions.items()),
        ])  # fmt: skip

    def _static(self, version: int) -> str:
        ours = {prefix: hop for prefix, hop in self.routes.items() if version_of(prefix) == version}
        lines = (f"route {prefix} {f'via {hop}' if hop else 'blackhole'};" for prefix, hop in ours.items())
        return f"protocol static static{version} {{ ipv{version}; {' '.join(lines)} }}"

    def _session(self, router: str, node: str) -> str:
        plan, version = self.plan, 6 if ":" in node else 4
        limit = f"import limit {plan.max_prefix} action restart;" if plan.max_prefix else ""
        return "\n".join([
            f"protocol bgp {self._protocol(node)} {{",
            f"  local {router} as {ROUTER_ASN}; neighbor {node} as {NODE_ASN}; hold time 30; strict bind on;",
            "  multihop;" if plan.multihop else "  direct;",
            "  ttl security on;" if plan.ttl_security else "",
            f'  password "{plan.password}";' if plan.password else "",
            f"  graceful restart {'aware' if plan.graceful_restart else 'off'};",
            "  error wait time 1, 1; error forget time 1; connect delay time 1;",
            f"  ipv{version} {{ import all; export where source = RTS_STATIC; {limit} }};",
            "}",
        ])  # fmt: skip


def _held(entry: str) -> Held:
    said = dict(re.findall(r"^\s*BGP\.(\w+): (.*)$", entry, re.MULTILINE))
    return Held(
        next_hop=said["next_hop"].split()[0],
        as_path=tuple(map(int, said["as_path"].split())),
        med=int(said["med"]) if "med" in said else None,
        communities=frozenset(f"{a}:{b}" for a, b in re.findall(r"\((\d+),(\d+)\)", said.get("community", ""))),
    )
