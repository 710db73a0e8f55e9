"""Listening: what a client can fill is bounded, and what cannot be listened at is said."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from bgp_agent.core.reports import Verified
from bgp_agent.web import server
from bgp_agent.web.server import ListenError, serving, split_listen
from tests.unit.web.memory import Memory


async def exchange(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(5):
            return await reader.read(100_000)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_port_that_is_taken_is_named_with_the_remedy(memory: Memory) -> None:
    async with serving(memory, "127.0.0.1:0") as (port, _):
        with pytest.raises(ListenError, match=rf"http.listen: 127.0.0.1:{port} is taken.*ss -ltnp"):
            async with serving(Memory(), f"127.0.0.1:{port}"):
                pass


async def test_a_taken_metrics_port_is_named_by_its_own_key_and_nothing_stays_open(memory: Memory) -> None:
    async with serving(memory, "127.0.0.1:0") as (port, _):
        with pytest.raises(ListenError, match=r"http\.metrics_listen"):
            async with serving(Memory(), "127.0.0.1:0", f"127.0.0.1:{port}"):
                pass


async def test_an_address_of_another_machine_is_refused_in_words(memory: Memory) -> None:
    with pytest.raises(ListenError, match="no address of this machine"):
        async with serving(memory, "192.0.2.1:9179"):
            pass


@pytest.mark.parametrize("listen", ["", "9179", ":9179", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", "h:-1"])
def test_what_is_no_address_and_port_is_refused(listen: str) -> None:
    with pytest.raises(ListenError, match="ADDRESS:PORT"):
        split_listen(listen)


def test_ipv6_is_written_in_brackets() -> None:
    assert split_listen("[::1]:9179") == ("::1", 9179)


async def test_the_metrics_address_serves_nothing_else(memory: Memory) -> None:
    async with serving(memory, "127.0.0.1:0", "127.0.0.1:0") as (_, port), aiohttp.ClientSession() as http:
        found = {}
        for path in ("/metrics", "/healthz", "/readyz", "/status", "/routes", "/explain?for=10.0.0.1", "/events", "/"):
            async with http.get(f"http://127.0.0.1:{port}{path}") as answer:
                found[path.partition("?")[0]] = answer.status
    assert found == {
        "/metrics": 200, "/healthz": 200, "/readyz": 200,
        "/status": 404, "/routes": 404, "/explain": 404, "/events": 404, "/": 404,
    }  # fmt: skip


@pytest.mark.parametrize(
    "junk",
    [
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: x\r\n" % n for n in range(500)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 50,
        b"\r\n\r\n\r\n" * 10 + b"BREW / HTTP/9.9\r\n\r\n",
    ],
    ids=["a long line", "a long header", "many headers", "TLS", "no HTTP"],
)
async def test_broken_http_is_refused_without_a_traceback_or_a_log_line(
    memory: Memory, caplog: pytest.LogCaptureFixture, junk: bytes
) -> None:
    async with serving(memory, "127.0.0.1:0") as (port, _):
        told = await exchange(port, junk)
        assert told.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")) or told == b""
        assert b"Traceback" not in told
        assert (
            await exchange(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        ).startswith(b"HTTP/1.1 200")
    assert not caplog.records


async def test_a_connection_that_never_asks_is_closed(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_REQUEST", 0.1)
    async with serving(memory, "127.0.0.1:0") as (port, _):
        assert await exchange(port, b"GET /status HTT") == b""


async def test_an_answer_may_take_longer_than_a_request_may(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_REQUEST", 0.05)

    async def slow(_: str) -> Verified:
        await asyncio.sleep(0.2)  # what is tested is that time passes
        return Verified()

    monkeypatch.setattr(memory, "probe", slow)
    async with serving(memory, "127.0.0.1:0") as (port, _):
        told = await exchange(port, b"GET /probe?for=10.0.0.1 HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert told.startswith(b"HTTP/1.0 200")


async def test_connections_beyond_the_bound_are_closed_and_the_others_served(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 3)
    async with serving(memory, "127.0.0.1:0") as (port, _):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await exchange(port, b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n") == b""
        reader, writer = held[0]
        writer.write(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert (await reader.readline()).endswith(b"200 OK\r\n")
        for _, one in held:
            one.close()


async def test_leaving_ends_readers_of_events_at_once(memory: Memory) -> None:
    async with asyncio.timeout(3), aiohttp.ClientSession() as http:
        async with serving(memory, "127.0.0.1:0") as (port, _):
            answer = await http.get(f"http://127.0.0.1:{port}/events")
        assert answer.status == 200
        answer.close()
