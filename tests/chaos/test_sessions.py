"""Sessions that may not be, that end and that come back: each is its own peer's matter, and nobody else notices."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pytest
import yaml

from lab import proofs
from lab.bird import ROUTE_SERVER_ASN
from lab.evidence import Messages, RouteEvents, read_mrt
from lab.netns import wait_for
from lab.topology import ROUTE_SERVERS, Lab, Node
from tests.chaos.conftest import answers, configure

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

STAYS, GOES = ROUTE_SERVERS["rs-1"], ROUTE_SERVERS["rs-0"]  # the fabric asks rs-0 first: the better one to lose
HOLD: Final = 9.0  # seconds
OPEN: Final = 1  # RFC 4271 section 4.1
DROP: Final = "drop", "drop"  # what comes from the node, and what goes to it
RESET: Final = "meta l4proto tcp reject with tcp reset", "accept"


def peer(node: Node, address: str = GOES) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in node.status()["peers"] if each["address"] == address)
    return found


def peering(address: str, **more: object) -> dict[str, object]:
    return {"address": address, "asn": ROUTE_SERVER_ASN, "multihop": 8, **more}


def established(node: Node) -> bool:
    return bool(peer(node)["state"] == "established")


def opens(lab: Lab, node: Node, name: str = "rs-0") -> int:
    """How often this node has tried to open a session with a route server, as that one wrote down."""
    heard = read_mrt(lab.fabric.birds[name].mrt.read_bytes())
    return sum(message.kind == OPEN and message.peer == node.plan.address for message in heard)


@contextlib.contextmanager
def nobody_else_notices(lab: Lab, node: Node) -> Iterator[None]:
    """No lost packet, no UPDATE at the other route server, no flap there, and no route event but of the way to rs-0."""
    other, before = lab.fabric.birds["rs-1"], opens(lab, node, "rs-1")
    messages = Messages({"rs-1": other.mrt})
    with (
        RouteEvents(lab.network, [each.inside for each in lab.nodes.values()], lab.folder) as events,
        proofs.traffic_between(lab, proofs.crossing(lab, node)) as traffic,
    ):
        traffic.run_for(0.2)
        yield
        counts = traffic.finish()
        assert [line for line in events.seen() if f" {GOES} " not in line] == []
    assert [count for count in counts if count.lost] == []
    assert min(count.sent for count in counts) > 100
    assert messages.updates().total() == 0
    assert other.established(node.name)
    assert opens(lab, node, "rs-1") == before


@contextlib.contextmanager
def in_the_way(lab: Lab, node: Node, verdicts: tuple[str, str]) -> Iterator[None]:
    """What becomes of packets between this node and rs-0; of what others send to each other, nothing."""
    fabric, there = lab.fabric.inside, node.plan.address
    fabric.run("nft", "-f", "-", stdin=f"""
        table inet chaos {{
            chain from_node {{ type filter hook input priority 0; ip saddr {there} ip daddr {GOES} {verdicts[0]}; }}
            chain to_node {{ type filter hook output priority 0; ip saddr {GOES} ip daddr {there} {verdicts[1]}; }}
        }}""")  # fmt: skip
    try:
        yield
    finally:
        fabric.run("nft", "delete", "table", "inet", "chaos")


def test_a_route_server_that_falls_silent_is_given_up_after_the_hold_time_and_is_soon_back(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    configure(node, stale_time="22s")  # long enough to tell who tries less and less often
    with nobody_else_notices(lab, node):
        with in_the_way(lab, node, DROP):
            start = time.monotonic()
            wait_for("the session is given up", lambda: not established(node), HOLD + 5)
            assert time.monotonic() - start > HOLD / 2, "by the timer: nobody closed the connection"
            assert peer(node)["reason"].startswith("we ended it: hold timer expired (4/0)")
            wait_for("what it told is forgotten", lambda: "stale" not in peer(node)["reason"], 25)
        wait_for("the session is back", partial(established, node), 5)
        wait_for("with all blocks", lambda: peer(node)["announced"] == 2, 5)


def test_a_session_that_is_reset_again_and_again_is_back_within_five_seconds_of_the_last(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    with nobody_else_notices(lab, node):
        for _ in range(3):
            with in_the_way(lab, node, RESET):
                wait_for("the session is reset", lambda: not established(node), HOLD / 2)
            wait_for("the session is back", partial(established, node), 5)
        wait_for("with all blocks", lambda: peer(node)["announced"] == 2, 5)


@contextlib.contextmanager
def mistaken(lab: Lab, node: Node, where: str) -> Iterator[None]:
    """One end of the session with rs-0 is configured with a wrong AS number."""
    bird = lab.fabric.birds["rs-0"]
    right = lab.fabric.route_server("rs-0").config(bird.mrt)
    if where == "here":
        configure(node, peers=[peering(GOES, asn=65000), peering(STAYS)])
    else:
        bird.configure(right.replace("neighbor 10.42.1.4 as 64512;", "neighbor 10.42.1.4 as 64999;"))
    try:
        yield
    finally:
        configure(node)
        bird.configure(right)


@pytest.mark.parametrize(("where", "who"), [("here", "we ended it"), ("there", "the peer ended it")])
def test_a_wrong_as_number_keeps_that_session_down_and_is_named(lab: Lab, where: str, who: str) -> None:
    node, bird = lab.nodes["node-a"], lab.fabric.birds["rs-0"]
    start = node.log("run").stat().st_size
    with nobody_else_notices(lab, node):
        with mistaken(lab, node, where):
            wait_for("it is named", lambda: peer(node)["reason"].startswith(f"{who}: bad peer AS (2/2)"), 15)
            assert peer(node)["state"] == "connecting"
            assert bird.prefixes("node-a") == set()
            assert not bird.established("node-a")
            assert any(f"peer={GOES} state=connecting" in line for line in warnings(node, start))
        wait_for("the session is back", partial(established, node), 15)


def test_a_peer_whose_password_was_never_read_stays_down_though_it_would_do_without(lab: Lab) -> None:
    node, file = lab.nodes["node-a"], lab.folder / "never-read"
    with nobody_else_notices(lab, node):
        configure(node, peers=[peering(GOES, password_file=str(file)), peering(STAYS)])
        wait_for("the peer is down", lambda: peer(node)["state"] == "down", 10)
        assert f"password_file {file} is not there; " in peer(node)["reason"]
        tried = opens(lab, node)
        node.end_agent(signal.SIGKILL)
        node.start_agent()
        wait_for("a new agent says so too", lambda: answers(node) and peer(node)["state"] == "down", 10)
    assert node.speaker is not None
    node.speaker.kill()
    node.speaker.wait()
    node.start_speaker()
    wait_for("the other session is back", lambda: peer(node, STAYS)["state"] == "established", 20)
    assert peer(node)["state"] == "down"
    assert opens(lab, node) == tried
    configure(node)
    wait_for("without a password file it is up", partial(established, node), 10)


def test_peers_that_are_removed_and_added_one_by_one_leave_the_others_alone(lab: Lab) -> None:
    node, bird = lab.nodes["node-a"], lab.fabric.birds["rs-0"]
    before = sorted(node.routes())
    with nobody_else_notices(lab, node):
        configure(node, peers=[peering(STAYS)])
        wait_for("rs-0 has let go of the node", lambda: not bird.prefixes("node-a"), 5)
        wait_for("/status knows one peer", lambda: len(node.status()["peers"]) == 1, 5)
        assert f"{GOES} " not in "\n".join(node.routes()), "the way to it is gone too"
        assert node.get("/readyz")[0] == 200
        configure(node, peers=[peering(STAYS), peering(GOES)])
        wait_for("rs-0 has the blocks again", lambda: bird.prefixes("node-a") == set(node.plan.blocks), 10)
        wait_for("the kernel is as before", lambda: sorted(node.routes()) == before, 5)


def sections(node: Node, **changes: object) -> None:
    """Replace whole sections of the config, live."""
    node.config.write_text(yaml.safe_dump(yaml.safe_load(node.config.read_text()) | changes))


def test_one_dead_peer_of_two_withdraws_nothing_and_unreadies_only_where_all_are_wanted(lab: Lab) -> None:
    node, seen = lab.nodes["node-a"], set[int]()

    def lost() -> bool:
        seen.add(node.get("/readyz")[0])
        return not established(node)

    with nobody_else_notices(lab, node):
        lab.fabric.birds["rs-0"].kill()
        try:
            wait_for("the session is over", lost, 10, 0.005)
            sections(node, fallback={"min_peers": "all"})
            wait_for("all are wanted: not ready", lambda: node.get("/readyz")[0] == 503, 5)
            assert "is on 1 of 2 needed peers" in node.status()["reason"]
            sections(node, fallback={"min_peers": 1})
            wait_for("one is enough: ready", lambda: node.get("/readyz")[0] == 200, 5)
        finally:
            lab.fabric.start_route_server("rs-0")
        lab.wait(30)
    assert seen == {200}


def test_a_node_on_one_leg_is_ready_and_warns_of_it_wherever_one_may_look(lab: Lab) -> None:
    node = lab.nodes["node-a"]
    node.end_agent(signal.SIGTERM)  # what the log warned of in the last minute is not said again
    node.start_agent()
    lab.wait(30)
    start = node.log("run").stat().st_size
    lab.fabric.birds["rs-0"].kill()
    try:
        wait_for("the session is over", lambda: not established(node), 10)
        status = node.status()
        assert (status["ready"], status["reason"]) == (True, "1 of 2 peers established")
        assert {block["reason"] for block in status["blocks"]} == {"acknowledged by 1 of 2 peers"}
        assert peer(node)["reason"].startswith("the connection was closed")
        problems = node.ask("status").stdout.partition("problems:\n")[2]
        assert problems.startswith(f"  peer {GOES}: connecting: the connection was closed")
        assert f'peer_state{{peer="{GOES}",state="established"}} 0.0' in node.get("/metrics")[1].decode()
        wait_for("the log warns", lambda: warnings(node, start), 5)
        assert [f"peer={GOES} state=connecting" in line for line in warnings(node, start)] == [True]
    finally:
        lab.fabric.start_route_server("rs-0")
    lab.wait(30)


def warnings(node: Node, start: int) -> list[str]:
    """The log's lines from ``start`` (bytes) on that warn of a peer."""
    lines = node.log("run").read_bytes()[start:].decode().splitlines()
    return [line for line in lines if re.search(r"\[warning +\] peer ", line)]
