"""What the checks read of this machine: /proc, the kernel over netlink, the agent's /status. Nothing is judged here."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bgp_agent.core.fib import Fib
from bgp_agent.core.nexthop import NextHops
from bgp_agent.core.prefix import Family, Prefix, overlaps
from bgp_agent.core.seen import MAIN, KernelRoute
from bgp_agent.kernel.dumps import read_all, routes
from bgp_agent.kernel.routes import Reader
from bgp_agent.kernel.sockets import Asker, open_socket
from bgp_agent.kernel.sysctl import Sysctls

CAP_NET_BIND_SERVICE: Final = 10
CAP_NET_ADMIN: Final = 12
_LISTEN: Final = "0A"
_TIME_ERROR: Final = 5
_KERNEL_MADE: Final = 2  # RTPROT_KERNEL: what comes with an address


@dataclass(frozen=True, slots=True)
class Kernel:
    """One reading of the kernel. ``strangers``: routes inside the pools that neither we nor the kernel itself made."""

    next_hops: NextHops
    warnings: tuple[str, ...]
    strangers: tuple[KernelRoute, ...]


@dataclass(frozen=True, slots=True)
class Process:
    """A process, by its command line."""

    pid: int
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """The program's name."""
        return Path(self.words[0]).name if self.words else "?"

    def is_ours(self, command: str) -> bool:
        """Is it ``bgp-agent COMMAND``, run as a program or as ``python -m bgp_agent``; not what only speaks of it."""
        words = list(self.words)
        if self.name.startswith("python"):
            words = [word for word in words[1:] if word == "-m" or not word.startswith("-")]
        if words[:1] == ["-m"]:
            return words[1:2] == [f"bgp_agent.{command}"] or (words[1:2] == ["bgp_agent"] and command in words[2:5])
        return bool(words) and Path(words[0]).name == "bgp-agent" and command in words[1:4]


class Machine:
    """The machine that the doctor runs on. ``proc``: where /proc is."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def capabilities(self, pid: int | None = None) -> int:
        """The effective capabilities of a process, as bits (capabilities(7)). Raises OSError."""
        text = (self._proc / str(pid or "self") / "status").read_text()
        return next(int(line.split()[1], 16) for line in text.splitlines() if line.startswith("CapEff:"))

    def first_port(self) -> int:
        """The lowest port that needs no capability."""
        try:
            return int((self._proc / "sys/net/ipv4/ip_unprivileged_port_start").read_text())
        except (OSError, ValueError):
            return 1024

    def processes(self) -> Iterator[Process]:
        """Every process whose command line can be read."""
        for entry in self._proc.iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                    yield Process(int(entry.name), tuple(os.fsdecode(word) for word in words))

    def same_network(self, pid: int) -> bool:
        """Is a process in our network namespace; False when that cannot be seen."""
        try:
            own, other = ((self._proc / str(one) / "ns/net").stat() for one in ("self", pid))
        except OSError:
            return False
        return (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)

    def listeners(self, port: int) -> tuple[bool, tuple[Process, ...]]:
        """Does anybody listen at a TCP port here, and the processes of it that can be seen."""
        inodes = {inode for name in ("tcp", "tcp6") for inode in self._listening(name, port)}
        if not inodes:
            return False, ()
        wanted = {f"socket:[{inode}]" for inode in inodes}
        return True, tuple(one for one in self.processes() if self._holds(one.pid, wanted))

    def _listening(self, name: str, port: int) -> Iterator[str]:
        with contextlib.suppress(OSError):
            for line in (self._proc / "net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]

    def _holds(self, pid: int, wanted: set[str]) -> bool:
        with contextlib.suppress(OSError):
            for entry in (self._proc / str(pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.fspath(entry.readlink()) in wanted:
                        return True
        return False

    def clock_is_set(self) -> bool | None:
        """Does the kernel hold its clock for synchronised (adjtimex(2)); None when it cannot be asked."""
        try:
            told = int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(1024)))
        except (OSError, AttributeError):
            return None
        return None if told < 0 else told != _TIME_ERROR

    async def kernel(self, table: int, protocol: int, metric: int, pools: Iterable[Prefix]) -> Kernel:
        """Read links, addresses, sysctls and routes. Raises OSError."""
        fib, hops, sysctls = Fib(metric, protocol, table), NextHops(protocol), Sysctls()
        wanted = tuple(pools)
        families = {Family.IPV4} | {Family.IPV6 for pool in wanted if len(pool) == 17}
        with contextlib.closing(Asker(open_socket)) as asker:
            await read_all(asker, Reader(), fib, hops, sysctls)
            strangers = [
                route
                for one in sorted({MAIN, table})
                async for piece in routes(asker, Reader(), one)
                for route in piece
                if route.protocol not in {protocol, _KERNEL_MADE} and any(overlaps(route.prefix, p) for p in wanted)
                if route.prefix[-1]  # a default route is nobody's claim to the pools
            ]
        return Kernel(hops, sysctls.warnings(families, hops.links(), hops.interface), tuple(strangers))
