"""Faults on demand: the refusals and delays that a client must live with, in Azure's words."""

from __future__ import annotations

import msgspec
import pytest
from azure_twin.core.messages import Request

from tests.azure.twin.arm_client import Client, body, code, detail


def order(client: Client, **fault: object) -> None:
    answer = client.twin.serve(Request("POST", "/twin/faults", {}, {}, msgspec.json.encode(fault)), control=True)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("status", "named"),
    [
        (409, "AnotherOperationInProgress"),
        (412, "PreconditionFailed"),
        (429, "TooManyRequests"),
        (500, "InternalServerError"),
        (502, "BadGateway"),
        (503, "ServiceUnavailable"),
        (504, "GatewayTimeout"),
    ],
)
def test_a_refusal_is_met_as_often_as_ordered_and_changes_nothing(client: Client, status: int, named: str) -> None:
    order(client, kind="answer", method="PUT", path="*/routes/*", status=status, times=2, retry_after=7)
    for _ in range(2):
        answer = client.put_route("r", "192.168.1.0/26")
        assert (answer.status, code(answer), answer.headers["Retry-After"]) == (status, named, "7")
        assert client.ask("GET", "routeTables/rt1/routes/r").status == 404
    assert client.put_route("r", "192.168.1.0/26").status == 201


def test_codes_of_which_no_source_tells_more_are_there_as_faults(client: Client) -> None:
    for named in ("ScopeLocked", "ApplicationGatewaySubnetUserDefinedRouteNotAllowed"):
        order(client, kind="answer", status=409, code=named, message="words")
        assert code(client.put_route("r", "192.168.1.0/26")) == named


def test_a_lock_has_the_body_of_a_busy_table(client: Client) -> None:
    order(client, kind="lock", method="PUT")
    answer = client.put_route("r", "192.168.1.0/26")
    assert (answer.status, code(answer)) == (429, "RetryableError")
    assert detail(answer) == "RetryableErrorDueToAnotherOperation"


def test_a_slow_operation_takes_longer_and_a_failing_one_leaves_a_failed_object(client: Client) -> None:
    order(client, kind="slow", method="PUT", path="*/routes/*", seconds=60)
    assert client.put_route("r", "192.168.1.0/26").status == 201
    client.settle(59)
    assert body(client.ask("GET", "routeTables/rt1/routes/r"))["properties"]["provisioningState"] == "Updating"  # type: ignore[index]  # JSON
    client.settle(2)
    order(client, kind="fail", method="PUT", path="*/routes/*", code="Broken")
    client.put_route("r2", "192.168.2.0/26")
    assert body(client.ask("GET", "routeTables/rt1/routes/r2"))["properties"]["provisioningState"] == "Failed"  # type: ignore[index]  # JSON


def test_faults_that_wait_are_listed_and_taken_away_and_have_a_bound(client: Client) -> None:
    order(client, kind="answer", status=503)
    listed = client.twin.serve(Request("GET", "/twin/faults"), control=True)
    assert [each["status"] for each in body(listed)["faults"]] == [503]  # type: ignore[attr-defined]  # JSON
    client.twin.serve(Request("DELETE", "/twin/faults"), control=True)
    assert client.put_route("r", "192.168.1.0/26").status == 201
    for _ in range(256):
        order(client, kind="answer")
    full = Request("POST", "/twin/faults", {}, {}, b'{"kind": "answer"}')
    assert client.twin.serve(full, control=True).status == 400


@pytest.mark.parametrize(
    "wrong", ['"status": 999999', '"status": 200', '"times": 0', '"seconds": -5', '"retry_after": -1']
)
def test_a_fault_that_http_cannot_carry_is_refused(client: Client, wrong: str) -> None:
    asked = Request("POST", "/twin/faults", {}, {}, f'{{"kind": "answer", {wrong}}}'.encode())
    assert client.twin.serve(asked, control=True).status == 400


@pytest.mark.parametrize("lacks", [["10.0.0.0/26 ] then accept; #"], ["192.168.1.1/26"], ["fd00::/64"], [1], "x"])
def test_what_is_no_prefix_cannot_be_lacked(client: Client, lacks: object) -> None:
    asked = Request("POST", "/twin/instances/1", {}, {}, msgspec.json.encode({"lacks": lacks}))
    assert client.twin.serve(asked, control=True).status == 400
    assert client.twin.lacks == [(), ()]
