"""What is reported of the router: the states and reasons of the contract, each from the facts that make it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bgp_agent.core import views
from bgp_agent.core.nexthop import InterfaceAddress
from bgp_agent.core.prefix import Family, PrefixSet, host, parse_address, prefix_text
from bgp_agent.core.reports import RouteReport, Verified
from bgp_agent.core.seen import KernelRoute
from bgp_agent.core.values import (
    AnnouncementsChanged,
    Blackhole,
    Blocks,
    EndOfRib,
    Hop,
    PeerProblem,
    RouteState,
    SourceState,
    Unicast,
)
from tests.unit.core.node import GATEWAY, RS0, RS1, V4, VIA_GATEWAY, Node, p, peer, settings

OWN, OTHER, THIRD = "192.168.1.0/26", "192.168.2.0/26", "192.168.3.0/26"
SEEN = Verified("delivered", "node-b", "node-a", 5.0, "it answered")


def route(node: Node, prefix: str) -> RouteReport:
    made = views.route(node.router, p(prefix), {p(prefix): SEEN})
    assert made is not None
    assert views.states(node.router)[p(prefix)] is made.state, "counting and showing agree"
    return made


# --- blocks ----------------------------------------------------------------------------------------------------------
def test_blocks_are_shown_in_order_while_they_are_held() -> None:
    node = Node()
    node.up()
    node.source(OTHER, OWN)
    node.acknowledges(OWN)
    made = views.blocks(node.router, {p(OWN): SEEN})
    assert [prefix_text(b.prefix) for b in made] == [OWN, OTHER]
    assert (made[0].state.value, made[0].peers, made[0].verified) == ("announced", (RS0,), SEEN)
    assert (made[1].state.value, made[1].peers, made[1].verified) == ("pending", (), Verified())
    node.source(OTHER)
    node.lets_go(OWN)
    assert [prefix_text(b.prefix) for b in views.blocks(node.router, {})] == [OTHER]
    assert views.kernel(node.router, ()).releasing == (p(OWN),)


def test_what_the_source_withholds_is_shown_with_its_reason_unless_it_is_still_held() -> None:
    node = Node()
    node.up()
    node.source(OTHER)
    node.acknowledges(OTHER)
    withheld = {p(OWN): "disableBGPExport is set on IPPool p", p(OTHER): "no longer ours"}
    node.router.on_source(Blocks("calico", SourceState.SYNCED, "", frozenset(), withheld=withheld), node.now)
    shown = [(prefix_text(b.prefix), b.state.value, b.reason) for b in views.blocks(node.router, {})]
    assert shown[0] == (OWN, "withheld", "disableBGPExport is set on IPPool p")
    assert [prefix for prefix, *_ in shown] == [OWN, OTHER]


# --- peers -----------------------------------------------------------------------------------------------------------
def test_a_peer_is_shown_with_its_session_and_its_counts() -> None:
    node = Node()
    node.up(RS0)
    node.now += 12.5
    node.source(OWN)
    node.acknowledges(OWN)
    node.told(OTHER, "10.0.0.0/8")
    one, two = views.peers(node.router, node.now, lambda moment: moment + 1000.0)
    assert (one.address, one.asn, one.state.value, one.reason) == (RS0, 65515, "established", "established, ipv4")
    assert (one.since, one.uptime, one.received, one.accepted, one.announced) == (1100.0, 12.5, 2, 1, 1)
    assert (one.hold_time, one.families, one.graceful_restart, one.refresh) == (30, ("ipv4",), True, "enhanced")
    assert (two.state.value, two.uptime, two.hold_time, two.families) == ("connecting", 0.0, None, ())
    assert (two.graceful_restart, two.refresh) == (None, None)


def reason_of(node: Node) -> str:
    return views.peers(node.router, node.now, float)[0].reason


def test_a_peer_above_its_limits_says_so() -> None:
    node = Node(settings(peer(max_prefixes=2, warn_prefixes=1)))
    node.up(RS0)
    node.told(OWN)
    assert reason_of(node) == "established, ipv4"
    node.told(OTHER)
    assert reason_of(node) == "established, ipv4; 2 prefixes are above warn_prefixes 1"
    node.told(THIRD)
    assert reason_of(node) == "established, ipv4; 1 prefixes above max_prefixes 2 are refused"
    assert views.peers(node.router, node.now, float)[0].received == 3
    node.router.rib.tables[RS0].surplus_dropped.add(Family.IPV4)
    assert reason_of(node) == "established, ipv4; 1 or more prefixes above max_prefixes 2 are refused"


def test_a_lost_peer_says_what_is_kept_of_it() -> None:
    node = Node()
    node.up(RS0)
    node.told(OTHER)
    node.down()
    assert reason_of(node) == "closing connection; 1 prefixes it told are kept as stale for now"


# --- routes ----------------------------------------------------------------------------------------------------------
def test_an_installed_route_says_who_told_it_and_where_it_goes() -> None:
    node = Node()
    node.up()
    node.told(OTHER)
    made = route(node, OTHER)
    assert (made.state.value, made.next_hops, made.peers) == ("installed", (GATEWAY,), (RS0,))
    assert (made.as_path, made.verified) == ((65515, 64512), SEEN)
    assert made.reason == f"learned from {RS0}; in the kernel via 10.42.1.1 on link 2"


def test_a_route_of_a_lost_peer_is_stale() -> None:
    node = Node()
    node.up(RS0)
    node.told(OTHER)
    node.down()
    assert route(node, OTHER).state is RouteState.STALE


def test_a_prefix_that_a_stranger_holds_with_a_better_metric_is_shadowed_also_when_it_is_stale() -> None:
    node = Node()
    node.up(RS0)
    node.told(OTHER)
    node.fib.new(KernelRoute(254, p(OTHER), 100, 12, VIA_GATEWAY))
    assert route(node, OTHER).state is RouteState.SHADOWED
    node.down()
    assert route(node, OTHER).state is RouteState.SHADOWED


def test_a_next_hop_that_does_not_resolve_is_pending_and_shown_as_learned() -> None:
    node = Node()
    node.next_hops.deleted(KernelRoute(254, p("0.0.0.0/0"), 0, 4, VIA_GATEWAY))
    node.up()
    node.told(OTHER, hop="10.99.0.1")
    made = route(node, OTHER)
    assert (made.state.value, made.next_hops) == ("pending", (parse_address("10.99.0.1"),))


def test_a_prefix_whose_every_path_is_refused_is_refused() -> None:
    node = Node()
    node.up()
    node.told(OTHER, path=())
    made = route(node, OTHER)
    assert (made.state.value, made.reason) == ("refused", "an empty AS path from an external peer")


def test_a_refused_prefix_shows_who_offered_it() -> None:
    node = Node()
    node.up()
    node.told("10.0.0.0/8")
    node.told("10.0.0.0/8", by=RS1)
    made = route(node, "10.0.0.0/8")
    assert (made.state.value, made.peers, len(made.next_hops)) == ("refused", (RS0, RS1), 2)
    assert (made.as_path, made.verified) == ((65515, 64512), Verified())


def test_an_adopted_route_is_stale_until_somebody_speaks_of_it() -> None:
    node = Node(found={p(OTHER): VIA_GATEWAY})
    made = route(node, OTHER)
    assert (made.state.value, made.next_hops, made.peers) == ("stale", (GATEWAY,), ())
    node.router.adopted.add(p(THIRD))
    assert route(node, THIRD).next_hops == (), "somebody took it away meanwhile"


def test_surplus_is_refused_by_name() -> None:
    node = Node(settings(peer(max_prefixes=1), peer(RS1)))
    node.up()
    node.told(OTHER, THIRD)
    made = route(node, THIRD)
    assert (made.state.value, made.reason, made.peers) == ("refused", f"above max_prefixes 1 of {RS0}", (RS0,))
    node.told(THIRD, by=RS1)
    assert route(node, THIRD).state is RouteState.INSTALLED


def test_nothing_is_said_of_a_prefix_that_nobody_knows() -> None:
    node = Node()
    assert views.route(node.router, p(OTHER), {}) is None
    assert views.states(node.router) == {}


def test_a_direct_route_has_no_gateway() -> None:
    node = Node()
    node.up()
    assert views._gateways(Unicast((Hop(2, None), Hop(2, GATEWAY)))) == (GATEWAY,)


# --- the kernel ------------------------------------------------------------------------------------------------------
def test_the_kernels_figures_leave_the_host_routes_to_the_peers_out() -> None:
    node = Node()
    node.up()
    node.told(OTHER)
    made = views.kernel(node.router, ("rp_filter is strict",))
    assert (made.table, made.protocol, made.metric) == (254, 179, 4096)
    assert (made.installed, made.pending, made.repaired) == (1, 0, 0)
    assert made.warnings == ("rp_filter is strict",)
    node.fib.new(KernelRoute(254, host(parse_address(RS0)), 100, 12, VIA_GATEWAY))
    assert views.kernel(node.router, ()).installed == 1, "also where somebody else's stands before them"


# --- the whole -------------------------------------------------------------------------------------------------------
def test_the_mode_says_what_attracts_traffic() -> None:
    node = Node()
    assert views.mode(node.router) == ("off", "0 of 2 peers established")
    node.up(RS0)
    assert views.mode(node.router) == ("bgp", "1 of 2 peers established")
    node.router.own.drain(on=True)
    assert views.mode(node.router) == ("off", "drained; 1 of 2 peers established")


def test_a_node_whose_peers_are_given_notice_attracts_traffic_and_is_not_ready() -> None:
    node = ready_node()
    node.router.configure(settings(graceful_shutdown=2.0), node.now)
    node.router.own.drain(on=True, now=node.now)
    assert views.mode(node.router) == ("bgp", "draining; 2 of 2 peers established")
    assert views.readiness(node.router) == (False, "draining: `bgp-agent undrain` ends it")


def ready_node() -> Node:
    node = Node()
    node.up()
    node.source(OWN)
    node.acknowledges(OWN)
    return node


def test_a_node_whose_blocks_are_confirmed_is_ready() -> None:
    assert views.readiness(ready_node().router) == (True, "2 of 2 peers established")


def test_a_node_without_blocks_is_ready() -> None:
    node = Node()
    node.source()
    assert views.readiness(node.router)[0]


@pytest.mark.parametrize(
    ("story", "words"),
    [
        (lambda n: n.router.own.drain(on=True), "drained: `bgp-agent undrain` ends it"),
        (lambda n: n.lets_go(OWN), f"block {OWN} is on 0 of 1 needed peers: sent; not acknowledged yet"),
        (lambda n: n.down(), f"block {OWN} is on 0 of 1 needed peers: sent; not acknowledged yet for {RS1}"),
        (lambda n: n.router.own.forward({Family.IPV4: False}), "ipv4 forwarding is off"),
        (lambda n: n.router.fib.want(p(OTHER), VIA_GATEWAY), "1 routes wait to be written to the kernel"),
        (
            lambda n: n.router.configure(settings(min_peers=None), n.now),
            f"block {OWN} is on 1 of 2 needed peers: acknowledged by 1 of 2 peers",
        ),
    ],
)
def test_what_unreadies_a_node(story: Callable[[Node], object], words: str) -> None:
    node = ready_node()
    story(node)
    ready, reason = views.readiness(node.router)
    assert not ready
    assert reason.startswith(words)


def test_a_source_that_was_never_read_unreadies_and_one_that_is_lost_later_does_not() -> None:
    node = Node()
    assert views.readiness(node.router) == (False, "the blocks are not known yet: the source has not been read yet")
    node = ready_node()
    node.source(state=SourceState.STALE)
    assert views.readiness(node.router)[0]


def test_a_withheld_block_and_one_that_is_let_go_do_not_unready() -> None:
    node = Node(settings(peer(announce_limit=1), peer(RS1, announce_limit=1)))
    node.up()
    node.source(OWN, OTHER)
    node.acknowledges(OWN)
    assert views.readiness(node.router)[0], "the other one is withheld"
    node.source(OTHER)
    node.lets_go(OWN)
    node.acknowledges(OTHER)
    assert node.routes()[OWN] == Blackhole()
    assert views.readiness(node.router)[0]


def test_routes_that_wait_for_a_next_hop_and_foreign_ones_do_not_unready() -> None:
    node = ready_node()
    node.next_hops.address(InterfaceAddress(2, parse_address("10.42.1.9"), 24))
    node.told(OTHER, hop="10.42.1.9")
    node.fib.new(KernelRoute(254, p(OWN), 100, 80, Blackhole()))
    node.router.on_kernel({p(OWN)})
    node.settle()
    assert views.readiness(node.router)[0]


def test_a_route_that_the_kernel_refuses_for_its_next_hop_does_not_unready() -> None:
    """Or one router that tells nonsense would unready every node."""
    node = ready_node()
    node.unwritable = {p(OTHER)}
    node.told(OTHER)
    assert route(node, OTHER).state is RouteState.PENDING
    assert route(node, OTHER).reason.endswith("the kernel refuses it: EINVAL")
    assert views.readiness(node.router)[0]


def test_a_problem_of_a_peer_is_its_reason() -> None:
    node = Node()
    node.hears(PeerProblem(RS0, "password_file /x is empty"))
    assert reason_of(node) == "password_file /x is empty"


def test_a_peer_that_cannot_carry_a_family_is_not_needed_for_its_blocks() -> None:
    both = frozenset(Family)
    own6 = ((Family.IPV6, parse_address("fd00::4")),)
    pools = PrefixSet([p("192.168.0.0/16"), p("fd00::/16")])
    node = Node(settings(peer(), peer(RS1, families=both), pools=pools, min_peers=None, own_addresses=own6))
    node.up(RS0, families=V4)
    node.up(RS1, families=both)
    node.source("fd00:1::/122")
    node.hears(AnnouncementsChanged(RS1, (p("fd00:1::/122"),), ()))
    assert views.readiness(node.router)[0]
    assert host(parse_address(RS0)) in node.router.guards
    node.hears(EndOfRib(RS0, Family.IPV4))
