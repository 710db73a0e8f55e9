"""A route server floods the node, and the agent dies in the middle of it."""

from __future__ import annotations

import signal
import threading

import pytest

from lab.evidence import RouteEvents
from lab.netns import wait_for
from lab.topology import Lab, Node
from tests.chaos.conftest import answers

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

FLOOD = [f"192.168.{8 + n // 64}.{n % 64 * 4}/30" for n in range(10_000)]
MAX_PREFIXES = 4000


def learned(node: Node) -> int:
    return sum(" via " in line and line.startswith("192.168.") for line in node.routes())


def test_an_agent_killed_among_thousands_of_routes_goes_on_where_it_was(lab: Lab) -> None:
    node, before = lab.nodes["node-a"], learned(lab.nodes["node-a"])
    some = FLOOD[:3900]
    with RouteEvents(lab.network, [node.inside], lab.folder) as events:
        flood = threading.Thread(target=lab.fabric.tell, args=("rs-0", *some))
        flood.start()
        wait_for("the first routes are in the kernel", lambda: learned(node) > before, 20, 0.001)
        node.end_agent(signal.SIGKILL)
        flood.join()
        node.start_agent()
        wait_for("all routes are in the kernel", lambda: learned(node) == before + len(some), 30)
        assert [line for line in events.seen() if "Deleted" in line] == []
    node.end_agent(signal.SIGKILL)
    with RouteEvents(lab.network, [node.inside], lab.folder) as events:
        node.start_agent()
        wait_for("the agent has heard the flood again",
                 lambda: answers(node) and _received(node, "10.42.0.4") == len(some) + 3, 30)  # fmt: skip
        assert events.seen() == []
    lab.fabric.tell("rs-0")
    wait_for("the flood is gone", lambda: learned(node) == before, 20)


def test_more_than_max_prefixes_keeps_the_session_refuses_the_surplus_and_is_said_once(lab: Lab) -> None:
    node, before = lab.nodes["node-a"], learned(lab.nodes["node-a"])
    start, since = node.log("run").stat().st_size, _since(node)
    lab.fabric.tell("rs-0", *FLOOD)
    wait_for("the limit is reached", lambda: _received(node, "10.42.0.4") > MAX_PREFIXES, 20)
    wait_for("it is said", lambda: "more than max_prefixes 4000" in _said(node, start), 10)
    assert learned(node) <= MAX_PREFIXES
    lab.fabric.tell("rs-0")
    wait_for("the flood is gone", lambda: learned(node) == before, 30)
    wait_for("that is said too", lambda: "'below limit'" in _said(node, start), 10)
    assert _said(node, start).count("more than max_prefixes") == 1
    assert _since(node) == since, "no session flapped"
    lab.wait()


def _received(node: Node, address: str) -> int:
    return next(int(peer["received"]) for peer in node.status()["peers"] if peer["address"] == address)


def _since(node: Node) -> list[str]:
    return [str(peer["since"]) for peer in node.status()["peers"]]


def _said(node: Node, start: int) -> str:
    return node.log("run").read_bytes()[start:].decode()
