"""Answers that ARM would never give, and some that it does give on a bad day."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest
from aiohttp import web

from bgp_agent import __version__
from bgp_agent.cloud import arm as arm_module
from bgp_agent.cloud import resources
from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.errors import Busy, CloudError, Conflict, Denied, NotFound, Throttled, Trouble
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.core.prefix import parse_address, parse_prefix
from tests.unit.cloud.conftest import Fixed, Stub

SUBSCRIPTION = ResourceId("/subscriptions/s")
NETWORK = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network"
TABLE = ResourceId(f"{NETWORK}/routeTables/t")
BLOCK, HOP = parse_prefix("192.168.1.0/26"), parse_address("10.0.0.4")


def table(*routes: object) -> str:
    return json.dumps({"id": TABLE, "etag": "e", "properties": {"routes": routes}})


def error(code: str, message: str = "why") -> str:
    return json.dumps({"error": {"code": code, "message": message}})


async def test_who_asks_is_told_and_the_token_is_sent(stub: Stub, arm: Arm) -> None:
    stub.says(table())
    await resources.read_table(arm, TABLE)
    (request,) = stub.requests
    assert request.headers["User-Agent"].split()[0] == f"bgp-agent/{__version__}"
    assert request.headers["Authorization"] == "Bearer secret-token"
    assert request.query["api-version"] == arm_module.VERSION


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Please log in</body></html>",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"id": "/subscriptions/s',
        b'{"id": 5, "properties": {}}',
        b'{"id": "no id", "properties": {}}',
        b'{"id": "/subscriptions/s/../..", "properties": {}}',
        b'{"id": "/subscriptions/s", "properties": null}',
        b'{"id": "/subscriptions/s", "properties": {"routes": {}}}',
        b'{"id": "/subscriptions/s", "properties": {"subnets": [{"id": null}]}}',
        b"\xff\xfe\x00",
        pytest.param(b"[" * 100_000, id="deep list"),
        pytest.param(b'{"a":' * 50_000, id="deep object"),
        gzip.compress(b"{}", mtime=0),
    ],
)
async def test_garbage_is_trouble_and_never_an_empty_table(stub: Stub, arm: Arm, body: bytes) -> None:
    stub.says(body)
    with pytest.raises(Trouble) as caught:
        await resources.read_table(arm, TABLE)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


async def test_one_route_that_cannot_be_read_does_not_hide_the_others(stub: Stub, arm: Arm) -> None:
    good = {"name": "good", "properties": {"addressPrefix": "192.168.1.0/26", "nextHopType": "None"}}
    tag = {"name": "tag", "properties": {"addressPrefix": "AzureCloud", "nextHopType": "Internet"}}
    odd = [
        5,
        None,
        {"name": "nothing"},
        {"name": "hop", "properties": {"addressPrefix": "192.168.2.0/26", "nextHopType": 5}},
        {"name": "bits", "properties": {"addressPrefix": "192.168.2.1/26", "nextHopType": "None"}},
        {"name": "to", "properties": {"addressPrefix": "192.168.2.0/26", "nextHopType": "V", "nextHopIpAddress": "x"}},
    ]
    stub.says(table(*odd, good, tag))
    found = await resources.read_table(arm, TABLE)
    assert [(each.name, each.prefix) for each in found.routes] == [("good", BLOCK), ("tag", None)]
    assert len(found.unread) == len(odd)
    assert any('"bits"' in each and "host bits" in each for each in found.unread)


async def test_an_endless_answer_is_cut_off(stub: Stub, arm: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm_module, "MAX_BYTES", 1024 * 1024)
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b" " * 65536)
            sent += 65536

    stub.answer = endless
    with pytest.raises(Trouble, match="longer than 1,048,576 bytes"):
        await resources.read_table(arm, TABLE)
    assert sent < 16 * 1024 * 1024


async def test_an_answer_that_trickles_or_never_comes_ends_with_the_timeout(stub: Stub) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b" ")
            await asyncio.sleep(0.05)

    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    async with Arm(stub.cloud, Fixed(stub.cloud), allow_http=True, timeout=0.3) as arm:
        for answer in (trickle, never):
            stub.answer = answer
            before = asyncio.get_running_loop().time()
            with pytest.raises(Trouble, match=r"no whole answer within 0.3 s"):
                await resources.read_table(arm, TABLE)
            assert asyncio.get_running_loop().time() - before < 2


async def test_a_body_that_ends_early_is_trouble(stub: Stub, arm: Arm) -> None:
    async def truncated(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "5000"})
        await answer.prepare(request)
        await answer.write(table().encode())
        assert request.transport is not None
        request.transport.close()
        return answer

    stub.answer = truncated
    with pytest.raises(Trouble):
        await resources.read_table(arm, TABLE)


async def test_nobody_there_is_trouble(stub: Stub) -> None:
    nobody = Stub("http://127.0.0.1:9").cloud
    async with Arm(nobody, Fixed(stub.cloud), allow_http=True, timeout=5) as arm:
        with pytest.raises(Trouble, match=r"Cannot connect|refused"):
            await resources.read_table(arm, TABLE)


@pytest.mark.parametrize("status", [200, 301, 302, 403, 404, 407, 409, 412, 429, 500, 502])
async def test_what_a_proxy_says_is_no_evidence(stub: Stub, arm: Arm, status: int) -> None:
    """A 404 page is not a table that is gone, and a redirect is not followed with our token."""
    stub.says("<html>blocked by policy</html>", status, {"Location": "http://127.0.0.1:9/"} if status < 400 else None)
    with pytest.raises(Trouble):
        await resources.read_table(arm, TABLE)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "ResourceNotFound", NotFound),
        (404, "NotFound", NotFound),
        (404, "ResourceGroupNotFound", NotFound),
        (404, "SubscriptionNotFound", Conflict),  # a token of another tenant sees no subscription either
        (404, "InvalidResourceType", Conflict),
        (401, "InvalidAuthenticationToken", Denied),
        (403, "AuthorizationFailed", Denied),
        (409, "AnotherOperationInProgress", Busy),
        (409, "ConflictError", Busy),
        (409, "ScopeLocked", Conflict),
        (429, "RetryableError", Busy),
        (429, "TooManyRequests", Throttled),
        (429, "SubscriptionRequestsThrottled", Throttled),
        (400, "RouteConflict", Conflict),
        (400, "SomethingNew", Conflict),
        (500, "InternalServerError", Trouble),
        (503, "ServiceUnavailable", Trouble),
    ],
)
async def test_each_refusal_is_what_its_caller_needs(
    stub: Stub, arm: Arm, status: int, code: str, kind: type[CloudError]
) -> None:
    stub.says(error(code), status)
    with pytest.raises(CloudError) as caught:
        await resources.put_route(arm, TABLE, "r", BLOCK, HOP)
    assert type(caught.value) is kind
    assert f"PUT routeTables/t/routes/r: {status} {code}: why" in str(caught.value)


async def test_a_refused_token_is_replaced_once_a_request(stub: Stub, arm: Arm) -> None:
    stub.says(error("ExpiredAuthenticationToken"), 401)
    with pytest.raises(Denied):
        await resources.read_table(arm, TABLE)
    assert len(stub.requests) == 2


async def test_a_server_that_fails_is_asked_three_times_and_no_more(stub: Stub, arm: Arm) -> None:
    stub.says(error("ServiceUnavailable"), 503)
    with pytest.raises(Trouble):
        await resources.put_route(arm, TABLE, "r", BLOCK, HOP)
    assert len(stub.requests) == 3


@pytest.mark.parametrize("header", ["120", "99999999999999999999", "Wed, 21 Oct 2099 07:28:00 GMT"])
async def test_nothing_waits_in_here_for_a_long_retry_after(stub: Stub, arm: Arm, header: str) -> None:
    for status in (429, 503):
        stub.says(error("TooManyRequests"), status, {"Retry-After": header})
        before = asyncio.get_running_loop().time()
        with pytest.raises(CloudError) as caught:
            await resources.read_table(arm, TABLE)
        assert asyncio.get_running_loop().time() - before < 1
        assert getattr(caught.value, "retry_after", 0) <= 300
        arm._closed_until.clear()


# --- lists -----------------------------------------------------------------------------------------------------------
def page(link: object, *value: object) -> str:
    return json.dumps({"value": value, "nextLink": link})


async def test_a_list_is_followed_over_its_pages(stub: Stub, arm: Arm) -> None:
    async def pages(request: web.Request) -> web.Response:
        number = int(request.query.get("$skip", "0"))
        body = {"id": f"{NETWORK}/virtualHubs/h{number}", "properties": {}}
        link = f"{stub.url}{NETWORK}/virtualHubs?$skip={number + 1}" if number < 4 else None
        return web.Response(text=page(link, body))

    stub.answer = pages
    assert len(await resources.list_servers(arm, SUBSCRIPTION)) == 5


async def test_a_list_that_leads_in_a_circle_ends(stub: Stub, arm: Arm) -> None:
    async def circle(request: web.Request) -> web.Response:
        number = int(request.query.get("p", "0"))
        return web.Response(text=page(f"{stub.url}/x?p={(number + 1) % 3}"))

    stub.answer = circle
    with pytest.raises(Trouble, match="does not end"):
        await resources.list_servers(arm, SUBSCRIPTION)
    assert len(stub.requests) <= 5


async def test_a_list_without_end_ends(stub: Stub, arm: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
    async def on(request: web.Request) -> web.Response:
        return web.Response(text=page(f"/x?p={int(request.query.get('p', '0')) + 1}", "x" * 100_000))

    stub.answer = on
    monkeypatch.setattr(arm_module, "MAX_LISTED", 1_000_000)
    with pytest.raises(Trouble, match="does not end"):
        await resources.list_nics(arm, SUBSCRIPTION)
    assert len(stub.requests) <= 11
    monkeypatch.setattr(arm_module, "MAX_PAGES", 5)
    stub.requests.clear()
    with pytest.raises(Trouble, match="does not end"):
        await resources.list_nics(arm, SUBSCRIPTION)
    assert len(stub.requests) == 5


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/subscriptions/s",
        "//evil.example/subscriptions",
        "http://127.0.0.1:9/subscriptions",
        "https://127.0.0.1/subscriptions",
        "http://user@127.0.0.1/",
        "file:///etc/passwd",
        "http://[::1",
        "http://127.0.0.1:99999999/",
    ],
)
async def test_the_token_follows_no_link_to_another_place(stub: Stub, arm: Arm, link: str) -> None:
    stub.says(page(link))
    with pytest.raises(Trouble, match="leads elsewhere"):
        await resources.list_servers(arm, SUBSCRIPTION)
    for header in ("Azure-AsyncOperation", "Location"):
        stub.says("{}", 202, {header: link})
        with pytest.raises(Trouble, match="leads elsewhere"):
            await resources.put_route(arm, TABLE, "r", BLOCK, HOP)
    assert all(each.url.host == "127.0.0.1" for each in stub.requests)


async def test_a_list_in_which_one_peer_cannot_be_read_is_not_a_list_without_it(stub: Stub, arm: Arm) -> None:
    stub.says(page(None, {"id": "/subscriptions/s", "name": "a", "properties": {"peerIp": "x", "peerAsn": 5}}))
    with pytest.raises(Trouble, match="not an IPv4 or IPv6 address"):
        await resources.list_connections(arm, ResourceId(f"{NETWORK}/virtualHubs/h"))


# --- operations ------------------------------------------------------------------------------------------------------
def operation(stub: Stub, *bodies: str) -> None:
    """A PUT that goes on, and what its polls say, the last one for ever."""
    left = list(bodies)

    async def answer(request: web.Request) -> web.Response:
        if request.method != "GET":
            return web.Response(status=201, text="{}", headers={"Azure-AsyncOperation": f"{stub.url}/op"})
        return web.Response(text=left.pop(0) if len(left) > 1 else left[0])

    stub.answer = answer


async def put(arm: Arm, patience: float = 1.5) -> None:
    await arm.put(f"{TABLE}/routes/r", {}, patience=patience)


async def test_an_operation_ends_well_after_some_rubbish(stub: Stub, arm: Arm) -> None:
    operation(stub, "<html>", "{}", '{"status": "InProgress"}', '{"status": "Succeeded"}')
    with pytest.raises(Trouble):
        await put(arm)
    operation(stub, '{"status": "InProgress"}', '{"status": "SomethingNew"}', '{"status": "succeeded"}')
    await put(arm, patience=5)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"status": "Failed"}', Conflict),
        ('{"status": "Canceled", "error": {"code": "CanceledAndSupersededDueToAnotherOperation"}}', Busy),
        ('{"status": "Failed", "error": {"code": "InternalServerError", "message": "m"}}', Trouble),
        ('{"status": "Failed", "error": {"code": "RouteConflict", "message": "m"}}', Conflict),
        ('{"status": "Failed", "error": {"code": "LinkedAuthorizationFailed", "message": "m"}}', Denied),
        ('{"status": "InProgress"}', Busy),
        ('{"status": 5}', Trouble),
        ('{"status": "Failed", "error": []}', Trouble),
    ],
)
async def test_how_an_operation_ends_is_told_by_its_kind(
    stub: Stub, arm: Arm, body: str, kind: type[CloudError]
) -> None:
    operation(stub, body)
    with pytest.raises(CloudError) as caught:
        await put(arm, 0.5)
    assert type(caught.value) is kind


async def test_polls_back_off(stub: Stub, arm: Arm) -> None:
    operation(stub, '{"status": "InProgress"}')
    with pytest.raises(Busy):
        await put(arm, 2.0)
    assert len(stub.requests) <= 6


async def test_an_action_that_answers_later_is_followed_to_its_result(stub: Stub, arm: Arm) -> None:
    row = {"network": "192.168.1.0/26", "nextHop": "10.0.0.4", "asPath": "64512-64513"}
    polls = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal polls
        if request.method == "POST":
            return web.Response(status=202, headers={"Location": "/result", "Retry-After": "0"})
        polls += 1
        if polls < 3:
            return web.Response(status=202)
        rows = {"RouteServiceRole_IN_1": None, "RouteServiceRole_IN_0": [row, {"network": 5}]}
        return web.Response(text=json.dumps(rows))

    stub.answer = answer
    found = await resources.learned_routes(arm, ResourceId(f"{NETWORK}/virtualHubs/h/bgpConnections/c"))
    assert list(found) == ["RouteServiceRole_IN_0", "RouteServiceRole_IN_1"]
    (route,) = found["RouteServiceRole_IN_0"]
    assert (route.prefix, route.next_hop, route.as_path) == (BLOCK, HOP, (64512, 64513))
    assert found["RouteServiceRole_IN_1"] == ()


async def test_effective_routes_are_read_row_by_row(stub: Stub, arm: Arm) -> None:
    rows = [
        {"source": "User", "state": "Active", "addressPrefix": ["192.168.1.0/26"], "nextHopIpAddress": ["10.0.0.4"],
         "nextHopType": "VirtualAppliance"},
        {"source": "VirtualNetworkGateway", "state": "Invalid", "addressPrefix": ["192.168.1.0/26", "Sql.WestEurope"],
         "nextHopIpAddress": ["10.0.0.4", "nonsense"], "nextHopType": "VirtualNetworkGateway"},
        {"source": 5},
        {"source": "Default", "state": "Active", "addressPrefix": None, "nextHopIpAddress": None},
    ]  # fmt: skip
    stub.says(json.dumps({"value": rows}))
    found = await resources.effective_routes(arm, ResourceId(f"{NETWORK}/networkInterfaces/n"))
    assert [(each.prefix, each.source, each.active, each.next_hops) for each in found] == [
        (BLOCK, "User", True, (HOP,)),
        (BLOCK, "VirtualNetworkGateway", False, (HOP,)),
    ]


async def test_the_interfaces_of_a_scale_set_are_asked_of_the_scale_set(stub: Stub, arm: Arm) -> None:
    machine = ResourceId(
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachineScaleSets/v/virtualMachines/0"
    )
    nic = {"id": f"{machine}/networkInterfaces/n", "properties": {"virtualMachine": {"id": machine}, "primary": True}}
    stub.says(page(None, nic, {"id": 5}))
    (found,) = await resources.list_scale_set_nics(arm, machine)
    assert (found.machine, found.primary, found.forwarding) == (machine, True, False)
    assert stub.requests[0].query["api-version"] == resources.SCALE_SET_VERSION
