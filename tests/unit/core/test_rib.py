"""What the peers told, and for how long it is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.prefix import Family, Prefix, parse_address, parse_prefix
from bgp_agent.core.rib import LONGEST, QUIET, REFRESH_LIMIT, SURPLUS_NAMES, Rib, Whole
from bgp_agent.core.values import EndOfRib, Path, RefreshBegin, RefreshEnd, Update

A, B = "10.42.0.4", "10.42.0.5"
V4 = frozenset({Family.IPV4})
BOTH = frozenset(Family)
P1, P2, P3 = (parse_prefix(f"192.168.{n}.0/26") for n in (1, 2, 3))
SIX = parse_prefix("2001:db8:1::/64")


def path(peer: str = A, hop: str = "10.42.1.1") -> Path:
    return Path(peer, parse_address(hop), (65515, 64512))


def tell(rib: Rib, *announced: Prefix, peer: str = A, withdrawn: tuple[Prefix, ...] = (), now: float = 0.0) -> Path:
    made = path(peer)
    rib.take(Update(peer, withdrawn, ((made, announced),) if announced else ()), now)
    return made


@pytest.fixture
def rib() -> Rib:
    made = Rib(stale_time=120.0)
    made.add_peer(A, 100)
    made.add_peer(B, 100)
    return made


def test_an_announcement_is_kept_and_marks_its_prefix(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    told = tell(rib, P1, P2)
    assert rib.tables[A].paths == {P1: told, P2: told}
    assert rib.dirty == {P1, P2}


def test_a_prefix_in_both_halves_of_one_update_is_announced(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    told = tell(rib, P1, withdrawn=(P1,))
    assert rib.tables[A].paths == {P1: told}


def test_a_withdrawal_acts_at_once(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    tell(rib, P1)
    rib.end_of_rib(A, Family.IPV4)
    rib.dirty.clear()
    tell(rib, withdrawn=(P1, P2))
    assert rib.tables[A].paths == {}
    assert rib.dirty == {P1}


def test_a_lost_session_leaves_stale_paths_until_the_time_is_up(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    tell(rib, P1)
    rib.end_of_rib(A, Family.IPV4)
    rib.session_down(A, "closing connection", 10.0)
    rib.dirty.clear()
    assert rib.next_timer() == 130.0
    rib.handle_timer(129.9)
    assert set(rib.tables[A].stale) == {P1}
    rib.handle_timer(130.0)
    assert rib.tables[A].paths == {}
    assert rib.dirty == {P1}
    assert rib.next_timer() is None


def test_stale_time_zero_gives_up_at_once() -> None:
    rib = Rib(stale_time=0.0)
    rib.add_peer(A, 10)
    rib.session_up(A, V4, 0.0)
    tell(rib, P1)
    rib.session_down(A, "gone", 5.0)
    assert rib.tables[A].paths == {}
    assert rib.dirty == {P1}


def test_what_is_told_again_is_fresh_and_the_rest_goes_at_the_end_of_rib(rib: Rib) -> None:
    rib.session_up(A, BOTH, 0.0)
    tell(rib, P1, P2, SIX)
    rib.session_down(A, "gone", 1.0)
    rib.session_up(A, BOTH, 2.0)
    tell(rib, P1, now=2.0)
    rib.take(EndOfRib(A, Family.IPV4), 2.0)
    assert set(rib.tables[A].paths) == {P1, SIX}, "the other family has not been told yet"
    rib.take(EndOfRib(A, Family.IPV6), 2.0)
    assert set(rib.tables[A].paths) == {P1}
    assert not rib.tables[A].stale


def test_a_family_that_is_not_negotiated_any_more_goes_with_the_new_session(rib: Rib) -> None:
    rib.session_up(A, BOTH, 0.0)
    tell(rib, P1, SIX)
    rib.session_down(A, "gone", 1.0)
    rib.session_up(A, V4, 2.0)
    assert set(rib.tables[A].paths) == {P1}


def test_a_peer_that_sends_no_end_of_rib_is_whole_when_it_falls_silent(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    tell(rib, P1, P2)
    rib.session_down(A, "gone", 1.0)
    rib.session_up(A, V4, 2.0)
    tell(rib, P1, now=5.0)
    rib.handle_timer(2.0 + QUIET)
    assert set(rib.tables[A].paths) == {P1, P2}, "it spoke meanwhile, so the silence began later"
    rib.handle_timer(5.0 + QUIET)
    assert set(rib.tables[A].paths) == {P1}
    assert rib.tables[A] not in rib.settling


def test_a_peer_that_never_falls_silent_is_whole_after_the_longest_wait(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    for second in range(int(LONGEST)):
        tell(rib, P1, now=float(second))
        rib.handle_timer(float(second))
    assert rib.tables[A] in rib.settling
    rib.handle_timer(LONGEST)
    assert rib.tables[A] not in rib.settling


def test_a_restarting_peer_may_be_silent_for_long_before_its_end_of_rib(rib: Rib) -> None:
    """RFC 4724 section 4.1: it defers its own selection, and so its announcements, until it has heard its peers."""
    rib.session_up(A, V4, 0.0, Whole.MARKED)
    tell(rib, P1)
    rib.end_of_rib(A, Family.IPV4)
    rib.session_down(A, "gone", 1.0)
    rib.session_up(A, V4, 2.0, Whole.MARKED)
    rib.handle_timer(2.0 + LONGEST - 0.1)
    assert set(rib.tables[A].stale) == {P1}, "silence says nothing where an End-of-RIB is agreed on"
    rib.handle_timer(2.0 + LONGEST)
    assert rib.tables[A].paths == {}


def test_a_session_that_was_out_of_sight_is_whole_again_when_the_peer_has_told_its_table(rib: Rib) -> None:
    """The speaker was lost and found again: what was withdrawn meanwhile is not told, only missing."""
    rib.session_up(A, BOTH, 0.0)
    tell(rib, P1, P2, P3, SIX)
    rib.dirty.clear()
    rib.session_up(A, V4, 20.0)
    assert set(rib.tables[A].paths) == {P1, P2, P3}, "the other family is not negotiated any more"
    tell(rib, P1, withdrawn=(P3,), now=21.0)
    assert set(rib.tables[A].paths) == {P1, P2}
    assert not rib.tables[A].stale, "the session stands: nothing turns stale for it"
    rib.handle_timer(21.0 + QUIET)
    assert set(rib.tables[A].paths) == {P1}
    assert P2 in rib.dirty


def test_a_marked_refresh_takes_over_what_was_out_of_sight(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    tell(rib, P1, P2)
    rib.session_up(A, V4, 20.0, Whole.MARKED)
    rib.refresh_begin(A, Family.IPV4, 21.0)
    rib.handle_timer(20.0 + LONGEST)
    assert set(rib.tables[A].paths) == {P1, P2}, "a long refresh is not over because the time is up"
    tell(rib, P2, now=90.0)
    rib.refresh_end(A, Family.IPV4)
    assert set(rib.tables[A].paths) == {P2}


def test_a_peer_that_cannot_tell_again_is_not_taken_for_silent(rib: Rib) -> None:
    """No route refresh (RFC 2918), and the session is older than the agent: its silence says nothing."""
    rib.session_up(A, V4, 0.0)
    tell(rib, P1)
    rib.session_up(A, V4, 20.0, Whole.NEVER)
    assert rib.next_timer() is None
    rib.handle_timer(1000.0)
    assert set(rib.tables[A].paths) == {P1}
    assert rib.tables[A] in rib.settling


def asked(rib: Rib, *peers: str) -> None:
    for peer in peers:
        rib.session_up(peer, V4, 0.0, Whole.ANSWER)


def test_a_mute_peer_on_which_nothing_depends_is_believed(rib: Rib) -> None:
    asked(rib, A)
    rib.handle_timer(QUIET)
    assert rib.take_mute(QUIET, adopted=False) == []
    assert rib.tables[A] not in rib.settling
    assert rib.next_timer() is None


def test_a_mute_peer_on_which_adopted_routes_depend_starts_its_session_again(rib: Rib) -> None:
    asked(rib, A)
    rib.handle_timer(QUIET)
    assert rib.take_mute(QUIET, adopted=True) == [A]
    assert rib.take_mute(QUIET, adopted=True) == [], "once"
    assert rib.tables[A] in rib.settling
    rib.session_down(A, "started again", 11.0)
    rib.session_up(A, V4, 12.0)
    rib.handle_timer(12.0 + QUIET)
    assert rib.take_mute(12.0 + QUIET, adopted=True) == []
    assert rib.tables[A] not in rib.settling, "silence after a new session says that there is nothing"


def test_a_mute_peer_keeps_what_it_told_before_it_was_out_of_sight(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    tell(rib, P1)
    asked(rib, A)
    rib.handle_timer(QUIET)
    assert rib.take_mute(QUIET, adopted=False) == [A]
    assert set(rib.tables[A].paths) == {P1}


def test_of_two_mute_peers_the_second_waits_until_the_first_is_back(rib: Rib) -> None:
    asked(rib, A, B)
    rib.handle_timer(10.0)
    assert rib.take_mute(10.0, adopted=True) == [A]
    rib.session_down(A, "started again", 10.5)
    rib.handle_timer(20.0)
    assert rib.take_mute(20.0, adopted=True) == []
    rib.session_up(A, V4, 25.0)
    rib.handle_timer(30.0)
    assert rib.take_mute(30.0, adopted=True) == [B]


@pytest.mark.parametrize("word", [Update(A, (P1,), ()), EndOfRib(A, Family.IPV4), RefreshBegin(A, Family.IPV4)])
def test_a_peer_that_says_a_word_is_not_mute(rib: Rib, word: Update | EndOfRib | RefreshBegin) -> None:
    asked(rib, A)
    rib.take(word, 1.0)
    rib.handle_timer(1.0 + LONGEST)
    assert rib.take_mute(1.0 + LONGEST, adopted=True) == []


def test_a_mute_peer_that_is_lost_or_removed_meanwhile_is_nobodys_business(rib: Rib) -> None:
    asked(rib, A, B)
    rib.handle_timer(QUIET)
    rib.session_down(A, "gone", QUIET)
    rib.remove_peer(B)
    assert rib.take_mute(QUIET, adopted=True) == []


def test_what_was_out_of_sight_turns_stale_when_the_session_is_lost_after_all(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    tell(rib, P1)
    rib.session_up(A, V4, 20.0)
    rib.session_down(A, "gone", 21.0)
    rib.session_up(A, V4, 22.0)
    tell(rib, P1, now=22.0)
    rib.end_of_rib(A, Family.IPV4)
    assert set(rib.tables[A].paths) == {P1}


def test_a_flapping_peer_does_not_win_time_for_what_it_does_not_tell_again(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    tell(rib, P1, P2)
    rib.session_down(A, "first loss", 10.0)
    for second in (40.0, 70.0, 100.0):
        rib.session_up(A, V4, second)
        tell(rib, P1, now=second)
        rib.session_down(A, "again", second + 1.0)
    rib.handle_timer(130.0)
    assert set(rib.tables[A].paths) == {P1}, "P2 was last told before the first loss"
    rib.handle_timer(101.0 + 120.0)
    assert rib.tables[A].paths == {}


def test_a_refresh_sweeps_what_was_not_told_again_and_only_its_family(rib: Rib) -> None:
    rib.session_up(A, BOTH, 0.0)
    tell(rib, P1, P2, SIX)
    rib.take(RefreshBegin(A, Family.IPV4), 1.0)
    tell(rib, P1, now=1.0)
    assert set(rib.tables[A].paths) == {P1, P2, SIX}, "until its end nothing is doubted"
    rib.take(RefreshEnd(A, Family.IPV4), 1.0)
    assert set(rib.tables[A].paths) == {P1, SIX}


def test_a_refresh_that_never_ends_is_forgotten_and_sweeps_nothing(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    tell(rib, P1)
    rib.take(EndOfRib(A, Family.IPV4), 0.0)
    rib.take(RefreshBegin(A, Family.IPV4), 1.0)
    rib.handle_timer(1.0 + REFRESH_LIMIT)
    rib.take(RefreshEnd(A, Family.IPV4), 2.0 + REFRESH_LIMIT)
    assert set(rib.tables[A].paths) == {P1}


def test_refreshes_of_two_families_end_each_for_itself(rib: Rib) -> None:
    rib.session_up(A, BOTH, 0.0, Whole.MARKED)
    tell(rib, P1, SIX)
    for family in Family:
        rib.refresh_begin(A, family, 1.0)
    rib.refresh_end(A, Family.IPV4)
    assert rib.tables[A].forget_refresh_at == 1.0 + REFRESH_LIMIT, "the other one is still running"
    tell(rib, SIX, now=2.0)
    rib.refresh_end(A, Family.IPV6)
    assert set(rib.tables[A].paths) == {SIX}
    assert rib.next_timer() is None


def test_a_refresh_end_without_a_beginning_says_that_the_table_is_whole(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    tell(rib, P1)
    rib.take(RefreshEnd(A, Family.IPV4), 0.5)
    assert rib.tables[A] not in rib.settling
    assert set(rib.tables[A].paths) == {P1}


def test_above_max_prefixes_the_surplus_is_named_counted_and_let_in_when_there_is_room() -> None:
    rib = Rib(120.0)
    rib.add_peer(A, 2)
    rib.session_up(A, V4, 0.0)
    tell(rib, P1, P2, P3)
    table = rib.tables[A]
    assert list(table.surplus) == [P3]
    assert len(table.paths) == 2
    assert table.overfull
    tell(rib, withdrawn=(P3,))
    assert not table.surplus
    tell(rib, P3)
    tell(rib, P1, P2)
    assert len(table.paths) == 2
    assert not rib.wants_refresh
    tell(rib, withdrawn=(P1,))
    assert rib.wants_refresh == {A}, "only the peer knows what it would have announced"


def test_the_surplus_is_remembered_by_name_only_up_to_a_bound() -> None:
    rib = Rib(120.0)
    rib.add_peer(A, 1)
    rib.session_up(A, V4, 0.0)
    many = [Prefix((0x0A000000 + n * 256).to_bytes(4, "big") + b"\x18") for n in range(SURPLUS_NAMES + 50)]
    tell(rib, *many)
    table = rib.tables[A]
    assert len(table.paths) == 1
    assert len(table.surplus) == SURPLUS_NAMES
    assert table.surplus_dropped == {Family.IPV4}
    table.surplus_dropped.clear()
    tell(rib, *table.surplus)
    assert not table.surplus_dropped, "all of these are known by name"


def test_a_raised_limit_asks_for_the_surplus() -> None:
    rib = Rib(120.0)
    rib.add_peer(A, 1)
    rib.session_up(A, V4, 0.0)
    tell(rib, P1, P2)
    rib.add_peer(A, 1)
    assert not rib.wants_refresh
    rib.add_peer(A, 5)
    assert rib.wants_refresh == {A}


def test_a_lowered_limit_refuses_what_came_last() -> None:
    rib = Rib(120.0)
    rib.add_peer(A, 3)
    rib.session_up(A, V4, 0.0)
    tell(rib, P1, P2, P3)
    rib.dirty.clear()
    rib.add_peer(A, 1)
    assert set(rib.tables[A].paths) == {P1}
    assert list(rib.tables[A].surplus) == [P2, P3]
    assert rib.dirty == {P2, P3}
    assert not rib.wants_refresh


def test_surplus_that_is_told_again_when_there_is_room_is_no_surplus_any_more() -> None:
    """A plain refresh has no beginning and no end (RFC 2918)."""
    rib = Rib(120.0)
    rib.add_peer(A, 2)
    rib.session_up(A, V4, 0.0)
    tell(rib, P1, P2, P3)
    tell(rib, P3, withdrawn=(P1,))
    assert set(rib.tables[A].paths) == {P2, P3}
    assert not rib.tables[A].surplus


def test_stale_paths_that_filled_the_limit_make_room_when_they_are_swept() -> None:
    """Every block moved while the session was lost: the new ones must not stay refused."""
    rib = Rib(120.0)
    rib.add_peer(A, 1)
    rib.session_up(A, V4, 0.0)
    tell(rib, P1)
    rib.session_down(A, "gone", 1.0)
    rib.session_up(A, V4, 2.0)
    tell(rib, P2, now=2.0)
    rib.end_of_rib(A, Family.IPV4)
    assert rib.tables[A].paths == {}
    assert rib.take_refreshes() == [A]
    assert rib.take_refreshes() == []
    assert list(rib.tables[A].surplus) == [P2], "until it is told again"
    rib.tables[A].surplus_dropped.add(Family.IPV4)
    rib.wants_refresh.add(A)
    assert rib.take_refreshes() == [A]
    assert not rib.tables[A].surplus_dropped
    tell(rib, P2, now=3.0)
    assert not rib.tables[A].overfull


def test_a_refresh_of_one_family_says_nothing_of_the_others_surplus() -> None:
    rib = Rib(120.0)
    rib.add_peer(A, 1)
    rib.session_up(A, BOTH, 0.0)
    tell(rib, P1, P2, SIX)
    rib.refresh_begin(A, Family.IPV4, 1.0)
    assert list(rib.tables[A].surplus) == [SIX]


def test_a_lost_session_has_no_surplus_and_is_not_asked_for_it() -> None:
    rib = Rib(120.0)
    rib.add_peer(A, 1)
    rib.session_up(A, V4, 0.0)
    tell(rib, P1, P2)
    rib.session_down(A, "gone", 1.0)
    assert not rib.tables[A].surplus
    rib.wants_refresh.update({A, "203.0.113.1"})
    assert rib.take_refreshes() == []


def test_a_removed_peer_takes_its_paths_along(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    tell(rib, P1)
    rib.dirty.clear()
    rib.remove_peer(A)
    rib.remove_peer("203.0.113.1")
    assert rib.dirty == {P1}
    assert A not in rib.tables


# --- who has been heard ----------------------------------------------------------------------------------------------
def test_a_peer_is_unheard_until_its_table_is_whole(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    assert {t.peer for t in rib.settling} == {A, B}
    rib.end_of_rib(A, Family.IPV4)
    assert {t.peer for t in rib.settling} == {B}


def test_a_peer_that_never_comes_is_waited_for_as_long_as_a_stale_path(rib: Rib) -> None:
    rib.expect(5.0)
    rib.handle_timer(124.9)
    assert {t.peer for t in rib.settling} == {A, B}
    rib.handle_timer(125.0)
    assert not rib.settling


def test_a_session_lost_halfway_through_its_first_table_is_still_unheard(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    tell(rib, P1)
    rib.session_down(A, "gone", 1.0)
    assert rib.tables[A] in rib.settling
    rib.handle_timer(121.0)
    assert rib.tables[A] not in rib.settling


def test_an_unheard_peer_that_is_lost_before_its_first_word_is_still_waited_for(rib: Rib) -> None:
    """A restarted agent adopts a session, and the session ends before the peer has answered the refresh."""
    rib.session_up(A, V4, 0.0)
    rib.session_down(A, "gone", 1.0)
    assert rib.tables[A] in rib.settling
    for second in (30.0, 60.0, 90.0):
        rib.session_up(A, V4, second)
        rib.session_down(A, "again", second + 1.0)
    rib.handle_timer(120.9)
    assert rib.tables[A] in rib.settling
    assert rib.next_timer() == 121.0
    rib.handle_timer(121.0)
    assert rib.tables[A] not in rib.settling, "and it wins no time by flapping"
    assert rib.next_timer() is None


def test_the_time_of_an_unheard_peer_does_not_run_out_while_it_speaks(rib: Rib) -> None:
    rib.expect(0.0)
    rib.session_up(A, V4, 115.0)
    rib.handle_timer(121.0)
    assert {t.peer for t in rib.settling} == {A}
    rib.session_down(A, "gone", 122.0)
    assert not rib.settling


def test_an_unheard_peers_withdrawal_is_a_word_too_within_its_limit() -> None:
    rib = Rib(120.0)
    rib.add_peer(A, 1)
    rib.session_up(A, V4, 0.0)
    tell(rib, withdrawn=(P1, P2))
    table = rib.tables[A]
    assert (table.spoke_of(P1), table.spoke_of(P2)) == (True, False)
    assert rib.dirty == {P1}
    tell(rib, P1)
    tell(rib, withdrawn=(P2,))
    assert table.spoke_of(P1)
    assert table.spoke_of(P2)
    rib.end_of_rib(A, Family.IPV4)
    rib.dirty.clear()
    tell(rib, withdrawn=(P3,))
    assert not rib.dirty
    assert not table.spoke_of(P2)


def test_an_end_of_rib_after_the_session_is_lost_says_nothing(rib: Rib) -> None:
    rib.session_up(A, V4, 0.0)
    tell(rib, P1)
    rib.session_down(A, "gone", 1.0)
    rib.end_of_rib(A, Family.IPV4)
    assert set(rib.tables[A].stale) == {P1}


prefixes = st.integers(0, 7).map(lambda n: Prefix(bytes((10, n, 0, 0, 16))))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("up")),
        st.tuples(st.just("again")),
        st.tuples(st.just("down")),
        st.tuples(st.just("limit"), st.integers(1, 6)),
        st.tuples(st.just("tell"), prefixes),
        st.tuples(st.just("withdraw"), prefixes),
        st.tuples(st.just("eor")),
        st.tuples(st.just("begin")),
        st.tuples(st.just("end")),
        st.tuples(st.just("wait"), st.floats(0.0, 100.0)),
    ),
    max_size=40,
)


def step_of(rib: Rib, step: tuple[object, ...], now: float) -> float:  # noqa: C901  # a table of events
    """One thing that happens to the peer; the time after it."""
    up = rib.tables[A].up
    match step:
        case ("up",) if not up:
            rib.session_up(A, V4, now)
        case ("again",) if up:
            rib.session_up(A, V4, now, Whole.MARKED)
        case ("down",):
            rib.session_down(A, "x", now)
        case ("tell", bytes(prefix)) if up:
            tell(rib, Prefix(prefix), now=now)
        case ("withdraw", bytes(prefix)) if up:
            tell(rib, withdrawn=(Prefix(prefix),), now=now)
        case ("eor",) if up:
            rib.end_of_rib(A, Family.IPV4)
        case ("begin",) if up:
            rib.refresh_begin(A, Family.IPV4, now)
        case ("end",) if up:
            rib.refresh_end(A, Family.IPV4)
        case ("limit", int(limit)):
            rib.add_peer(A, limit)
        case ("wait", float(seconds)):
            rib.handle_timer(now + seconds)
            return now + seconds
    return now + 1.0


@given(steps)
def test_whatever_happens_the_table_ends_as_the_peer_last_told_it(sequence: list[tuple[object, ...]]) -> None:
    """A peer that tells its whole table and ends it is believed exactly, whatever went before."""
    rib, now = Rib(30.0), 0.0
    rib.add_peer(A, 5)
    table = rib.tables[A]
    for step in sequence:
        now = step_of(rib, step, now)
        assert len(table.paths) <= table.limit
        assert table.stale.keys() <= table.paths.keys()
        assert table.unconfirmed <= table.paths.keys()
        assert table.paths.keys().isdisjoint(table.surplus)
        assert table.up or table.stale.keys() == table.paths.keys(), "without a session everything is doubted"
        assert rib.dirty >= table.paths.keys()
    rib.add_peer(A, 5)
    rib.session_down(A, "x", now)
    rib.session_up(A, V4, now)
    told = [Prefix(bytes((10, n, 0, 0, 16))) for n in (0, 3)]
    rib.take(Update(A, tuple(p for p in rib.tables[A].paths if p not in told), ((path(), tuple(told)),)), now)
    rib.end_of_rib(A, Family.IPV4)
    assert set(rib.tables[A].paths) == set(told)
    rib.handle_timer(now + 1000.0)
    assert set(rib.tables[A].paths) == set(told)
