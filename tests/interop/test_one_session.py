"""Both address families on one IPv4 session (RFC 4760): blocks and routes of each, and neither in the other's way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from lab.neighbours.bird import Bird
from lab.neighbours.plan import NODE, NODE6, NODE_ASN, ROUTER, ROUTER6, ROUTER_ASN, Plan
from lab.netns import wait_for
from tests.interop.neighbour_rig import BLOCKS, THEIRS, Rig, rig_with

pytestmark = [pytest.mark.netns, pytest.mark.timeout(90)]


@dataclass(frozen=True, slots=True)
class OneSession(Plan):
    """No session over IPv6."""

    @property
    def sessions(self) -> dict[str, str]:
        return {ROUTER: NODE}


class BothOnOne(Bird):
    """BIRD with both channels on its IPv4 session."""

    def _session(self, router: str, node: str) -> str:
        return f"""protocol bgp node4 {{
            local {router} as {ROUTER_ASN}; neighbor {node} as {NODE_ASN}; hold time 30; direct; strict bind on;
            graceful restart aware; error wait time 1, 1; error forget time 1; connect delay time 1;
            ipv4 {{ import all; export where source = RTS_STATIC; }};
            ipv6 {{ import all; export where source = RTS_STATIC; next hop address {ROUTER6}; }};
        }}"""

    def both(self) -> dict[str, str]:
        """What it has from the node, by either family, with the next hop."""
        return {prefix: held.next_hop for prefix, held in self.held(NODE).items()}


OURS: Final = {prefix: NODE6 if ":" in prefix else NODE for prefix in BLOCKS}


@pytest.fixture(scope="module")
def running() -> Iterator[Rig]:
    with rig_with(BothOnOne) as made:
        made.neighbour.plan, made.neighbour.routes = OneSession(), dict.fromkeys(THEIRS)
        made.configure(families=["ipv4", "ipv6"])
        made.node.own(BLOCKS)
        made.node.start_speaker()
        made.node.start_agent()
        made.neighbour.start()
        yield made


@pytest.fixture
def rig(running: Rig) -> Rig:
    running.node.own(BLOCKS)
    for prefix in THEIRS:
        running.neighbour.announce(prefix)
    wait_for("both sides have all of both families", lambda: converged(running), 20)
    return running


def theirs(rig: Rig) -> dict[str, str]:
    return rig.routes(NODE) | rig.routes(NODE6)


def ours(rig: Rig) -> dict[str, str]:
    assert isinstance(rig.neighbour, BothOnOne)
    return rig.neighbour.both()


def converged(rig: Rig) -> bool:
    return ours(rig) == OURS and theirs(rig) == {THEIRS[0]: ROUTER, THEIRS[1]: ROUTER6} and rig.node.status()["ready"]


@pytest.mark.parametrize("gone", ["ipv4", "ipv6"])
def test_what_is_withdrawn_of_one_family_leaves_the_other_alone(rig: Rig, gone: str) -> None:
    stays = {prefix: hop for prefix, hop in OURS.items() if (":" in prefix) is (gone == "ipv4")}
    before = rig.neighbour.updates(NODE)
    rig.node.own(stays)
    wait_for(f"they have no {gone} block", lambda: ours(rig) == stays)
    there, here = reversed(THEIRS) if gone == "ipv4" else THEIRS
    rig.neighbour.withdraw(here)
    wait_for(f"we have no {gone} route", lambda: list(theirs(rig)) == [there])
    assert ours(rig) == stays
    assert rig.neighbour.updates(NODE) - before == len(OURS) - len(stays), (
        "each is withdrawn once, nothing else is said"
    )


def test_an_agent_that_is_killed_says_nothing_of_either_family_when_it_is_back(rig: Rig) -> None:
    before = rig.neighbour.updates(NODE)
    rig.node.end_agent(signal.SIGKILL)
    rig.node.start_agent()
    wait_for("the agent is ready", lambda: rig.node.answers() and converged(rig), 20)
    wait_for("it knows all blocks as announced", lambda: rig.peer()["announced"] == len(BLOCKS))
    assert rig.neighbour.updates(NODE) == before


def test_a_new_exabgp_ends_the_graceful_restart_of_both_families(rig: Rig) -> None:
    """What left the file meanwhile was never told by the new one: only an End-of-RIB takes it away (RFC 4724)."""
    speaker = rig.node.speaker
    assert speaker is not None
    speaker.send_signal(signal.SIGSTOP)
    try:
        for pid in rig.exabgps:
            os.kill(pid, signal.SIGKILL)
        wait_for("the session is down", lambda: not rig.neighbour.established(NODE), 15)
        rig.node.own(BLOCKS[1:3])
        wait_for("the agent has read it", lambda: "2 blocks" in rig.node.status()["source"]["reason"])
        assert ours(rig) == OURS, "kept, both families"
    finally:
        speaker.send_signal(signal.SIGCONT)
    wait_for("what is gone by now is gone there too", lambda: set(ours(rig)) == set(BLOCKS[1:3]), 20)
    assert len(theirs(rig)) == 2
