"""The programs under test, each with its usual settings and the same job: one node, its routers, its kernel."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import shutil
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from bench import processes
from bench.rig import NODE, NODE_ASN, POOLS, ROUTER_ASN, Rig
from bgp_agent.core.prefix import Prefix, parse_prefix, prefix_text
from bgp_agent.speaker.exabgp_config import assets
from bgp_agent.speaker.pipes import CAPACITY, CHUNK

ROOT: Final = Path(__file__).resolve().parent.parent
AGENT: Final = [sys.executable, "-m", "bgp_agent"]
FRR: Final = Path("/usr/lib/frr")
_HTTP: Final = 9179


class Stack(Protocol):
    """One program on the rig's node. ``name`` is how tables and figures call it."""

    name: str

    def start(self) -> None:
        """Start it and wait until its sessions stand and it would take routes."""

    def processes(self) -> dict[str, int]:
        """Its processes: role -> process id."""


def _sessions(rig: Rig, name: str, timeout: float = 30.0) -> None:
    rig.loop.until(f"{name} has its sessions", lambda: all(r.established for r in rig.routers), timeout)


class Ours:
    """The speaker and the agent of this tree."""

    name = "bgp-agent"

    def __init__(self, rig: Rig, *, blocks: int = 1, peers: tuple[str, ...] | None = None) -> None:
        self.rig = rig
        self.blocks = rig.folder / "blocks.yaml"
        self.log = rig.folder / "agent.log"
        self._config = rig.folder / "config.yaml"
        self._roles: dict[str, int] = {}
        self._peers = peers if peers is not None else tuple(router.address for router in rig.routers)
        self.own([f"10.64.{i // 4}.{i % 4 * 64}/26" for i in range(blocks)])
        self._config.write_text(json.dumps({
            "node": {"name": "node", "address": NODE},
            "pools": list(POOLS),
            "blocks": {"path": str(self.blocks)},
            "bgp": {"asn": NODE_ASN, "peers": [
                {"address": address, "asn": ROUTER_ASN, "max_prefixes": 1_000_000, "announce_limit": 100_000}
                for address in self._peers
            ]},
            "speaker": {"spawn": False},
            "state_dir": str(rig.folder / "state"),
        }))  # fmt: skip

    def own(self, blocks: list[str]) -> None:
        """The node's blocks from now on; the file is replaced at once."""
        new = self.blocks.with_suffix(".new")
        new.write_text("blocks:\n" + "".join(f"- {{cidr: {cidr}}}\n" for cidr in blocks))
        new.replace(self.blocks)

    def start(self) -> None:
        """Both processes."""
        speaker = self.rig.network.start(
            self.rig.node, *AGENT, "speaker", "-c", self._config, log=self.rig.folder / "speaker.log"
        )
        self._roles["speaker"] = speaker.pid
        self.start_agent()
        if self.rig.routers:
            _sessions(self.rig, self.name)
        self.rig.loop.until("the agent knows its sessions", self._established, 20)

    def start_agent(self) -> None:
        """The agent alone, as after an upgrade."""
        agent = self.rig.network.start(self.rig.node, *AGENT, "run", "-c", self._config, log=self.log)
        self._roles["agent"] = agent.pid

    def status(self) -> dict[str, object] | None:
        """What /status says, None while nobody answers."""
        with self.rig.node.entered():
            connection = http.client.HTTPConnection("127.0.0.1", _HTTP, timeout=5)
            with contextlib.suppress(OSError):
                connection.request("GET", "/status")
                answer = json.loads(connection.getresponse().read())
                assert isinstance(answer, dict)
                return answer
        return None

    def _established(self) -> bool:
        answer = self.status()
        peers = answer.get("peers") if answer else None
        return isinstance(peers, list) and all(peer["state"] == "established" for peer in peers)

    def processes(self) -> dict[str, int]:
        """Agent, speaker, and an ExaBGP with its helper for each router."""
        return self._roles | _named(self.rig, {f"ExaBGP {a}": f"{a}.conf" for a in self._peers} | _sleeps(self.rig))


def _inside(rig: Rig) -> list[int]:
    return [int(pid) for pid in rig.network.namespaces["node"].run("ip", "netns", "pids", rig.node.name).split()]


def _sleeps(_rig: Rig) -> dict[str, str]:
    return {"helper": "sleep infinity"}


def _named(rig: Rig, patterns: dict[str, str]) -> dict[str, int]:
    """The node's processes whose command line holds a pattern: role -> process id; more of one are numbered."""
    found: dict[str, int] = {}
    for pid in _inside(rig):
        with contextlib.suppress(OSError):
            words = processes.command(pid) + " "
            for role, pattern in patterns.items():
                if f"{pattern} " in words or pattern in words.strip().rsplit("/", 1)[-1]:
                    found[role if role not in found else f"{role} {len(found)}"] = pid
                    break
    return found


class Bird:
    """BIRD 2: what it learns goes into the kernel, what the kernel has it announces."""

    name = "BIRD"

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._roles: dict[str, int] = {}
        sessions = "\n".join(
            f"protocol bgp {{ local {NODE} as {NODE_ASN}; neighbor {router.address} as {ROUTER_ASN}; hold time 30;"
            " connect delay time 1; ipv4 { import all; export where source = RTS_INHERIT; }; }"
            for router in rig.routers
        )
        (rig.folder / "bird.conf").write_text(
            f"router id {NODE};\nprotocol device {{}}\nprotocol direct {{ ipv4; }}\n"
            f"protocol kernel {{ learn; ipv4 {{ import all; export where source = RTS_BGP; }}; }}\n{sessions}\n"
        )

    def start(self) -> None:
        """One process."""
        folder = self.rig.folder
        bird = self.rig.network.start(
            self.rig.node, "bird", "-f", "-c", folder / "bird.conf", "-s", folder / "bird.ctl", log=folder / "bird.log"
        )
        self._roles["bird"] = bird.pid
        _sessions(self.rig, self.name)

    def processes(self) -> dict[str, int]:
        """The one."""
        return dict(self._roles)


class Frr:
    """FRR: bgpd and zebra, started by hand as the user that its package made."""

    name = "FRR"

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._roles: dict[str, int] = {}
        folder = self._folder = rig.folder / "frr"
        folder.mkdir()
        neighbors = "".join(
            f" neighbor {router.address} remote-as {ROUTER_ASN}\n neighbor {router.address} timers 10 30\n"
            for router in rig.routers
        )
        (folder / "bgpd.conf").write_text(
            f"router bgp {NODE_ASN}\n bgp router-id {NODE}\n no bgp ebgp-requires-policy\n{neighbors}"
            " address-family ipv4 unicast\n  redistribute kernel\n exit-address-family\n"
        )
        (folder / "zebra.conf").write_text("hostname node\n")
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "frr", "frr")

    def start(self) -> None:
        """zebra, then bgpd."""
        folder = self._folder
        for daemon in ("zebra", "bgpd"):
            started = self.rig.network.start(
                self.rig.node, FRR / daemon, "-u", "frr", "-g", "frr", "-f", folder / f"{daemon}.conf",
                "-i", folder / f"{daemon}.pid", "-z", folder / "zserv.api", "--vty_socket", folder,
                log=self.rig.folder / f"{daemon}.log",
            )  # fmt: skip
            self._roles[daemon] = started.pid
            self.rig.loop.until(f"{daemon} is there", (folder / f"{daemon}.vty").exists, 20)
        _sessions(self.rig, self.name)

    def processes(self) -> dict[str, int]:
        """Both daemons."""
        return dict(self._roles)


class ExaBgp:
    """ExaBGP as it is shipped; the bench has its API's two pipes and does nothing but count.

    Settings that are known to be the fastest: compact JSON, no statistics in the log. ``learned``: (when, how many
    prefixes so far) for each read; ``heard``: prefix -> when, for lines of few prefixes.
    """

    name = "ExaBGP alone"

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.learned: list[tuple[float, int]] = [(0.0, 0)]
        self.heard: dict[Prefix, float] = {}
        self.answers = 0
        self._events = self._commands = -1
        self._tail = b""
        self._roles: dict[str, int] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        handover = rig.folder / "handover"
        self._socket.bind(str(handover))
        helper = f"{sys.executable} -I -S {assets() / 'handover.py'} {handover} token"
        neighbors = "".join(
            f"neighbor {router.address} {{ local-address {NODE}; router-id {NODE}; local-as {NODE_ASN};"
            f" peer-as {ROUTER_ASN}; hold-time 30; family {{ ipv4 unicast; }}"
            f" adj-rib-in false; api a{number} {{ processes [ bench ]; receive {{ parsed; update; }} }} }}\n"
            for number, router in enumerate(rig.routers)
        )
        (rig.folder / "exabgp.conf").write_text(f"process bench {{ run {helper}; encoder json; }}\n{neighbors}")

    def start(self) -> None:
        """One process, and what is left of its helper."""
        env = {"exabgp.api.cli": "false", "exabgp.api.compact": "true", "exabgp.api.chunk": "100",
               "exabgp.log.level": "WARNING", "exabgp.daemon.user": "root"}  # fmt: skip
        exabgp = self.rig.network.start(
            self.rig.node, sys.executable, "-m", "exabgp", "server", self.rig.folder / "exabgp.conf",
            log=self.rig.folder / "exabgp.log", env={**os.environ, **env},
        )  # fmt: skip
        self._roles["exabgp"] = exabgp.pid
        self.rig.loop.add(self._socket.fileno(), self._take)
        _sessions(self.rig, self.name)
        self.rig.loop.until("ExaBGP's helper is there", lambda: self._events >= 0, 10)

    def _take(self, _now: float) -> None:
        _, (self._events, self._commands), _, _ = socket.recv_fds(self._socket, 64, 2)
        os.set_blocking(self._events, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._events, fcntl.F_SETPIPE_SZ, CAPACITY)
        self.rig.loop.add(self._events, self._read)

    def _read(self, now: float) -> None:
        try:
            data = os.read(self._events, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.rig.loop.remove(self._events)
            return
        if len(data) < 4096:
            for text in re.findall(rb'"([0-9.]+/[0-9]+)"', data):
                self.heard[parse_prefix(text.decode())] = now
        data = self._tail + data
        self._tail = data[-3:] if not data.endswith(b"\n") else b""  # a mark is four bytes long
        self.learned.append((now, self.learned[-1][1] + data.count(b'/26"')))
        self.answers += data.count(b"\ndone\n") + data.startswith(b"done\n")

    def announce(self, prefix: Prefix) -> None:
        """Have it announced to everybody."""
        os.write(self._commands, f"announce route {prefix_text(prefix)} next-hop self\n".encode())

    def announce_many(self, prefixes: list[Prefix], *, line: int = 20, window: int = 2) -> None:
        """As fast as it can be done: so many in one line, so many lines unanswered (measured: 20 and 2 are best)."""
        first = self.answers
        for sent, at in enumerate(range(0, len(prefixes), line), 1):
            words = " ".join(map(prefix_text, prefixes[at : at + line]))
            os.write(self._commands, f"announce attributes next-hop {NODE} nlri {words}\n".encode())
            self.rig.loop.until("ExaBGP answers", partial(self._answered, first + sent - window), 30)

    def _answered(self, more_than: int) -> bool:
        return self.answers > more_than

    def processes(self) -> dict[str, int]:
        """It, and what is left of its helper."""
        return self._roles | _named(self.rig, _sleeps(self.rig))


def available() -> list[type[Bird | Frr]]:
    """The routers that are installed here."""
    found: list[type[Bird | Frr]] = []
    if shutil.which("bird"):
        found.append(Bird)
    if (FRR / "bgpd").exists():
        found.append(Frr)
    return found
