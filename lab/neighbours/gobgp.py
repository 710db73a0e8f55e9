"""GoBGP: gobgpd and its command line, which speaks to it on the namespace's own loopback."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from lab.neighbours.plan import NODE_ASN, ROUTER_ASN, Held, Neighbour, version_of
from lab.netns import wait_for


class GoBgp(Neighbour):
    """GoBGP."""

    name: ClassVar = "GoBGP"
    package: ClassVar = "gobgpd"
    release: ClassVar = "3.10.0"
    programs: ClassVar = ("gobgp", "gobgpd")

    def start(self) -> None:
        file = self.folder / "gobgpd.toml"
        file.write_text(self._text())
        self.process = self.network.start(
            self.inside, "gobgpd", "-t", "toml", "-f", file, "--api-hosts", "127.0.0.1:50051", "--pprof-disable",
            log=self.log,
        )  # fmt: skip
        wait_for("gobgpd answers", lambda: self.inside.run("gobgp", "-j", "neighbor", check=False).startswith("["))
        for prefix, hop in self.routes.items():
            self.put(prefix, hop)

    def _ask(self, *words: str) -> Any:  # noqa: ANN401 - parsed JSON
        return json.loads(self.inside.run("gobgp", "-j", *words) or "null")

    def established(self, node: str) -> bool:
        told = self._ask("neighbor", node)
        return bool(told["state"].get("session_state") == 6)

    def held(self, node: str) -> dict[str, Held]:
        family = "ipv6" if ":" in node else "ipv4"
        # of a neighbour without a session it says {"error": ...}
        answer = self.inside.run("gobgp", "-j", "neighbor", node, "adj-in", "-a", family, check=False)
        table = json.loads(answer or "{}")
        return {p: _held(paths[0]["attrs"]) for p, paths in table.items() if isinstance(paths, list)}

    def updates(self, node: str) -> int:
        return int(self._ask("neighbor", node)["state"]["messages"]["received"].get("update", 0))

    def put(self, prefix: str, next_hop: str | None) -> None:
        self._rib("add", prefix, *(("nexthop", next_hop) if next_hop else ()))

    def take(self, prefix: str, next_hop: str | None) -> None:
        self._rib("del", prefix, *(("nexthop", next_hop) if next_hop else ()))

    def _rib(self, what: str, prefix: str, *more: str) -> None:
        self.inside.run("gobgp", "global", "rib", what, prefix, *more, "-a", f"ipv{version_of(prefix)}")

    def _text(self) -> str:
        sessions = (self._session(router, node) for router, node in self.plan.sessions.items())
        return "\n".join(["[global.config]", f"as = {ROUTER_ASN}", 'router-id = "10.99.1.2"', *sessions])

    def _session(self, router: str, node: str) -> str:
        plan, family = self.plan, "ipv6-unicast" if ":" in node else "ipv4-unicast"
        lines = ["[[neighbors]]", "[neighbors.config]", f'neighbor-address = "{node}"', f"peer-as = {NODE_ASN}"]
        lines += [f'auth-password = "{plan.password}"'] if plan.password else []
        lines += ["[neighbors.transport.config]", f'local-address = "{router}"',
                  "[neighbors.timers.config]", "hold-time = 30", "keepalive-interval = 10", "connect-retry = 1",
                  "idle-hold-time-after-reset = 1"]  # fmt: skip
        if plan.ttl_security:
            lines += ["[neighbors.ttl-security.config]", "enabled = true", "ttl-min = 255"]
        if plan.multihop:
            lines += ["[neighbors.ebgp-multihop.config]", "enabled = true", "multihop-ttl = 8"]
        if plan.graceful_restart:
            lines += ["[neighbors.graceful-restart.config]", "enabled = true", "restart-time = 120"]
        lines += ["[[neighbors.afi-safis]]", "[neighbors.afi-safis.config]", f'afi-safi-name = "{family}"']
        if plan.graceful_restart:
            lines += ["[neighbors.afi-safis.mp-graceful-restart.config]", "enabled = true"]
        if plan.max_prefix:
            lines += ["[neighbors.afi-safis.prefix-limit.config]", f"max-prefixes = {plan.max_prefix}"]
        return "\n".join(lines)


def _held(attributes: list[dict[str, Any]]) -> Held:
    """Attributes by their type codes (RFC 4271 section 4.3, RFC 1997, RFC 4760)."""
    by_type = {attribute["type"]: attribute for attribute in attributes}
    return Held(
        next_hop=(by_type.get(3) or by_type[14])["nexthop"],
        as_path=tuple(asn for segment in by_type[2]["as_paths"] for asn in segment["asns"]),
        med=by_type[4]["metric"] if 4 in by_type else None,
        communities=frozenset(f"{c >> 16}:{c & 0xFFFF}" for c in by_type.get(8, {}).get("communities", [])),
    )
