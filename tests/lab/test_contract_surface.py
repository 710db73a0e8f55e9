"""The promises to users, asked of a real node as a user asks: command line, /status, live reload, drain."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from lab import proofs
from lab.netns import wait_for
from lab.topology import Lab, Node, StatusError

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")  # RFC 3339 in UTC
SOON = 5.0


@pytest.fixture
def node(lab: Lab) -> Node:
    return lab.nodes["node-a"]


@pytest.fixture
def lies(lab: Lab) -> Iterator[Callable[..., None]]:
    """Have rs-0 announce prefixes of its own; taken back at the end."""
    yield lambda *prefixes: lab.fabric.tell("rs-0", *prefixes)
    lab.fabric.tell("rs-0")
    wait_for("node-a has forgotten the lies", lambda: lab.nodes["node-a"].status()["routes_total"] == 3, SOON)


def test_status_has_every_promised_field_with_its_type(node: Node) -> None:
    wait_for("each own block is proved", lambda: all(b["verified"]["at"] for b in node.status()["blocks"]), 20)
    code, body = node.get("/status")
    status = json.loads(body)
    assert code == 200
    shape: dict[str, Any] = {
        "node": {"name": str, "address": str, "version": str, "started": TIME}, "ready": bool, "mode": str,
        "reason": str, "routes_total": int,
        "blocks": [{"cidr": str, "state": str, "reason": str, "peers": [str],
                    "verified": {"state": str, "node": str, "by": str, "at": TIME}}],
        "peers": [{"address": str, "asn": int, "state": str, "since": TIME, "uptime_seconds": float, "received": int,
                   "accepted": int, "announced": int, "reason": str, "flaps": int}],
        "source": {"kind": str, "state": str, "reason": str},
        "kernel": {"table": int, "protocol": int, "metric": int, "installed": int, "pending": int, "repaired": int},
        "fallback": {"mode": str, "state": str, "routes": [str]},
    }  # fmt: skip
    assert list(misfits(status, shape)) == []
    learned = [route for route in status["routes"] if route["state"] == "installed"]
    shape = {"prefix": str, "state": str, "reason": str, "next_hops": [str], "peers": [str], "as_path": [int],
             "verified": {"state": str, "node": str, "by": str, "at": TIME}}  # fmt: skip
    assert list(misfits(learned, [shape])) == []
    assert status["kernel"]["installed"] == len(learned) == 2
    assert [route["state"] for route in status["routes"]] == ["refused", "installed", "installed"]


def misfits(value: object, shape: object, place: str = "") -> Iterator[str]:
    """The places at which a value is not of the shape; more fields than promised are fine."""
    if isinstance(shape, dict) and isinstance(value, dict):
        for key, inner in shape.items():
            yield from misfits(value.get(key, "MISSING"), inner, f"{place}.{key}")
    elif isinstance(shape, list) and isinstance(value, list):
        for entry in value:
            yield from misfits(entry, shape[0], f"{place}[]")
    elif isinstance(shape, re.Pattern):
        if not (isinstance(value, str) and shape.fullmatch(value)):
            yield f"{place}: {value!r} is no time of RFC 3339"
    elif not isinstance(shape, type) or type(value) is not shape:
        yield f"{place}: {value!r}"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("192.168.2.7", "192.168.2.0/26 is installed via 10.42.1.1: learned from 10.42.0.4 and 10.42.0.5"),
        ("192.168.1.2", "192.168.1.2 is in use here: its own route delivers the packet"),
        ("192.168.1.9", "nothing here uses 192.168.1.9: the packet ends in the block's blackhole"),
        ("192.168.1.40", "another node borrowed it from this node's own block 192.168.1.0/26"),
        ("192.168.99.1", "No prefix of this agent covers 192.168.99.1: the node's other routes decide"),
        ("10.42.0.77", "What peers offer for 10.42.0.77 is refused: the node's other routes decide"),
        ("10.42.0.4", "10.42.0.4/32 is a BGP peer"),
        ("10.42.1.4", "10.42.1.4 is an address of this node: the packet has arrived"),
    ],
)
def test_explain_says_what_decides(node: Node, lies: Callable[..., None], target: str, words: str) -> None:
    if "borrowed" in words:
        lies("192.168.1.40/32")
        wait_for("the borrowed address is learned", lambda: "192.168.1.40 " in "\n".join(node.routes()), SOON)
    done = node.ask("explain", target)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout.splitlines()[0]
    assert done.stdout.count("the kernel says: ") == 1


def test_a_prefix_that_is_refused_is_explained_with_each_offer(node: Node, lies: Callable[..., None]) -> None:
    lies("192.168.1.8/29")
    wait_for("the lie is heard", lambda: node.status()["routes_total"] == 4, SOON)
    done = node.ask("explain", "192.168.1.9").stdout
    assert "192.168.1.8/29 is refused via 10.42.0.4: inside this node's own block 192.168.1.0/26" in done
    assert "  192.168.1.8/29 by 10.42.0.4: next hop 10.42.0.4, AS path 65515" in done


def test_a_probe_that_nobody_answers_now_exits_1_whatever_was_proved_before(lab: Lab, node: Node) -> None:
    assert node.ask("probe", "192.168.3.2").returncode == 0
    lab.fabric.inside.ip("route add blackhole 192.168.3.0/26")
    try:
        done = node.ask("probe", "192.168.3.2", "--json")
        assert (done.returncode, json.loads(done.stdout)["state"]) == (1, "unknown")
        shown = next(r for r in node.status()["routes"] if r["prefix"] == "192.168.3.0/26")["verified"]
        assert (shown["state"], shown["node"]) == ("delivered", "node-c")
    finally:
        lab.fabric.inside.ip("route delete blackhole 192.168.3.0/26")
    unreachable = node.ask("probe", "192.168.50.1")  # the lab's own blackhole for the pool
    assert (unreachable.returncode, "a blackhole" in unreachable.stdout) == (1, True), unreachable.stdout


def test_drain_is_refused_without_force_survives_restarts_and_is_taken_back(lab: Lab, node: Node) -> None:
    def held() -> list[set[str]]:
        return [bird.prefixes("node-a") for bird in lab.fabric.birds.values()]

    refused = node.ask("drain")
    assert (refused.returncode, "--force" in refused.stderr) == (1, True)
    assert held() == [set(node.plan.blocks)] * 2
    try:
        assert node.ask("drain", "--force").returncode == 0
        assert held() == [set()] * 2
        assert sum("via" in line and "/" in line for line in node.routes()) == 2  # learned routes stay
        assert node.get("/readyz")[0] == 503
        assert node.status()["mode"] == "off"
        node.end_agent(signal.SIGTERM)
        node.start_agent()
        wait_for("both sessions are seen again", lambda: established(node) == 2, 20)
        assert held() == [set()] * 2
        shown = node.ask("status")
        assert shown.returncode == 1
        assert shown.stdout.startswith("node-a: not ready, drained: `bgp-agent undrain` ends it; 2 of 2 peers")
    finally:
        assert node.ask("undrain").returncode == 0
    wait_for("the blocks are announced again", lambda: held() == [set(node.plan.blocks)] * 2, SOON)


def established(node: Node) -> int:
    try:
        return sum(peer["state"] == "established" for peer in node.status()["peers"])
    except StatusError:
        return 0


def test_a_changed_config_is_live_waits_for_a_restart_or_is_refused_and_says_which(node: Node) -> None:
    good = node.config.read_text()

    def changed(**sections: object) -> None:
        node.config.write_text(yaml.safe_dump(yaml.safe_load(good) | sections))

    def config() -> dict[str, Any]:
        found: dict[str, Any] = node.status()["config"]
        return found

    flaps = [peer["flaps"] for peer in node.status()["peers"]]
    try:
        changed(**{"import": {"refuse": ["192.168.2.0/24"]}})
        wait_for("the route is out", lambda: "192.168.2.0/26" not in "\n".join(node.routes()), SOON)
        changed(http={"listen": "127.0.0.1:9999"})
        wait_for("it waits for a restart", lambda: config()["restart_needed"] == ["http.listen"], SOON)
        assert "bgp_agent_config_restart_needed 1.0" in node.get("/metrics")[1].decode()
        changed(foo=1)
        wait_for("it is refused", lambda: "foo: unknown key" in (config()["problem"] or ""), SOON)
        assert "bgp_agent_config_ok 0.0" in node.get("/metrics")[1].decode()
        assert "foo: unknown key" in node.ask("status").stdout
    finally:
        node.config.write_text(good)
    wait_for("all is as before", lambda: "192.168.2.0/26" in "\n".join(node.routes()), SOON)
    wait_for("nothing waits", lambda: (config()["problem"], config()["restart_needed"]) == (None, []), SOON)
    assert [peer["flaps"] for peer in node.status()["peers"]] == flaps


def test_a_hold_time_changed_for_all_peers_restarts_them_one_by_one_and_loses_no_packet(lab: Lab) -> None:
    node = lab.nodes["node-c"]
    good = node.config.read_text()
    changed = yaml.safe_load(good)
    changed["bgp"]["hold_time"] = "9s"
    least = [2]

    def negotiated(seconds: int) -> bool:
        peers = node.status()["peers"]
        least.append(sum(peer["state"] == "established" for peer in peers))
        return [peer["hold_time"] for peer in peers] == [seconds] * 2

    try:
        with proofs.traffic_between(lab, proofs.crossing(lab, node)) as traffic:
            node.config.write_text(yaml.safe_dump(changed))
            wait_for("both sessions have the new hold time", lambda: negotiated(9), 20)
            traffic.run_for(0.5)
            counts = traffic.finish()
    finally:
        node.config.write_text(good)
    assert min(least) == 1
    assert sum(len(count.lost) for count in counts) == 0
    wait_for("both sessions have the old hold time again", lambda: negotiated(30), 20)
