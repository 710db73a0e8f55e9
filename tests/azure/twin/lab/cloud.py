"""A twin as a process, with its VMs' namespaces, and what the tests do in them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lab.azure import Twin
from lab.netns import Namespace, wait_for

#: What a test reads of JSON; shapes are the test's own business.
Doc = dict[str, Any]

NODES = """
timing: fast
throttling: {enabled: false}
virtual_networks:
- name: vnet1
  address_space: [10.42.0.0/16]
  subnets:
  - {name: RouteServerSubnet, prefix: 10.42.0.0/26}
  - {name: nodes, prefix: 10.42.1.0/24, route_table: rt1}
  - {name: others, prefix: 10.42.2.0/24}
route_tables: [{name: rt1}]
route_server:
  name: rs1
  virtual_network: vnet1
  peers:
  - {name: a, address: 10.42.1.4, asn: 64512}
  - {name: b, address: 10.42.1.5, asn: 64513}
  - {name: c, address: 10.42.2.4, asn: 64514}
nics:
- {name: a, subnet: nodes, address: 10.42.1.4, ip_forwarding: true}
- {name: b, subnet: nodes, address: 10.42.1.5, ip_forwarding: true}
- {name: c, subnet: others, address: 10.42.2.4, ip_forwarding: true}
vms: [{name: a}, {name: b}, {name: c}]
"""
INSTANCES = ("10.42.0.4", "10.42.0.5")
ADDRESSES = {"a": "10.42.1.4", "b": "10.42.1.5", "c": "10.42.2.4"}
ASNS = {"a": 64512, "b": 64513, "c": 64514}


class Cloud(Twin):
    """The twin on a configuration, inside the test's sandbox."""

    def __init__(self, folder: Path, config: str = NODES, port: int = 0) -> None:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
        self.tag = f"t{worker}"  # workers share the sandbox
        port = port or 9180 + int(worker.removeprefix("gw"))
        if "\nfabric:" not in config:
            config += f"fabric: {{tag: {self.tag}}}\n"
        if "\nlisten:" in config:
            config = config.replace("\nlisten:", f"\nlisten:\n- 127.0.0.1:{port}")
        else:
            config += f"listen: ['127.0.0.1:{port}']\n"
        super().__init__(folder, config, port)
        self.addresses = dict(ADDRESSES)
        self.birds: dict[str, subprocess.Popen[bytes]] = {}
        self.start()

    def close(self) -> None:
        for bird in self.birds.values():
            bird.kill()
            bird.wait()
        super().close()

    def settled(self) -> Doc:
        """Wait until kernel and BIRD are as they should be."""
        wait_for("the twin has settled", lambda: self.status()["settled"], timeout=30)
        found: Doc = self.status()
        return found

    def holds(self, instance: int) -> set[tuple[str, str]]:
        """(prefix, next hop) of what an instance holds."""
        return {(each["prefix"], each["next_hop"]) for each in self.status()["instances"][instance]["routes"]}

    def vm(self, name: str) -> Namespace:
        return Namespace(f"{self.tag}-{name}")

    def bird(
        self, vm: str, prefixes: Iterable[str] = (), *, asn: int | None = None, extra: str = "", options: str = "",
        hops: str = "multihop", port: int = 179, wait: bool = True,
    ) -> None:  # fmt: skip
        """A real BIRD on a VM, peering with both instances as ``r0`` and ``r1``."""
        address, number = self.addresses[vm], asn or ASNS[vm]
        routes = "\n".join(f"route {prefix} blackhole;" for prefix in prefixes)
        peers = "\n".join(
            f"protocol bgp r{index} "
            f"{{ local {address} port {port} as {number}; neighbor {each} as 65515; {hops}; strict bind on; {options} "
            f"connect delay time 1; error wait time 1,1; "
            f"ipv4 {{ import all; export filter {{ if source != RTS_STATIC then reject; {extra} accept; }}; }}; }}"
            for index, each in enumerate(INSTANCES)
        )
        conf = self.folder / f"{vm}.conf"
        conf.write_text(f'log "{self.folder}/{vm}.log" all;\nrouter id {address};\nprotocol device {{}}\n'
                        f"protocol static {{ ipv4; {routes} }}\n{peers}\n")  # fmt: skip
        if vm in self.birds:
            self.birdc(vm, "configure")
        else:
            argv = self.vm(vm).command("bird", "-f", "-c", conf, "-s", self.folder / f"{vm}.ctl")
            self.birds[vm] = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *argv], stdin=subprocess.DEVNULL)
        if wait:
            self.established(vm)

    def established(self, vm: str, instances: Iterable[int] = (0, 1)) -> None:
        for index in instances:
            wait_for(
                f"{vm} has a session with instance {index}",
                lambda index=index: self.peer(index, vm)["state"] == "Established",  # type: ignore[misc]  # bound now
                timeout=30,
            )

    def peer(self, instance: int, vm: str) -> Doc:
        found: Doc = self.status()["instances"][instance]["peers"].get(self.addresses[vm], {"state": "none"})
        return found

    def birdc(self, vm: str, command: str) -> str:
        return subprocess.run(
            ["birdc", "-s", self.folder / f"{vm}.ctl", *command.split()], capture_output=True, text=True, check=False
        ).stdout

    def ignored(self, vm: str) -> int:
        """Routes that BIRD got on its session with instance 0 and did not take for its own number in their path."""
        shown = self.birdc(vm, "show protocols all r0")
        line = next((each for each in shown.splitlines() if "Import withdraws" in each), "0 0 0 0 0 0")
        return int(line.split()[5])

    def kill_bird(self, vm: str) -> None:
        bird = self.birds.pop(vm)
        bird.kill()
        bird.wait()

    def pod(self, vm: str, address: str) -> None:
        """An address of a pod, on the VM's loopback."""
        self.vm(vm).run("ip", "address", "replace", f"{address}/32", "dev", "lo")

    def reaches(self, vm: str, target: str, source: str | None = None, count: int = 1, wait: str = "0.3") -> bool:
        """Whether a ping from a VM (from a pod's address) is answered."""
        chosen = ["-I", source] if source else []
        out = self.vm(vm).run("ping", "-q", "-c", str(count), "-i", "0.05", "-W", wait, *chosen, target, check=False)
        return f" {count} received" in out

    def until(self, what: str, condition: Callable[[], object], timeout: float = 30.0) -> None:
        wait_for(what, condition, timeout)
        self.settled()
