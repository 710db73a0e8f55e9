"""Rights by action, linked rights, throttling, provider budget."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from azure_twin.core.errors import ArmError
from azure_twin.core.rbac import matches, permits
from azure_twin.core.settings import Throttling
from azure_twin.core.specs import Permission
from azure_twin.core.throttle import Throttle

from tests.azure.twin.arm_client import GROUP, NETWORK, SUBSCRIPTION, Client, body, code

LIMITED = """
identities:
- name: agent
  client_id: c1
  object_id: d1
  roles:
  - actions: [Microsoft.Network/routeTables/read, Microsoft.Network/routeTables/routes/*,
  Microsoft.Network/networkInterfaces/*]
"""


def test_actions_match_with_wildcards_and_without_case() -> None:
    assert matches("Microsoft.Network/*", "microsoft.network/routeTables/READ")
    assert matches("*/read", "Microsoft.Network/routeTables/read")
    assert not matches("*/read", "Microsoft.Network/routeTables/write")
    assert not matches("Microsoft.Network/routeTables/read", "Microsoft.Network/routeTables/routes/read")
    assert not matches("a.b", "axb")
    contributor = [Permission(actions=["*"], not_actions=["Microsoft.Authorization/*/Write"])]
    assert not permits(contributor, "Microsoft.Authorization/roleAssignments/write")


def test_what_a_role_does_not_name_is_refused_with_action_and_scope(configured: Callable[..., Client]) -> None:
    client = configured(extra=LIMITED)
    assert client.put_route("r1", "192.168.1.0/26").status == 201
    answer = client.ask("GET", "virtualHubs/rs1")
    assert (answer.status, code(answer)) == (403, "AuthorizationFailed")
    assert b"Microsoft.Network/virtualHubs/read" in answer.encoded()
    assert code(client.ask("PUT", "routeTables/rt1", {"location": "westeurope"})) == "AuthorizationFailed"
    nic = body(client.ask("GET", "networkInterfaces/node-a"))
    linked = client.ask("PUT", "networkInterfaces/node-a", nic)
    assert (linked.status, code(linked)) == (403, "LinkedAuthorizationFailed")
    assert b"virtualNetworks/subnets/join/action" in linked.encoded()


def test_a_new_assignment_works_after_a_while_at_its_scope_and_below(configured: Callable[..., Client]) -> None:
    client = configured(
        timing="azure",
        extra=LIMITED.replace("- name: agent", "- {name: owner, client_id: c0, object_id: d0}\n- name: agent"),
    )
    agent = client.twin.identities["agent"]
    roles = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions"
    reader = f"{roles}/acdd72a7-3385-48ef-bd42-f606fba81ae7"
    answer = client.ask(
        "PUT",
        f"{GROUP}/providers/Microsoft.Authorization/roleAssignments/x",
        {"properties": {"roleDefinitionId": reader, "principalId": agent.object_id}},
        version="2022-04-01",
    )
    assert answer.status == 201

    def read(path: str) -> int:
        token = str(client.twin.tokens.issue(agent, "x", client.time)["access_token"])
        return client.ask("GET", path, token=token).status

    assert read("virtualHubs/rs1") == 403
    client.settle(61)
    assert read("virtualHubs/rs1") == 200
    assert read(f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Network/virtualHubs") == 403
    unknown = client.ask(
        "PUT",
        f"{GROUP}/providers/Microsoft.Authorization/roleAssignments/y",
        {"properties": {"roleDefinitionId": "/x/none", "principalId": "d1"}},
        version="2022-04-01",
    )
    assert code(unknown) == "RoleDefinitionDoesNotExist"


def test_the_bucket_empties_and_refills_with_its_headers(configured: Callable[..., Client]) -> None:
    client = configured(extra="throttling: {read_bucket: 3, read_rate: 1}\n")
    first = client.ask("GET", "routeTables/rt1")
    assert first.headers["x-ms-ratelimit-remaining-subscription-reads"] == "2"
    assert [client.ask("GET", "routeTables/rt1").status for _ in range(3)] == [200, 200, 429]
    refused = client.ask("GET", "routeTables/rt1")
    assert int(refused.headers["Retry-After"]) >= 1
    assert client.put_route("r", "192.168.1.0/26").status == 201
    assert client.twin.arm.throttle.admit("another", "read", client.time)
    client.time += 1
    assert client.ask("GET", "routeTables/rt1").status == 200
    client.twin.drain_throttle()
    assert client.ask("GET", "routeTables/rt1").status == 429


def test_the_providers_five_minutes_are_counted_for_all_principals() -> None:
    throttle = Throttle(Throttling(read_bucket=1000, read_rate=1000, provider_reads=5, provider_writes=1))
    for number in range(5):
        throttle.admit(f"p{number}", "read", 0.0)
    with pytest.raises(ArmError) as refused:
        throttle.admit("p9", "read", 100.0)
    assert (refused.value.code, refused.value.headers["Retry-After"]) == ("TooManyRequests", "200")
    throttle.admit("p9", "read", 300.0)
    assert not Throttle(Throttling(enabled=False)).admit("p", "read", 0.0)


def test_many_principals_do_not_fill_the_memory() -> None:
    throttle = Throttle(Throttling(provider_reads=0))
    for number in range(10_000):
        throttle.admit(f"p{number}", "read", float(number))
    assert len(throttle._buckets) <= 3 * 1024
    assert NETWORK


def test_a_role_is_given_once_and_goes_when_nobody_has_it(client: Client) -> None:
    roles = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions"
    given = f"{GROUP}/providers/Microsoft.Authorization/roleAssignments"
    role = {"properties": {"roleName": "agent", "permissions": [{"actions": ["*/read"]}]}}
    has_it = {"properties": {"roleDefinitionId": f"{roles}/r1", "principalId": "d9"}}

    def ask(method: str, path: str, body: object = None) -> tuple[int, str]:
        answer = client.ask(method, path, body, version="2022-04-01")
        return answer.status, code(answer) if answer.status >= 400 else ""

    assert ask("PUT", f"{roles}/r1", role) == (201, "")
    assert ask("PUT", f"{roles}/r1", role) == (200, "")
    assert ask("PUT", f"{roles}/r2", role) == (409, "RoleDefinitionWithSameNameExists")
    assert ask("PUT", f"{given}/a1", has_it) == (201, "")
    assert ask("PUT", f"{given}/a2", has_it) == (409, "RoleAssignmentExists")
    assert ask("DELETE", f"{roles}/r1") == (400, "RoleDefinitionHasAssignments")
    gone = client.ask("DELETE", f"{given}/a1", version="2022-04-01")
    assert (gone.status, body(gone)["name"]) == (200, "a1")
    assert ask("DELETE", f"{given}/a1") == (204, "")
    assert ask("DELETE", f"{roles}/r1") == (200, "")
    assert client.twin.status()["requests"] == {"PUT": 5, "DELETE": 4}
