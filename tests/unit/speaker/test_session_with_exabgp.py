"""The session against the real ExaBGP over two pipes, with a real BIRD as the peer, each in a namespace of its own."""

from __future__ import annotations

import os
import random
import re
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from bgp_agent.core.prefix import Family, Prefix, network, parse_address, parse_prefix, prefix_text
from bgp_agent.core.values import Announcement, RefreshBegin, RefreshEnd, SessionDown, SessionUp, SpeakerEvent, Update
from bgp_agent.speaker.definition import PeerDefinition
from bgp_agent.speaker.protocol import Snapshot
from bgp_agent.speaker.session import Session
from lab.netns import ExpiredError, Namespace, Network

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

DEFINITION: Final = PeerDefinition(
    "10.99.1.2", 65515, 65001, "10.99.1.1", local_address="10.99.1.1", families=(Family.IPV4, Family.IPV6), hold_time=9
)
EXABGP: Final = """process agent {{ run {helper}; encoder json; }}
neighbor 10.99.1.2 {{
  local-address 10.99.1.1; router-id 10.99.1.1; local-as 65001; peer-as 65515; hold-time 9; manual-eor true;
  family {{ ipv4 unicast; ipv6 unicast; }}
  capability {{ asn4 enable; route-refresh enable; extended-message disable; graceful-restart 120; }}
  api a {{ processes [ agent ]; neighbor-changes; receive {{ parsed; update; notification; refresh; open; }} }}
}}
"""
BIRD: Final = """router id 10.99.1.2;
protocol device {}
protocol static { ipv4; route 192.168.77.0/26 blackhole; route 192.168.78.0/26 blackhole; }
protocol bgp node {
  local 10.99.1.2 as 65515; neighbor 10.99.1.1 as 65001; hold time 9; error wait time 1,1; error forget time 1;
  connect delay time 1; graceful restart on;
  ipv4 { import all; export where source = RTS_STATIC; import table on; };
  ipv6 { import all; export all; import table on; };
}
"""
#: ExaBGP 5.0.15 takes the peer's own begin and end of a replay (RFC 7313) for requests and sends everything, twice.
LAUNCHER: Final = """import sys
from exabgp.application import main
from exabgp.bgp.message.open.capability.refresh import REFRESH
from exabgp.reactor.peer import Peer

shipped = Peer.resend


def resend(peer, enhanced, family=None):
    if enhanced or peer.proto.negotiated.refresh != REFRESH.ENHANCED:
        shipped(peer, enhanced, family)


Peer.resend = resend
sys.exit(main.main())
"""
ENDS: Final = (["10.99.1.1/24", "fd99:1::1/64"], ["10.99.1.2/24", "fd99:1::2/64"])
ENVIRONMENT: Final = {
    "exabgp.api.cli": "false", "exabgp.api.chunk": "100", "exabgp.api.ack": "true", "exabgp.daemon.user": "root",
    "exabgp.log.level": "ERROR", "exabgp.reactor.speed": "10",
}  # fmt: skip


class Wire:
    """What the client does: pump lines between the session and ExaBGP's pipes, fire its timer, count answers."""

    def __init__(self, peer: Namespace, state: Path, events: Path, commands: Path) -> None:
        self.peer, self.control = peer, state / "bird.ctl"
        self.events_fd = os.open(events, os.O_RDWR | os.O_NONBLOCK)
        self.commands_fd = os.open(commands, os.O_RDWR)
        self.buffer = b""
        self.unacked = 0
        self.up = False
        self.opened: bytes | None = None
        self.session = Session(DEFINITION)
        self.events: list[SpeakerEvent] = []

    def attach(self) -> None:
        snapshot = Snapshot("running", self.up, time.time(), self.opened if self.up else None, self.unacked, None, 1)
        self.session.attached(snapshot, time.monotonic())

    def another_agent(self) -> None:
        """The agent was killed, and another one begins."""
        self.session = Session(DEFINITION)
        self.events.clear()

    def send(self, line: bytes) -> None:
        os.write(self.commands_fd, line)
        self.unacked += line.count(b"\n")

    def turn(self, wait: float = 0.05) -> None:
        for line in self.session.take_lines():
            self.send(line)
        self.events += self.session.take_events()
        when = self.session.next_timer()
        if when is not None and when <= time.monotonic():
            self.session.handle_timer(time.monotonic())
        if select.select([self.events_fd], [], [], wait)[0]:
            *lines, self.buffer = (self.buffer + os.read(self.events_fd, 1 << 20)).split(b"\n")
            for line in lines:
                self.look(line)
                self.session.receive(line, time.monotonic())

    def look(self, line: bytes) -> None:
        if line in {b"done", b"error"}:
            self.unacked -= 1
        if b'"type": "open"' in line and b'"direction": "receive"' in line:
            self.opened = line
        if b'"type": "state"' in line and b'"connected"' not in line:
            self.up = b'"state": "up"' in line

    def until(self, what: str, condition: Callable[[], object], timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise ExpiredError(f"after {timeout:g} s still not so: {what}; {self.session.problem}")
            self.turn()

    def count(self, kind: type[SpeakerEvent]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def has(self, kind: type[SpeakerEvent]) -> bool:
        return self.count(kind) > 0

    # --- the peer ----------------------------------------------------------------------------------------------------
    def birdc(self, words: str) -> str:
        return self.peer.run("birdc", "-s", self.control, words)

    def routes(self) -> dict[str, int]:
        """What BIRD has from us, with the MED (0 without one)."""
        text = self.birdc("show route protocol node all")
        found = {}
        for part in re.split(r"\n(?=[0-9a-f.:]+/\d+)", text):
            if (head := re.match(r"([0-9a-f.:]+/\d+) ", part)) is not None:
                med = re.search(r"BGP\.med: (\d+)", part)
                found[head[1]] = int(med[1]) if med else 0
        return found

    def imported(self) -> int:
        count = re.search(r"(\d+) imported", self.birdc("show protocols all node"))
        return int(count[1]) if count else 0

    def received(self) -> list[str]:
        """BIRD's counters of updates and withdraws that came in."""
        return re.findall(r"Import (?:updates|withdraws): +(\d+)", self.birdc("show protocols all node"))


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    tmp_path.chmod(0o755)
    events, commands = tmp_path / "events", tmp_path / "commands"
    for fifo in (events, commands):
        os.mkfifo(fifo)
    helper = tmp_path / "helper"
    helper.write_text(f"#!/bin/sh\ncat <{commands} &\nexec cat >{events}\n")
    helper.chmod(0o755)
    (tmp_path / "exabgp.conf").write_text(EXABGP.format(helper=helper))
    (tmp_path / "launch.py").write_text(LAUNCHER)
    (tmp_path / "bird.conf").write_text(BIRD)
    with Network() as net:
        node, peer = net.add("exa"), net.add("bird")
        net.wire(node, "e0", peer, "b0", left_addresses=ENDS[0], right_addresses=ENDS[1])
        joined = Wire(peer, tmp_path, events, commands)
        net.start(peer, "bird", "-f", "-c", tmp_path / "bird.conf", "-s", tmp_path / "bird.ctl")
        net.start(
            node, sys.executable, tmp_path / "launch.py", "server", tmp_path / "exabgp.conf",
            env=ENVIRONMENT, log=tmp_path / "exabgp.log",
        )  # fmt: skip
        try:
            joined.attach()
            joined.until("the session is established", lambda: joined.has(SessionUp))
            yield joined
        finally:
            os.close(joined.events_fd)
            os.close(joined.commands_fd)
            print((tmp_path / "exabgp.log").read_text()[-4000:])  # noqa: T201 - shown when a test fails


def prefixes(count: int) -> list[Prefix]:
    first = int.from_bytes(parse_address("10.128.0.0"), "big")
    return [network(parse_address(".".join(map(str, (first + n * 64).to_bytes(4, "big")))), 26) for n in range(count)]


def test_ten_thousand_prefixes_reach_the_peer_and_end_of_rib_after_them(wire: Wire) -> None:
    wanted = dict.fromkeys(prefixes(10_000), Announcement())
    began = time.monotonic()
    wire.session.announce(wanted)
    wire.session.complete()
    wire.until("all are acknowledged", lambda: len(wire.session.announced) == len(wanted))
    acknowledged = time.monotonic() - began
    wire.until("the peer has them all", lambda: wire.imported() == len(wanted))
    print(f"10,000 prefixes acknowledged in {acknowledged:.2f} s")  # noqa: T201 - a figure for whoever asks
    wire.until("End-of-RIB has gone out", lambda: not wire.session._owed)
    assert wire.session.problems == 0


def test_bursts_of_changes_leave_the_peer_with_the_last_one(wire: Wire) -> None:
    chosen = random.Random(7)  # noqa: S311 - a test that can be repeated
    ours = prefixes(200)
    wanted: dict[Prefix, Announcement | None] = {}
    wire.session.complete()
    for _ in range(60):
        for prefix in chosen.sample(ours, 40):
            med = chosen.choice([None, 10, 20, 30, 40])
            wanted[prefix] = None if chosen.random() < 0.3 else Announcement(med=med, communities=("65001:1",))
        wire.session.announce({prefix: wanted[prefix] for prefix in wanted})
        wire.turn(0.002)
    left = {prefix_text(p): a.med or 0 for p, a in wanted.items() if a is not None}
    wire.until("ExaBGP acknowledged it all", lambda: wire.session._outgoing.settled)
    wire.until("the peer has what is wanted", lambda: wire.routes() == left, 10)


def test_an_agent_that_starts_again_sends_no_update_and_learns_the_table_again(wire: Wire) -> None:
    attributes = Announcement(med=50, communities=("no-export", "65001:9", "65001:2:3"), prepend=2)
    wanted = dict.fromkeys(prefixes(500), attributes)
    wanted[parse_prefix("2001:db8:7::/64")] = Announcement(next_hop=parse_address("fd99:1::1"))
    wire.session.announce(wanted)
    wire.session.complete()
    wire.until("the peer has them all", lambda: len(wire.routes()) == 501 and not wire.session._owed)
    assert "65001 65001 65001" in wire.birdc("show route protocol node all 10.128.0.0/26")
    before = wire.received()
    for _ in range(2):
        wire.another_agent()
        wire.attach()
        wire.session.announce(wanted)
        wire.session.complete()
        wire.until("it knows what is announced", lambda: len(wire.session.announced) == 501)
        wire.until("the peer sent its table again", lambda: wire.count(RefreshEnd) == 2)
        up = next(event for event in wire.events if isinstance(event, SessionUp))
        assert up.adopted
        assert (up.refresh, up.families) == ("enhanced", frozenset(Family))
        assert wire.count(RefreshBegin) == 2
        learned = {prefix_text(p) for e in wire.events if isinstance(e, Update) for _, ps in e.announced for p in ps}
        assert learned == {"192.168.77.0/26", "192.168.78.0/26"}
    assert wire.received() == before


def test_an_agent_killed_in_the_middle_of_a_burst_leaves_answers_that_the_next_one_skips(wire: Wire) -> None:
    wanted = dict.fromkeys(prefixes(2000), Announcement())
    wire.session.announce(wanted)
    wire.turn(0)
    wire.turn(0.001)
    assert wire.unacked
    wire.another_agent()
    wire.attach()
    rest = dict(list(wanted.items())[1000:])
    wire.session.announce(rest)
    wire.session.complete()
    wire.until("what is not wanted any more is withdrawn", lambda: set(wire.session.announced) == set(rest))
    wire.until("the peer agrees", lambda: wire.imported() == 1000)
    assert wire.session.problems == 0


def test_a_peer_that_restarts_hears_everything_again_and_what_somebody_took_out_is_repaired(wire: Wire) -> None:
    wanted = dict.fromkeys(prefixes(20), Announcement())
    wire.session.announce(wanted)
    wire.session.complete()
    wire.until("all are acknowledged", lambda: len(wire.session.announced) == 20)
    wire.birdc("restart node")
    wire.until("the session ended", lambda: wire.has(SessionDown))
    assert not wire.session.announced
    wire.until("it is back", lambda: wire.session.announced)
    wire.until("the peer has them all, and End-of-RIB", lambda: wire.imported() == 20 and not wire.session._owed)
    taken = prefix_text(next(iter(wanted)))
    wire.send(f"neighbor 10.99.1.2 withdraw route {taken}\n".encode())
    while wire.unacked:  # this answer is not for the session
        line = b""
        while not line.endswith(b"\n"):
            select.select([wire.events_fd], [], [], 5)
            line += os.read(wire.events_fd, 1)
        wire.look(line.rstrip(b"\n"))
    wire.until("the peer lost it", lambda: wire.imported() == 19)
    wire.session.handle_timer(time.monotonic() + 61)
    wire.until("the audit put it back", lambda: wire.imported() == 20)
