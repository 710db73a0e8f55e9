"""FRR: bgpd with zebra beside it, which it asks whether a next hop can be reached.

Debian starts both from a supervisor; here they are started by hand, as the user ``frr``, with their sockets in a folder
that this user owns. What is announced are ``network`` statements; a route map gives one its next hop.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from lab.neighbours.plan import NODE_ASN, ROUTER_ASN, Feature, Held, Neighbour, may_change_user, version_of
from lab.netns import Namespace, Network, wait_for

_PROGRAMS = Path("/usr/lib/frr")


class Frr(Neighbour):
    """FRR's bgpd."""

    name: ClassVar = "FRR"
    package: ClassVar = "frr"
    release: ClassVar = "8.4.4"
    notes: ClassVar = {
        Feature.SESSION: "tells a neighbour its own routes again unless a filter says otherwise; they are refused "
        "here, and count towards `max_prefixes`",
        Feature.THEIR_LIMIT: "takes one prefix more than `maximum-prefix` says before it ends the session",
    }
    programs: ClassVar = ("vtysh", str(_PROGRAMS / "bgpd"), str(_PROGRAMS / "zebra"))

    def __init__(self, network: Network, inside: Namespace, folder: Path) -> None:
        super().__init__(network, inside, folder)
        self._zebra: subprocess.Popen[bytes] | None = None

    @classmethod
    def why_not(cls) -> str | None:
        if not may_change_user():
            return "FRR becomes the user frr: needs real root"
        return super().why_not()

    def start(self) -> None:
        shutil.chown(self.folder, "frr", "frr")
        if self._zebra is None:
            (self.folder / "zebra.conf").touch()
            self._zebra = self._run("zebra", "-A", "127.0.0.1")
            wait_for("zebra answers", (self.folder / "zebra.vty").exists)
        (self.folder / "bgpd.vty").unlink(missing_ok=True)
        (self.folder / "bgpd.conf").write_text(self._text())
        self.process = self._run("bgpd")
        wait_for("bgpd answers", lambda: (self.folder / "bgpd.vty").exists() and self.ask("show bgp summary json"))

    def _run(self, program: str, *more: str) -> subprocess.Popen[bytes]:
        folder = self.folder
        return self.network.start(
            self.inside, _PROGRAMS / program, "-u", "frr", "-g", "frr", "--vty_socket", folder, "-z",
            folder / "zserv.api", "-i", folder / f"{program}.pid", "-f", folder / f"{program}.conf", "-P", "0",
            "--log", "stdout", *more, log=self.log,
        )  # fmt: skip

    def ask(self, *commands: str) -> str:
        """What vtysh prints for these commands; empty when nobody answers."""
        words = ["vtysh", "--vty_socket", str(self.folder), "--config_dir", str(self.folder), "-d", "bgpd"]
        for command in commands:
            words += ["-c", command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
        return "" if done.returncode else done.stdout

    def _json(self, command: str) -> Any:  # noqa: ANN401 - parsed JSON
        return json.loads(self.ask(command) or "{}")

    def established(self, node: str) -> bool:
        told = self._json(f"show bgp neighbors {node} json").get(node, {})
        return bool(told.get("bgpState") == "Established")

    def held(self, node: str) -> dict[str, Held]:
        family = "ipv6" if ":" in node else "ipv4"
        table = self._json(f"show bgp {family} unicast json").get("routes", {})
        found = {}
        for prefix, paths in table.items():
            if any(path.get("peerId") == node for path in paths):
                told = self._json(f"show bgp {family} unicast {prefix} json").get("paths", [])
                path = next((path for path in told if path["peer"]["peerId"] == node), None)
                if path is None:  # it went meanwhile
                    continue
                found[prefix] = Held(
                    next_hop=next(hop["ip"] for hop in path["nexthops"] if hop.get("scope") != "link-local"),
                    as_path=tuple(map(int, path["aspath"]["string"].split())),
                    med=path.get("metric"),
                    communities=frozenset(path.get("community", {}).get("list", [])),
                )
        return found

    def updates(self, node: str) -> int:
        return int(self._json(f"show bgp neighbors {node} json")[node]["messageStats"]["updatesRecv"])

    def put(self, prefix: str, next_hop: str | None) -> None:
        self._configure(prefix, self._network(prefix, next_hop))

    def take(self, prefix: str, next_hop: str | None) -> None:
        self._configure(prefix, "no " + self._network(prefix, next_hop))

    def _configure(self, prefix: str, line: str) -> None:
        family = f"address-family ipv{version_of(prefix)} unicast"
        maps = [word for route_map in _maps(self.routes) for word in route_map]
        self.ask("configure terminal", *maps, f"router bgp {ROUTER_ASN}", family, line)

    @staticmethod
    def _network(prefix: str, next_hop: str | None) -> str:
        return f"network {prefix}" + (f" route-map {_map_name(next_hop)}" if next_hop else "")

    def _text(self) -> str:
        plan = self.plan
        lines = [line for route_map in _maps(self.routes) for line in route_map]
        lines += [
            "bgp route-map delay-timer 0", "bgp as-path access-list own permit ^$",
            f"router bgp {ROUTER_ASN}", "bgp router-id 10.99.1.2", "no bgp ebgp-requires-policy",
            "no bgp default ipv4-unicast", "no bgp network import-check",
            *([] if plan.graceful_restart else ["bgp graceful-restart-disable"]),  # it helps others restart by default
        ]  # fmt: skip
        for router, node in plan.sessions.items():
            start = f"neighbor {node}"
            lines += [f"{start} remote-as {NODE_ASN}", f"{start} timers 10 30", f"{start} timers connect 1",
                      f"{start} update-source {router}"]  # fmt: skip
            lines += [f"{start} password {plan.password}"] if plan.password else []
            lines += [f"{start} ttl-security hops 1"] if plan.ttl_security else []
            lines += [f"{start} ebgp-multihop 8"] if plan.multihop else []
            lines += self._family(node)
        return "\n".join([*lines, ""])

    def _family(self, node: str) -> list[str]:
        version = 6 if ":" in node else 4
        limit = self.plan.max_prefix
        return [
            f"address-family ipv{version} unicast",
            f"neighbor {node} activate",
            f"neighbor {node} filter-list own out",  # or it tells the node what it heard from it
            *([f"neighbor {node} maximum-prefix {limit}"] if limit else []),
            *(self._network(p, hop) for p, hop in self.routes.items() if version_of(p) == version),
            "exit-address-family",
        ]


def _map_name(next_hop: str) -> str:
    return "via-" + next_hop.replace(":", "-")


def _maps(routes: dict[str, str | None]) -> list[list[str]]:
    return [
        [f"route-map {_map_name(hop)} permit 10",
         f"set ipv6 next-hop global {hop}" if ":" in hop else f"set ip next-hop {hop}", "exit"]
        for hop in dict.fromkeys(routes.values()) if hop
    ]  # fmt: skip
