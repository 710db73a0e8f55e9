"""The wall clock jumps by a year, forward and back, under agents, speakers and ExaBGPs: nothing may go by it.

The machine's own clock belongs to everybody, so the programs run in a Python environment whose ``time.time`` is moved
by a file. What they wait with, the kernel's monotonic clock, is the real one, as it is when somebody sets the time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import struct
import subprocess
import sysconfig
import time
import venv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import bgp_agent
from bgp_agent.core.blocks import LET_GO
from lab import proofs
from lab.evidence import Messages, RouteEvents, read_mrt
from lab.netns import Network, wait_for
from lab.topology import ROUTE_SERVERS, Lab, Node, short_folder
from tests.chaos.conftest import configure
from tests.interop.speaker_rig import exabgps

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

YEAR: Final = 365 * 86_400.0
HOLD: Final = 6  # seconds; a keepalive every two
STALE: Final = 6
NEWS: Final = "192.168.1.192/26"
KEEPALIVE: Final = 4  # RFC 4271 section 4.1
MOVED_CLOCK: Final = """
import mmap, struct, time
with open({path!r}, "rb") as file:
    by = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
real = time.time
time.time = lambda: real() + struct.unpack_from("d", by)[0]
time.time_ns = lambda: int(time.time() * 1e9)
"""


class Clock:
    """The wall clock of every Python that is started as :attr:`program`; an interpreter run with ``-I`` is one too."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0.0)
        environment = folder / "python"
        venv.create(environment, symlinks=True)
        packages = next(environment.glob("lib/python3*/site-packages"))
        (packages / "moved_clock.py").write_text(MOVED_CLOCK.format(path=str(self._file)))
        real = sysconfig.get_path("purelib"), str(Path(bgp_agent.__file__).parents[1])
        (packages / "all.pth").write_text("\n".join(("import moved_clock", *real)) + "\n")
        self.program = (str(environment / "bin/python"), "-m", "bgp_agent")

    def set(self, by: float) -> None:
        """Put it so many seconds ahead of the real one, from now on."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("d", by))

    def shown(self) -> float:
        """What a program reads from it."""
        code = "import time; print(time.time())"
        return float(subprocess.run([self.program[0], "-I", "-c", code], capture_output=True, check=True).stdout)


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[Lab, Clock]]:
    with Network() as network:
        folder = short_folder(network.tag)
        folder.mkdir()
        clock = Clock(folder)
        lab = Lab(network, folder, clock.program)
        for node in lab.nodes.values():
            configure(node, hold_time=f"{HOLD}s", stale_time=f"{STALE}s")
        lab.start()
        lab.wait(90)
        yield lab, clock
    shutil.rmtree(folder)


@pytest.fixture
def lab(built: tuple[Lab, Clock], clock: Clock) -> Iterator[Lab]:
    built[0].wait(60)
    yield built[0]
    clock.set(0.0)


@pytest.fixture
def clock(built: tuple[Lab, Clock]) -> Clock:
    return built[1]


class Keepalives:
    """What each route server has heard of each node since this was made."""

    def __init__(self, lab: Lab) -> None:
        self._dumps = [bird.mrt for bird in lab.fabric.birds.values()]
        self._start = [dump.stat().st_size for dump in self._dumps]

    def enough(self) -> bool:
        """More of each than fit into a hold time."""
        counted: Counter[tuple[Path, str]] = Counter()
        for dump, start in zip(self._dumps, self._start, strict=True):
            counted.update((dump, m.peer) for m in read_mrt(dump.read_bytes()[start:]) if m.kind == KEEPALIVE)
        return len(counted) == 6 and min(counted.values()) > HOLD // 2


def flaps(lab: Lab) -> list[int]:
    return [peer["flaps"] for node in lab.nodes.values() for peer in node.status()["peers"]]


def learned(node: Node) -> list[str]:
    return [line for line in node.routes() if line.startswith("192.168.") and " via " in line]


def test_a_clock_that_is_set_a_year_forward_and_then_back_ends_no_session_and_moves_no_route(
    lab: Lab, clock: Clock
) -> None:
    messages = Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})
    before = flaps(lab)
    with RouteEvents(lab.network, [node.inside for node in lab.nodes.values()], lab.folder) as events:
        for by in (YEAR, -YEAR):
            heard = Keepalives(lab)
            clock.set(by)
            assert abs(clock.shown() - time.time() - by) < 60
            wait_for("keepalives came for longer than the hold time", heard.enough, 4 * HOLD)
        assert messages.updates().total() == 0
        assert events.seen() == []
    assert flaps(lab) == before
    lab.wait()


def test_stale_routes_go_after_stale_time_also_when_the_clock_is_put_back(lab: Lab, clock: Clock) -> None:
    node = lab.nodes["node-a"]
    for bird in lab.fabric.birds.values():
        bird.kill()
    try:
        wait_for("node-a has lost both", lambda: {p["state"] for p in node.status()["peers"]} == {"connecting"}, 10)
        lost = time.monotonic()
        clock.set(-YEAR)
        wait_for("what it has learned is gone", lambda: not learned(node), 3 * STALE)
        assert time.monotonic() - lost > STALE - 1.5
    finally:
        clock.set(0.0)
        for name in ROUTE_SERVERS:
            lab.fabric.start_route_server(name)
    lab.wait()


def blackhole(node: Node, block: str) -> bool:
    return any(line.startswith(f"blackhole {block} ") for line in node.routes())


def give_up(node: Node) -> str:
    """One of its blocks, withdrawn everywhere; its blackhole is the only thing that is left of it."""
    *kept, given_up = node.plan.blocks
    node.own(kept)
    wait_for("it is withdrawn everywhere", lambda: given_up in node.status()["kernel"]["releasing"], 10)
    return given_up


def test_a_withdrawn_block_keeps_its_blackhole_when_the_clock_is_put_forward(lab: Lab, clock: Clock) -> None:
    node, other = lab.nodes["node-a"], lab.nodes["node-b"]
    given_up = give_up(node)
    clock.set(YEAR)
    node.own([*node.plan.blocks[:-1], NEWS])
    wait_for("the agent has gone on", lambda: any(line.startswith(f"{NEWS} via") for line in learned(other)), 10)
    assert blackhole(node, given_up)
    assert given_up in node.status()["kernel"]["releasing"]
    node.own(node.plan.blocks)


@pytest.mark.soak
@pytest.mark.timeout(180)
def test_a_withdrawn_blocks_blackhole_goes_after_its_minute_also_when_the_clock_is_put_back(
    lab: Lab, clock: Clock
) -> None:
    node = lab.nodes["node-a"]
    given_up, since = give_up(node), time.monotonic()
    clock.set(-YEAR)
    wait_for("its blackhole is gone", lambda: not blackhole(node, given_up), LET_GO + 10)
    assert time.monotonic() - since > LET_GO - 3
    node.own(node.plan.blocks)


@pytest.mark.parametrize("by", [YEAR, -YEAR], ids=["forward", "back"])
def test_a_drain_waits_as_long_as_it_was_told_to_whatever_the_clock_says(lab: Lab, clock: Clock, by: float) -> None:
    node = lab.nodes["node-a"]
    deaf = exabgps(node.state_dir)[0]
    os.kill(deaf, signal.SIGSTOP)
    try:
        asked = subprocess.Popen(node.command("drain", "--force", "--timeout", "3s"), stderr=subprocess.PIPE)
        with asked:
            wait_for("it is asked for", (node.state_dir / "drained").exists, 10)
            begin = time.monotonic()
            clock.set(by)
            assert asked.wait(20) == 1
            assert asked.stderr is not None
            assert b"not done after 3 s" in asked.stderr.read()
        assert 2 < time.monotonic() - begin < 3 + HOLD
    finally:
        with contextlib.suppress(ProcessLookupError):  # replaced meanwhile
            os.kill(deaf, signal.SIGCONT)
        assert node.ask("undrain").returncode == 0


def test_the_probe_sees_a_misdelivered_block_also_when_the_clock_is_put_back(lab: Lab, clock: Clock) -> None:
    node = lab.nodes["node-a"]
    block = lab.nodes["node-c"].plan.blocks[0]
    wait_for("it was asked for", lambda: delivered_to(node, block) == "node-c", 30)
    clock.set(-YEAR)
    lab.fabric.hand(block, lab.nodes["node-b"])
    try:
        wait_for("the probe names who gets its packets", lambda: delivered_to(node, block) == "node-b", 40)
    finally:
        lab.fabric.leave(block)
    assert proofs.probe(node, block, "node-c").right


def delivered_to(node: Node, block: str) -> str | None:
    return next((str(r["verified"]["node"]) for r in node.status()["routes"] if r["prefix"] == block), None)
