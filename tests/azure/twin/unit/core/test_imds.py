"""IMDS: headers, versions, rates, tokens, scheduled events."""

from __future__ import annotations

import base64
import email.utils
import json
from collections.abc import Callable

from azure_twin.core.messages import Request, Response

from tests.azure.twin.arm_client import Client, body

TWO = """
identities:
- {name: one, client_id: c1, object_id: d1}
- {name: two, client_id: c2, object_id: d2}
"""


def imds(
    client: Client, path: str, version: str, *, source: str = "10.42.1.5", headers: dict[str, str] | None = None,
    method: str = "GET", data: bytes = b"", query: dict[str, str] | None = None,
) -> Response:  # fmt: skip
    sent = {"metadata": "true"} if headers is None else headers
    asked = ({"api-version": version} if version else {}) | (query or {})
    return client.twin.serve(Request(method, f"/metadata/{path}", asked, sent, data, source=source), control=False)


def instance(client: Client, path: str = "instance", *, source: str = "10.42.1.5", **query: str) -> Response:
    return imds(client, path, "2021-02-01", source=source, query=query)


def test_the_source_address_says_which_vm_asks(client: Client) -> None:
    shown = body(instance(client))
    assert shown["compute"]["name"] == "node-b"  # type: ignore[index]  # JSON
    interface = shown["network"]["interface"][0]  # type: ignore[index]  # JSON
    assert interface["ipv4"]["ipAddress"][0]["privateIpAddress"] == "10.42.1.5"
    assert interface["ipv4"]["subnet"] == [{"address": "10.42.1.0", "prefix": "24"}]
    assert interface["macAddress"] == "000D3A2A0105"
    assert body(instance(client, source="127.0.0.1"))["compute"]["name"] == "node-a"  # type: ignore[index]  # JSON
    text = instance(client, "instance/compute/name", format="text")
    assert text.encoded() == b"node-b"
    assert instance(client, "instance/compute/nothing").status == 404


def test_without_the_header_through_a_proxy_or_without_a_version_it_is_refused(client: Client) -> None:
    assert imds(client, "instance", "2021-02-01", headers={}).status == 400
    forwarded = {"metadata": "true", "x-forwarded-for": "1.2.3.4"}
    assert imds(client, "instance", "2021-02-01", headers=forwarded).status == 400
    assert imds(client, "instance", "").status == 400
    assert imds(client, "other", "2021-02-01").status == 404


def test_five_a_second_from_one_vm_and_no_more(client: Client) -> None:
    assert [instance(client).status for _ in range(6)] == [200] * 5 + [429]
    assert instance(client, source="10.42.1.4").status == 200
    client.time += 1
    assert instance(client).status == 200


def token(client: Client, **query: str) -> Response:
    asked = {"resource": "https://management.azure.com/"} | query
    return imds(client, "identity/oauth2/token", "2018-02-01", query=asked)


def test_a_token_has_what_clients_read_and_opens_arm(client: Client) -> None:
    answer = body(token(client))
    assert all(isinstance(value, str) for value in answer.values())
    middle = str(answer["access_token"]).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    assert {"tid", "oid", "appid", "xms_mirid", "exp"} <= claims.keys()
    assert client.ask("GET", "routeTables/rt1", token=str(answer["access_token"])).status == 200


def test_of_several_identities_one_must_be_named(configured: Callable[..., Client]) -> None:
    client = configured(extra=TWO)
    assert b"Multiple user assigned identities" in token(client).encoded()
    assert body(token(client, client_id="c2"))["client_id"] == "c2"
    assert token(client, client_id="c9").status == 400
    assert token(client, resource="").status == 400


def test_scheduled_events_are_announced_acknowledged_and_end(client: Client) -> None:
    def events() -> dict[str, object]:
        client.time += 0.3
        return body(imds(client, "scheduledevents", "2020-07-01"))

    assert events() == {"DocumentIncarnation": 1, "Events": []}
    request = Request(
        "POST", "/twin/events", {}, {}, b'{"event_type": "Reboot", "resources": ["node-b"], "duration": 60}'
    )
    event_id = str(body(client.twin.serve(request, control=True))["event_id"])
    shown = events()
    assert shown["DocumentIncarnation"] == 2
    event = shown["Events"][0]  # type: ignore[index]  # JSON
    assert (event["EventType"], event["EventStatus"], event["Resources"]) == ("Reboot", "Scheduled", ["node-b"])
    assert event["NotBefore"].endswith("GMT")
    start = json.dumps({"StartRequests": [{"EventId": event_id}]}).encode()
    assert imds(client, "scheduledevents", "2020-07-01", method="POST", data=start).status == 200
    assert events()["Events"][0]["EventStatus"] == "Started"  # type: ignore[index]  # JSON
    client.time += 61
    assert events()["Events"] == []


def test_each_event_has_a_time_of_its_own(client: Client) -> None:
    for notice in (60, 900):
        order = {"event_type": "Freeze", "resources": ["node-a"], "notice": notice}
        client.twin.serve(Request("POST", "/twin/events", {}, {}, json.dumps(order).encode()), control=True)
    shown = body(imds(client, "scheduledevents", "2020-07-01"))["Events"]
    times = [email.utils.parsedate_to_datetime(each["NotBefore"]).timestamp() for each in shown]  # type: ignore[attr-defined]  # JSON
    assert times == [client.time + 60, client.time + 900]


def test_an_event_that_nobody_acknowledges_starts_when_its_notice_is_over(client: Client) -> None:
    client.twin.serve(
        Request("POST", "/twin/events", {}, {}, b'{"event_type": "Freeze", "resources": ["node-b"]}'), control=True
    )
    client.time += 899
    client.twin.imds.events.handle_timer(client.time)
    assert client.twin.imds.events.all[0].status == "Scheduled"
    client.time += 1
    client.twin.imds.events.handle_timer(client.time)
    assert client.twin.imds.events.all[0].status == "Started"


def test_inside_the_fabric_there_is_no_twin_api(client: Client) -> None:
    assert client.twin.serve(Request("GET", "/twin/status"), control=False).status == 404
    assert client.twin.serve(Request("GET", "/twin/status"), control=True).status == 200
