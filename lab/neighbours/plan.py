"""What a neighbour is asked to be, and the interface that every daemon is put behind.

One wire, a session over each family. A daemon's own words (configuration, command line, JSON) stay in its module; here
is only what can be said of all of them.
"""

from __future__ import annotations

import abc
import ipaddress
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import ClassVar, Final

from lab.netns import Namespace, Network

NODE, ROUTER, OTHER = "10.99.1.1", "10.99.1.2", "10.99.1.77"  # OTHER: a third router on the wire
NODE6, ROUTER6, OTHER6 = "fd99:1::1", "fd99:1::2", "fd99:1::77"
LOOPBACK: Final = "10.99.9.2"  # of the router: a hop behind the wire
NODE_ASN, ROUTER_ASN = 64512, 65001


class Feature(Enum):
    """What is tried with every daemon; the value is the row's name in docs/reference/interop.md."""

    SESSION = "sessions over IPv4 and IPv6, routes both ways"
    ATTRIBUTES = "MED, communities and prepended AS path arrive as configured"
    WITHDRAW = "withdrawals, both ways"
    THIRD_PARTY = "a third party's next hop, both families"
    MD5 = "TCP-MD5 (RFC 2385)"
    TTL_SECURITY = "GTSM (RFC 5082)"
    MULTIHOP = "multihop, from a loopback address"
    REFRESH = "route refresh: a restarted agent learns what changed meanwhile"
    AGENT_KILLED = "the agent killed and back: no UPDATE, no flap"
    GRACEFUL = "graceful restart: it keeps our routes while ExaBGP is down"
    GRACEFUL_OFF = "without graceful restart it drops them, and has them again"
    RESTARTED = "killed and started again: its routes stay in our kernel"
    THEIR_LIMIT = "their prefix limit ends the session; said in /status, back when it is raised"
    OUR_LIMIT = "our prefix limit refuses the surplus; the session stays"


@dataclass(frozen=True, slots=True)
class Plan:
    """How the neighbour shall speak. ``max_prefix``: how many prefixes it takes from the node on a session."""

    password: str | None = None
    ttl_security: bool = False
    multihop: bool = False
    graceful_restart: bool = True
    max_prefix: int | None = None

    @property
    def address(self) -> str:
        """The neighbour's IPv4 address."""
        return LOOPBACK if self.multihop else ROUTER

    @property
    def sessions(self) -> dict[str, str]:
        """The neighbour's address and the node's, for each session."""
        return {self.address: NODE} if self.multihop else {ROUTER: NODE, ROUTER6: NODE6}


@dataclass(frozen=True, slots=True)
class Held:
    """A prefix as the neighbour has it from the node, stale or not."""

    next_hop: str
    as_path: tuple[int, ...]
    med: int | None
    communities: frozenset[str] = field(default_factory=frozenset)


class Neighbour(abc.ABC):
    """A daemon in a namespace. ``routes``: what it announces, with the next hop or None for its own address."""

    name: ClassVar[str]
    package: ClassVar[str]
    release: ClassVar[str]  # the one of Debian 12, which the table in the docs speaks of
    programs: ClassVar[tuple[str, ...]]
    cannot: ClassVar[Mapping[Feature, str]] = {}  # what is skipped, and why
    notes: ClassVar[Mapping[Feature, str]] = {}  # what works, but not as one may expect
    with_password: ClassVar[Mapping[str, object]] = {}  # what the node's peer entry needs besides for TCP-MD5

    def __init__(self, network: Network, inside: Namespace, folder: Path) -> None:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.network, self.inside, self.folder = network, inside, folder
        self.plan = Plan()
        self.routes: dict[str, str | None] = {}
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def why_not(cls) -> str | None:
        """Why this daemon cannot be run here, None when it can."""
        if any(not shutil.which(program) for program in cls.programs):
            return f"the Debian package {cls.package} is missing; `make tools` installs it"
        return None

    @property
    def log(self) -> Path:
        """What the daemon says."""
        return self.folder / "log"

    @abc.abstractmethod
    def start(self) -> None:
        """Start it as ``plan`` and ``routes`` say and wait until it answers."""

    def kill(self) -> None:
        """SIGKILL: no farewell."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @abc.abstractmethod
    def established(self, node: str) -> bool:
        """Does it hold a session with this address of the node."""

    @abc.abstractmethod
    def held(self, node: str) -> dict[str, Held]:
        """What it has from this address of the node."""

    @abc.abstractmethod
    def updates(self, node: str) -> int:
        """How many UPDATEs (or prefixes in them) it has counted from the node on this session."""

    def announce(self, prefix: str, next_hop: str | None = None) -> None:
        """Announce a prefix from now on."""
        self.routes[prefix] = next_hop
        self.put(prefix, next_hop)

    def withdraw(self, prefix: str) -> None:
        """Announce it no more."""
        self.take(prefix, self.routes.pop(prefix))

    @abc.abstractmethod
    def put(self, prefix: str, next_hop: str | None) -> None:
        """Tell the running daemon of a new prefix."""

    @abc.abstractmethod
    def take(self, prefix: str, next_hop: str | None) -> None:
        """Tell the running daemon that a prefix is gone."""


def version_of(prefix: str) -> int:
    """4 or 6."""
    return ipaddress.ip_network(prefix).version


def may_change_user() -> bool:
    """Can a daemon become another user: not where a user namespace knows only one."""
    return os.geteuid() == 0 and len(Path("/proc/self/uid_map").read_text().split()) == 3 and (
        int(Path("/proc/self/uid_map").read_text().split()[2]) > 65535
    )  # fmt: skip
