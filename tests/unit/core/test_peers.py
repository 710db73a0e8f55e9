"""A peer's state: every event in every state, and what stays true of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.peers import TRANSITIONS, Peer, established
from bgp_agent.core.prefix import Family, parse_address, parse_prefix
from bgp_agent.core.settings import PeerSettings
from bgp_agent.core.values import AnnouncementsChanged, PeerProblem, PeerState, SessionDown, SessionUp

A = "10.42.0.4"
ONE, TWO = parse_prefix("192.168.1.0/26"), parse_prefix("192.168.2.0/26")
UP = SessionUp(A, frozenset({Family.IPV4}), 30, "enhanced", graceful_restart=True)
DOWN = SessionDown(A, "closing connection", was_established=True)
FAILED = SessionDown(A, "connection refused", was_established=False)
PROBLEM, SOLVED = PeerProblem(A, "password_file /x is not there"), PeerProblem(A, None)
C, E, D, X = PeerState.CONNECTING, PeerState.ESTABLISHED, PeerState.DOWN, PeerState.DISABLED

#: (state before) -> after up, down, a failed attempt, a problem, its end
EXPECTED = {C: (E, C, C, D, C), E: (E, C, C, D, E), D: (E, D, D, D, C), X: (X, X, X, X, C)}
EVENTS = (UP, DOWN, FAILED, PROBLEM, SOLVED)


def peer_in(state: PeerState) -> Peer:
    peer = Peer(PeerSettings(A, parse_address(A), 65515, frozenset({Family.IPV4})), 0.0)
    match state:
        case PeerState.ESTABLISHED:
            peer.on_up(UP, 0.0)
        case PeerState.DOWN:
            peer.on_problem(PROBLEM, 0.0)
        case PeerState.DISABLED:
            peer.state = PeerState.DISABLED
        case _:
            pass
    assert peer.state is state
    return peer


def happens(peer: Peer, event: SessionUp | SessionDown | PeerProblem, now: float) -> None:
    match event:
        case SessionUp():
            peer.on_up(event, now)
        case SessionDown():
            peer.on_down(event, now)
        case _:
            peer.on_problem(event, now)


@pytest.mark.parametrize("number", range(len(EVENTS)))
@pytest.mark.parametrize("state", list(PeerState))
def test_every_event_in_every_state(state: PeerState, number: int) -> None:
    peer = peer_in(state)
    happens(peer, EVENTS[number], 9.0)
    assert peer.state is EXPECTED[state][number]
    assert peer.since == (9.0 if peer.state is not state else 0.0)
    assert peer.established == (peer.state is E)


def test_the_table_names_every_state() -> None:
    assert {state for state, _ in TRANSITIONS} == set(PeerState)


def test_a_session_says_what_it_carries() -> None:
    peer = peer_in(E)
    assert (peer.reason, peer.address, peer.asn) == ("established, ipv4", A, 65515)
    bare = peer_in(C)
    bare.on_up(SessionUp(A, frozenset(), 30, "none", graceful_restart=False), 1.0)
    assert bare.reason == "established, no family in common"


def test_a_failed_attempt_changes_the_reason_alone() -> None:
    peer = peer_in(C)
    peer.on_down(FAILED, 5.0)
    assert (peer.state, peer.reason, peer.since, peer.flaps) == (C, "connection refused", 0.0, 0)
    peer.on_down(SessionDown(A, "", was_established=False), 6.0)
    assert peer.reason == "the session ended without a reason"


def test_a_problem_is_not_hidden_by_failed_attempts_and_a_new_one_replaces_it() -> None:
    peer = peer_in(D)
    peer.on_down(FAILED, 5.0)
    assert peer.reason == "password_file /x is not there"
    peer.on_problem(PeerProblem(A, "ExaBGP does not start"), 6.0)
    assert (peer.reason, peer.since) == ("ExaBGP does not start", 0.0)
    peer.on_problem(SOLVED, 7.0)
    assert (peer.state, peer.reason) == (C, "trying to connect")


@pytest.mark.parametrize("event", [DOWN, PROBLEM])
def test_a_session_lost_for_whatever_reason_is_one_flap(event: SessionDown | PeerProblem) -> None:
    peer = peer_in(E)
    happens(peer, event, 1.0)
    happens(peer, DOWN, 1.0)
    assert peer.flaps == 1


@pytest.mark.parametrize("event", [DOWN, PROBLEM])
def test_what_a_lost_session_acknowledged_and_refused_is_forgotten(event: SessionDown | PeerProblem) -> None:
    peer = peer_in(E)
    peer.on_announcements(AnnouncementsChanged(A, (ONE,), (), ((TWO, "no"),), ((ONE, True),)))
    happens(peer, event, 1.0)
    assert (peer.announced, peer.leaving, peer.refused, peer.session) == (set(), set(), {}, None)


def test_acknowledgements_add_up_and_replace_refusals() -> None:
    peer = peer_in(E)
    peer.on_announcements(AnnouncementsChanged(A, (ONE,), (), ((TWO, "no"),)))
    assert (peer.announced, peer.refused) == ({ONE}, {TWO: "no"})
    peer.on_announcements(AnnouncementsChanged(A, (TWO,), (ONE,)))
    assert (peer.announced, peer.refused) == ({TWO}, {})


def test_who_has_acknowledged_that_all_of_it_is_leaving_is_told() -> None:
    peer = peer_in(E)
    assert peer.told_to_leave
    peer.on_announcements(AnnouncementsChanged(A, (ONE, TWO), ()))
    assert not peer.told_to_leave
    peer.on_announcements(AnnouncementsChanged(A, (), (), leaving=((ONE, True),)))
    assert not peer.told_to_leave
    peer.on_announcements(AnnouncementsChanged(A, (), (), ((TWO, "ExaBGP refused it"),)))
    assert peer.told_to_leave
    peer.on_announcements(AnnouncementsChanged(A, (), (), leaving=((ONE, False),)))
    assert not peer.told_to_leave
    peer.on_announcements(AnnouncementsChanged(A, (), (), leaving=((ONE, True),)))
    peer.on_announcements(AnnouncementsChanged(A, (), (ONE,)))
    assert peer.leaving == set()


def test_the_established_are_told_apart() -> None:
    up = peer_in(E)
    assert established([peer_in(C), up, peer_in(D)]) == [up]


@given(st.lists(st.sampled_from(EVENTS)))
def test_whatever_happens_only_a_session_has_acknowledgements_and_there_is_always_a_reason(
    sequence: list[SessionUp | SessionDown | PeerProblem],
) -> None:
    peer = peer_in(C)
    lost = 0
    for now, event in enumerate(sequence):
        before = peer.established
        happens(peer, event, float(now))
        lost += before and not peer.established
        if peer.established:
            peer.on_announcements(AnnouncementsChanged(A, (ONE,), ()))
        assert bool(peer.announced) == peer.established == (peer.session is not None)
        assert peer.reason
        assert peer.flaps == lost
