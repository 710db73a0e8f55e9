"""The twin as a process on loopback: hostile HTTP, many clients, and what survives SIGKILL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from lab.azure import NETWORK
from tests.azure.twin.lab.cloud import Cloud

pytestmark = pytest.mark.timeout(120)

CONFIG = """
timing: fast
throttling: {enabled: false}
fabric: {mode: none}
route_tables: [{name: rt1}, {name: rt2}]
vms: [{name: a}]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path, CONFIG + f"state: {tmp_path}/state\n", free_port())
    yield made
    made.close()


def token_of(cloud: Cloud) -> str:
    cloud.arm("GET", "routeTables/rt1")
    return cloud._token


def route(number: int) -> dict[str, object]:
    return {"properties": {"addressPrefix": f"192.168.{number // 4}.{number % 4 * 64}/26", "nextHopType": "None"}}


async def test_no_write_that_was_answered_is_lost_when_the_twin_is_killed(server: Cloud) -> None:
    answered: dict[str, bool] = {}
    headers = {"Authorization": f"Bearer {token_of(server)}"}
    dice = random.Random(7)  # noqa: S311  # a test's dice

    async def client(session: aiohttp.ClientSession, table: str, first: int) -> None:
        for number in range(first, first + 10_000):
            name = f"{table}/routes/r{number % 400}"
            url = f"{server.url}{NETWORK}/routeTables/{name}?api-version=2025-07-01"
            try:
                if number % 5 == 4:
                    async with session.delete(url, headers=headers) as answer:
                        if answer.status < 300:
                            answered[name] = False
                else:
                    async with session.put(url, headers=headers, json=route(number % 400)) as answer:
                        if answer.status < 300:
                            answered[name] = True
            except aiohttp.ClientError:
                answered.pop(name, None)  # not answered: it may or may not be there
                return

    for _ in range(4):
        answered.clear()
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            for table, first in (("rt1", 0), ("rt2", 200)):
                group.create_task(client(session, table, first))
            await asyncio.sleep(dice.uniform(0.2, 0.6))
            server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        server.start()
        there = {
            f"{table}/routes/{each['name']}"
            for table in ("rt1", "rt2")
            for each in server.arm("GET", f"routeTables/{table}/routes")["value"]
        }
        assert len(answered) > 20
        wrong = [name for name, present in answered.items() if (name in there) != present]
        assert not wrong


def test_a_token_and_the_yaml_files_resources_survive_a_restart_and_a_torn_line_does_not_hurt(
    server: Cloud, tmp_path: Path
) -> None:
    token_of(server)
    server.arm("DELETE", "routeTables/rt2")
    server.process.kill()
    server.process.wait()
    with (tmp_path / "state" / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"type":"resource","store":"arm","key":"/torn')
    server.start()
    assert [each["name"] for each in server.arm("GET", "routeTables")["value"]] == ["rt1"]


def test_a_second_twin_on_the_same_state_is_refused(server: Cloud, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(RuntimeError, match="in use by another azure-twin"):
        Cloud(other, CONFIG + f"state: {tmp_path}/state\n", free_port())
    assert server.status()


def raw(server: Cloud, data: bytes, *, wait: float = 5.0, half_close: bool = True) -> bytes:
    """Bytes to the server; gives what it said before it closed, or within ``wait`` seconds."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(data)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        said = b""
        with contextlib.suppress(TimeoutError):  # an answer may come before the connection ends
            while chunk := connection.recv(65536):
                said += chunk
    return said


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 1000,
        b"GET\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET /subscriptions/%ff%fe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"PUT /subscriptions/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
    ],
)
def test_broken_http_never_brings_it_down_nor_shows_a_traceback(server: Cloud, data: bytes) -> None:
    assert b"Traceback" not in raw(server, data)
    assert server.status()
    assert "Traceback" not in (server.folder / "twin.log").read_text()


def test_a_huge_body_is_refused_and_a_half_written_one_changes_nothing(server: Cloud) -> None:
    token = token_of(server)
    head = (
        f"PUT {NETWORK}/routeTables/rt3?api-version=2025-07-01 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\n"
    )
    answer = raw(
        server, f"{head}Connection: close\r\nContent-Length: 99999999\r\n\r\n".encode(), half_close=False, wait=1
    )
    assert b" 413 " in answer.splitlines()[0]
    assert b"RequestContentTooLarge" in answer
    raw(server, f"{head}Content-Length: 50\r\n\r\n".encode() + b'{"location": "westeurope"')
    assert server.http("GET", f"{NETWORK}/routeTables/rt3", token=token, **{"api-version": "2025-07-01"})[0] == 404


async def test_many_clients_at_once_are_all_answered(server: Cloud) -> None:
    headers = {"Authorization": f"Bearer {token_of(server)}"}
    url = f"{server.url}{NETWORK}/routeTables/rt1?api-version=2025-07-01"
    seen: list[int] = []

    async def one(session: aiohttp.ClientSession) -> None:
        async with session.get(url, headers=headers) as answer:
            seen.append(answer.status)
            assert "error" not in json.loads(await answer.read())

    connector = aiohttp.TCPConnector(limit=200)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(1000):
            group.create_task(one(session))
    assert seen == [200] * 1000


def test_faults_hang_and_close_before_and_after_the_write(server: Cloud) -> None:
    token = token_of(server)
    path = f"{NETWORK}/routeTables/rt1/routes/r1"
    version = {"api-version": "2025-07-01"}
    server.twin("POST", "faults", {"kind": "close", "method": "PUT", "path": "*/routes/*"})
    with pytest.raises(OSError, match=r"closed|reset"):
        server.http("PUT", path, route(1), token=token, **version)
    assert server.http("GET", path, token=token, **version)[0] == 404
    server.twin(
        "POST", "faults", {"kind": "hang", "method": "PUT", "path": "*/routes/*", "seconds": 0.2, "apply": True}
    )
    with pytest.raises(OSError, match=r"closed|reset"):
        server.http("PUT", path, route(1), token=token, **version)
    assert server.http("GET", path, token=token, **version)[0] == 200


def test_the_twins_own_api_explains_what_it_does_not_take(server: Cloud) -> None:
    for method, path, body in (
        ("GET", "nothing", None),
        ("POST", "faults", {"kind": "magic"}),
        ("POST", "instances/9", {"state": "up"}),
        ("POST", "links/none", {"silent": True}),
        ("POST", "clock", {"advance": -1}),
        ("GET", "route", None),
        ("POST", "events", {"event_type": "Party", "resources": []}),
    ):
        status, answer = server.http(method, f"/twin/{path}", body)
        assert status in {400, 404}, path
        assert answer["error"]["message"]


def test_the_command_line_shows_status_and_says_when_nothing_is_there(server: Cloud) -> None:
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "azure_twin", *words], capture_output=True, text=True, timeout=30, check=False
        )

    shown = run("status", "--url", server.url)
    assert (shown.returncode, "instance 0: down" in shown.stdout) == (0, True)
    assert json.loads(run("status", "--json", "--url", server.url).stdout)["settled"] is True
    assert "neither an address nor" in run("route", "x", "10.0.0.1", "--url", server.url).stdout
    away = run("status", "--url", f"http://127.0.0.1:{free_port()}")
    assert (away.returncode, "is `azure-twin run` up" in away.stderr) == (1, True)
    assert run("run", "-c", "/nowhere.yaml").returncode == 2
