"""The gates of the resource manager, and what hostile requests get: Azure's error shapes, never an exception."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from azure_twin.core.messages import Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.azure.twin.arm_client import GROUP, NETWORK, SUBSCRIPTION, Client, body, code

RECORDED = Path(__file__).parents[2] / "az-requests.jsonl"


def test_every_recorded_request_of_az_is_answered_with_success(configured: Callable[..., Client]) -> None:
    client = configured(
        base="resource_group: other\ntiming: fast\nrules: {effective_routes_need_vm: false}\nfabric: {mode: none}\n"
    )
    for line in RECORDED.read_text().splitlines():
        sent = json.loads(line)
        if not sent["path"].startswith("/subscriptions"):
            continue
        query = dict(parse_qsl(sent["query"]))
        data = json.dumps(sent["body"]).encode() if sent["body"] else b""
        answer = client.twin.arm.handle(
            Request(sent["method"], sent["path"], query, {}, data), client.time, itself=True
        )
        assert answer.status < 300, (sent["path"], answer.body)
        if sent["method"] == "PUT":
            assert answer.status == sent["status"], sent["path"]


def test_without_a_token_nothing_is_answered(client: Client) -> None:
    answer = client.ask("GET", "routeTables/rt1", token=None)
    assert (answer.status, code(answer)) == (401, "AuthenticationFailed")
    assert "WWW-Authenticate" in answer.headers


@pytest.mark.parametrize("token", ["x", "a.b.c", "é.é.é", "a" * 20_000, "..", "eyJhbGciOiJub25lIn0.e30."])
def test_a_forged_token_is_refused(client: Client, token: str) -> None:
    answer = client.ask("GET", "routeTables/rt1", token=token)
    assert (answer.status, code(answer)) == (401, "InvalidAuthenticationToken")


def test_a_token_expires_with_time_and_on_demand(client: Client) -> None:
    token = str(client.twin.tokens.issue(client.identity, "x", client.time)["access_token"])
    assert client.ask("GET", "routeTables/rt1", token=token).status == 200
    client.time += 1
    client.twin.order_tokens(expire=True, lifetime=None)
    assert code(client.ask("GET", "routeTables/rt1", token=token)) == "ExpiredAuthenticationToken"
    assert client.ask("GET", "routeTables/rt1").status == 200
    token = str(client.twin.tokens.issue(client.identity, "x", client.time)["access_token"])
    client.time += 90_000
    assert code(client.ask("GET", "routeTables/rt1", token=token)) == "ExpiredAuthenticationToken"


def test_paths_are_compared_without_regard_to_case(client: Client) -> None:
    answer = client.ask(
        "GET", f"/SUBSCRIPTIONS/{SUBSCRIPTION}/resourcegroups/RG1/PROVIDERS/microsoft.network/ROUTETABLES/RT1"
    )
    assert answer.status == 200
    assert body(answer)["id"] == f"{NETWORK}/routeTables/rt1"


def test_a_missing_and_an_unknown_api_version_are_refused_with_the_list(client: Client) -> None:
    assert code(client.ask("GET", "routeTables/rt1", version=None)) == "MissingApiVersionParameter"
    answer = client.ask("GET", "routeTables/rt1", version="1999-01-01")
    assert (answer.status, code(answer)) == (400, "NoRegisteredProviderFound")
    assert b"2024-05-01" in answer.encoded()


def test_another_subscription_and_an_unknown_type_are_not_found(client: Client) -> None:
    other = client.ask("GET", "/subscriptions/0f/resourceGroups/rg1/providers/Microsoft.Network/routeTables/rt1")
    assert (other.status, code(other)) == (404, "SubscriptionNotFound")
    assert code(client.ask("GET", "fooBars/x")) == "InvalidResourceType"
    assert code(client.ask("GET", f"{GROUP}/providers/Microsoft.Storage/accounts/x")) == "InvalidResourceNamespace"


def test_missing_things_are_missing_in_azures_words(client: Client) -> None:
    assert code(client.ask("GET", "routeTables/none")) == "ResourceNotFound"
    assert code(client.ask("GET", "routeTables/rt1/routes/none")) == "NotFound"
    assert code(client.ask("PUT", "routeTables/none/routes/x", {"properties": {}})) == "ParentResourceNotFound"
    missing = client.ask("PUT", NETWORK.replace("rg1", "rg9") + "/routeTables/x", {"location": "westeurope"})
    assert (missing.status, code(missing)) == (404, "ResourceGroupNotFound")
    assert client.ask("DELETE", "routeTables/none").status == 204


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"properties": []}',
        b'{"tags": {"a": 1}}',
        b'{"location": 5}',
        b'{"properties": {"routes": 5}}',
        b'{"properties": {"routes": [5]}}',
        b'{"properties": {"disableBgpRoutePropagation": "yes"}}',
    ],
)
def test_a_body_of_the_wrong_shape_is_400_and_changes_nothing(client: Client, raw: bytes) -> None:
    before = client.twin.arm.store.version
    answer = client.ask("PUT", "routeTables/rt1", raw=raw)
    assert answer.status == 400
    assert code(answer) in {"InvalidRequestContent", "InvalidRequestFormat"}
    assert client.twin.arm.store.version == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PLACES = st.sampled_from(
    [
        "routeTables/rt1",
        "routeTables/rt1/routes/r",
        "virtualNetworks/v",
        "virtualNetworks/vnet1/subnets/s",
        "virtualNetworks/vnet1/virtualNetworkPeerings/p",
        "virtualHubs/h",
        "virtualHubs/rs1/ipConfigurations/x",
        "virtualHubs/rs1/bgpConnections/c",
        "networkInterfaces/n",
        "publicIPAddresses/p",
    ]
)
NAMES = st.sampled_from(
    [
        "addressPrefix",
        "nextHopType",
        "nextHopIpAddress",
        "addressSpace",
        "subnets",
        "routes",
        "peerIp",
        "peerAsn",
        "subnet",
        "ipConfigurations",
        "enableIPForwarding",
        "routeTable",
        "remoteVirtualNetwork",
        "publicIPAddress",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(
    place=PLACES, properties=st.dictionaries(NAMES, JSON, max_size=4), method=st.sampled_from(["PUT", "PATCH", "POST"])
)
def test_no_body_makes_the_core_fail(client: Client, place: str, properties: dict[str, object], method: str) -> None:
    answer = client.ask(method, place, {"location": "westeurope", "properties": properties})
    assert answer.status < 500
    client.settle()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(
    path=st.lists(
        st.sampled_from(
            [
                "subscriptions",
                SUBSCRIPTION,
                "resourceGroups",
                "rg1",
                "providers",
                "Microsoft.Network",
                "routeTables",
                "rt1",
                "routes",
                "%00",
                "..",
                "%2F",
                "",
                "locations",
                "usages",
                "operations",
                "x" * 300,
            ]
        ),
        max_size=12,
    ),
    method=st.sampled_from(["GET", "PUT", "DELETE", "POST", "HEAD", "OPTIONS", "BREW"]),
)
def test_no_path_makes_the_core_fail(client: Client, path: list[str], method: str) -> None:
    answer = client.twin.arm.handle(
        Request(method, "/" + "/".join(path), {"api-version": "2025-07-01"}, {}, b"{}"), client.time, itself=True
    )
    assert answer.status < 500


def test_usages_tell_the_limit_of_a_route_table(configured: Callable[..., Client]) -> None:
    client = configured(extra="limits: {routes_per_table: 42}\n")
    answer = client.ask("GET", f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Network/locations/westeurope/usages")
    rows = {each["name"]["value"]: each for each in body(answer)["value"]}  # type: ignore[attr-defined]  # JSON
    assert rows["RoutesPerRouteTable"]["limit"] == 42


def test_lists_hold_what_stands_under_their_scope(client: Client) -> None:
    for path in ("routeTables", f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Network/routeTables"):
        found = body(client.ask("GET", path))["value"]
        assert [each["name"] for each in found] == ["rt1"]  # type: ignore[attr-defined]  # JSON
    assert body(client.ask("GET", NETWORK.replace("rg1", "rg9") + "/routeTables"))["value"] == []
