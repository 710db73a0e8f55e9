"""Route tables: one write at a time, ETags, whole-table PUT, conflicts, limits.

Sources: docs/reference/azure-twin.md 2.2, 2.6.
"""

from __future__ import annotations

from collections.abc import Callable

from azure_twin.core.messages import Response

from tests.azure.twin.arm_client import Client, body, code, detail


def names(client: Client) -> list[str]:
    return [each["name"] for each in body(client.ask("GET", "routeTables/rt1/routes"))["value"]]  # type: ignore[attr-defined]  # JSON


def poll(client: Client, answer: Response, header: str = "Azure-AsyncOperation") -> Response:
    path = answer.headers[header].split("localhost", 1)[1].split("?")[0]
    return client.ask("GET", path)


def test_a_route_is_written_read_moved_and_deleted(client: Client) -> None:
    made = client.put_route("r1", "192.168.1.0/26")
    assert made.status == 201
    assert body(made)["properties"]["provisioningState"] == "Succeeded"  # type: ignore[index]  # JSON
    moved = client.put_route("r1", "192.168.1.0/26", "10.42.1.5")
    assert moved.status == 200
    assert body(client.ask("GET", "routeTables/rt1/routes/r1"))["properties"]["nextHopIpAddress"] == "10.42.1.5"  # type: ignore[index]  # JSON
    assert client.ask("DELETE", "routeTables/rt1/routes/r1").status == 200
    assert client.ask("DELETE", "routeTables/rt1/routes/r1").status == 204
    assert names(client) == []


def test_a_write_goes_on_in_the_background_and_says_where_to_ask(slow: Client) -> None:
    made = slow.put_route("r1", "192.168.1.0/26")
    assert made.status == 201
    assert body(made)["properties"]["provisioningState"] == "Updating"  # type: ignore[index]  # JSON
    assert made.headers["Retry-After"] == "10"
    assert body(poll(slow, made))["status"] == "InProgress"
    slow.settle(5)
    assert body(poll(slow, made))["status"] == "Succeeded"
    assert body(slow.ask("GET", "routeTables/rt1/routes/r1"))["properties"]["provisioningState"] == "Succeeded"  # type: ignore[index]  # JSON
    gone = slow.ask("DELETE", "routeTables/rt1/routes/r1")
    assert gone.status == 202
    assert poll(slow, gone, "Location").status == 202
    assert names(slow) == ["r1"]
    slow.settle(5)
    assert poll(slow, gone, "Location").status == 204
    assert names(slow) == []


def test_success_comes_before_effect(slow: Client) -> None:
    slow.put_route("r1", "192.168.1.0/26")
    slow.settle(5)
    held = [each.name for each in slow.twin.arm.effective.of_kind("Microsoft.Network/routeTables/routes")]
    assert held == []
    slow.settle(10)
    held = [each.name for each in slow.twin.arm.effective.of_kind("Microsoft.Network/routeTables/routes")]
    assert held == ["r1"]


def test_a_busy_table_answers_429_with_the_real_body(slow: Client) -> None:
    slow.put_route("r1", "192.168.1.0/26")
    answer = slow.put_route("r2", "192.168.2.0/26")
    assert (answer.status, code(answer), detail(answer)) == (
        429,
        "RetryableError",
        "RetryableErrorDueToAnotherOperation",
    )
    assert b"can be retried in 11 seconds" in answer.encoded()
    assert "Retry-After" not in answer.headers
    assert slow.ask("DELETE", "routeTables/rt1/routes/r1").status == 429
    assert slow.ask("PUT", "routeTables/rt1", {"location": "westeurope"}).status == 429
    slow.settle(5)
    assert slow.put_route("r2", "192.168.2.0/26").status == 201


def test_the_lock_may_be_set_to_hint_and_a_later_write_to_supersede(configured: Callable[..., Client]) -> None:
    hinting = configured(timing="azure", extra="rules: {lock_retry_after: true}\n")
    hinting.put_route("r1", "192.168.1.0/26")
    assert hinting.put_route("r2", "192.168.2.0/26").headers["Retry-After"] == "11"
    client = configured(timing="azure", extra="rules: {concurrent_write: supersede}\n")
    first = client.put_route("r1", "192.168.1.0/26")
    assert client.put_route("r2", "192.168.2.0/26").status == 201
    assert body(poll(client, first))["status"] == "Canceled"


def test_two_names_for_one_prefix_conflict(client: Client) -> None:
    client.put_route("r1", "192.168.1.0/26")
    answer = client.put_route("r2", "192.168.1.0/26")
    assert (answer.status, code(answer)) == (400, "RouteConflict")
    assert b"Routes cannot have the same AddressPrefix." in answer.encoded()
    assert names(client) == ["r1"]


def test_a_whole_table_put_replaces_all_routes_and_keeps_nothing_it_does_not_name(client: Client) -> None:
    client.put_route("r1", "192.168.1.0/26")
    client.put_route("r2", "192.168.2.0/26")
    routes = [{"name": "r2", "properties": {"addressPrefix": "192.168.2.0/26", "nextHopType": "None"}}]
    assert (
        client.ask("PUT", "routeTables/rt1", {"location": "westeurope", "properties": {"routes": routes}}).status == 200
    )
    assert names(client) == ["r2"]
    assert [each.name for each in client.twin.arm.effective.of_kind("Microsoft.Network/routeTables/routes")] == ["r2"]
    assert client.ask("PUT", "routeTables/rt1", {"location": "westeurope"}).status == 200
    assert names(client) == []


def test_a_whole_table_put_with_a_conflict_in_it_changes_nothing(client: Client) -> None:
    client.put_route("r1", "192.168.1.0/26")
    twice = [{"name": name, "properties": {"addressPrefix": "10.9.0.0/16", "nextHopType": "None"}} for name in "ab"]
    answer = client.ask("PUT", "routeTables/rt1", {"location": "westeurope", "properties": {"routes": twice}})
    assert code(answer) == "RouteConflict"
    assert names(client) == ["r1"]


def test_a_stale_etag_is_412_with_the_detail(client: Client) -> None:
    etag = str(body(client.put_route("r1", "192.168.1.0/26"))["etag"])
    assert client.put_route("r1", "192.168.1.0/26", headers={"if-match": etag}).status == 200
    answer = client.put_route("r1", "192.168.1.0/26", headers={"if-match": etag})
    assert (answer.status, code(answer), detail(answer)) == (
        412,
        "PreconditionFailed",
        "PreconditionFailedEtagMismatch",
    )
    table = str(body(client.ask("GET", "routeTables/rt1"))["etag"])
    assert client.ask("PUT", "routeTables/rt1", {"location": "westeurope"}, headers={"if-match": table}).status == 200
    stale = {"if-match": table}
    assert client.ask("PUT", "routeTables/rt1", {"location": "westeurope"}, headers=stale).status == 412
    assert client.ask("PATCH", "routeTables/rt1", {"tags": {}}, headers=stale).status == 412
    client.put_route("r1", "192.168.1.0/26")
    assert client.ask("DELETE", "routeTables/rt1/routes/r1", headers=stale).status == 412
    assert names(client) == ["r1"]
    nic = body(client.ask("GET", "networkInterfaces/node-a"))
    assert client.ask("PUT", "networkInterfaces/node-a", nic, headers=stale).status == 412
    assert client.ask("DELETE", "routeTables/rt1/routes/none", headers={"if-match": "*"}).status == 204
    assert client.put_route("new", "192.168.9.0/26", headers={"if-match": "*"}).status == 412
    assert client.put_route("new", "192.168.9.0/26", headers={"if-none-match": "*"}).status == 201
    assert client.put_route("new", "192.168.9.0/26", headers={"if-none-match": "*"}).status == 412


def test_a_foreign_write_to_the_table_makes_a_routes_etag_stale_unless_set_otherwise(
    configured: Callable[..., Client],
) -> None:
    for scope, status in (("table", 412), ("route", 200)):
        client = configured(extra=f"rules: {{etag_scope: {scope}}}\n")
        etag = str(body(client.put_route("r1", "192.168.1.0/26"))["etag"])
        client.put_route("r2", "192.168.2.0/26")
        assert client.put_route("r1", "192.168.1.0/26", headers={"if-match": etag}).status == status
    ignoring = configured(extra="rules: {child_if_match: false}\n")
    assert ignoring.put_route("r1", "192.168.1.0/26", headers={"if-match": '"stale"'}).status == 201


def test_a_table_holds_as_many_routes_as_its_limit(configured: Callable[..., Client]) -> None:
    client = configured(extra="limits: {routes_per_table: 2}\n")
    assert client.put_route("r1", "192.168.1.0/26").status == 201
    assert client.put_route("r2", "192.168.2.0/26").status == 201
    answer = client.put_route("r3", "192.168.3.0/26")
    assert (answer.status, code(answer)) == (400, "RouteTableRoutesLimitReached")
    assert client.put_route("r2", "192.168.4.0/26").status == 200
    assert names(client) == ["r1", "r2"]


def test_a_subscription_has_as_many_tables_as_its_limit(configured: Callable[..., Client]) -> None:
    client = configured(extra="limits: {route_tables: 2}\n")
    made = [client.ask("PUT", f"routeTables/t{number}", {"location": "westeurope"}) for number in (1, 2)]
    assert [each.status for each in made] == [201, 400]  # one came with the file
    assert code(made[1]) == "RouteTableCountLimitReached"


def test_read_only_values_are_shown_and_those_without_effect_are_kept(client: Client) -> None:
    table = {"location": "westeurope", "properties": {"disablePeeringRoute": "All", "subnets": [], "routes": []}}
    assert client.ask("PUT", "routeTables/rt1", table).status == 200
    shown = body(client.ask("GET", "routeTables/rt1"))
    assert shown["properties"]["disablePeeringRoute"] == "All"  # type: ignore[index]  # JSON
    assert str(shown["properties"]["subnets"][0]["id"]).endswith("/subnets/nodes")  # type: ignore[index]  # JSON
    assert str(shown["etag"]).startswith('W/"')
    route = body(client.put_route("r1", "192.168.1.0/26"))
    assert route["properties"]["hasBgpOverride"] is False  # type: ignore[index]  # JSON


def test_routes_that_make_no_sense_are_refused_with_the_reason(client: Client) -> None:
    assert code(client.put_route("r", "192.168.1.1/26")) == "InvalidCIDRNotation"
    for prefix in ("nonsense", "10.9.0.0", "10.9.0.0/255.255.0.0", "10.9.0.0/0.0.255.255", "fe80::%eth0/64"):
        assert code(client.put_route("r", prefix)) == "InvalidAddressPrefixFormat"
    for hop in ("nonsense", ":nonsense:"):
        assert code(client.put_route("r", "192.168.1.0/26", hop)) == "InvalidNextHopIpAddress"
    assert code(client.put_route("-r", "192.168.1.0/26")) == "InvalidResourceName"
    assert code(client.put_route("r" * 81, "192.168.1.0/26")) == "InvalidResourceName"
    path = "routeTables/rt1/routes/r"
    body_of = {"addressPrefix": "10.9.0.0/16", "nextHopType": "Magic"}
    assert client.ask("PUT", path, {"properties": body_of}).status == 400
    assert client.ask("PUT", path, {"properties": body_of | {"nextHopType": "VirtualAppliance"}}).status == 400


def test_several_next_hops_need_the_api_version_that_has_them(client: Client) -> None:
    hops = {"addressPrefix": "10.9.0.0/16", "nextHopType": "VirtualApplianceEcmp",
            "nextHop": {"nextHopIpAddresses": ["10.42.1.4", "10.42.1.5"]}}  # fmt: skip
    path = "routeTables/rt1/routes/r"
    assert client.ask("PUT", path, {"properties": hops}, version="2024-05-01").status == 400
    assert client.ask("PUT", path, {"properties": hops}).status == 201


def test_a_table_in_use_cannot_be_deleted(client: Client) -> None:
    assert code(client.ask("DELETE", "routeTables/rt1")) == "InUseRouteTableCannotBeDeleted"
    assert body(client.ask("GET", "routeTables/rt1"))["properties"]["subnets"]  # type: ignore[index]  # JSON


def test_tags_of_a_table_are_kept_and_patched(client: Client) -> None:
    client.put_route("r1", "192.168.1.0/26")
    assert client.ask("PATCH", "routeTables/rt1", {"tags": {"a": "b"}}).status == 200
    shown = body(client.ask("GET", "routeTables/rt1"))
    assert shown["tags"] == {"a": "b"}
    assert names(client) == ["r1"]


def test_a_subnet_cannot_take_a_table_that_is_being_updated(slow: Client) -> None:
    subnet = {"properties": body(slow.ask("GET", "virtualNetworks/vnet1/subnets/nodes"))["properties"]}
    slow.put_route("r1", "192.168.1.0/26")
    answer = slow.ask("PUT", "virtualNetworks/vnet1/subnets/nodes", subnet)
    assert (answer.status, detail(answer)) == (429, "ReferencedResourceNotProvisioned")
    assert b"PutRouteOperation" in answer.encoded()
    slow.settle(5)
    assert slow.ask("PUT", "virtualNetworks/vnet1/subnets/nodes", subnet).status == 200
