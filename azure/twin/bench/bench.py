"""The twin's numbers, measured on this machine: `lab/sandbox .venv/bin/python azure/twin/bench/bench.py`.

ARM reads a second (one client connection, then eight), 400 routes written one by one, the time from an appliance's
command to the kernel of the fabric (p50, p99), and resident memory without BIRD. Delays and throttling are off.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import aiohttp

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


async def reads(token: str, clients: int, pid: int, seconds: float = 3.0) -> tuple[float, float]:
    """Reads a second, and reads a second of the twin's own CPU time."""
    url, count = f"{URL}{NETWORK}/routeTables/rt1/routes/r1?{VERSION}", 0
    end = time.monotonic() + seconds
    used = cpu_seconds(pid)

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal count
        while time.monotonic() < end:
            async with session.get(url) as answer:
                assert answer.status == 200
                await answer.read()
            count += 1

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        await asyncio.gather(*(one(session) for _ in range(clients)))
    return count / seconds, count / (cpu_seconds(pid) - used)


async def writes(token: str, count: int = 400) -> float:
    """Seconds for so many routes, one after the other."""
    start = time.monotonic()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        for number in range(count):
            body = {"properties": {"addressPrefix": f"172.16.{number // 256}.{number % 256}/32", "nextHopType": "None"}}
            url = f"{URL}{NETWORK}/routeTables/rt1/routes/r{number}?{VERSION}"
            async with session.put(url, json=body) as answer:
                assert answer.status < 300, await answer.text()
    return time.monotonic() - start


def fabric_latency(folder: Path, rounds: int = 60) -> list[float]:
    """Milliseconds from `birdc enable` or `disable` of a route to the kernel of the fabric (`ip monitor`)."""
    conf, control = folder / "bird.conf", folder / "bird.ctl"
    conf.write_text(BIRD)
    bird = subprocess.Popen(["ip", "netns", "exec", "twin-a", "bird", "-f", "-c", conf, "-s", control])
    monitor = subprocess.Popen(
        ["ip", "netns", "exec", "twin-fabric", "stdbuf", "-oL", "ip", "monitor", "route"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert monitor.stdout
    try:
        while b'"prefix":"192.168.1.0/26"' not in json.dumps(get("/twin/status"), separators=(",", ":")).encode():
            time.sleep(0.1)
        time.sleep(2)
        found = []
        for number in range(rounds):
            command = "disable" if number % 2 == 0 else "enable"
            start = time.monotonic()
            subprocess.run(["birdc", "-s", control, command, "pods"], check=True, capture_output=True)
            while True:
                line = monitor.stdout.readline()
                if "192.168.1.0/26" in line and "table 1001" in line and ("Deleted" in line) == (command == "disable"):
                    break
            found.append((time.monotonic() - start) * 1000)
            time.sleep(0.1)
        return sorted(found)
    finally:
        for each in (bird, monitor):
            each.kill()
            each.wait()


def main() -> None:
    """Measure and print."""
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
            took = asyncio.run(writes(token))
            print(f"400 routes one by one: {took:.2f} s; {cpu_seconds(twin.pid) - before:.2f} s of the twin's CPU")
            for clients in (1, 8):
                wall, own = asyncio.run(reads(token, clients, twin.pid))
                print(f"ARM reads, {clients} clients: {wall:.0f}/s; {own:.0f} a second of the twin's CPU")
            latencies = fabric_latency(folder)
            print(f"learned or withdrawn, until in the fabric: p50 {statistics.median(latencies):.0f} ms, "
                  f"max {latencies[-1]:.0f} ms")  # fmt: skip
            rss = next(line for line in Path(f"/proc/{twin.pid}/status").read_text().splitlines() if "VmRSS" in line)
            print(f"resident: {int(rss.split()[1]) / 1024:.0f} MiB")
        finally:
            twin.terminate()
            twin.wait()


if __name__ == "__main__":
    main()
