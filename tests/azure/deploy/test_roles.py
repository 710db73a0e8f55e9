"""The roles in `azure/` hold exactly what the agent asks of Azure: no right is missing, and none is to spare."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest
from azure_twin.core import ids as paths
from azure_twin.core.arm import Arm as Manager
from azure_twin.core.kinds import KINDS
from azure_twin.core.messages import Request, Response

from bgp_agent.cloud import ids, resources
from bgp_agent.cloud.asking import Wanted
from bgp_agent.cloud.discovery import discover
from bgp_agent.cloud.errors import CloudError
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.core.prefix import parse_address, parse_prefix
from tests.azure.agent.conftest import NETWORK, SERVER, SUBSCRIPTION, TABLE, Azure, Opened

ROOT: Final = Path(__file__).parents[3]
GROUP: Final = ids.group(TABLE)
NIC: Final = ResourceId(f"{NETWORK}/networkInterfaces/nic-a")
MACHINE: Final = ResourceId(f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/set/virtualMachines/0")
CONNECTION: Final = ids.child(SERVER, "bgpConnections", "a")
BLOCK, HERE, NEW = parse_prefix("192.168.1.0/26"), parse_address("10.42.1.4"), parse_address("10.42.2.4")

#: Looking after one's own operation: asked for by ARM's links, in no role (openshift/bgp-cloud-connector goes without).
POLLS: Final = {f"Microsoft.Network/locations/{each}/read" for each in ("operations", "operationResults")}

#: A call of everything in the module that all requests go through.
CALLS: Final[dict[str, Callable[[Azure], Awaitable[object]]]] = {
    "read_nic": lambda azure: resources.read_nic(azure.arm, NIC),
    "list_nics": lambda azure: resources.list_nics(azure.arm, GROUP),
    "list_scale_set_nics": lambda azure: resources.list_scale_set_nics(azure.arm, MACHINE),
    "read_network": lambda azure: resources.read_network(azure.arm, ResourceId(f"{NETWORK}/virtualNetworks/vnet1")),
    "effective_routes": lambda azure: resources.effective_routes(azure.arm, NIC),
    "read_table": lambda azure: resources.read_table(azure.arm, TABLE),
    "put_route": lambda azure: resources.put_route(azure.arm, TABLE, "r1", BLOCK, HERE),
    "delete_route": lambda azure: resources.delete_route(azure.arm, TABLE, "r1"),
    "routes_per_table": lambda azure: resources.routes_per_table(azure.arm, SUBSCRIPTION, "westeurope"),
    "read_server": lambda azure: resources.read_server(azure.arm, SERVER),
    "list_servers": lambda azure: resources.list_servers(azure.arm, GROUP),
    "server_subnets": lambda azure: resources.server_subnets(azure.arm, SERVER),
    "list_connections": lambda azure: resources.list_connections(azure.arm, SERVER),
    "put_connection": lambda azure: resources.put_connection(azure.arm, SERVER, "bgp-agent-c", NEW, 64514),
    "delete_connection": lambda azure: resources.delete_connection(azure.arm, SERVER, "bgp-agent-c"),
    "learned_routes": lambda azure: resources.learned_routes(azure.arm, CONNECTION),
}


def actions(name: str) -> list[str]:
    """What a role of `azure/` allows."""
    held: list[str] = json.loads((ROOT / "azure" / name).read_text())["Actions"]
    return held


def limited(**scopes: str) -> str:
    """The twin's identity, with these roles and no other rights."""
    given = [{"actions": actions(f"{name.replace('_', '-')}.json"), "scope": scope} for name, scope in scopes.items()]
    return f"identities: [{{name: agent, client_id: c1, object_id: d1, roles: {json.dumps(given)}}}]\n"


def asked(request: Request) -> str:
    """The action that a request is, in Azure's words."""
    target = paths.parse(request.path, post=request.method == "POST")
    kind = KINDS[target.kind.lower()].name if target.kind.lower() in KINDS else target.kind
    verb = {"GET": "read", "PUT": "write", "DELETE": "delete"}.get(request.method, f"{target.action}/action")
    return f"{kind}/{verb}"


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every action that the twin's resource manager is asked for."""
    found: set[str] = set()
    handle = Manager.handle

    def listening(self: Manager, request: Request, now: float, *, itself: bool = False) -> Response:
        if not itself:
            found.add(asked(request))
        return handle(self, request, now, itself=itself)

    monkeypatch.setattr(Manager, "handle", listening)
    return found


async def everything(azure: Azure) -> None:
    """All that the agent can do; a uniform scale set's interfaces are of a provider that the twin has not."""
    for name, call in CALLS.items():
        if name == "list_scale_set_nics":
            with pytest.raises(CloudError, match="InvalidResourceNamespace"):
                await call(azure)
        else:
            await call(azure)
    found = await discover(azure.imds, azure.arm, Wanted())
    assert found.missing == ()


async def test_the_roles_hold_exactly_what_the_agent_asks_for(opened: Opened, heard: set[str]) -> None:
    azure = await opened()
    heard.clear()
    await everything(azure)
    assert heard - POLLS == {*actions("role.json"), *actions("role-limits.json"), *actions("role-peering.json")}


async def test_the_roles_are_enough_for_everything_the_agent_does(opened: Opened) -> None:
    scopes = {"role.json": GROUP, "role-limits.json": SUBSCRIPTION, "role-peering.json": SERVER}
    given = [{"actions": actions(name), "scope": scope} for name, scope in scopes.items()]
    azure = await opened(
        extra=f"identities: [{{name: agent, client_id: c1, object_id: d1, roles: {json.dumps(given)}}}]\n"
    )
    await everything(azure)


async def test_without_peerings_to_manage_the_agent_never_asks_to_write_one(opened: Opened) -> None:
    given = [{"actions": actions("role.json"), "scope": GROUP}]
    azure = await opened(
        extra=f"identities: [{{name: agent, client_id: c1, object_id: d1, roles: {json.dumps(given)}}}]\n"
    )
    found = await discover(azure.imds, azure.arm, Wanted())
    assert (found.missing, found.asn) == ((), 64512)
    await CALLS["put_route"](azure)
    await CALLS["delete_route"](azure)
    assert not [each for each in actions("role.json") if each.endswith("/write") and "/routes/" not in each]


#: Asks which rights there are by requests that cannot succeed, and for security groups, which no role has to grant.
ASKING = ROOT / "bgp_agent/doctor/cloud.py"


def test_every_call_to_azure_is_among_those_that_the_roles_were_made_from() -> None:
    public = {
        name
        for name, value in inspect.getmembers(resources, inspect.iscoroutinefunction)
        if not name.startswith("_") and value.__module__ == resources.__name__
    }
    assert public == set(CALLS)
    elsewhere = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for path in (ROOT / "bgp_agent").rglob("*.py")
        if path not in {Path(resources.__file__), ASKING}
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and re.fullmatch(r"(.*\.)?_?arm\.(get|put|post|delete|pages)", ast.unparse(node.func))
    ]
    assert elsewhere == []


def test_every_right_that_the_agent_names_in_words_is_one_of_the_roles() -> None:
    granted = {*actions("role.json"), *actions("role-limits.json"), *actions("role-peering.json")}
    for path in (ROOT / "bgp_agent").rglob("*.py"):
        named = re.findall(r"Microsoft\.(?:Network|Compute)/[\w/]+/(?:read|write|delete|action)\b", path.read_text())
        assert not set(named) - granted, path


@pytest.mark.parametrize("name", ["role.json", "role-limits.json", "role-peering.json"])
def test_a_role_has_no_wildcard_and_its_actions_in_order(name: str) -> None:
    held = actions(name)
    assert held == sorted(set(held))
    assert not [each for each in held if "*" in each]
