"""Real BIRD 2 as one Route Server instance, and as an ordinary BGP router.

Azure Route Server is two instances with one AS number, 65515. What one is known to do and how BIRD does the same
(each line was tried with BIRD 2.0.12):

- only configured peers get a session; AS 65515 in a path drops the route (RFC 4271 section 9.1.2);
- it rewrites the next hop to itself, which ``multihop`` makes the default; the *fabric* delivers to the node that
  announced, so that is what the kernel export carries, resolved through a table of links of its own;
- no graceful restart: then no End-of-RIB is ever sent (RFC 4724 section 2);
- NO_ADVERTISE is obeyed, NO_EXPORT is not; 65517:65517 is added to what is reflected;
- the VNet's own prefix is advertised too.

A configuration is text made from values; :class:`Bird` is the running process with ``birdc`` to look inside.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.netns import Namespace, Network, wait_for

ROUTE_SERVER_ASN: Final = 65515


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part) + "\n"


def protocol_name(name: str) -> str:
    """A name as BIRD takes it for a protocol: ``node-a`` becomes ``node_a``."""
    return re.sub(r"\W", "_", name)


@dataclass(frozen=True, slots=True)
class Member:
    """A node that may peer with a Route Server instance. ``link``: the fabric's interface towards it."""

    name: str
    address: str
    asn: int
    link: str


@dataclass(frozen=True, slots=True)
class RouteServer:
    """One instance. ``table``: the kernel table of the fabric that it fills, None for none.

    ``extra``: more prefixes that it tells every node, whatever they are worth. A test makes it lie with them.
    """

    address: str
    vnet: str
    members: tuple[Member, ...]
    table: int | None = None
    hold_time: int = 180  # seconds, what Azure offers; the lower of both ends' counts (RFC 4271 section 4.2)
    extra: tuple[str, ...] = ()

    def config(self, mrt: Path) -> str:
        """The text of ``bird.conf``; every received message is also written to ``mrt`` (RFC 6396)."""
        links = " ".join(f"route {m.address}/32 via {m.address}%'{m.link}' onlink;" for m in self.members)
        told = " ".join(f"route {prefix} blackhole;" for prefix in (self.vnet, *self.extra))
        return _lines(
            "log stderr all;",
            f"router id {self.address};",
            f'mrtdump "{mrt}";',
            "protocol device {}",
            "ipv4 table links4;",
            f"protocol static links {{ ipv4 {{ table links4; }}; {links} }}",
            f"protocol static vnet {{ ipv4; {told} }}",
            self._fabric(),
            "filter reflect {",
            "  if (65535, 65282) ~ bgp_community then reject;",
            "  bgp_community.add((65517, 65517));",
            "  accept;",
            "}",
            "template bgp node {",
            f"  local {self.address} as {ROUTE_SERVER_ASN}; multihop; strict bind on; hold time {self.hold_time};",
            "  graceful restart off; interpret communities off; mrtdump { messages };",
            "  error wait time 1, 1; error forget time 1; connect delay time 1;",
            "  ipv4 { igp table links4; import all; export filter reflect; };",
            "  ipv6 { import none; export none; };",
            "}",
            *(
                f"protocol bgp {protocol_name(member.name)} from node {{ neighbor {member.address} as {member.asn}; }}"
                for member in self.members
            ),
        )

    def _fabric(self) -> str:
        if self.table is None:
            return ""
        return (
            f"protocol kernel fabric {{ kernel table {self.table}; "
            "ipv4 { import none; export where source = RTS_BGP; }; }"
        )


@dataclass(frozen=True, slots=True)
class Router:
    """An ordinary BGP router with one neighbor, for tests: what it announces and how it speaks is up to the test."""

    address: str
    asn: int
    neighbor: str
    neighbor_asn: int
    routes: tuple[str, ...] = ()
    multihop: bool = False
    passive: bool = False
    password: str | None = None
    ttl_security: bool = False
    graceful_restart: str = "aware"  # on, off or aware
    hold_time: int = 30
    port: int = 179
    extra: tuple[str, ...] = ()  # more lines for the protocol

    def config(self, mrt: Path) -> str:
        """The text of ``bird.conf``. Routes are blackholes here: what counts is that they are announced."""
        ours = {family: [r for r in self.routes if (":" in r) == (family == "ipv6")] for family in ("ipv4", "ipv6")}
        distance = "multihop;" if self.multihop else "direct;"
        return _lines(
            "log stderr all;",
            f"router id {self.address if ':' not in self.address else '192.0.2.1'};",
            f'mrtdump "{mrt}";',
            "protocol device {}",
            "protocol direct { ipv4; ipv6; }" if self.multihop else "",
            *(
                f"protocol static routes_{family} {{ {family}; {' '.join(f'route {r} blackhole;' for r in routes)} }}"
                for family, routes in ours.items()
            ),
            "protocol bgp node {",
            f"  local {self.address} port {self.port} as {self.asn}; neighbor {self.neighbor} as {self.neighbor_asn};",
            f"  {distance} strict bind on; hold time {self.hold_time}; graceful restart {self.graceful_restart};",
            "  error wait time 1, 1; error forget time 1; connect delay time 1; mrtdump { messages };",
            "  passive on;" if self.passive else "",
            "  ttl security on;" if self.ttl_security else "",
            f'  password "{self.password}";' if self.password else "",
            *(f"  {line}" for line in self.extra),
            "  ipv4 { import all; export where source = RTS_STATIC; next hop self; };",
            "  ipv6 { import all; export where source = RTS_STATIC; next hop self; };",
            "}",
        )


class Bird:
    """One BIRD process inside a namespace; files live in ``folder``, which must have a short path (a Unix socket)."""

    def __init__(self, network: Network, inside: Namespace, name: str, folder: Path) -> None:
        self.name = name
        self.mrt = folder / f"{name}.mrt"
        self.log = folder / f"{name}.log"
        self._network = network
        self._inside = inside
        self._file = folder / f"{name}.conf"
        self._socket = folder / f"{name}.ctl"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; raises RuntimeError when BIRD was not started."""
        if self._process is None:
            raise RuntimeError(f"{self.name}: not started")
        return self._process.pid

    def start(self, config: str | None = None) -> None:
        """Start with ``config``, or again with the last one, and wait until ``birdc`` is answered."""
        if config is not None:
            self._file.write_text(config)
        self._inside.run("bird", "-p", "-c", self._file)  # says what is wrong with it, and where
        self._socket.unlink(missing_ok=True)
        program = ("bird", "-f", "-c", self._file, "-s", self._socket)
        self._process = self._network.start(self._inside, *program, log=self.log)
        wait_for(f"{self.name}: BIRD answers birdc ({self.log})", lambda: "is up" in self.ask("show status"))

    def configure(self, config: str) -> None:
        """Load another configuration into the running process; raises RuntimeError when BIRD refuses it."""
        self._file.write_text(config)
        answer = self.ask("configure")
        if "Reconfigur" not in answer:
            raise RuntimeError(f"{self.name}: birdc configure: {answer.strip()}")

    def stop(self) -> None:
        """End it as an operator would: peers get a Cease (RFC 4486)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as the kernel's out-of-memory killer would: peers see a closed connection."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the process where it stands: connections stay open and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        self._signal(signal.SIGCONT)

    def ask(self, question: str) -> str:
        """The answer of ``birdc QUESTION``; empty when nobody answers."""
        words = ["birdc", "-r" if question.startswith("show") else "-v", "-s", str(self._socket), *question.split()]
        with contextlib.suppress(subprocess.TimeoutExpired):
            return subprocess.run(words, capture_output=True, text=True, timeout=5, check=False).stdout
        return ""

    def established(self, peer: str) -> bool:
        """Is the session with ``peer`` (its name) established."""
        return bool(re.search(r"BGP state:\s+Established", self.ask(f"show protocols all {protocol_name(peer)}")))

    def sessions(self) -> set[str]:
        """The protocol names of all peers with an established session, by one question."""
        return set(re.findall(r"^(\w+) +BGP .* Established *$", self.ask("show protocols"), re.MULTILINE))

    def prefixes(self, peer: str) -> set[str]:
        """What ``peer`` announces now."""
        answer = self.ask(f"show route protocol {protocol_name(peer)}")
        return set(re.findall(r"^([0-9a-f.:]+/\d+) ", answer, re.MULTILINE))

    def table(self) -> dict[str, set[str]]:
        """What every peer announces now, by protocol name and by one question."""
        held: dict[str, set[str]] = {}
        prefix = ""
        for line in self.ask("show route").splitlines():
            if found := re.match(r"([0-9a-f.:]+/\d+)? +\w+ \[(\w+) ", line):
                prefix = found[1] or prefix
                held.setdefault(found[2], set()).add(prefix)
        return held

    def advertised(self, peer: str) -> set[str]:
        """What is announced to ``peer`` now."""
        answer = self.ask(f"show route export {protocol_name(peer)}")
        return set(re.findall(r"^([0-9a-f.:]+/\d+) ", answer, re.MULTILINE))

    def nlri_received(self, peers: Iterable[str]) -> dict[str, tuple[int, int]]:
        """For each peer how many announced and withdrawn prefixes BIRD has counted in its UPDATEs, repeats included."""
        return {peer: self._counters(peer) for peer in peers}

    def _counters(self, peer: str) -> tuple[int, int]:
        answer = self.ask(f"show protocols all {protocol_name(peer)}")
        announced = re.findall(r"Import updates:\s+(\d+)", answer)
        withdrawn = re.findall(r"Import withdraws:\s+(\d+)", answer)
        return sum(map(int, announced)), sum(map(int, withdrawn))

    def _end(self, number: signal.Signals) -> None:
        self._signal(number)
        if self._process is not None:
            self._process.wait(10)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
