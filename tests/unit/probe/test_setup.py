from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator

import pytest

from bgp_agent.core.prefix import Family, parse_prefix
from bgp_agent.probe import setup
from bgp_agent.probe.setup import SetupError
from lab.netns import Namespace, Network

pytestmark = pytest.mark.netns

PORT = 61179
POOLS = [parse_prefix(text) for text in ("192.168.0.0/16", "10.244.0.0/16", "fd10::/48")]


@pytest.fixture
def node() -> Iterator[Namespace]:
    with Network() as network:
        yield network.add("node")


def ensure(
    node: Namespace, *, pools: list[str] | None = None, uplinks: tuple[str, ...] = ("eth0",), port: int = PORT
) -> None:
    wanted = POOLS if pools is None else [parse_prefix(text) for text in pools]
    for family in Family:
        setup.ensure(maker(node), port, wanted, uplinks, family)


def maker(node: Namespace) -> setup.MakeSocket:
    def make(family: int, kind: int, protocol: int) -> socket.socket:
        with node.entered():
            return socket.socket(family, kind, protocol)

    return make


def rules(node: Namespace, flag: str = "") -> list[str]:
    return [" ".join(line.split()) for line in node.ip(f"{flag} rule show").splitlines() if line.startswith("100:")]


def routes(node: Namespace, flag: str = "", table: int = PORT) -> list[str]:
    return [" ".join(line.split()) for line in node.ip(f"{flag} route show table {table}", check=False).splitlines()]


def events(node: Namespace) -> socket.socket:
    """What ``ip monitor rule route`` listens to: RTNLGRP_IPV4_ROUTE, IPV4_RULE, IPV6_ROUTE and IPV6_RULE."""
    made = maker(node)(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    made.bind((0, sum(1 << group - 1 for group in (7, 8, 11, 19))))
    made.settimeout(0)
    return made


def everything(node: Namespace) -> str:
    return "".join(node.ip(f"{flag} {what} show", check=False) for flag in ("-4", "-6") for what in ("rule", "route"))


def test_each_pool_and_uplink_has_its_rule_and_each_pool_its_route(node: Namespace) -> None:
    ensure(node, uplinks=("eth0", "eth1"))
    assert sorted(rules(node)) == sorted(
        f"100: from all to {pool} iif {uplink} ipproto tcp dport 61179 lookup 61179 proto 179"
        for pool in ("192.168.0.0/16", "10.244.0.0/16")
        for uplink in ("eth0 [detached]", "eth1 [detached]")
    )
    assert len(rules(node, "-6")) == 2
    assert sorted(routes(node)) == [
        "local 10.244.0.0/16 dev lo proto 179 scope host",
        "local 192.168.0.0/16 dev lo proto 179 scope host",
    ]
    assert [line.split(" metric")[0] for line in routes(node, "-6")] == ["local fd10::/48 dev lo proto 179"]


def test_a_second_agent_adopts_what_stands_and_writes_nothing(node: Namespace) -> None:
    ensure(node)
    with events(node) as heard:
        ensure(node)
        with pytest.raises(BlockingIOError):
            heard.recv(4096)
        node.ip("rule del pref 100 to 192.168.0.0/16")
        assert heard.recv(4096)  # the ear is no deaf one


def test_what_somebody_took_away_is_put_back(node: Namespace) -> None:
    ensure(node)
    before = everything(node)
    node.ip("rule del pref 100 to 192.168.0.0/16")
    node.ip("-6 route flush table 61179")
    ensure(node)
    assert sorted(everything(node).splitlines()) == sorted(before.splitlines())


def test_a_changed_uplink_and_pool_replace_the_former_ones(node: Namespace) -> None:
    ensure(node)
    ensure(node, pools=["10.244.0.0/16"], uplinks=("bond0",))
    assert [re.sub(r" \[detached\]", "", line) for line in rules(node)] == [
        "100: from all to 10.244.0.0/16 iif bond0 ipproto tcp dport 61179 lookup 61179 proto 179"
    ]
    assert routes(node) == ["local 10.244.0.0/16 dev lo proto 179 scope host"]
    assert rules(node, "-6") == []
    assert routes(node, "-6") == []


@pytest.mark.parametrize(
    "stranger",
    [
        "rule add pref 100 iif eth0 to 192.168.0.0/16 ipproto tcp dport 61179 lookup 61179 protocol 12",
        "rule add pref 99 iif eth0 to 192.168.0.0/16 ipproto tcp dport 61179 lookup 61179 protocol 179",
        "rule add pref 100 iif eth0 to 192.168.0.0/16 ipproto tcp dport 80 lookup 61179 protocol 179",
        "rule add pref 100 iif eth0 to 192.168.0.0/16 ipproto udp dport 61179 lookup 61179 protocol 179",
        "rule add pref 100 iif eth0 to 192.168.0.0/16 ipproto tcp dport 61179 lookup 100 protocol 179",
        "rule add pref 100 to 192.168.0.0/16 lookup 61179 protocol 179",
        "route add local 192.168.0.0/17 dev lo table 61179 proto 12",
        "route add blackhole 192.168.0.0/17 table 61179 proto 179",
        "route add local 192.168.0.0/16 dev lo table 61180 proto 179",
        "-6 route add local fd10::/64 dev lo table 61179 proto 12",
    ],
)
def test_what_a_stranger_made_is_never_touched(node: Namespace, stranger: str) -> None:
    node.ip("rule add pref 5 lookup 5")
    node.ip(stranger)
    shown = [node.ip(f"{flag} {what} show table all", check=False) for flag, what in (("", "route"), ("-6", "route"))]
    before = (sorted(node.ip("rule").splitlines()), shown)
    ensure(node)
    setup.remove(maker(node), PORT)
    shown = [node.ip(f"{flag} {what} show table all", check=False) for flag, what in (("", "route"), ("-6", "route"))]
    assert (sorted(node.ip("rule").splitlines()), shown) == before


def test_remove_leaves_nothing_and_can_be_done_twice(node: Namespace) -> None:
    before = everything(node)
    ensure(node, uplinks=("eth0", "eth1"))
    assert everything(node) != before
    setup.remove(maker(node), PORT)
    setup.remove(maker(node), PORT)
    assert everything(node) == before
    assert routes(node) == []
    assert routes(node, "-6") == []


def test_many_rules_of_others_do_not_hide_ours(node: Namespace) -> None:
    node.run("ip", "-batch", "-", stdin="".join(f"rule add pref {1000 + n} lookup {n + 1}\n" for n in range(2000)))
    ensure(node)
    ensure(node)
    assert len(rules(node)) == 2


def test_without_the_capability_the_reason_names_it(node: Namespace) -> None:
    program = (
        "import socket; from bgp_agent.probe import setup; from bgp_agent.core.prefix import *\n"
        "try: setup.ensure(socket.socket, 61179, [parse_prefix('10.0.0.0/8')], ['eth0'], Family.IPV4)\n"
        "except setup.SetupError as error: print(error)"
    )
    shown = node.run("setpriv", "--bounding-set=-net_admin", "--inh-caps=-all", sys.executable, "-c", program)
    assert shown == "no right to set up the rule for TCP port 61179: give the agent CAP_NET_ADMIN\n"


def test_a_kernel_that_refuses_is_reported_with_its_words(node: Namespace) -> None:
    node.ip("link set lo down")
    with pytest.raises(SetupError, match="could not be set up: Network is down"):
        ensure(node)
