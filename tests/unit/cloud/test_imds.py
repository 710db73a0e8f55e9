"""Something that is not IMDS answers at IMDS's address: a proxy, a metadata service of another cloud, a black hole."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from bgp_agent.cloud import imds as imds_module
from bgp_agent.cloud.imds import Imds, ImdsError
from bgp_agent.core.prefix import parse_address
from tests.unit.cloud.conftest import Stub

COMPUTE = {
    "subscriptionId": "s", "resourceGroupName": "g", "name": "n", "resourceId": "/subscriptions/s",
    "azEnvironment": "AzureUSGovernmentCloud", "location": "usgovvirginia",
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, "<html>"),
        (200, "{}"),
        (200, ""),
        (200, '{"compute": {"name": 5}}'),
        (200, '{"compute": []}'),
        pytest.param(200, "[" * 100_000, id="deep"),
        (404, "latest/meta-data"),
        (429, "Too many requests"),
        (500, ""),
        (302, ""),
        pytest.param(200, " " * (imds_module.MAX_BYTES + 1), id="long"),
    ],
)
async def test_what_imds_would_not_say_is_one_error_with_words(stub: Stub, status: int, body: str) -> None:
    stub.says(body, status)
    async with Imds(stub.url) as imds:
        for asking in (imds.instance, imds.events):
            with pytest.raises(ImdsError, match=f"IMDS at {stub.url}") as caught:
                await asking()
            assert len(str(caught.value)) < 700


async def test_imds_that_never_answers_ends_with_the_timeout(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    stub.answer = never
    monkeypatch.setattr(imds_module, "FIRST_EVENTS", 0.3)
    async with Imds(stub.url, timeout=0.2) as imds:
        for asking in (imds.instance, imds.events):
            with pytest.raises(ImdsError, match="does not answer: this is not an Azure VM, or IMDS is blocked"):
                await asking()


async def test_the_first_answer_about_events_may_take_azure_minutes_and_no_later_one(stub: Stub) -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return web.Response(text='{"DocumentIncarnation": 1, "Events": []}')

    stub.answer = slow
    async with Imds(stub.url, timeout=0.2) as imds:
        assert (await imds.events()).incarnation == 1
        with pytest.raises(ImdsError, match="does not answer"):
            await imds.events()


async def test_addresses_of_both_families_and_interfaces_half_configured(stub: Stub) -> None:
    interfaces = [
        {"macAddress": "000D3A36DDED",
         "ipv4": {"ipAddress": [{"privateIpAddress": "10.0.0.4"}, {"privateIpAddress": ""}]},
         "ipv6": {"ipAddress": [{"privateIpAddress": "fd00::4"}]}},
        {"macAddress": "00-0d-3a-36-dd-ee", "ipv4": {}, "ipv6": None},
        {},
    ]  # fmt: skip
    stub.says(json.dumps({"compute": COMPUTE, "network": {"interface": interfaces}}))
    async with Imds(stub.url) as imds:
        found = await imds.instance()
    assert found.environment == "AzureUSGovernmentCloud"
    assert [(each.mac, each.addresses) for each in found.interfaces] == [
        ("000D3A36DDED", (parse_address("10.0.0.4"), parse_address("fd00::4"))),
        ("000D3A36DDEE", ()),
        ("", ()),
    ]


async def test_an_event_with_an_odd_time_is_still_an_event(stub: Stub) -> None:
    event = {
        "EventId": "e", "EventType": "Terminate", "EventStatus": "Scheduled", "Resources": ["n"],
        "NotBefore": "soon", "DurationInSeconds": -1,
    }  # fmt: skip
    stub.says(json.dumps({"DocumentIncarnation": 3, "Events": [event]}))
    async with Imds(stub.url) as imds:
        (found,) = (await imds.events()).events
    assert (found.kind, found.not_before, found.duration) == ("Terminate", None, None)
