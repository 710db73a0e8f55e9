"""The twin's numbers, measured on this machine: `lab/sandbox .venv/bin/python azure/twin/bench/bench.py [BUSY]`.

400 routes written one by one, ARM reads a second (one connection, then eight), the time from a write's answer and from
an appliance's command to the kernel of the fabric, and resident memory without BIRD. Delays and throttling are off.
BUSY: so many processes that only burn processor time run beside it.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001"
NETWORK = f"{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.Network"
VERSION = "api-version=2025-07-01"
URL = "http://127.0.0.1:9180"
CONFIG = """
timing: fast
throttling: {enabled: false}
state: STATE
virtual_networks:
- name: vnet1
  address_space: [10.42.0.0/16]
  subnets: [{name: RouteServerSubnet, prefix: 10.42.0.0/26}, {name: nodes, prefix: 10.42.1.0/24, route_table: rt1}]
route_tables: [{name: rt1}]
route_server: {name: rs1, virtual_network: vnet1, peers: [{name: a, address: 10.42.1.4, asn: 64512}]}
nics:
- {name: a, subnet: nodes, address: 10.42.1.4, ip_forwarding: true}
- {name: b, subnet: nodes, address: 10.42.1.5, ip_forwarding: true}
vms: [{name: a}, {name: b}]
"""
BIRD = """
router id 10.42.1.4;
protocol device {}
protocol static pods { ipv4; route 192.168.1.0/26 blackhole; }
template bgp route_server {
  local 10.42.1.4 as 64512; multihop; strict bind on;
  ipv4 { import all; export where source = RTS_STATIC; }; }
protocol bgp r0 from route_server { neighbor 10.42.0.4 as 65515; }
protocol bgp r1 from route_server { neighbor 10.42.0.5 as 65515; }
"""


def get(path: str) -> dict[str, object]:
    """A JSON document of the twin."""
    request = urllib.request.Request(f"{URL}{path}", headers={"Metadata": "true"})  # noqa: S310  # loopback
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        found: dict[str, object] = json.loads(answer.read())
        return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Reader(asyncio.Protocol):
    """One connection that asks again as soon as it is answered; as light as can be, since it shares the machine."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.count = 0
        self.transport = asyncio.Transport()
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Count a whole answer and ask again."""
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length: ")[2].split()[0]):
            return
        assert head.startswith(b"HTTP/1.1 200"), head
        self._data = b""
        self.count += 1
        self.transport.write(self.request)


async def reads(token: str, clients: int, pid: int, seconds: float = 3.0) -> tuple[float, float]:
    """Reads a second, and reads a second of the twin's own CPU time."""
    path = f"{NETWORK}/routeTables/rt1/routes/r1?{VERSION}"
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    used = cpu_seconds(pid)
    readers = [(await loop.create_connection(lambda: Reader(request), "127.0.0.1", 9180))[1] for _ in range(clients)]
    await asyncio.sleep(seconds)
    count = sum(each.count for each in readers)
    found = count / seconds, count / (cpu_seconds(pid) - used)
    for each in readers:
        each.transport.close()
    return found


def connected() -> http.client.HTTPConnection:
    """A connection that sends what it has at once, as HTTP clients do."""
    made = http.client.HTTPConnection("127.0.0.1", 9180, timeout=30)
    made.connect()
    made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def write(connection: http.client.HTTPConnection, token: str, name: str, prefix: str | None) -> None:
    """A route of the table, or without a prefix its end."""
    body = json.dumps({"properties": {"addressPrefix": prefix, "nextHopType": "None"}}) if prefix else None
    url = f"{NETWORK}/routeTables/rt1/routes/{name}?{VERSION}"
    connection.request("PUT" if prefix else "DELETE", url, body, {"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status < 300, said


def writes(token: str, count: int = 400) -> float:
    """Seconds for so many routes, one after the other."""
    connection = connected()
    start = time.monotonic()
    for number in range(count):
        write(connection, token, f"r{number}", f"172.16.{number // 256}.{number % 256}/32")
    took = time.monotonic() - start
    connection.close()
    return took


class Monitor:
    """`ip monitor route` in the fabric."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", "twin-fabric", "stdbuf", "-oL", "ip", "monitor", "route"],
            stdout=subprocess.PIPE,
            text=True,
        )

    def until(self, prefix: str, *, deleted: bool) -> None:
        """Wait until the first NIC's table has the route, or has it no more."""
        assert self._process.stdout
        for line in self._process.stdout:
            if prefix in line and "table 1000" in line and ("Deleted" in line) == deleted:
                return

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def bgp_latency(folder: Path, rounds: int = 60) -> list[float]:
    """Milliseconds from `birdc enable` or `disable` of a route, `birdc` included, to the kernel of the fabric."""
    conf, control = folder / "bird.conf", folder / "bird.ctl"
    conf.write_text(BIRD)
    bird = subprocess.Popen(["ip", "netns", "exec", "twin-a", "bird", "-f", "-c", conf, "-s", control])
    monitor = Monitor()
    try:
        while b'"prefix":"192.168.1.0/26"' not in json.dumps(get("/twin/status"), separators=(",", ":")).encode():
            time.sleep(0.1)
        time.sleep(2)
        found = []
        for number in range(rounds):
            command = "disable" if number % 2 == 0 else "enable"
            start = time.monotonic()
            subprocess.run(["birdc", "-s", control, command, "pods"], check=True, capture_output=True)
            monitor.until("192.168.1.0/26", deleted=command == "disable")
            found.append((time.monotonic() - start) * 1000)
            time.sleep(0.1)
        return sorted(found)
    finally:
        bird.kill()
        bird.wait()
        monitor.close()


def write_latency(token: str, rounds: int = 60) -> list[float]:
    """Milliseconds from the answer to a route's PUT or DELETE to the kernel of the fabric; 400 others are there."""
    monitor = Monitor()
    connection = connected()
    found = []
    try:
        time.sleep(0.5)
        for number in range(rounds):
            made = number % 2 == 0
            write(connection, token, "late", "192.168.2.0/26" if made else None)
            start = time.monotonic()
            monitor.until("192.168.2.0/26", deleted=not made)
            found.append((time.monotonic() - start) * 1000)
            time.sleep(0.05)
        return sorted(found)
    finally:
        monitor.close()
        connection.close()


def told(name: str, found: list[float]) -> None:
    """One line of latencies."""
    p99 = found[int(len(found) * 0.99)]
    print(f"{name}: p50 {statistics.median(found):.0f} ms, p99 {p99:.0f} ms, max {found[-1]:.0f} ms")


def main() -> None:
    """Measure and print."""
    burning = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(burning) for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 0)]
    try:
        measure()
    finally:
        for each in others:
            each.kill()
            each.wait()


def measure() -> None:
    """With whatever else runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "twin.yaml"
        config.write_text(CONFIG.replace("STATE", str(folder / "state")))
        with (folder / "log").open("wb") as log:
            twin = subprocess.Popen([sys.executable, "-m", "azure_twin", "run", "-c", config], stdout=log, stderr=log)
        try:
            while True:
                time.sleep(0.1)
                try:
                    if get("/twin/status")["settled"]:
                        break
                except OSError:
                    continue
            token = str(get("/metadata/identity/oauth2/token?api-version=2018-02-01&resource=x")["access_token"])
            before = cpu_seconds(twin.pid)
            took = writes(token)
            print(f"400 routes one by one: {took:.2f} s; {cpu_seconds(twin.pid) - before:.2f} s of the twin's CPU")
            for clients in (1, 8):
                wall, own = asyncio.run(reads(token, clients, twin.pid))
                print(f"ARM reads, {clients} clients: {wall:.0f}/s; {own:.0f} a second of the twin's CPU")
            told("written by ARM, from the answer until in the fabric", write_latency(token))
            told("learned or withdrawn, until in the fabric", bgp_latency(folder))
            rss = next(line for line in Path(f"/proc/{twin.pid}/status").read_text().splitlines() if "VmRSS" in line)
            print(f"resident: {int(rss.split()[1]) / 1024:.0f} MiB")
        finally:
            twin.terminate()
            twin.wait()


if __name__ == "__main__":
    main()
