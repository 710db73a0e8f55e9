"""The facts come in, and the right things come out: told as the stories that a node lives through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.blocks import LET_GO, Phase
from bgp_agent.core.nexthop import InterfaceAddress, Link
from bgp_agent.core.prefix import Family, Prefix, PrefixSet, host, parse_address, prefix_text
from bgp_agent.core.router import ONE_BY_ONE, Change
from bgp_agent.core.seen import KernelRoute
from bgp_agent.core.values import (
    AnnouncementsChanged,
    Audited,
    Blackhole,
    EndOfRib,
    Hop,
    Notified,
    PeerProblem,
    PeerState,
    RefreshEnd,
    SessionDown,
    SessionUp,
    SourceState,
    SpeakerEvent,
    Target,
    Unicast,
)
from tests.unit.core.node import GATEWAY, RS0, RS1, V4, VIA_GATEWAY, Node, p, peer, settings

OWN, OTHER = "192.168.1.0/26", "192.168.2.0/26"


def whole(*peers: str) -> tuple[EndOfRib, ...]:
    return tuple(EndOfRib(address, Family.IPV4) for address in peers or (RS0, RS1))


# --- announcing ------------------------------------------------------------------------------------------------------
def test_a_block_is_announced_to_every_peer_when_its_blackhole_stands() -> None:
    node = Node()
    done = node.source(OWN)
    assert node.routes() == {OWN: Blackhole()}
    assert done.announce.keys() == {RS0, RS1}
    assert node.announced() == {OWN}


def test_the_wanted_set_is_whole_when_source_and_exabgp_have_both_been_heard() -> None:
    node = Node()
    assert node.source(OWN).complete == []
    assert node.audited(RS0).complete == [RS0]
    assert node.audited().complete == [RS1]
    other = Node()
    assert other.audited().complete == []
    assert other.source(OWN).complete == [RS0, RS1]


def test_a_restart_while_forwarding_is_off_does_not_withdraw_what_was_announced() -> None:
    node = Node(found={p(OWN): Blackhole()}, forwarding=False)
    node.source(OWN)
    node.up()
    assert node.announced() == set()
    done = node.hears(AnnouncementsChanged(RS0, (p(OWN),), ()), Audited(RS0))
    assert done.complete == [RS0]
    assert node.announced() == {OWN}, "what is announced is known before the set is called whole"


def test_a_peer_that_may_keep_our_routes_for_its_restart_time_is_given_that_time() -> None:
    node = Node(settings(graceful_restart=120.0))
    node.up()
    node.source(OWN)
    node.acknowledges(OWN)
    node.down(RS0)
    node.source()
    node.lets_go(OWN, by=RS1)
    node.wait(LET_GO + 1)
    assert node.routes() == {OWN: Blackhole()}, "the lost peer may still forward packets here"
    node.wait(60.0)
    assert node.routes() == {}


def test_a_lost_sessions_path_does_not_end_a_release() -> None:
    node = Node()
    node.up()
    node.source(OWN)
    node.acknowledges(OWN)
    node.told(OWN, by=RS1)
    node.down(RS1)
    node.source()
    node.lets_go(OWN)
    assert node.routes() == {OWN: Blackhole()}
    node.up(RS1)
    node.told(OWN, by=RS1)
    assert node.routes() == {OWN: VIA_GATEWAY}


def test_an_address_that_leaves_this_node_is_learned_at_once_though_it_was_offered_first() -> None:
    node = Node()
    node.source(OWN)
    pod = KernelRoute(254, p("192.168.1.8/32"), 0, 3, Unicast((Hop(3, None),)))
    node.next_hops.new(pod)
    node.fib.new(pod)
    node.up()
    node.told("192.168.1.8/32")
    assert "192.168.1.8/32" not in node.routes()
    node.next_hops.deleted(pod)
    node.fib.deleted(pod)
    node.router.on_kernel(node.fib.take_changed())
    node.settle()
    assert node.routes()["192.168.1.8/32"] == VIA_GATEWAY


def test_without_forwarding_a_block_is_withheld_and_announced_when_it_comes_on() -> None:
    node = Node()
    node.router.own.forward({Family.IPV4: False})
    assert not node.source(OWN).announce
    assert "net.ipv4.ip_forward=1" in (node.router.own.gate(p(OWN)) or "")
    node.router.own.forward({Family.IPV4: True})
    assert node.settle().announce.keys() == {RS0, RS1}


def test_forwarding_lost_later_never_withdraws() -> None:
    node = Node()
    node.source(OWN)
    node.router.own.forward({Family.IPV4: False})
    assert not node.settle().announce
    assert node.announced() == {OWN}


def test_a_removed_block_is_withdrawn_then_its_blackhole_goes_when_the_network_has_let_go() -> None:
    node = Node()
    node.up()
    node.source(OWN)
    node.acknowledges(OWN)
    node.acknowledges(OWN, by=RS1)
    done = node.source()
    assert done.announce == {RS0: {p(OWN): None}, RS1: {p(OWN): None}}
    node.lets_go(OWN)
    assert node.router.own.table.blocks[p(OWN)].phase is Phase.WITHDRAWING, "one peer still has it"
    node.lets_go(OWN, by=RS1)
    assert node.router.own.table.blocks[p(OWN)].phase is Phase.RELEASING
    node.wait(LET_GO - 0.1)
    assert node.routes() == {OWN: Blackhole()}
    node.wait(0.2)
    assert node.routes() == {}


def test_another_owners_path_takes_the_blackholes_place_in_one_replace() -> None:
    node = Node()
    node.up()
    node.source(OWN)
    node.acknowledges(OWN)
    node.source()
    node.told(OWN)
    assert node.routes() == {OWN: Blackhole()}, "not before the withdrawal is acknowledged"
    node.written.clear()
    node.lets_go(OWN)
    assert node.routes() == {OWN: VIA_GATEWAY}
    assert node.written == [("replace", OWN)]


def test_a_block_that_comes_back_while_it_is_let_go_is_announced_again() -> None:
    node = Node()
    node.up()
    node.source(OWN)
    node.acknowledges(OWN)
    node.source()
    node.lets_go(OWN)
    assert node.source(OWN).announce[RS0] == {p(OWN): node.router.own.exports[RS0].settings.attributes}
    node.wait(LET_GO + 1)
    assert node.routes() == {OWN: Blackhole()}


def test_losing_the_source_withdraws_nothing_and_adds_what_is_good() -> None:
    node = Node()
    node.source(OWN)
    node.source(OTHER, state=SourceState.STALE)
    assert node.announced() == {OWN, OTHER}
    node.source(OTHER)
    assert node.announced() == {OTHER}


def test_above_the_announce_limit_blocks_are_withheld_and_move_up() -> None:
    node = Node(settings(peer(announce_limit=1)))
    node.source(OWN, OTHER)
    assert node.announced() == {OWN}
    state, reason = node.router.own.describe(p(OTHER))
    assert (state.value, reason) == ("withheld", f"{RS0}: above its announce_limit of 1")
    node.source(OTHER)
    assert node.announced() == {OTHER}


def test_a_drain_withdraws_everything_keeps_the_kernel_and_is_taken_back() -> None:
    node = Node()
    node.up()
    node.source(OWN)
    node.told(OTHER)
    before = node.routes()
    node.router.own.drain(on=True)
    node.settle()
    assert node.announced() == set()
    node.source(OWN, "192.168.9.0/26")
    assert node.announced() == set(), "a new block is not announced either"
    assert before.items() <= node.routes().items()
    node.router.own.drain(on=False)
    node.settle()
    assert node.announced() == {OWN, "192.168.9.0/26"}


def test_a_drain_gives_notice_waits_for_its_acknowledgement_and_withdraws_in_time() -> None:
    node = Node(settings(peer(RS0), graceful_shutdown=2.0))
    node.up(RS0)
    node.source(OWN)
    node.acknowledges(OWN)
    node.router.own.drain(on=True, now=node.now)
    (said,) = node.settle().announce[RS0].values()
    assert said is not None
    assert said.leaving
    node.hears(AnnouncementsChanged(RS0, (), (), (), ((p(OWN), True),)))
    assert node.router.next_timer() == node.now + 2.0
    assert node.wait(1.9).announce == {}
    assert node.wait(0.1).announce == {RS0: {p(OWN): None}}


@pytest.mark.parametrize("end", [SessionDown(RS0, "closing connection", was_established=True), PeerProblem(RS0, "no")])
def test_a_session_that_comes_back_after_its_speaker_stopped_is_told_the_blocks_are_here_to_stay(
    end: SpeakerEvent,
) -> None:
    node = Node(settings(peer(RS0), graceful_shutdown=2.0))
    node.hears(SessionUp(RS0, V4, 30, "none", graceful_restart=False))
    node.source(OWN)
    node.acknowledges(OWN)
    node.router.own.end_sessions(node.now)
    assert node.settle().announce.keys() == {RS0}
    (said,) = node.hears(end).announce[RS0].values()
    assert said is not None
    assert not said.leaving


# --- learning --------------------------------------------------------------------------------------------------------
def test_a_learned_block_goes_to_the_kernel_by_the_gateway_and_a_withdrawal_takes_it_out() -> None:
    node = Node()
    node.source(OWN)
    node.up()
    node.told(OTHER)
    node.told(OTHER, by=RS1)
    assert node.routes() == {OWN: Blackhole(), OTHER: VIA_GATEWAY}
    node.withdrawn(OTHER)
    assert node.routes()[OTHER] == VIA_GATEWAY
    node.withdrawn(OTHER, by=RS1)
    assert OTHER not in node.routes()


def test_two_next_hops_are_one_ecmp_route_and_one_dying_leaves_the_other() -> None:
    node = Node()
    node.up()
    node.told(OTHER, hop="10.42.1.5")
    node.told(OTHER, by=RS1, hop="10.42.1.6")
    five, six = Hop(2, parse_address("10.42.1.5")), Hop(2, parse_address("10.42.1.6"))
    assert node.routes()[OTHER] == Unicast((five, six))
    node.written.clear()
    node.withdrawn(OTHER, by=RS1)
    assert node.routes()[OTHER] == Unicast((five,))
    assert node.written == [("replace", OTHER)]


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("0.0.0.0/0", "the default route is never learned"),
        ("10.42.1.0/24", "outside the pools (192.168.0.0/16)"),
        (OWN, "it is this node's own block"),
        ("192.168.1.32/27", f"inside this node's own block {OWN}"),
        ("2001:db8::/64", "there is no ipv6 pool"),
    ],
)
def test_what_policy_refuses_is_not_installed_and_has_its_reason(prefix: str, words: str) -> None:
    node = Node()
    node.source(OWN)
    node.up()
    node.told(prefix)
    assert prefix not in {q for q, target in node.routes().items() if isinstance(target, Unicast)}
    assert node.router.learned.refused[p(prefix)] == words


def test_a_host_route_inside_the_own_block_is_a_borrowed_address() -> None:
    node = Node()
    node.source(OWN)
    node.up()
    node.told("192.168.1.7/32")
    assert node.routes()["192.168.1.7/32"] == VIA_GATEWAY


def test_a_host_route_for_an_address_in_use_here_is_refused() -> None:
    node = Node()
    node.source(OWN)
    node.next_hops.new(KernelRoute(254, p("192.168.1.8/32"), 0, 3, Unicast((Hop(3, None),))))
    node.up()
    node.told("192.168.1.8/32")
    assert "192.168.1.8/32" not in node.routes()
    assert "in use on this node" in node.router.learned.refused[p("192.168.1.8/32")]


def test_a_block_that_becomes_ours_ends_the_learned_route_inside_it_and_gives_it_back_later() -> None:
    node = Node()
    node.up()
    node.told(OTHER, "192.168.2.0/27")
    node.source(OTHER)
    assert node.routes() == {OTHER: Blackhole()}
    node.source()
    assert node.routes() == {OTHER: VIA_GATEWAY, "192.168.2.0/27": VIA_GATEWAY}


def test_a_summary_over_the_own_block_is_welcome_while_the_blackhole_stands() -> None:
    node = Node()
    node.source(OWN)
    node.up()
    node.told("192.168.0.0/16")
    assert node.routes()["192.168.0.0/16"] == VIA_GATEWAY
    bare = Node(settings(blackhole=False))
    bare.source(OWN)
    bare.up()
    bare.told("192.168.0.0/16")
    assert "192.168.0.0/16" not in bare.routes()
    assert "whose blackhole is not in place" in bare.router.learned.refused[p("192.168.0.0/16")]


SUMMARY = "192.168.0.0/16"


def test_a_block_that_comes_under_a_summary_does_not_interrupt_it() -> None:
    node = Node()
    node.up()
    node.told(SUMMARY)
    node.written.clear()
    node.source(OWN)
    assert node.written == [("create", OWN)]
    assert node.routes() == {OWN: Blackhole(), SUMMARY: VIA_GATEWAY}


def test_a_blackhole_that_is_taken_away_and_put_back_does_not_interrupt_the_summary() -> None:
    node = Node()
    node.up()
    node.told(SUMMARY)
    node.source(OWN)
    node.written.clear()
    node.fib.deleted(KernelRoute(254, p(OWN), 4096, 179, Blackhole()))
    del node.kernel[p(OWN)]
    node.router.on_kernel({p(OWN)})
    node.settle()
    assert node.written == [("create", OWN)]


def test_a_summary_goes_while_the_blackhole_cannot_be_written_and_comes_back_with_it() -> None:
    node = Node()
    node.up()
    node.told(SUMMARY)
    node.unwritable = {p(OWN)}
    node.source(OWN)
    assert node.routes() == {}
    assert "whose blackhole is not in place" in node.router.learned.refused[p(SUMMARY)]
    node.unwritable = set()
    node.fib.handle_timer(node.now + 60.0)
    node.settle()
    assert node.routes() == {OWN: Blackhole(), SUMMARY: VIA_GATEWAY}


def test_without_blackholes_a_block_that_comes_under_a_summary_ends_it_until_the_block_is_released() -> None:
    node = Node(settings(blackhole=False))
    node.up()
    node.told(SUMMARY)
    node.source(OWN)
    assert node.routes() == {}
    node.source()
    node.wait(1.0)
    assert node.routes() == {SUMMARY: VIA_GATEWAY}


def test_an_address_that_is_no_longer_in_use_here_may_be_borrowed() -> None:
    """A pod moved with its address: the other node announced it before the route to it went here."""
    node = Node()
    node.source(OWN)
    local = KernelRoute(254, p("192.168.1.8/32"), 0, 3, Unicast((Hop(3, None),)))
    node.next_hops.new(local)
    node.up()
    node.told("192.168.1.8/32", "192.168.2.8/32")
    assert "192.168.1.8/32" not in node.routes()
    node.next_hops.deleted(local)
    node.router.on_kernel({p("192.168.1.8/32"), p("192.168.2.8/32"), p("192.168.1.9/32")})
    node.settle()
    assert node.routes()["192.168.1.8/32"] == VIA_GATEWAY
    node.next_hops.new(local)
    node.router.on_kernel({p("192.168.1.8/32")})
    node.settle()
    assert "192.168.1.8/32" not in node.routes()


def test_of_two_next_hops_one_loses_its_carrier_and_is_left_out_in_place_until_it_has_one() -> None:
    node = Node()
    node.next_hops.link(Link(3, "eth1", up=True, running=True, mtu=1500))
    node.next_hops.address(InterfaceAddress(3, parse_address("10.43.1.4"), 24))
    node.next_hops.new(KernelRoute(254, p("10.43.1.0/24"), 0, 2, Unicast((Hop(3, None),))))
    node.up()
    node.told(OTHER, by=RS0, hop="10.42.1.7")
    node.told(OTHER, by=RS1, hop="10.43.1.7")
    one, two = Hop(2, parse_address("10.42.1.7")), Hop(3, parse_address("10.43.1.7"))
    assert node.routes() == {OTHER: Unicast((one, two))}
    for running, left in ((False, (one,)), (True, (one, two))):
        node.written.clear()
        node.next_hops.link(Link(3, "eth1", up=True, running=running, mtu=1500))
        node.router.on_links(node.next_hops.take_changes())
        node.settle()
        assert node.routes() == {OTHER: Unicast(left)}
        assert node.written == [("replace", OTHER)]


def test_a_next_hop_that_does_not_resolve_waits_and_is_installed_when_it_does() -> None:
    node = Node()
    node.next_hops.deleted(KernelRoute(254, p("0.0.0.0/0"), 0, 4, VIA_GATEWAY))
    node.router.on_links(node.next_hops.take_changes())
    node.up()
    node.told(OTHER, hop="10.99.0.1")
    assert OTHER not in node.routes()
    assert "does not resolve" in node.router.learned.routes[p(OTHER)].reason
    node.next_hops.new(KernelRoute(254, p("10.99.0.0/24"), 0, 4, VIA_GATEWAY))
    node.router.on_links(node.next_hops.take_changes())
    node.settle()
    assert node.routes()[OTHER] == VIA_GATEWAY


def test_a_changed_gateway_moves_routes_in_place() -> None:
    node = Node()
    node.up()
    node.told(OTHER)
    node.written.clear()
    other = Unicast((Hop(2, parse_address("10.42.1.254")),))
    node.next_hops.deleted(KernelRoute(254, p("0.0.0.0/0"), 0, 4, VIA_GATEWAY))
    node.next_hops.new(KernelRoute(254, p("0.0.0.0/0"), 0, 4, other))
    node.router.on_links(node.next_hops.take_changes())
    node.settle()
    assert node.routes()[OTHER] == other
    assert node.kernel[host(parse_address(RS0))] == other
    assert {verb for verb, _ in node.written} == {"replace"}


def test_an_address_that_becomes_our_own_is_no_next_hop_any_more() -> None:
    node = Node()
    node.up()
    node.told(OTHER, hop="10.42.1.9")
    assert OTHER in node.routes()
    node.next_hops.address(InterfaceAddress(2, parse_address("10.42.1.9"), 24))
    node.router.on_links(node.next_hops.take_changes())
    node.settle()
    assert OTHER not in node.routes()
    assert "this node's own address" in node.router.learned.routes[p(OTHER)].reason


def test_sessions_are_guarded_by_host_routes_where_the_peer_is_not_on_the_link() -> None:
    node = Node(settings(peer(RS0), peer("10.42.1.200")))
    assert set(node.kernel) == {host(parse_address(RS0))}
    assert node.kernel[host(parse_address(RS0))] == VIA_GATEWAY


def test_a_guard_stays_when_the_way_is_lost_and_goes_with_its_peer() -> None:
    node = Node()
    node.next_hops.deleted(KernelRoute(254, p("0.0.0.0/0"), 0, 4, VIA_GATEWAY))
    node.router.on_links(node.next_hops.take_changes())
    node.settle()
    assert host(parse_address(RS0)) in node.kernel
    node.router.configure(settings(peer(RS1)), node.now)
    node.settle()
    assert set(node.kernel) == {host(parse_address(RS1))}


def test_a_learned_route_never_takes_the_place_of_the_way_to_a_peer() -> None:
    node = Node(settings(pools=PrefixSet([p("10.42.0.0/16")])))
    node.up()
    node.told(f"{RS1}/32", hop="10.42.1.5")
    assert node.kernel[host(parse_address(RS1))] == VIA_GATEWAY
    assert node.router.learned.refused[p(f"{RS1}/32")] == f"it holds the peer {RS1}"


def test_links_that_change_no_answer_change_nothing() -> None:
    node = Node()
    node.up()
    node.told(OTHER)
    node.written.clear()
    node.router.on_links(frozenset())
    assert not node.router.dirty
    node.settle()
    assert node.written == []


def test_the_next_timer_is_the_earliest_of_all() -> None:
    node = Node()
    assert node.router.next_timer() is None
    node.source(OWN)
    node.up()
    node.told(OTHER)
    node.hears(*whole())
    node.acknowledges(OWN)
    node.source()
    node.lets_go(OWN)
    assert node.router.next_timer() == node.now + LET_GO
    node.router.rib.stale_time = 5.0
    node.down()
    assert node.router.next_timer() == node.now + 5.0


def test_a_shadowed_route_that_is_withdrawn_is_no_news_of_the_shadow() -> None:
    node = Node()
    node.up()
    node.told(OTHER)
    stranger = KernelRoute(254, p(OTHER), 100, 12, VIA_GATEWAY)
    node.fib.new(stranger)
    node.router.on_kernel({p(OTHER)})
    assert [c.state for c in node.settle().changes] == ["shadowed"]
    assert [c.state for c in node.withdrawn(OTHER).changes] == ["gone"]


# --- sessions --------------------------------------------------------------------------------------------------------
def test_a_lost_session_keeps_its_routes_for_stale_time_and_a_live_peer_wins_at_once() -> None:
    node = Node()
    node.up()
    node.told(OTHER, hop="10.42.1.5")
    node.told("192.168.3.0/26")
    node.told(OTHER, by=RS1, hop="10.42.1.6")
    node.down()
    assert node.routes()[OTHER] == Unicast((Hop(2, parse_address("10.42.1.6")),))
    assert node.routes()["192.168.3.0/26"] == VIA_GATEWAY
    node.wait(120.0)
    assert set(node.routes()) == {OTHER}


def test_peers_come_and_go_one_by_one() -> None:
    node = Node()
    node.source(OWN)
    node.up()
    node.told(OTHER)
    node.told("192.168.3.0/26", by=RS1)
    node.router.configure(settings(peer(RS1), peer("10.42.0.6")), node.now)
    done = node.settle()
    assert set(node.routes()) == {OWN, "192.168.3.0/26"}
    assert done.announce.keys() == {"10.42.0.6"}, "the peer that stayed hears nothing"
    assert node.audited().complete == [RS1, "10.42.0.6"]
    assert node.router.peers[RS1].established
    node.told(OTHER)  # a late word of a peer that is gone
    assert OTHER not in node.routes()


def test_a_peer_that_changes_its_asn_is_another_peer() -> None:
    node = Node()
    node.up()
    node.told(OTHER)
    node.router.configure(settings(peer(RS0, 65001), peer(RS1)), node.now)
    node.settle()
    assert node.routes() == {}
    assert node.router.peers[RS0].state is PeerState.CONNECTING


def test_changed_rules_judge_everything_again() -> None:
    node = Node()
    node.up()
    node.told(OTHER, "10.244.0.0/24")
    node.router.configure(settings(pools=PrefixSet([p("10.244.0.0/16")])), node.now)
    node.settle()
    assert set(node.routes()) == {"10.244.0.0/24"}


def test_a_problem_says_more_than_failed_attempts() -> None:
    node = Node()
    node.hears(PeerProblem(RS0, "password_file /x is not there"))
    node.hears()
    assert node.router.peers[RS0].state is PeerState.DOWN
    assert node.router.peers[RS0].reason == "password_file /x is not there"
    node.hears(PeerProblem(RS0, None))
    assert node.router.peers[RS0].state is PeerState.CONNECTING


def test_a_notification_is_told() -> None:
    done = Node().hears(Notified(RS0, False, 6, 2, "Administrative Shutdown"))  # noqa: FBT003
    assert [c.reason for c in done.changes] == ["NOTIFICATION received: 6/2 Administrative Shutdown"]


def test_each_surplus_prefix_is_a_new_revision_though_nothing_is_decided() -> None:
    node = Node(settings(peer(max_prefixes=1)))
    node.up(RS0)
    node.told(OTHER, "192.168.3.0/26")
    before = node.router.revision
    node.told("192.168.4.0/26")
    assert node.router.revision > before, "what is counted by the revision would not show it"


def test_room_below_max_prefixes_asks_the_peer_again() -> None:
    node = Node(settings(peer(max_prefixes=1)))
    node.up(RS0)
    node.told(OTHER, "192.168.3.0/26")
    assert set(node.routes()) == {OTHER}
    assert node.withdrawn(OTHER).refresh == [RS0]


# --- adoption: a new agent beside a running network ------------------------------------------------------------------
def found() -> dict[Prefix, Target]:
    return {
        p(OWN): Blackhole(),
        p(OTHER): VIA_GATEWAY,
        p("192.168.3.0/26"): VIA_GATEWAY,
        host(parse_address(RS0)): VIA_GATEWAY,
        host(parse_address(RS1)): VIA_GATEWAY,
    }


def test_a_restart_writes_nothing_and_says_nothing_that_is_already_so() -> None:
    node = Node(found=found())
    node.source(OWN)
    node.up()
    node.acknowledges(OWN)
    node.acknowledges(OWN, by=RS1)
    for address in (RS0, RS1):
        node.told(OTHER, "192.168.3.0/26", by=address)
    node.hears(*whole())
    node.wait(300.0)
    assert node.written == []
    assert node.kernel == found()


def test_adopted_routes_stand_until_every_peer_has_told_its_table() -> None:
    node = Node(found=found())
    node.up()
    node.told(OTHER)
    node.hears(*whole(RS0))
    assert set(node.routes()) == {OWN, OTHER, "192.168.3.0/26"}
    node.hears(RefreshEnd(RS1, Family.IPV4))
    assert set(node.routes()) == {OWN, OTHER}


def test_a_peer_that_does_not_answer_costs_no_adopted_route_and_starts_again() -> None:
    node = Node(found=found())
    for address in (RS0, RS1):
        node.hears(SessionUp(address, V4, 30, "plain", graceful_restart=True, adopted=True))
    node.told(OTHER)
    node.wait(11.0)
    assert [peer for actions in node.actions for peer in actions.restart] == [RS1]
    node.wait(100.0)
    assert set(node.routes()) == {OWN, OTHER, "192.168.3.0/26"}


def test_an_adopted_route_is_decided_as_soon_as_all_peers_have_spoken_of_it() -> None:
    node = Node(found=found())
    node.up()
    node.told(OTHER, hop="10.42.1.5")
    assert node.routes()[OTHER] == VIA_GATEWAY
    node.told(OTHER, by=RS1, hop="10.42.1.5")
    assert node.routes()[OTHER] == Unicast((Hop(2, parse_address("10.42.1.5")),))


def test_adopted_routes_of_peers_that_never_come_go_with_stale_time() -> None:
    node = Node(found=found())
    node.router.rib.expect(node.now)
    node.wait(119.0)
    assert OTHER in node.routes()
    node.wait(1.0)
    assert set(node.routes()) == {OWN}


def test_an_unread_source_keeps_what_was_announced_and_blackholed() -> None:
    node = Node(found=found())
    node.up()
    done = node.acknowledges(OWN)
    assert done.complete == []
    assert node.announced() == {OWN}, "kept as it was found"
    node.wait(1000.0)
    assert node.routes()[OWN] == Blackhole()
    assert node.router.own.describe(p(OWN))[1].endswith("(the source has not been read yet)")


def test_sessions_that_flap_before_the_source_is_read_withdraw_nothing() -> None:
    node = Node(found=found())
    node.up()
    node.acknowledges(OWN)
    node.down(RS0)
    node.down(RS1)
    assert node.announced() == {OWN}
    assert not any(None in changes.values() for a in node.actions for changes in a.announce.values())
    node.up()
    assert node.announced(RS1) == {OWN}


def test_an_adopted_session_that_is_lost_before_the_peer_has_spoken_takes_no_route_along() -> None:
    node = Node(found=found())
    node.source(OWN)
    node.up()
    node.down(RS0)
    node.down(RS1)
    node.wait(119.0)
    assert set(node.routes()) == {OWN, OTHER, "192.168.3.0/26"}
    node.wait(1.0)
    assert set(node.routes()) == {OWN}


def test_peers_that_withdraw_an_adopted_route_before_they_told_it_are_believed_at_once() -> None:
    node = Node(found=found())
    node.up()
    node.withdrawn(OTHER)
    assert OTHER in node.routes()
    node.withdrawn(OTHER, by=RS1)
    assert OTHER not in node.routes()


def test_a_block_announced_by_an_earlier_run_stays_so_while_its_gate_is_shut() -> None:
    node = Node()
    node.router.own.forward({Family.IPV4: False})
    node.source(OWN)
    node.up()
    node.acknowledges(OWN)
    assert node.announced() == {OWN}, "losing forwarding never withdraws, nor does a restart after it"


def test_how_a_session_ends_its_table_is_told_to_the_rib() -> None:
    node = Node()
    for adopted, refresh, graceful, quiet, limit in (
        (False, "plain", True, False, True),
        (False, "enhanced", False, True, True),
        (True, "enhanced", False, False, True),
        (True, "plain", True, True, True),
        (True, "none", True, False, False),
    ):
        node.hears(SessionUp(RS0, V4, 30, refresh, graceful, adopted))
        table = node.router.rib.tables[RS0]
        assert (table.quiet_at is not None, table.limit_at is not None) == (quiet, limit)


def test_a_block_that_was_removed_while_the_agent_was_away_is_withdrawn() -> None:
    node = Node(found=found())
    node.up()
    node.source("192.168.9.0/26")
    done = node.acknowledges(OWN, "192.168.9.0/26")
    assert OWN not in node.announced()
    assert done.complete == []
    assert node.router.own.table.blocks[p(OWN)].phase is Phase.WITHDRAWING
    node.lets_go(OWN)
    node.wait(LET_GO)
    assert OWN not in node.routes()


def test_a_stranger_in_adj_rib_out_is_withdrawn_once_the_source_is_known() -> None:
    node = Node()
    node.up()
    node.source(OWN)
    node.acknowledges("192.168.77.0/26")
    assert node.router.own.table.blocks[p("192.168.77.0/26")].phase is Phase.WITHDRAWING
    node.lets_go("192.168.77.0/26")
    node.wait(LET_GO)
    assert p("192.168.77.0/26") not in node.router.own.table.blocks


# --- what is said ----------------------------------------------------------------------------------------------------
def test_each_change_is_said_once_with_its_reason() -> None:
    node = Node()
    node.up()
    said = {(c.kind, c.subject, c.state, c.reason) for c in node.told(OTHER, "10.0.0.0/8").changes}
    assert said == {
        ("route", OTHER, "accepted", f"learned from {RS0}"),
        ("route", "10.0.0.0/8", "refused", "outside the pools (192.168.0.0/16)"),
    }
    assert node.told().changes == []


def test_a_flood_of_routes_is_one_line() -> None:
    node = Node()
    node.up()
    many = [prefix_text(Prefix(bytes((192, 168, n, 0, 26)))) for n in range(ONE_BY_ONE + 1)]
    changes = node.told(*many).changes
    assert [(c.kind, c.subject) for c in changes] == [("routes", "all")]


def test_the_probe_hears_of_owners_where_the_path_names_them() -> None:
    node = Node()
    node.up()
    assert node.told(OTHER, hop="10.42.1.5").learned == [(p(OTHER), parse_address("10.42.1.5"))]
    assert node.told("192.168.3.0/26").learned == [(p("192.168.3.0/26"), None)], "a route server put itself there"
    assert node.withdrawn(OTHER).forgotten == [p(OTHER)]
    node.router.probing = False
    assert node.told("192.168.4.0/26").learned == []


def test_gateway_is_what_the_story_assumes() -> None:
    assert VIA_GATEWAY.hops == (Hop(2, GATEWAY),)
    assert {Family.IPV4} == V4


# --- and whatever else may come --------------------------------------------------------------------------------------
BLOCKS = [f"192.168.{n}.0/26" for n in range(1, 4)]
moves = st.lists(
    st.one_of(
        st.tuples(
            st.just("source"),
            st.sets(st.sampled_from(BLOCKS)),
            st.sampled_from([SourceState.SYNCED, SourceState.STALE]),
        ),
        st.tuples(st.just("up"), st.sampled_from([RS0, RS1])),
        st.tuples(st.just("down"), st.sampled_from([RS0, RS1])),
        st.tuples(st.just("told"), st.sampled_from(BLOCKS), st.sampled_from([RS0, RS1])),
        st.tuples(st.just("withdrawn"), st.sampled_from(BLOCKS), st.sampled_from([RS0, RS1])),
        st.tuples(st.just("whole"), st.sampled_from([RS0, RS1])),
        st.tuples(st.just("ack")),
        st.tuples(st.just("wait"), st.integers(1, 90)),
        st.tuples(st.just("drain"), st.booleans()),
    ),
    max_size=25,
)


def move_of(node: Node, move: tuple[object, ...]) -> None:  # noqa: C901  # a table of events
    """One thing that happens to the node."""
    match move:
        case ("source", blocks, state):
            node.source(*blocks, state=state)  # type: ignore[misc,arg-type]  # drawn as such
        case ("up", str(address)):
            node.up(address)
        case ("down", str(address)):
            node.down(address)
        case ("told", str(prefix), str(address)) if node.router.peers[address].established:
            node.told(prefix, by=address)
        case ("withdrawn", str(prefix), str(address)) if node.router.peers[address].established:
            node.withdrawn(prefix, by=address)
        case ("whole", str(address)):
            node.hears(*whole(address))
        case ("ack",):
            for address, export in node.router.own.exports.items():
                known = node.router.peers[address]
                if known.established:
                    gone = known.announced - export.wanted.keys()
                    node.hears(AnnouncementsChanged(address, tuple(export.wanted), tuple(gone)))
        case ("wait", int(seconds)):
            node.wait(float(seconds))
        case ("drain", bool(on)):
            node.router.own.drain(on=on)
            node.settle()


@given(moves)
def test_whatever_happens_own_blocks_are_blackholed_before_they_are_announced_and_until_they_are_let_go(
    sequence: list[tuple[object, ...]],
) -> None:
    node = Node()
    for move in sequence:
        move_of(node, move)
        for address in (RS0, RS1):
            for text in node.announced(address) | {prefix_text(q) for q in node.router.peers[address].announced}:
                assert node.routes().get(text) == Blackhole(), f"{text} is announced without its blackhole"
        table = node.router.own.table
        assert set(table.source.blocks) <= {q for q in table.blocks if table.held(q)}
        for text, target in node.routes().items():
            if isinstance(target, Unicast):
                assert p(text) in node.router.learned.routes, f"{text} is in the kernel and nobody offers it"


def test_a_route_that_is_judged_again_with_the_same_outcome_is_not_said_again() -> None:
    node = Node()
    node.up()
    assert [c.subject for c in node.told(OTHER).changes] == [OTHER]
    node.router.configure(settings(), node.now)
    assert node.settle().changes == []


def test_a_route_that_goes_another_way_is_said() -> None:
    node = Node()
    node.up()
    node.told(OTHER)
    node.next_hops.begin()
    node.next_hops.rows([KernelRoute(254, p("0.0.0.0/0"), 0, 4, Unicast((Hop(2, parse_address("10.42.1.5")),)))])
    node.next_hops.end()
    node.router.on_links(node.next_hops.take_changes())
    assert [(c.subject, c.state) for c in node.settle().changes] == [(OTHER, "accepted")]


def test_a_peer_above_max_prefixes_is_said_once_and_once_more_when_it_is_below() -> None:
    node = Node(settings(peer(RS0, max_prefixes=2, warn_prefixes=1), peer(RS1)))
    node.up()

    def limits(changes: list[Change]) -> list[tuple[str, str, str]]:
        return [(c.subject, c.state, c.reason) for c in changes if "limit" in c.state]

    assert limits(node.told("192.168.10.0/26").changes) == []
    [warned] = limits(node.told("192.168.11.0/26").changes)
    assert warned == (RS0, "above limit", "more than warn_prefixes 1 prefixes")
    [full] = limits(node.told("192.168.12.0/26").changes)
    assert full == (RS0, "above limit", "more than max_prefixes 2 prefixes; the surplus is refused")
    assert limits(node.told("192.168.13.0/26").changes) == []
    node.withdrawn("192.168.12.0/26", "192.168.13.0/26")
    assert limits(node.told("192.168.10.0/26").changes) == []
    assert limits(node.withdrawn("192.168.11.0/26").changes) == [(RS0, "below limit", "1 prefixes; none is refused")]


def test_a_stranger_before_our_route_is_said_when_it_comes_and_when_it_goes() -> None:
    node = Node()
    node.up()
    node.told(OTHER)
    stranger = KernelRoute(254, p(OTHER), 100, 12, VIA_GATEWAY)
    said = []
    for change in (node.fib.new, node.fib.deleted):
        for _ in range(2):
            change(stranger)
            node.router.on_kernel(node.fib.take_changed())
            said += [(c.subject, c.state) for c in node.settle().changes]
    assert said == [(OTHER, "shadowed"), (OTHER, "installed")]


restarts = st.lists(
    st.one_of(
        st.tuples(st.just("up"), st.sampled_from([RS0, RS1])),
        st.tuples(st.just("down"), st.sampled_from([RS0, RS1])),
        st.tuples(st.just("told"), st.sampled_from([OTHER, "192.168.3.0/26"]), st.sampled_from([RS0, RS1])),
        st.tuples(st.just("ack")),
        st.tuples(st.just("wait"), st.integers(1, 20)),
        st.tuples(st.just("source"), st.just(()), st.just(SourceState.STALE)),
    ),
    max_size=25,
)


@given(restarts)
def test_a_restart_without_evidence_takes_nothing_away(sequence: list[tuple[object, ...]]) -> None:
    """Sessions flap, the source cannot be read, peers speak only of what stands: nothing that stood before goes.

    Routes may go when their peers had the time to speak, and only those of which nobody spoke.
    """
    node = Node(found=found())
    node.router.rib.expect(node.now)
    for address in (RS0, RS1):  # both sessions stood, and ExaBGP has announced the block
        node.hears(SessionUp(address, V4, 30, "enhanced", graceful_restart=True, adopted=True))
        node.acknowledges(OWN, by=address)
    for move in sequence:
        if move[0] == "ack":
            for address in (RS0, RS1):
                if node.router.peers[address].established:
                    node.acknowledges(OWN, by=address)
        else:
            move_of(node, move)
        assert node.routes()[OWN] == Blackhole()
        assert node.announced(RS0) == node.announced(RS1) == {OWN}
        assert not any(None in said.values() for step in node.actions for said in step.announce.values())
        if node.router.rib.settling:
            assert {OTHER, "192.168.3.0/26"} <= set(node.routes())
        told = {q for table in node.router.rib.tables.values() for q in table.paths}
        assert {prefix_text(q) for q in told} <= set(node.routes())


def test_many_own_blocks_are_one_line_a_step_and_a_few_of_many_are_told_one_by_one() -> None:
    node = Node()
    node.up()
    many = [prefix_text(Prefix(bytes((192, 168, n, 0, 26)))) for n in range(ONE_BY_ONE + 1)]
    said = [c for c in node.source(*many).changes if c.kind != "source"]
    assert {c.kind for c in said} == {"blocks"}
    assert said[-1].reason == "51 own blocks changed: 51 pending"
    assert [c.kind for c in node.acknowledges(*many[:40]).changes] == ["blocks"]
    assert [(c.kind, c.subject) for c in node.acknowledges(many[45]).changes] == [("block", many[45])]


def test_many_own_blocks_at_once_take_their_learned_routes_out() -> None:
    node = Node()
    node.up()
    many = [prefix_text(Prefix(bytes((192, 168, n, 0, 26)))) for n in range(ONE_BY_ONE + 1)]
    node.told(*many, "192.168.200.0/26")
    node.source(*many)
    assert node.routes() == dict.fromkeys(many, Blackhole()) | {"192.168.200.0/26": VIA_GATEWAY}
