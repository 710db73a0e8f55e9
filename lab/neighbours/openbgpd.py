"""OpenBGPD: bgpd and bgpctl. Its children become the user _openbgpd and change their root to /run/openbgpd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from lab.neighbours.plan import NODE_ASN, ROUTER_ASN, Feature, Held, Neighbour, may_change_user
from lab.netns import wait_for

_ROOT = Path("/run/openbgpd")


class OpenBgpd(Neighbour):
    """OpenBGPD, the portable release."""

    name: ClassVar = "OpenBGPD"
    package: ClassVar = "openbgpd"
    release: ClassVar = "7.7"
    programs: ClassVar = ("/usr/sbin/bgpd", "/usr/sbin/bgpctl")
    cannot: ClassVar = {
        Feature.OUR_LIMIT: "the surplus is refused, but room that is made later stays unused: that takes a refresh, "
        "which it refuses",
    }
    notes: ClassVar = {
        Feature.REFRESH: "by a new session: it refuses every ROUTE-REFRESH though negotiated (its log: `AID IPv4 "
        "unicast not negotiated`), so after ten silent seconds an agent that was restarted has the session start again",
        Feature.AGENT_KILLED: "for the ten seconds until its session starts again (the row of route refresh)",
        Feature.MD5: "needs `passive: true`: its listening socket never gets the key, so that only it can connect",
    }
    with_password: ClassVar = {"passive": True}  # its listening socket never gets the key: only it can connect

    @classmethod
    def why_not(cls) -> str | None:
        if not may_change_user():
            return "OpenBGPD becomes the user _openbgpd: needs real root"
        return super().why_not()

    def start(self) -> None:
        _ROOT.mkdir(mode=0o755, exist_ok=True)
        file = self.folder / "bgpd.conf"
        file.write_text(self._text())
        file.chmod(0o600)
        self.process = self.network.start(self.inside, self.programs[0], "-d", "-f", file, log=self.log)
        wait_for("bgpd answers", lambda: self.inside.run(*self._control("show"), check=False))
        for prefix, hop in self.routes.items():
            self.put(prefix, hop)

    def _control(self, *words: str) -> list[str]:
        return [self.programs[1], "-s", str(self.folder / "sock"), *words]

    def _ask(self, *words: str) -> Any:  # noqa: ANN401 - parsed JSON
        return json.loads(self.inside.run(*self._control("-j", *words)) or "{}")

    def established(self, node: str) -> bool:
        told = self._ask("show", "neighbor", node)["neighbors"]
        return bool(told and told[0]["state"] == "Established")

    def held(self, node: str) -> dict[str, Held]:
        told = self._ask("show", "rib", "in", "neighbor", node, "detail").get("rib", [])
        return {
            route["prefix"]: Held(
                next_hop=route["exit_nexthop"],
                as_path=tuple(map(int, route["aspath"].split())),
                med=route.get("metric") or None,
                communities=frozenset(route.get("communities", [])),
            )
            for route in told
        }

    def updates(self, node: str) -> int:
        return int(self._ask("show", "neighbor", node)["neighbors"][0]["stats"]["message"]["received"]["updates"])

    def put(self, prefix: str, next_hop: str | None) -> None:
        self.inside.run(*self._control("network", "add", prefix, *(("nexthop", next_hop) if next_hop else ())))

    def take(self, prefix: str, next_hop: str | None) -> None:  # noqa: ARG002 - the prefix is enough
        self.inside.run(*self._control("network", "delete", prefix))

    def _text(self) -> str:
        return "\n".join([
            f"AS {ROUTER_ASN}", "router-id 10.99.1.2", "fib-update no", f'socket "{self.folder / "sock"}"',
            "holdtime 30", "connect-retry 1",
            *(self._session(router, node) for router, node in self.plan.sessions.items()),
            "allow from any", "allow to any", "",
        ])  # fmt: skip

    def _session(self, router: str, node: str) -> str:
        plan, family = self.plan, "IPv6" if ":" in node else "IPv4"
        return "\n".join([
            f"neighbor {node} {{",
            f"  remote-as {NODE_ASN}", f"  local-address {router}",
            f"  announce {'IPv4' if family == 'IPv6' else 'IPv6'} none", f"  announce {family} unicast",
            f"  announce restart {'yes' if plan.graceful_restart else 'no'}",
            f'  tcp md5sig password "{plan.password}"' if plan.password else "",
            "  ttl-security yes" if plan.ttl_security else "",
            "  multihop 8" if plan.multihop else "",
            f"  max-prefix {plan.max_prefix} restart 1" if plan.max_prefix else "",
            "}",
        ])  # fmt: skip
