"""Each process stands still for a while, as under a debugger, a paused machine or a disk that does not answer."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from lab import proofs
from lab.evidence import Messages, RouteEvents, read_mrt
from lab.netns import wait_for
from lab.topology import Lab, Node
from lab.traffic import Traffic
from tests.chaos.conftest import configure
from tests.interop.speaker_rig import children, exabgps

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

NEWS: Final = "192.168.3.64/26"  # a block that appears meanwhile
KEEPALIVE: Final = 4  # RFC 4271 section 4.1


def agent(lab: Lab) -> list[int]:
    process = lab.nodes["node-a"].agent
    assert process is not None
    return [process.pid]


def speaker(lab: Lab) -> list[int]:
    process = lab.nodes["node-a"].speaker
    assert process is not None
    return [process.pid]


def one_exabgp(lab: Lab) -> list[int]:
    return exabgps(lab.nodes["node-a"].state_dir)[:1]


def helpers(lab: Lab) -> list[int]:
    return [child for pid in exabgps(lab.nodes["node-a"].state_dir) for child in children(pid)]


def one_route_server(lab: Lab) -> list[int]:
    return [lab.fabric.birds["rs-1"].pid]


def all_but_the_exabgps(lab: Lab) -> list[int]:
    return [*agent(lab), *speaker(lab), *helpers(lab)]


Who = Callable[[Lab], list[int]]
#: Who is frozen, and for how many keepalives (one in 3 s). Those that hold a session: for less than its hold time, 9 s.
SHORTLY: Final[dict[str, tuple[Who, int]]] = {
    "everything on the node but its ExaBGPs": (all_but_the_exabgps, 4),
    "one ExaBGP": (one_exabgp, 2),
    "a route server": (one_route_server, 2),
}
LONG: Final[dict[str, Who]] = {
    "the agent": agent, "the speaker": speaker, "ExaBGP's helpers": helpers, "one ExaBGP": one_exabgp,
    "a route server": one_route_server,
}  # fmt: skip


@contextlib.contextmanager
def standing_still(pids: list[int]) -> Iterator[None]:
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # replaced meanwhile
                os.kill(pid, signal.SIGCONT)


class Heartbeats:
    """Keepalives that rs-0 has had of each node since this was made."""

    def __init__(self, lab: Lab) -> None:
        self._dump = lab.fabric.birds["rs-0"].mrt
        self._start = self._dump.stat().st_size

    def most(self) -> int:
        told = read_mrt(self._dump.read_bytes()[self._start :])
        return max(Counter(message.peer for message in told if message.kind == KEEPALIVE).values(), default=0)


@contextlib.contextmanager
def unharmed(lab: Lab) -> Iterator[Traffic]:
    """No packet between node-a and the others is lost, no route is taken out, and the news arrive after all."""
    node, other = lab.nodes["node-a"], lab.nodes["node-c"]
    watched = [each.inside for each in lab.nodes.values()]
    with (
        RouteEvents(lab.network, watched, lab.folder) as events,
        proofs.traffic_between(lab, proofs.crossing(lab, node)) as traffic,
    ):
        yield traffic
        wait_for("the news have arrived", lambda: has_news(node), 20)
        assert [line for line in events.seen() if "Deleted" in line and "blackhole" not in line] == []
        assert [count for count in traffic.finish() if count.lost] == []
    other.own(other.plan.blocks)
    wait_for("they are old news", lambda: not any(map(has_news, lab.nodes.values())), 10)


def has_news(node: Node) -> bool:
    return any(line.startswith(f"{NEWS} via") for line in node.routes())


@pytest.mark.parametrize(("who", "keepalives"), SHORTLY.values(), ids=SHORTLY)
def test_what_stands_still_for_a_moment_ends_no_session_and_catches_up(lab: Lab, who: Who, keepalives: int) -> None:
    node, other = lab.nodes["node-a"], lab.nodes["node-c"]
    before = flaps(lab)
    messages = Messages({each: bird.mrt for each, bird in lab.fabric.birds.items()})
    with unharmed(lab):
        with standing_still(who(lab)):
            other.own([*other.plan.blocks, NEWS])
            heard = Heartbeats(lab)
            wait_for("as many keepalives have come", lambda: heard.most() >= keepalives, 30)
        wait_for("the agent answers", node.answers, 10)
    lab.wait()
    assert flaps(lab) == before
    assert {peer for _, peer in messages.updates()} == {other.plan.address}, "who has no news tells none"


def hold_times(lab: Lab) -> set[int]:
    return {peer["hold_time"] for node in lab.nodes.values() for peer in node.status()["peers"]}


@pytest.fixture
def patient(lab: Lab) -> Iterator[Lab]:
    """The hold time that a Route Server offers."""
    for node in lab.nodes.values():
        configure(node, hold_time="180s")
    wait_for("it is negotiated everywhere", lambda: hold_times(lab) == {180}, 60)
    lab.wait(60)
    yield lab
    for node in lab.nodes.values():
        configure(node)
    wait_for("it is as before", lambda: hold_times(lab) == {9}, 60)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", LONG)
def test_a_process_that_stands_still_for_half_a_minute_costs_no_packet(patient: Lab, name: str) -> None:
    """Only an ExaBGP is replaced in that time: its session alone starts again."""
    other = patient.nodes["node-c"]
    before = flaps(patient)
    with unharmed(patient) as traffic, standing_still(LONG[name](patient)):
        other.own([*other.plan.blocks, NEWS])
        traffic.run_for(30)
    patient.wait(60)
    assert flaps(patient) - before == (name == "one ExaBGP")


def flaps(lab: Lab) -> int:
    return sum(peer["flaps"] for node in lab.nodes.values() for peer in node.status()["peers"])
