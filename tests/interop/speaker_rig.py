"""A node and a router in network namespaces: the speaker's host and client on one side, real BIRD on the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Self, TypeVar

from bgp_agent.core.prefix import Family, prefix_text
from bgp_agent.core.values import PeerProblem, SessionDown, SessionUp, SpeakerEvent, Update
from bgp_agent.speaker.client import Speaker
from bgp_agent.speaker.definition import PeerDefinition
from bgp_agent.speaker.doorbell import TCP_MD5SIG, md5_signature
from lab.netns import ExpiredError, Namespace, Network, wait_for

NODE, ROUTER = "10.99.1.1", "10.99.1.2"
NODE6, ROUTER6 = "fd99:1::1", "fd99:1::2"
LOCAL_ASN, PEER_ASN = 64512, 65515
EventT = TypeVar("EventT", bound=SpeakerEvent)


class Bird:
    """One BIRD in a namespace; ``extra`` goes into its BGP protocol ``node``."""

    def __init__(
        self, network: Network, inside: Namespace, folder: Path, *, extra: str = "", local: str = ROUTER,
        neighbor: str = NODE, routes: str = "", graceful: str = "off",
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self._network, self._inside, self._folder = network, inside, folder
        self.control = folder / "bird.ctl"
        self.config = folder / "bird.conf"
        self.process: subprocess.Popen[bytes] | None = None
        self.write(extra=extra, local=local, neighbor=neighbor, routes=routes, graceful=graceful)

    def write(self, *, extra: str, local: str, neighbor: str, routes: str, graceful: str) -> None:
        """(Re)write the configuration."""
        family = "ipv6" if ":" in local else "ipv4"
        self.config.write_text(f"""
            log "{self._folder / "bird.log"}" all;
            router id 10.99.1.2;
            protocol device {{ }}
            protocol static {{ {family}; {routes} }}
            protocol bgp node {{
                debug {{ states, events }};
                local {local} as {PEER_ASN};
                neighbor {neighbor} as {LOCAL_ASN};
                connect delay time 1; error wait time 1, 1; error forget time 1; hold time 30;
                graceful restart {graceful};
                {extra}
                {family} {{ import all; export all; next hop self; }};
            }}
        """)

    def start(self) -> None:
        """Start it and wait for its control socket."""
        self.control.unlink(missing_ok=True)
        self.process = self._network.start(
            self._inside, "bird", "-f", "-c", self.config, "-s", self.control, log=self._folder / "out.log"
        )
        wait_for("BIRD answers", self.control.exists)

    def kill(self) -> None:
        """SIGKILL; the kernel closes its connections."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def ask(self, *words: str) -> str:
        """Run one command of birdc."""
        done = subprocess.run(["birdc", "-s", self.control, *words], capture_output=True, text=True, check=True)
        return done.stdout

    @property
    def established(self) -> bool:
        return "Established" in self.ask("show", "protocols", "node")

    @property
    def log(self) -> str:
        return (self._folder / "bird.log").read_text()

    def routes(self) -> set[str]:
        """The prefixes learned from the node."""
        listed = self.ask("show", "route", "protocol", "node")
        return {line.split()[0] for line in listed.splitlines() if "/" in line.split(" ")[0]}

    def received(self) -> str:
        """What would move if a single UPDATE came from the node."""
        shown = self.ask("show", "protocols", "all", "node").splitlines()
        return "\n".join(line for line in shown if "Import" in line)


def definition(**changes: object) -> PeerDefinition:
    """The router as the node's peer."""
    values: dict[str, object] = {
        "address": ROUTER, "asn": PEER_ASN, "local_asn": LOCAL_ASN, "router_id": NODE, "local_address": NODE,
        "families": ["ipv4"], **changes,
    }  # fmt: skip
    return PeerDefinition.from_json(values)


def definition6(**changes: object) -> PeerDefinition:
    """The router over IPv6."""
    return definition(**{"address": ROUTER6, "local_address": NODE6, "families": [Family.IPV6.value], **changes})


def host_command(state_dir: Path, *more: str) -> list[str]:
    """How to start a host."""
    return [sys.executable, "-m", "bgp_agent.speaker", "--state-dir", str(state_dir), *more]


def exabgps(state_dir: Path) -> list[int]:
    """The process ids of ExaBGPs that run from this state directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word.startswith(os.fsencode(state_dir / "exabgp")) and word.endswith(b".conf") for word in words):
                found.append(int(entry.name))
    return sorted(found)


def children(pid: int) -> list[int]:
    """The children of a process."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def exists(pid: int) -> bool:
    """Is there such a process, and is it no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(what: str, condition: Callable[[], object], timeout: float = 10.0) -> float:
    """Wait on the loop until ``condition()`` holds; the seconds it took. Raises :class:`ExpiredError` naming it."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout:
            raise ExpiredError(f"after {timeout:g} s still not so: {what}")
        await asyncio.sleep(0.01)
    return time.monotonic() - started


class Agent:
    """A client that remembers what it was told."""

    def __init__(self, state_dir: Path, **more: object) -> None:
        self.events: list[SpeakerEvent] = []
        self.batches = 0
        self.log: list[tuple[str, str]] = []
        self.speaker = Speaker(
            state_dir / "speaker.sock", self._deliver, peer_log=lambda peer, _, line: self.log.append((peer, line)),
            **more,  # type: ignore[arg-type]  # the caller knows
        )  # fmt: skip

    def _deliver(self, events: list[SpeakerEvent]) -> None:
        self.events += events
        self.batches += 1

    def of(self, kind: type[EventT], peer: str | None = None) -> list[EventT]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind) and peer in {None, event.peer}]

    def established(self, peer: str = ROUTER) -> bool:
        """Is the last word about this peer's session that it is up."""
        words = [event for event in self.events if isinstance(event, SessionUp | SessionDown) and event.peer == peer]
        return bool(words) and isinstance(words[-1], SessionUp)

    def problem(self, peer: str = ROUTER) -> str:
        """The last problem told, an empty text for none."""
        told = self.of(PeerProblem, peer)
        return (told[-1].reason or "") if told else ""

    def learned(self, peer: str = ROUTER) -> set[str]:
        """What the peer's UPDATEs add up to."""
        known: set[str] = set()
        for update in self.of(Update, peer):
            known -= set(map(prefix_text, update.withdrawn))
            for _, prefixes in update.announced:
                known |= set(map(prefix_text, prefixes))
        return known

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run until the block ends, as an agent that goes away does: nothing is told to the host."""
        task = asyncio.create_task(self.speaker.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class Rig:
    """A node and a router on one wire, with a host on the node."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder, self.network = folder, network
        self.state = folder / "state"
        self.node = network.add("node")
        self.router = network.add("router")
        network.wire(
            self.node, "eth0", self.router, "eth0",
            left_addresses=[f"{NODE}/24", f"{NODE6}/64"], right_addresses=[f"{ROUTER}/24", f"{ROUTER6}/64"],
        )  # fmt: skip
        self.host: subprocess.Popen[bytes] | None = None

    def bird(self, name: str = "bird", **options: str) -> Bird:
        """A BIRD in the router, started."""
        made = Bird(self.network, self.router, self.folder / name, **options)
        made.start()
        return made

    def start_host(self, *more: str, python: str = sys.executable) -> subprocess.Popen[bytes]:
        """Start a host on the node and wait until it answers."""
        answers = self.state / "speaker.sock"
        answers.unlink(missing_ok=True)
        self.host = self.network.start(
            self.node, python, *host_command(self.state, *more)[1:], log=self.folder / "host.log"
        )
        wait_for("the speaker answers", answers.exists)
        return self.host

    def knock(self, password: str | None = None) -> None:
        """Connect from the router to the node's port 179, as a peer does that is back; nothing is sent."""
        with self.router.entered():
            knocking = socket.socket()
        with knocking:
            if password is not None:
                knocking.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, md5_signature(NODE, password))
            knocking.settimeout(5)
            knocking.connect((NODE, 179))

    @property
    def host_log(self) -> str:
        """What the host has logged."""
        return (self.folder / "host.log").read_text()

    @property
    def exabgps(self) -> list[int]:
        """The ExaBGPs that run from this host's state directory."""
        return exabgps(self.state)


@contextlib.contextmanager
def on_a_wire(folder: Path) -> Iterator[Rig]:
    """A rig that is gone afterwards."""
    with Network() as network:
        yield Rig(folder, network)
