"""The program with each of the routers that people run: the same promises for all, as they and the kernel see it.

What one of them cannot do is skipped with the reason that stands in docs/reference/interop.md.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from lab.neighbours import NEIGHBOURS
from lab.neighbours.plan import (
    LOOPBACK,
    NODE,
    NODE6,
    NODE_ASN,
    OTHER,
    OTHER6,
    ROUTER,
    ROUTER6,
    Feature,
    Held,
    Neighbour,
    Plan,
)
from lab.netns import wait_for
from tests.interop.neighbour_rig import BLOCKS, THEIRS, Rig, proves, rig_with

GROUPS = [pytest.param(kind, id=kind.name, marks=pytest.mark.xdist_group(kind.name)) for kind in NEIGHBOURS]
KEY = "s3cret"
pytestmark = [pytest.mark.netns, pytest.mark.timeout(90)]


@pytest.fixture(scope="module", params=GROUPS)
def running(request: pytest.FixtureRequest) -> Iterator[Rig]:
    kind: type[Neighbour] = request.param
    if reason := kind.why_not():
        pytest.skip(f"{kind.name}: {reason}")
    with rig_with(kind) as made:
        yield made


@pytest.fixture
def rig(running: Rig, request: pytest.FixtureRequest) -> Rig:
    neighbour = running.neighbour
    if reason := neighbour.cannot.get(request.function.feature):
        pytest.skip(f"{neighbour.name} cannot: {reason}")
    return running


@proves(Feature.SESSION)
def test_routes_of_both_families_flow_both_ways(rig: Rig) -> None:
    neighbour = rig.set_up()
    assert rig.routes(NODE) == {THEIRS[0]: ROUTER}
    assert list(rig.routes(NODE6)) == [THEIRS[1]]
    for router, node in neighbour.plan.sessions.items():
        assert rig.peer(router)["state"] == "established"
        assert {held.as_path for held in neighbour.held(node).values()} == {(NODE_ASN,)}
        assert {held.next_hop for held in neighbour.held(node).values()} == {node}


@proves(Feature.ATTRIBUTES)
def test_med_communities_and_prepended_path_arrive(rig: Rig) -> None:
    neighbour = rig.set_up(Plan(), med=50, communities=["64512:7", "64512:8"], prepend=2)
    for node in neighbour.plan.sessions.values():
        wanted = Held(node, (NODE_ASN,) * 3, 50, frozenset({"64512:7", "64512:8"}))
        wait_for(f"every block has {wanted}", lambda n=node, w=wanted: set(neighbour.held(n).values()) == {w})  # type: ignore[misc]
    rig.set_up()
    wait_for("and none of it when it is configured no more",
             lambda: set(neighbour.held(NODE).values()) == {Held(NODE, (NODE_ASN,), None)})  # fmt: skip


@proves(Feature.WITHDRAW)
def test_what_is_withdrawn_is_gone_on_both_sides_and_the_rest_stays(rig: Rig) -> None:
    neighbour = rig.set_up()
    rig.node.own(BLOCKS[1:3])
    wait_for("the first block and the IPv6 one are gone there",
             lambda: set(neighbour.held(NODE)) == set(BLOCKS[1:3]) and not neighbour.held(NODE6))  # fmt: skip
    for prefix in ("192.168.8.0/24", "fd77:8::/64"):
        neighbour.announce(prefix)
    wait_for("the new ones are in the kernel",
             lambda: "192.168.8.0/24" in rig.kernel() and "fd77:8::/64" in rig.kernel(NODE6))  # fmt: skip
    for prefix in ("192.168.8.0/24", THEIRS[1]):
        neighbour.withdraw(prefix)
    wait_for("what was withdrawn is gone here",
             lambda: rig.kernel() == {THEIRS[0]} and rig.kernel(NODE6) == {"fd77:8::/64"})  # fmt: skip


@proves(Feature.THIRD_PARTY)
def test_third_partys_next_hop_is_the_gateway_in_the_kernel(rig: Rig) -> None:
    neighbour = rig.set_up()
    neighbour.announce("192.168.9.0/24", OTHER)
    wait_for("the IPv4 route leads to the third party", lambda: rig.routes().get("192.168.9.0/24") == OTHER)
    neighbour.announce("fd77:9::/64", OTHER6)
    wait_for("the IPv6 route leads to the third party", lambda: rig.routes(NODE6).get("fd77:9::/64") == OTHER6)
    assert rig.routes()[THEIRS[0]] == ROUTER


@proves(Feature.REFRESH)
def test_restarted_agent_learns_what_changed_while_it_was_away(rig: Rig) -> None:
    neighbour = rig.set_up()
    neighbour.announce("192.168.8.0/24")
    wait_for("the second route is there", lambda: "192.168.8.0/24" in rig.kernel())
    rig.node.end_agent(signal.SIGKILL)
    neighbour.announce("192.168.10.0/24")
    neighbour.withdraw("192.168.8.0/24")
    rig.node.start_agent()
    wait_for("the new route is learned", lambda: "192.168.10.0/24" in rig.kernel(), 20)
    wait_for("the withdrawn one is gone", lambda: "192.168.8.0/24" not in rig.kernel(), 30)
    assert THEIRS[0] in rig.kernel()


@proves(Feature.AGENT_KILLED)
def test_neighbour_does_not_notice_an_agent_that_is_killed(rig: Rig) -> None:
    neighbour = rig.set_up()
    nodes = neighbour.plan.sessions.values()
    before = [neighbour.updates(node) for node in nodes]
    rig.node.end_agent(signal.SIGKILL)
    assert all(map(rig.holds, nodes))
    rig.node.start_agent()
    wait_for("the agent is ready", lambda: rig.node.answers() and rig.node.status()["ready"], 20)
    assert all(map(rig.holds, nodes))
    assert [neighbour.updates(node) for node in nodes] == before


def exabgp_goes_and_comes(rig: Rig, *, kept: bool) -> None:
    """Both ExaBGPs are killed while their host stands still, so that the gap is as long as the test needs."""
    neighbour, speaker = rig.neighbour, rig.node.speaker
    nodes = neighbour.plan.sessions.values()
    assert speaker is not None
    os.kill(speaker.pid, signal.SIGSTOP)
    try:
        for pid in rig.exabgps:
            os.kill(pid, signal.SIGKILL)
        wait_for("the sessions are down", lambda: not any(map(neighbour.established, nodes)), 15)
        if kept:
            assert [set(neighbour.held(node)) for node in nodes] == [set(BLOCKS[:3]), {BLOCKS[3]}]
        else:
            wait_for("the routes are gone", lambda: not any(map(neighbour.held, nodes)))
    finally:
        os.kill(speaker.pid, signal.SIGCONT)
    rig.converged()
    assert rig.peer()["state"] == "established"


@proves(Feature.GRACEFUL)
def test_routes_are_kept_while_exabgp_is_down_where_that_was_negotiated(rig: Rig) -> None:
    rig.set_up()
    assert rig.peer()["graceful_restart"] is True
    exabgp_goes_and_comes(rig, kept=True)


@proves(Feature.GRACEFUL_OFF)
def test_routes_are_dropped_without_graceful_restart_and_come_back(rig: Rig) -> None:
    rig.set_up(Plan(graceful_restart=False))
    assert rig.peer()["graceful_restart"] is False
    exabgp_goes_and_comes(rig, kept=False)


@proves(Feature.RESTARTED)
def test_neighbour_that_is_killed_and_started_again_costs_no_kernel_route(rig: Rig) -> None:
    neighbour = rig.set_up()
    neighbour.kill()
    wait_for("the loss is noticed", lambda: rig.peer()["state"] != "established", 20)
    assert rig.kernel() == {THEIRS[0]}
    assert rig.route(THEIRS[0])["state"] == "stale"
    neighbour.start()
    rig.converged()
    wait_for("the routes are good again", lambda: rig.route(THEIRS[0])["state"] == "installed")


@proves(Feature.THEIR_LIMIT)
def test_session_that_their_prefix_limit_ends_says_so_and_is_back_when_it_is_raised(rig: Rig) -> None:
    neighbour = rig.set_up(Plan(max_prefix=3))
    rig.node.own([*BLOCKS, "192.168.1.192/26", "192.168.2.0/26"])  # two more: FRR takes one above its limit
    wait_for("/status names the limit", lambda: "prefixes" in rig.peer().get("reason", ""), 15)
    assert rig.peer(ROUTER6)["state"] == "established", "the other session stands"
    assert THEIRS[1] in rig.kernel(NODE6)
    neighbour.kill()
    rig.node.own(BLOCKS)
    rig.set_up()


@proves(Feature.OUR_LIMIT)
def test_surplus_over_our_own_limit_is_refused_and_the_session_stays(rig: Rig) -> None:
    neighbour = rig.set_up(Plan(), max_prefixes=2)
    flaps = rig.peer()["flaps"]
    neighbour.announce("192.168.8.0/24")
    wait_for("the second is in", lambda: "192.168.8.0/24" in rig.kernel())
    neighbour.announce("192.168.10.0/24")
    wait_for("the third is refused", lambda: rig.route("192.168.10.0/24").get("state") == "refused")
    assert "max_prefixes" in rig.route("192.168.10.0/24")["reason"]
    neighbour.withdraw("192.168.8.0/24")
    wait_for("there is room again", lambda: "192.168.10.0/24" in rig.kernel(), 20)
    assert rig.peer()["flaps"] == flaps


@proves(Feature.MD5)
def test_tcp_md5_password_must_match(rig: Rig) -> None:
    key = rig.folder / "key"
    key.write_text(f"{KEY}\n")
    neighbour = rig.set_up(Plan(password=KEY), password_file=str(key), **rig.neighbour.with_password)
    key.write_text("wr0ng\n")
    wait_for("no session with the wrong key", lambda: rig.peer()["state"] != "established", 20)
    assert THEIRS[0] in rig.kernel(), "what was learned is kept for bgp.stale_time"
    key.write_text(f"{KEY}\n")
    rig.converged()
    assert neighbour.established(NODE)


@proves(Feature.TTL_SECURITY)
def test_ttl_security_on_both_ends_stands_and_on_theirs_alone_does_not(rig: Rig) -> None:
    rig.set_up(Plan(ttl_security=True), ttl_security=1)
    rig.configure(ttl_security=None)
    wait_for("no session without it", lambda: rig.peer()["state"] != "established", 20)
    rig.configure()
    rig.converged()


@proves(Feature.MULTIHOP)
def test_session_with_a_loopback_address_behind_a_hop(rig: Rig) -> None:
    neighbour = rig.set_up(Plan(multihop=True), multihop=8)
    assert rig.peer(LOOPBACK)["state"] == "established"
    assert set(neighbour.held(NODE)) == set(BLOCKS[:3])
    assert rig.routes()[THEIRS[0]] == ROUTER
