"""A client that speaks to a resource manager without HTTP, with a clock that tests move by hand."""

from __future__ import annotations

from typing import cast

import msgspec
from azure_twin.config import Config
from azure_twin.core.errors import Json
from azure_twin.core.messages import Request, Response
from azure_twin.core.tokens import Identity
from azure_twin.twin import Twin

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1"
NETWORK = f"{GROUP}/providers/Microsoft.Network"

BASE = """
timing: {TIMING}
fabric: {mode: none}
virtual_networks:
- name: vnet1
  address_space: [10.42.0.0/16]
  subnets:
  - {name: RouteServerSubnet, prefix: 10.42.0.0/26}
  - {name: nodes, prefix: 10.42.1.0/24, route_table: rt1}
route_tables: [{name: rt1}]
route_server: {name: rs1, virtual_network: vnet1}
nics:
- {name: node-a, subnet: nodes, address: 10.42.1.4, ip_forwarding: true}
- {name: node-b, subnet: nodes, address: 10.42.1.5, ip_forwarding: true}
vms: [{name: node-a}, {name: node-b}]
"""


class Client:
    """Requests to a twin's core, with a token, at a time that the test chooses."""

    def __init__(self, config: Config) -> None:
        self.time = 1_000_000.0
        self.twin = Twin(config, clock=lambda: self.time)
        self.twin.open()
        self.identity: Identity = config.identities[0]
        self.version = "2025-07-01"

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        version: str | None = "",
        token: str | None = "",
        raw: bytes | None = None,
    ) -> Response:
        """One request; ``path`` may be short (``routeTables/rt1``)."""
        full = path if path.startswith("/") else f"{NETWORK}/{path}"
        if token == "":
            token = str(
                self.twin.tokens.issue(self.identity, "https://management.azure.com/", self.time)["access_token"]
            )
        sent = {"authorization": f"Bearer {token}"} if token else {}
        data = raw if raw is not None else (b"" if body is None else msgspec.json.encode(body))
        query = {"api-version": version or self.version} if version is not None else {}
        return self.twin.serve(Request(method, full, query, sent | (headers or {}), data), control=True)

    def put_route(self, name: str, prefix: str, hop: str = "10.42.1.4", **more: object) -> Response:
        """A route of rt1."""
        properties = {"addressPrefix": prefix, "nextHopType": "VirtualAppliance", "nextHopIpAddress": hop}
        return self.ask("PUT", f"routeTables/rt1/routes/{name}", {"properties": properties}, **more)  # type: ignore[arg-type]  # keywords of ask

    def settle(self, seconds: float = 3600.0) -> None:
        """Let time pass."""
        self.time += seconds
        self.twin.arm.handle_timer(self.time)


def body(answer: Response) -> Json:
    """The JSON object of an answer."""
    return cast("Json", msgspec.json.decode(answer.encoded()))


def code(answer: Response) -> str:
    """The error code of an answer."""
    return str(cast("Json", body(answer)["error"])["code"])


def detail(answer: Response) -> str:
    """The code of the first detail."""
    return str(cast("list[Json]", cast("Json", body(answer)["error"])["details"])[0]["code"])
