"""The fabric's shell: makes the kernel's routing what the plan says.

- Every NIC is a veth of its own whose fabric end has the subnet's gateway as /32, answers ARP for everybody at once
  (``proxy_arp``, ``proxy_delay 0``) and has a routing table of its own (``ip rule iif``): two NICs of one subnet talk
  through here.
- ``throw`` in a NIC's table goes on to the host routes; ``blackhole`` says nothing back, as Azure does.
- Azure is not a hop: the TTL is put back before the router takes one off. Only ``iptables`` can do that here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from azure_twin.core.forwarding import FIRST, HOSTS, VOID, Plan, Port, Routes
from azure_twin.core.kinds.nics import mac
from azure_twin.fabric.batch import IpBatch
from azure_twin.fabric.namespaces import FabricError, Namespace
from azure_twin.fabric.ruleset import ruleset

log = logging.getLogger("azure_twin.fabric")
IMDS: Final = "169.254.169.254"
REST: Final = 0.02  # seconds between two plans, at most
_SYSCTLS: Final = (
    "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.default.send_redirects=0",
    "net.ipv4.conf.default.proxy_arp=1",
    "net.ipv4.fib_multipath_hash_policy=1",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attachment:
    """Where a link of the fabric ends.

    ``made``: the namespace is the twin's own, and goes with it. ``generation`` tells a container from the one of the
    same name before it.
    """

    namespace: str
    interface: str
    made: bool
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """A veth as it should be."""

    name: str
    attachment: Attachment
    addresses: tuple[str, ...]
    length: int
    gateway: str
    mac: str
    table: int | None


class Fabric:
    """The namespaces, the links and the routes of one twin.

    ``vms`` and ``instances`` say where the links end; in containers they change, and :meth:`want` follows.
    """

    def __init__(self, tag: str, vms: Mapping[str, Attachment], instances: Mapping[int, Attachment]) -> None:
        self.namespace = Namespace(f"{tag}-fabric")
        self.vms = dict(vms)
        self.instances = dict(instances)
        self._made: list[Namespace] = []
        self._batch = IpBatch(self.namespace)
        self._links: dict[str, Link] = {}
        self._routes: Routes = {}
        self._ruleset = ""
        self._plan: Callable[[], Plan] = Plan
        self.pending = False
        self._wake = asyncio.Event()
        self.applied: Callable[[], None] = lambda: None

    async def build(self) -> None:
        """Make the namespaces and what never changes in them."""
        for each in (self.namespace, *(Namespace(each.namespace) for each in self.instances.values())):
            await each.make()
            self._made.append(each)
        for attachment in self.vms.values():
            namespace = Namespace(attachment.namespace)
            if not namespace.path.exists():
                await namespace.make()
            elif not attachment.made:
                continue
            self._made.append(namespace)
        await self.namespace.run("sysctl", "-qw", *_SYSCTLS)
        await self.namespace.batch([
            f"address add {IMDS}/32 dev lo",
            f"link add {VOID} type veth peer name {VOID}-end",  # the filter drops whatever goes there
            f"link set {VOID} up",
            f"link set {VOID}-end up",
            f"rule add pref 200 lookup {HOSTS}",
        ])  # fmt: skip
        await self.namespace.run("iptables", "-t", "mangle", "-A", "PREROUTING", "-j", "TTL", "--ttl-inc", "1")

    async def close(self) -> None:
        """Take everything away that was made."""
        self._batch.close()
        for name in self._links:
            await self.namespace.run("ip", "link", "delete", name, check=False)
        for each in reversed(self._made):
            await each.delete()
        self._made.clear()

    def want(self, plan: Callable[[], Plan]) -> None:
        """Say how to find out what should be; many calls while the last plan is carried out cost one."""
        self._plan = plan
        self.pending = True
        self._wake.set()

    def has_instance(self, index: int) -> bool:
        """Whether an instance of the Route Server has its link: only then can its BIRD bind its address."""
        link = self._links.get(f"i{index}")
        return link is not None and link.attachment == self.instances.get(index)

    async def run(self) -> None:
        """Carry out the newest plan, for ever.

        After each as long a rest as it took: whoever writes route after route does not pay a plan for each of them.
        """
        loop = asyncio.get_running_loop()
        began = ended = loop.time()
        while True:
            await self._wake.wait()
            await asyncio.sleep(min(REST, 2 * ended - began - loop.time()))
            self._wake.clear()
            began = loop.time()
            plan = self._plan()
            try:
                await self._apply(plan)
            except (FabricError, OSError) as error:
                log.error("fabric: %s", error)  # noqa: TRY400  # the message has all of it
                await self._start_over()
                await asyncio.sleep(0.2)
                self._wake.set()
                continue
            self.pending = self._wake.is_set()
            self.applied()
            ended = loop.time()

    async def _start_over(self) -> None:
        """What the kernel holds is not known any more: empty the tables, and write all of it again."""
        tables = sorted({table for table, _ in self._routes})
        self._routes.clear()
        self._ruleset = ""
        self._batch.close()
        await self.namespace.batch([f"route flush table {table}" for table in tables], force=True)

    async def _apply(self, plan: Plan) -> None:
        wanted = {port.link: self._link(port) for port in plan.ports if port.vm in self.vms}
        if plan.server is not None:
            for index, address in enumerate(plan.server.addresses):
                if (at := self.instances.get(index)) is not None:
                    wanted[f"i{index}"] = Link(
                        f"i{index}", at, (address,), plan.server.length, plan.server.gateway, "", None
                    )
        for name in [each for each in self._links if each not in wanted]:
            await self._cut(name)
        for name, link in wanted.items():
            if self._links.get(name) != link:
                await self._wire(link)
        text = ruleset(plan)
        if text != self._ruleset:
            await self.namespace.run("nft", "-f", "-", stdin=text)
            self._ruleset = text
        routes = plan.routes if self._has_all(wanted, plan) else self._possible(plan.routes)
        await self._write(routes)

    def _has_all(self, wanted: Mapping[str, Link], plan: Plan) -> bool:
        """Whether each link that a route may name is there: then no route needs a look of its own."""
        instances = len(plan.server.addresses) if plan.server is not None else 0
        return wanted.keys() <= self._links.keys() and len(wanted) == len(plan.ports) + instances

    def _possible(self, routes: Routes) -> Routes:
        """Without routes over links that are not there.

        A VM that has no namespace, an instance that is not wired yet.
        """
        return {
            key: line if " dev " not in f" {line}" or self._wired(line) else "blackhole"
            for key, line in routes.items()
            if key[0] != HOSTS or self._wired(line)
        }

    def _wired(self, line: str) -> bool:
        words = line.split()
        used = {words[at + 1] for at, word in enumerate(words[:-1]) if word == "dev"}
        return used <= self._links.keys() | {VOID}

    async def _write(self, routes: Routes) -> None:
        """The difference to what was written, new before old within one batch."""
        lines = []
        held = self._routes
        for key, line in routes.items():
            if held.get(key) != line:
                kind, rest = (line, "") if line in {"throw", "blackhole"} else ("", line)
                lines.append(f"route replace {kind} {key[1]} table {key[0]} {rest}")
        if len(held) + len(lines) > len(routes):
            lines += [f"route delete {prefix} table {table}" for table, prefix in held.keys() - routes.keys()]
        await self._batch.run(lines)
        self._routes = dict(routes)

    def _link(self, port: Port) -> Link:
        hardware = mac(port.nic)
        return Link(
            port.link, self.vms[port.vm], port.addresses, port.length, port.gateway,
            ":".join(hardware[at : at + 2] for at in range(0, 12, 2)), FIRST + port.index,
        )  # fmt: skip

    async def _cut(self, name: str) -> None:
        link = self._links.pop(name)
        await self.namespace.run("ip", "link", "delete", name, check=False)
        if link.table is not None:
            await self.namespace.run("ip", "rule", "delete", "pref", "100", "iif", name, check=False)
        self._forget(name)

    def _forget(self, name: str) -> None:
        """Routes over a link that went vanish from the kernel with it."""
        self._routes = {key: line for key, line in self._routes.items() if name not in line.split()}

    async def _wire(self, link: Link) -> None:
        if link.name in self._links:
            await self._cut(link.name)
        await self.namespace.run("ip", "link", "delete", link.name, check=False)  # what a failed attempt left
        self._batch.close()  # it remembers the number of the link that had this name before
        inside, at = Namespace(link.attachment.namespace), link.attachment.interface
        hardware = ["address", link.mac] if link.mac else []
        await self.namespace.run(
            "ip", "link", "add", link.name, "type", "veth", "peer", "name", at, *hardware, "netns", inside.name
        )
        with contextlib.suppress(FabricError):  # IPv6 may be off
            await self.namespace.run("sysctl", "-qw", f"net.ipv6.conf.{link.name}.disable_ipv6=1")
        await self.namespace.run(
            "sysctl", "-qw", f"net.ipv4.conf.{link.name}.proxy_arp=1", f"net.ipv4.neigh.{link.name}.proxy_delay=0",
            f"net.ipv4.conf.{link.name}.rp_filter=0", f"net.ipv4.conf.{link.name}.send_redirects=0",
        )  # fmt: skip
        await self.namespace.batch([
            f"address add {link.gateway}/32 dev {link.name}",
            f"link set {link.name} up",
            *([f"rule add pref 100 iif {link.name} lookup {link.table}"] if link.table is not None else []),
        ])  # fmt: skip
        await inside.batch([
            *(f"address add {each}/{link.length} dev {at}" for each in link.addresses),
            f"link set {at} up",
            f"route replace default via {link.gateway} dev {at}",
        ])  # fmt: skip
        self._links[link.name] = link
