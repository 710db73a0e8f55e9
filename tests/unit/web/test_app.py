"""Everything that is served, asked over a real connection on loopback."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from bgp_agent.core.values import RouteState
from bgp_agent.web import app
from bgp_agent.web.app import Allowance
from tests.unit.web.memory import Memory, asking, route

CONTRACT: dict[str, Any] = {
    "node": {"name": "node-a", "address": "10.42.1.4", "version": "0.1.0", "started": "2026-01-01T00:00:00Z"},
    "ready": True, "mode": "bgp", "reason": "2 of 2 peers established",
    "blocks": [{"cidr": "192.168.1.0/26", "state": "announced", "reason": "acknowledged by 2 of 2 peers",
                "peers": ["10.42.0.4", "10.42.0.5"],
                "verified": {"state": "delivered", "node": "node-a", "by": "node-b", "at": "2026-01-01T00:01:00Z"}}],
    "peers": [{"address": "10.42.0.4", "asn": 65515, "state": "established", "since": "2026-01-01T00:00:00Z",
               "uptime_seconds": 12.5, "received": 3, "accepted": 2, "announced": 1, "reason": "established",
               "flaps": 0}],
    "routes": [{"prefix": "192.168.2.0/26", "state": "installed", "reason": "best path", "next_hops": ["10.42.1.1"],
                "peers": ["10.42.0.4", "10.42.0.5"], "as_path": [65515, 64512],
                "verified": {"state": "delivered", "node": "node-b", "by": "node-a", "at": "2026-01-01T00:01:00Z"}}],
    "routes_total": 1,
    "source": {"kind": "file", "state": "synced", "reason": "1 block in blocks.yaml"},
    "kernel": {"table": 254, "protocol": 179, "metric": 4096, "installed": 1, "pending": 0, "repaired": 0},
    "fallback": {"mode": "standby", "state": "bgp",
                 "routes": [{"prefix": "192.168.1.64/26", "state": "written", "reason": "in effect"}]},
}  # fmt: skip
"""The example of docs/reference/http.md: a field may be added to what is served, none may be missing or differ."""


def promised(whole: object, part: object) -> object:
    """``whole`` cut down to the fields that ``part`` has."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return {key: promised(whole[key], value) for key, value in part.items() if key in whole}
    if isinstance(part, list) and isinstance(whole, list):
        return [promised(one, other) for one, other in zip(whole, part, strict=True)]
    return whole


async def body(http: aiohttp.ClientSession, path: str, status: int = 200) -> Any:  # noqa: ANN401 - JSON
    async with http.get(URL(path, encoded=True)) as answer:
        text = await answer.text()
        assert answer.status == status, text
        assert answer.content_type == "application/json"
        return json.loads(text)


async def test_status_has_the_fields_of_the_contract(http: aiohttp.ClientSession) -> None:
    served = await body(http, "/status")
    assert promised(served, CONTRACT) == CONTRACT


async def test_status_shows_a_thousand_routes_those_in_trouble_first(
    http: aiohttp.ClientSession, memory: Memory
) -> None:
    memory.add(*(route(f"10.{n // 256}.{n % 256}.0/24") for n in range(2000)))
    memory.add(route("192.168.9.0/26", RouteState.PENDING), route("192.168.8.0/26", RouteState.REFUSED))
    served = await body(http, "/status")
    assert [one["state"] for one in served["routes"][:3]] == ["refused", "pending", "installed"]
    assert len(served["routes"]) == 1000
    assert served["routes_total"] == 2003


async def test_pages_of_routes_hold_each_once(http: aiohttp.ClientSession, memory: Memory) -> None:
    memory.add(*(route(f"10.{n // 256}.{n % 256}.0/24") for n in range(1700)), route("2001:db8::/64"))
    seen: list[str] = []
    cursor = ""
    while True:
        page = await body(http, f"/routes?limit=800{cursor}")
        assert page["total"] == 1702
        seen += [one["prefix"] for one in page["routes"]]
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert len(seen) == len(set(seen)) == 1702
    assert seen[-1] == "2001:db8::/64"


async def test_routes_are_filtered_by_state_and_prefix(http: aiohttp.ClientSession, memory: Memory) -> None:
    memory.add(route("192.168.3.0/26", RouteState.REFUSED), route("192.168.3.64/26"))
    assert [one["prefix"] for one in (await body(http, "/routes?state=refused"))["routes"]] == ["192.168.3.0/26"]
    assert [one["prefix"] for one in (await body(http, "/routes?prefix=192.168.3.70"))["routes"]] == ["192.168.3.64/26"]
    assert (await body(http, "/routes?prefix=192.168.3.0/24"))["total"] == 2
    assert (await body(http, "/routes?prefix=2001:db8::/32")) == {"total": 0, "routes": [], "cursor": None}


async def test_ten_thousand_routes_leave_the_loop_free(http: aiohttp.ClientSession, memory: Memory) -> None:
    memory.add(*(route(f"10.{n // 256}.{n % 256}.0/24") for n in range(10_000)))
    longest = 0.0
    asked = asyncio.create_task(body(http, "/routes?limit=10000"))
    while not asked.done():
        before = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - before)
    assert len((await asked)["routes"]) == 10_000
    assert longest < 0.5  # generous: the figure of interest is the benchmark's


async def test_explain_answers_and_refuses(http: aiohttp.ClientSession) -> None:
    served = await body(http, "/explain?for=192.168.2.7")
    assert served["verdict"] == "goes to 10.42.1.1 by eth0"
    assert served["prefix"] == "192.168.2.0/26"
    assert served["offers"][0]["best"] is True
    assert served["verified"]["state"] == "delivered"
    refused = await body(http, "/explain?for=224.0.0.1", 400)
    assert refused["error"] == "multicast is not routed here"


async def test_probe_returns_the_verified_object(http: aiohttp.ClientSession, memory: Memory) -> None:
    served = await body(http, "/probe?for=192.168.2.7")
    assert (served["state"], served["node"], served["by"]) == ("delivered", "node-a", "node-b")
    assert memory.probed == ["192.168.2.7"]
    assert (await body(http, "/probe?for=224.0.0.1", 400))["error"] == "no block owns multicast"


async def test_a_flood_of_probes_is_held_off(http: aiohttp.ClientSession, memory: Memory) -> None:
    answers = []
    for _ in range(app.PROBE_BURST + 5):
        async with http.get("/probe?for=192.168.2.7") as answer:
            answers.append((answer.status, answer.headers.get("Retry-After")))
    assert (429, "1") in answers
    assert app.PROBE_BURST <= len(memory.probed) < len(answers)


def test_the_allowance_comes_back_with_time() -> None:
    allowance = Allowance(2, 1.0)
    assert [allowance.wait(10.0) for _ in range(3)] == [0.0, 0.0, 1.0]
    assert allowance.wait(10.5) == 0.5
    assert allowance.wait(11.0) == 0.0


async def test_health_and_readiness(http: aiohttp.ClientSession, memory: Memory) -> None:
    assert await body(http, "/healthz") == {"alive": True}
    assert await body(http, "/readyz") == {"ready": True, "reason": "2 of 2 peers established"}
    memory.report = replace(memory.report, ready=False, reason="the source was never read")
    assert await body(http, "/readyz", 503) == {"ready": False, "reason": "the source was never read"}
    assert (await body(http, "/status"))["ready"] is False


BAD = [
    ("/status?x=1", "query"), ("/routes?limit=0", "limit"), ("/routes?limit=10001", "limit"),
    ("/routes?limit=x", "limit"), ("/routes?limit=-1", "limit"), ("/routes?limit=%D9%A3", "limit"),
    ("/routes?state=gone", "state"),
    ("/routes?cursor=AAAA", "cursor"), ("/routes?cursor=10.0.0.1/8", "cursor"), ("/routes?prefix=10.0.0.1/8", "prefix"),
    ("/routes?limit=1&limit=2", "limit"), ("/explain", "for"), ("/explain?for=", "for"),
    ("/explain?for=nonsense", "for"), ("/explain?for=1.2.3.4%00", "for"),
    ("/probe?for=1.2.3.4/33", "for"), ("/probe?from=1.2.3.4", "query"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "where"), BAD)
async def test_a_bad_parameter_is_told_what_where_and_the_remedy(
    http: aiohttp.ClientSession, path: str, where: str
) -> None:
    told = await body(http, path, 400)
    assert told["where"] == where
    assert told["error"]
    assert told["remedy"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@given(
    asked=st.dictionaries(st.sampled_from(["limit", "cursor", "state", "prefix", "for", "x"]), TEXTS, max_size=3),
    path=st.sampled_from(["/routes", "/explain", "/probe", "/status"]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_parameter_makes_a_traceback(asked: dict[str, str], path: str) -> None:
    async def story() -> None:
        async with asking(Memory()) as http, http.get(path, params=asked) as answer:
            text = await answer.text()
            assert answer.status in {200, 400, 429}, text
            json.loads(text)

    asyncio.run(story())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/status", "/drain", "/"])
async def test_nothing_can_be_changed(http: aiohttp.ClientSession, method: str, path: str) -> None:
    async with http.request(method, path, data=b"x" * 100_000) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, HEAD"
        assert "read-only" in (await answer.json())["error"]


@pytest.mark.parametrize(
    "path", ["/", "/status", "/routes", "/explain?for=10.0.0.1", "/healthz", "/readyz", "/metrics", "/events"]
)
async def test_head_answers_without_a_body(http: aiohttp.ClientSession, path: str) -> None:
    async with http.head(path) as answer:
        assert answer.status == 200
        assert await answer.read() == b""


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9179", "127.0.0.1.evil.example", "", "localhost.evil"])
async def test_a_strangers_name_for_loopback_is_refused(http: aiohttp.ClientSession, host: str) -> None:
    async with http.get("/status", headers={"Host": host}) as answer:
        assert answer.status == 421
        assert "blocks" not in await answer.json()


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "[::1]:9179", "::1", "10.0.0.1:80"])
async def test_addresses_and_localhost_are_honest(http: aiohttp.ClientSession, host: str) -> None:
    async with http.get("/healthz", headers={"Host": host}) as answer:
        assert answer.status == 200


async def test_every_answer_has_the_headers_that_browsers_obey(http: aiohttp.ClientSession) -> None:
    for path in ("/", "/status", "/routes", "/metrics", "/nothing-here"):
        async with http.get(path) as answer:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Server"] == "bgp-agent"


async def test_an_unknown_path_says_what_there_is(http: aiohttp.ClientSession) -> None:
    assert "/status" in (await body(http, "/nothing", 404))["remedy"]


async def test_a_failing_part_gives_an_error_and_the_next_answer_is_fine(
    http: aiohttp.ClientSession, memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    memory.failure = RuntimeError("secret detail")
    told = await body(http, "/status", 500)
    assert "secret detail" not in json.dumps(told)
    assert "secret detail" in caplog.text
    memory.failure = None
    assert (await body(http, "/status"))["ready"] is True


async def events_of(answer: aiohttp.ClientResponse, count: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    kind = ""
    async with asyncio.timeout(5):
        async for line in answer.content:
            if line.startswith(b"event: "):
                kind = line[7:].decode().strip()
            if line.startswith(b"data: "):
                found.append((kind, line[6:].decode().strip()))
                if len(found) == count:
                    break
    return found


async def reader_of(memory: Memory) -> None:
    async with asyncio.timeout(5):
        while not memory.hub.active:  # noqa: ASYNC110 - the hub has nothing to wait on, on purpose
            await asyncio.sleep(0)


async def test_events_arrive_as_they_happen(http: aiohttp.ClientSession, memory: Memory) -> None:
    async with http.get("/events") as answer:
        assert answer.content_type == "text/event-stream"
        await reader_of(memory)
        memory.hub.publish({"kind": "peer", "peer": "10.42.0.4", "state": "down", "reason": "line\nbreak"})
        memory.hub.publish({"kind": "block", "cidr": "192.168.1.0/26"})
        found = await events_of(answer, 2)
    assert found[0][0] == "change"
    assert json.loads(found[0][1]) == {"kind": "peer", "peer": "10.42.0.4", "state": "down", "reason": "line\nbreak"}
    assert json.loads(found[1][1])["kind"] == "block"


async def test_a_reader_that_falls_behind_is_told_and_dropped(http: aiohttp.ClientSession, memory: Memory) -> None:
    async with http.get("/events") as answer:
        await reader_of(memory)
        for number in range(20):
            memory.hub.publish({"kind": "route", "number": number})
        assert [kind for kind, _ in await events_of(answer, 1)] == ["dropped"]
        assert await answer.content.read() in {b"", b"\n"}
    assert not memory.hub.active


async def test_a_reader_that_takes_nothing_is_cut_off(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "WRITE_TIMEOUT", 0.05)
    memory.hub._backlog = 100_000
    async with asking(memory) as http:
        reader, writer = await asyncio.open_connection("127.0.0.1", http._base_url.port if http._base_url else None)
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader_of(memory)
        reader._transport.pause_reading()  # type: ignore[attr-defined] # no public way to stop taking
        async with asyncio.timeout(10):
            while memory.hub.active:
                memory.hub.publish({"kind": "route", "reason": "x" * 60_000})
                await asyncio.sleep(0.001)
        writer.close()


async def test_the_places_for_readers_are_bounded_and_come_back(http: aiohttp.ClientSession, memory: Memory) -> None:
    async with http.get("/events"), http.get("/events") as second:
        async with http.get("/events") as third:
            assert third.status == 503
            assert "2 readers" in (await third.json())["error"]
        second.close()
        async with asyncio.timeout(5):
            while len(memory.hub._subscriptions) == 2:
                memory.hub.publish({"kind": "mode"})
                await asyncio.sleep(0)
        async with http.get("/events") as fourth:
            assert fourth.status == 200


async def test_an_answer_of_many_pieces_holds_each_route_once(
    http: aiohttp.ClientSession, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "ASK", 7)
    monkeypatch.setattr(app, "ENCODE", 3)
    memory.add(*(route(f"10.0.{n}.0/24") for n in range(50)))
    for limit in (1, 3, 7, 8, 20, 51, 52):
        page = await body(http, f"/routes?limit={limit}")
        wanted = [f"10.0.{n}.0/24" for n in range(50)] + ["192.168.2.0/26"]
        assert [one["prefix"] for one in page["routes"]] == wanted[:limit]
        assert page["cursor"] == (wanted[limit - 1] if limit < 51 else None)
