"""One session, step by step: what is sent to ExaBGP, what is told to the agent, and when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pytest

from bgp_agent.core.prefix import Family, parse_prefix, prefix_text
from bgp_agent.core.values import (
    Announcement,
    AnnouncementsChanged,
    Audited,
    EndOfRib,
    Notified,
    PeerProblem,
    RefreshBegin,
    RefreshEnd,
    SessionDown,
    SessionUp,
    SpeakerEvent,
    Update,
)
from bgp_agent.speaker.definition import PeerDefinition
from bgp_agent.speaker.protocol import Snapshot
from bgp_agent.speaker.session import AUDIT, AUDIT_AGAIN, PEERING, TRANSITIONS, Peering, Session, State
from tests.unit.speaker.model import OPEN, ExaBgp, state_line, update_line

PEER: Final = "10.99.1.2"
DEFINITION: Final = PeerDefinition(PEER, 65515, 65001, "10.99.1.1", local_address="10.99.1.1")
SHOW: Final = b"show adj-rib out extensive\n"
REFRESH: Final = b"neighbor 10.99.1.2 announce route-refresh ipv4 unicast\n"
EOR: Final = b"neighbor 10.99.1.2 announce eor ipv4 unicast\n"
ONE: Final = parse_prefix("192.168.1.0/26")
TWO: Final = parse_prefix("192.168.2.0/26")
ANNOUNCE_ONE: Final = b"neighbor 10.99.1.2 announce attributes next-hop self nlri 192.168.1.0/26\n"
WITHDRAW_ONE: Final = ANNOUNCE_ONE.replace(b"announce", b"withdraw")
ROUTE: Final = (
    b"neighbor 10.99.1.2 local-ip 10.99.1.1 local-as 65001 peer-as 65515 router-id 10.99.1.1 family-allowed in-open "
    b"ipv4 unicast 192.168.1.0/26 next-hop 10.99.1.1"
)
REFRESH_LINE: Final = (
    '{ "type": "refresh", "neighbor": { "direction": "receive", "route-refresh": '
    '{ "afi": "ipv4", "safi": "unicast", "subtype": "%s" } } }'
)
EOR_LINE: Final = update_line('{ "eor": { "afi" : "ipv4", "safi" : "unicast" } }')


def running(*, established: bool = False, since: float = 1000.0, unacked: int = 0, epoch: int = 1,
            opened: bytes | None = OPEN, problem: str | None = None) -> Snapshot:  # fmt: skip
    return Snapshot("running", established, since, opened if established else None, unacked, problem, epoch)


def feed(session: Session, *lines: bytes, now: float = 10.0) -> None:
    for line in lines:
        session.receive(line, now)


def ready(*, established: bool = True, held: Iterable[bytes] = (), definition: PeerDefinition = DEFINITION) -> Session:
    """A session that has learned what ExaBGP holds; what it told so far is taken."""
    session = Session(definition)
    session.attached(running(established=established), 0.0)
    assert session.take_lines() == [SHOW]
    feed(session, *held, b"done")
    if established:
        assert session.take_lines() == [REFRESH]
        feed(session, b"done")
    assert session.take_lines() == []
    session.take_events()
    return session


def of(kind: type[SpeakerEvent], events: list[SpeakerEvent]) -> list[SpeakerEvent]:
    return [event for event in events if isinstance(event, kind)]


# --- attaching -------------------------------------------------------------------------------------------------------
def test_an_attached_session_is_adopted_audited_and_learned_again_and_nothing_right_is_sent() -> None:
    session = Session(DEFINITION)
    session.announce({ONE: Announcement()})
    session.complete()
    session.attached(running(established=True), 0.0)
    assert session.take_lines() == [SHOW]
    feed(session, ROUTE, b"done")
    assert session.take_lines() == [REFRESH]
    feed(session, b"done")
    assert session.take_lines() == []  # no End-of-RIB either: the peer has had one
    assert session.take_events() == [
        SessionUp(PEER, frozenset({Family.IPV4}), 30, "enhanced", graceful_restart=True, adopted=True),
        AnnouncementsChanged(PEER, (ONE,), ()),
        Audited(PEER),
    ]
    assert session.announced == {ONE: Announcement()}


def test_the_answers_to_an_earlier_agent_are_skipped() -> None:
    session = Session(DEFINITION)
    session.announce({ONE: Announcement()})
    session.attached(running(unacked=3), 0.0)
    assert session.take_lines() == [SHOW]
    feed(session, b"error", ROUTE, b"done", b"done")
    feed(session, b"done")
    assert session.take_lines() == [ANNOUNCE_ONE]
    assert session.problems == 0


def test_what_is_held_beyond_the_wanted_set_stays_until_the_set_is_whole() -> None:
    session = ready(held=[ROUTE])
    session.announce({TWO: Announcement()})
    (line,) = session.take_lines()
    assert b"announce" in line
    feed(session, b"done")
    assert session.take_lines() == []
    session.complete()
    assert session.take_lines() == [WITHDRAW_ONE]
    feed(session, b"done")
    assert set(session.announced) == {TWO}


def test_a_withdrawal_by_name_needs_no_whole_set_even_when_asked_for_before_the_audit() -> None:
    session = Session(DEFINITION)
    session.announce({ONE: None})
    session.attached(running(), 0.0)
    session.take_lines()
    feed(session, ROUTE, b"done")
    assert session.take_lines() == [WITHDRAW_ONE]


def test_a_session_without_route_refresh_says_so_and_asks_for_nothing() -> None:
    session = Session(DEFINITION)
    bare = OPEN.replace(b'"2":', b'"98":')
    session.attached(running(established=True, opened=bare), 0.0)
    session.take_lines()
    feed(session, ROUTE, b"done", EOR_LINE)
    assert session.take_lines() == []
    (up,) = of(SessionUp, events := session.take_events())
    assert isinstance(up, SessionUp)
    assert up.refresh == "none"
    assert events[-1] == EndOfRib(PEER, Family.IPV4)


@pytest.mark.parametrize("opened", [None, b"{", b'{"type": "fsm"}'])
def test_an_open_that_nobody_kept_is_no_reason_to_doubt_the_session(opened: bytes | None) -> None:
    session = Session(DEFINITION)
    session.attached(running(established=True, opened=opened), 0.0)
    (up,) = of(SessionUp, session.take_events())
    assert isinstance(up, SessionUp)
    assert (up.families, up.refresh, up.graceful_restart) == (frozenset({Family.IPV4}), "none", False)


def test_losing_the_host_keeps_the_last_state_and_finding_it_again_adopts() -> None:
    session = ready(held=[ROUTE])
    session.detached(1.0)
    session.detached(1.0)
    assert session.peering is Peering.ESTABLISHED
    assert set(session.announced) == {ONE}
    assert (session.take_events(), session.take_lines(), session.next_timer()) == ([], [], None)
    session.attached(running(established=True), 2.0)
    assert session.take_lines() == [SHOW]
    assert [type(event) for event in session.take_events()] == [SessionUp]


def test_a_session_that_flapped_while_nobody_looked_is_owed_its_end_of_rib() -> None:
    session = ready(held=[ROUTE])
    session.announce({ONE: Announcement()})
    session.complete()
    session.detached(1.0)
    session.attached(running(established=True, since=2000.0), 2.0)
    session.take_lines()
    feed(session, ROUTE, b"done")
    assert session.take_lines() == [REFRESH]
    feed(session, b"done")
    assert session.take_lines() == [EOR]


def test_a_session_that_ended_while_nobody_looked_is_told_to_have_ended() -> None:
    session = ready(held=[ROUTE])
    session.detached(1.0)
    session.attached(running(), 2.0)
    assert session.take_events() == [
        SessionDown(PEER, "it ended while no agent was attached", was_established=True),
        AnnouncementsChanged(PEER, (), (ONE,)),
    ]


def test_a_new_exabgp_holds_nothing_and_is_told_everything() -> None:
    session = ready(held=[ROUTE])
    session.announce({ONE: Announcement()})
    session.attached(running(epoch=2), 5.0)
    assert [type(event) for event in session.take_events()] == [SessionDown, AnnouncementsChanged]
    assert session.take_lines() == [SHOW]
    feed(session, b"done")
    assert session.take_lines() == [ANNOUNCE_ONE]


def test_an_exabgp_that_is_gone_ends_the_session_with_the_hosts_reason() -> None:
    session = ready(held=[ROUTE])
    session.attached(Snapshot("stopped", False, 0.0, problem="no password file", epoch=1), 5.0)  # noqa: FBT003
    assert session.take_events() == [
        PeerProblem(PEER, "no password file"),
        SessionDown(PEER, "no password file", was_established=True),
        AnnouncementsChanged(PEER, (), (ONE,)),
    ]
    assert session.state is State.DETACHED
    session.attached(Snapshot("starting", False, 0.0, epoch=2), 5.0)  # noqa: FBT003
    assert session.take_events() == [PeerProblem(PEER, None)]
    session.attached(running(epoch=2), 6.0)
    assert session.take_lines() == [SHOW]


def test_a_change_that_exabgps_own_lines_tell_changes_nothing() -> None:
    session = ready()
    session.attached(running(established=True), 5.0)
    assert (session.take_events(), session.take_lines()) == ([], [])


# --- the peer --------------------------------------------------------------------------------------------------------
def test_end_of_rib_goes_out_after_the_routes_and_only_when_the_set_is_whole() -> None:
    session = ready(established=False)
    feed(session, OPEN, state_line("up"))
    session.announce({ONE: Announcement()})
    assert session.take_lines() == [ANNOUNCE_ONE]
    feed(session, b"done")
    assert session.take_lines() == []
    session.complete()
    assert session.take_lines() == [EOR]
    session.announce({TWO: Announcement()})
    assert session.take_lines() == []  # it travels alone
    feed(session, b"done")
    assert len(session.take_lines()) == 1
    feed(session, b"done", state_line("down", "closing connection"), OPEN, state_line("up"))
    assert session.take_lines() == [EOR]


def test_an_end_of_rib_that_came_too_late_is_owed_to_the_next_session() -> None:
    session = ready(established=False)
    session.complete()
    feed(session, OPEN, state_line("up"))
    assert session.take_lines() == [EOR]
    feed(session, b"error", state_line("down", "closing connection"))
    assert session.take_lines() == []
    feed(session, OPEN, state_line("up"))
    assert session.take_lines() == [EOR]


def test_nothing_is_announced_without_an_established_session_though_exabgp_says_done() -> None:
    session = ready(established=False)
    session.announce({ONE: Announcement()})
    session.take_lines()
    feed(session, b"done")
    assert (dict(session.announced), session.take_events()) == ({}, [])
    feed(session, OPEN, state_line("up"))
    assert session.take_events()[-1] == AnnouncementsChanged(PEER, (ONE,), ())
    feed(session, state_line("down", "notification received (6,2)"))
    assert session.take_events() == [
        SessionDown(PEER, "the peer ended it: administrative shutdown (6/2)", was_established=True),
        AnnouncementsChanged(PEER, (), (ONE,)),
    ]


def test_a_family_that_was_not_negotiated_is_never_announced() -> None:
    session = ready(definition=PeerDefinition(PEER, 65515, 65001, "10.99.1.1", local_address="10.99.1.1",
                                              families=(Family.IPV4, Family.IPV6)))  # fmt: skip
    v6 = parse_prefix("2001:db8::/64")
    session.announce({v6: Announcement(next_hop=v6[:-1])})  # type: ignore[arg-type]
    assert len(session.take_lines()) == 1
    feed(session, b"done")
    assert not session.announced


def test_failed_attempts_are_told_once_a_reason_and_are_no_end_of_a_session() -> None:
    session = ready(established=False)
    feed(session, state_line("connected"), state_line("down", "closing connection"))
    feed(session, state_line("down", "closing connection"), state_line("down", ""))
    events = session.take_events()
    assert [event.was_established for event in events if isinstance(event, SessionDown)] == [False, False]


def test_an_up_without_a_down_is_a_new_session() -> None:
    session = ready()
    feed(session, OPEN, state_line("up"))
    assert [type(event) for event in session.take_events()] == [SessionDown, SessionUp]
    assert session._open is not None


def test_what_the_peer_says_passes_only_while_the_session_stands() -> None:
    session = ready(established=False)
    update = update_line('{ "update": { "withdraw": { "ipv4 unicast": [ "10.0.0.0/8" ] } } }')
    told = b'{ "type": "notification", "neighbor": { "notification": { "code": 6, "subcode": 2 } } }'
    feed(session, update, told)
    assert [type(event) for event in session.take_events()] == [Notified]
    feed(session, OPEN, state_line("up"), update, EOR_LINE)
    assert [type(event) for event in session.take_events()] == [SessionUp, Update, EndOfRib]


def test_the_end_of_a_replay_whose_beginning_was_missed_proves_nothing() -> None:
    session = ready()
    begin, end = ((REFRESH_LINE % word).encode() for word in ("begin", "end"))
    feed(session, EOR_LINE, end)
    assert session.take_events() == []
    feed(session, begin, end, end)
    assert session.take_events() == [RefreshBegin(PEER, Family.IPV4), RefreshEnd(PEER, Family.IPV4)]


def test_a_refresh_is_asked_for_once_and_forgotten_with_the_session() -> None:
    session = ready()
    session.refresh()
    session.refresh()
    session.announce({ONE: Announcement()})
    assert session.take_lines() == [REFRESH]
    feed(session, b"error")
    assert session.take_lines() == [ANNOUNCE_ONE]
    session.refresh()
    feed(session, state_line("down", ""), b"done")
    session.refresh()
    assert session.take_lines() == []


# --- announcements ---------------------------------------------------------------------------------------------------
def test_lines_hold_fifty_prefixes_and_four_are_unanswered() -> None:
    session = ready()
    session.announce({parse_prefix(f"10.{n >> 8}.{n & 255}.0/24"): Announcement() for n in range(1000)})
    lines = session.take_lines()
    assert [line.count(b"/24") for line in lines] == [50] * 4
    assert session.take_lines() == []
    feed(session, b"done")
    assert len(session.take_lines()) == 1


def test_changes_of_an_unanswered_prefix_wait_and_only_the_last_goes_out() -> None:
    session = ready()
    session.announce({ONE: Announcement()})
    assert session.take_lines() == [ANNOUNCE_ONE]
    for med in range(5):
        session.announce({ONE: Announcement(med=med)})
    assert session.take_lines() == []
    feed(session, b"done")
    (line,) = session.take_lines()
    assert b" med 4 " in line
    feed(session, b"done")
    assert session.announced == {ONE: Announcement(med=4)}
    changes = of(AnnouncementsChanged, session.take_events())
    assert changes == [AnnouncementsChanged(PEER, (ONE,), ())]  # new attributes are no new announcement


def test_it_is_told_when_graceful_shutdown_is_acknowledged_and_when_it_is_gone_again() -> None:
    session, leaving = ready(), Announcement(communities=("65535:0",))
    told: list[SpeakerEvent] = []
    for announcement in (Announcement(), leaving, leaving, Announcement(med=1), None, leaving):
        session.announce({ONE: announcement})
        if session.take_lines():
            feed(session, b"done")
        told += of(AnnouncementsChanged, session.take_events())
    assert told == [
        AnnouncementsChanged(PEER, (ONE,), ()),
        AnnouncementsChanged(PEER, (), (), leaving=((ONE, True),)),
        AnnouncementsChanged(PEER, (), (), leaving=((ONE, False),)),
        AnnouncementsChanged(PEER, (), (ONE,)),
        AnnouncementsChanged(PEER, (ONE,), (), leaving=((ONE, True),)),
    ]


def test_a_wish_taken_back_before_it_was_sent_is_never_sent() -> None:
    session = ready()
    session.complete()
    session.announce({ONE: Announcement()})
    session.announce({ONE: None})
    assert session.take_lines() == [EOR]  # a peer that was never told anything


def test_what_is_new_is_answered_for_before_what_is_old_is_withdrawn() -> None:
    session = ready(held=[ROUTE])
    session.complete()
    session.announce({ONE: None, TWO: Announcement()})
    session.announce({ONE: None})
    assert session.take_lines() == [ANNOUNCE_ONE.replace(b".1.0/", b".2.0/")]
    feed(session, b"done")
    assert session.take_lines() == [WITHDRAW_ONE]


def test_what_is_new_and_refused_keeps_nothing_old() -> None:
    session = ready(held=[ROUTE])
    session.complete()
    session.announce({ONE: None, TWO: Announcement()})
    session.take_lines()
    feed(session, b"error")
    assert session.take_lines() == [WITHDRAW_ONE]


def test_what_is_new_and_never_answered_for_keeps_nothing_old() -> None:
    session = ready(established=False, held=[ROUTE])
    session.complete()
    session.announce({ONE: None, TWO: Announcement()})
    session.take_lines()
    session.detached(20.0)
    session.attached(running(), 20.0)
    assert session.take_lines() == [SHOW]
    feed(session, ROUTE, ROUTE.replace(b".1.0/", b".2.0/"), b"done", now=20.0)
    assert session.take_lines() == [WITHDRAW_ONE]


def test_where_there_is_no_room_for_both_what_is_new_waits_until_what_is_old_is_gone() -> None:
    session = ready(held=[ROUTE])
    session.complete()
    session.announce({TWO: Announcement(), ONE: None}, 1)
    assert session.take_lines() == [WITHDRAW_ONE]
    feed(session, b"done")
    assert session.take_lines() == [ANNOUNCE_ONE.replace(b".1.0/", b".2.0/")]


def test_what_another_agent_left_counts_until_the_wanted_set_is_whole() -> None:
    session = ready(held=[ROUTE])
    session.announce({parse_prefix(f"192.168.{n}.0/26"): Announcement() for n in (2, 3, 4)}, 3)
    (line,) = session.take_lines()
    assert line.endswith(b" nlri 192.168.2.0/26 192.168.3.0/26\n")
    feed(session, b"done")
    assert session.take_lines() == []
    session.complete()
    assert session.take_lines() == [WITHDRAW_ONE]
    feed(session, b"done")
    (line,) = session.take_lines()
    assert line.endswith(b" nlri 192.168.4.0/26\n")


def test_what_is_on_its_way_to_the_peer_counts() -> None:
    session = ready()
    session.announce({ONE: Announcement(), TWO: Announcement(med=7)}, 1)
    assert session.take_lines() == [ANNOUNCE_ONE]
    feed(session, b"done")
    assert session.take_lines() == []


def test_other_attributes_need_no_room() -> None:
    session = ready(held=[ROUTE, ROUTE.replace(b".1.0/", b".3.0/")])
    session.announce({TWO: Announcement(med=7), ONE: Announcement(med=7)}, 1)  # less than is held already
    (line,) = session.take_lines()
    assert line.endswith(b"med 7 nlri 192.168.1.0/26\n")


def test_one_bad_prefix_in_a_line_is_found_and_the_others_go_through() -> None:
    session, exabgp = ready(), ExaBgp()
    exabgp.established = True
    prefixes = [parse_prefix(f"10.0.{n}.0/24") for n in range(50)]
    exabgp.poison = {"10.0.17.0/24"}
    session.announce(dict.fromkeys(prefixes, Announcement()))
    exchange(session, exabgp)
    assert set(session.announced) == {prefix for prefix in prefixes if prefix_text(prefix) not in exabgp.poison}
    refused = [
        event.refused for event in session.take_events() if isinstance(event, AnnouncementsChanged) and event.refused
    ]
    assert refused == [((prefixes[17], "ExaBGP refused to announce it; its log says why"),)]
    exabgp.poison = set()
    exchange(session, exabgp)
    assert len(session.announced) == 49  # not tried again and again
    session.announce({prefixes[17]: Announcement()})
    exchange(session, exabgp)
    assert len(session.announced) == 50


def exchange(session: Session, exabgp: ExaBgp) -> None:
    while lines := session.take_lines():
        exabgp.read(lines)
        while exabgp.step() or exabgp.output:
            feed(session, *exabgp.output)
            exabgp.output.clear()


def test_a_withdrawal_that_exabgp_refuses_is_told_and_not_repeated_before_the_next_session() -> None:
    session = ready(held=[ROUTE])
    session.complete()
    assert session.take_lines() == [WITHDRAW_ONE]
    feed(session, b"error")
    assert session.take_lines() == []
    assert session.take_events()[-1] == AnnouncementsChanged(
        PEER, (), (), ((ONE, "ExaBGP refused to withdraw it; its log says why"),)
    )
    feed(session, state_line("down", ""), OPEN, state_line("up"))
    assert session.take_lines() == [WITHDRAW_ONE]


def test_a_wish_that_cannot_be_said_is_refused_and_what_is_held_stays() -> None:
    session = ready(held=[ROUTE])
    session.complete()  # would withdraw it
    session.announce({ONE: Announcement(communities=("shutdown",))})
    assert session.take_lines() == []
    (event,) = session.take_events()
    assert isinstance(event, AnnouncementsChanged)
    assert "not a community" in event.refused[0][1]
    assert set(session.announced) == {ONE}


# --- audits, silence and nonsense ------------------------------------------------------------------------------------
def test_an_audit_repairs_what_somebody_changed_behind_our_back() -> None:
    session = ready(held=[ROUTE])
    session.announce({ONE: Announcement(), TWO: Announcement()})
    session.take_lines()
    feed(session, b"done")
    session.take_events()
    assert session.next_timer() == 10.0 + AUDIT
    session.handle_timer(10.0 + AUDIT)
    session.handle_timer(10.0 + 2 * AUDIT)
    assert session.take_lines() == [SHOW]
    feed(session, ROUTE + b" med 7", b"done", now=200.0)
    assert session.take_events() == [AnnouncementsChanged(PEER, (), (TWO,))]
    assert session.take_lines() == [
        b"neighbor 10.99.1.2 announce attributes next-hop self nlri 192.168.1.0/26 192.168.2.0/26\n"
    ]


def test_attributes_that_nobody_here_asked_for_are_replaced() -> None:
    session = ready(held=[ROUTE + b" origin egp"])
    assert not session.announced
    session.announce({ONE: Announcement()})
    assert session.take_lines() == [ANNOUNCE_ONE]
    feed(session, b"done")
    assert set(session.announced) == {ONE}


def test_silence_asks_for_a_restart_once_and_nothing_more_is_sent() -> None:
    session = ready()
    session.announce({ONE: Announcement()})
    session.take_lines()
    assert session.next_timer() == 0.0  # whoever sends has no clock
    session.handle_timer(100.0)
    assert session.next_timer() == 110.0
    session.handle_timer(109.0)
    assert session.take_restart() is None
    session.handle_timer(110.0)
    assert session.take_restart() == "ExaBGP has not answered a command for 10 s"
    assert session.take_restart() is None
    session.announce({TWO: Announcement()})
    session.handle_timer(500.0)
    assert (session.take_lines(), session.next_timer(), session.state) == ([], None, State.SILENT)
    session.attached(running(established=True), 500.0)
    assert session.state is State.SILENT
    session.attached(running(epoch=2), 501.0)
    assert session.take_lines() == [SHOW]


def test_a_long_answer_is_no_silence() -> None:
    session = Session(DEFINITION)
    session.attached(running(), 0.0)
    session.take_lines()
    session.handle_timer(0.0)
    for now in range(1, 40):
        feed(session, ROUTE, now=float(now))
        session.handle_timer(float(now))
    assert session.take_restart() is None
    assert session.next_timer() == 49.0


def test_an_audit_that_is_refused_is_asked_again_soon() -> None:
    session = Session(DEFINITION)
    session.attached(running(), 0.0)
    session.take_lines()
    feed(session, b"error")
    assert session.state is State.LEARNING
    session.handle_timer(10.0 + AUDIT_AGAIN)
    assert session.take_lines() == [SHOW]


def test_nonsense_is_counted_and_a_lost_update_is_learned_again() -> None:
    session = ready()
    feed(session, b"done", b"what is this", b"", b"{ nonsense")
    assert session.problems == 3
    assert "no JSON" in (session.problem or "")
    session.handle_timer(0.0 + AUDIT)
    session.handle_timer(10.0 + AUDIT)
    assert session.take_lines() == [SHOW]
    feed(session, b"10.99.1.2 nonsense", b"done")
    assert session.problems == 4
    assert session.take_lines() == [REFRESH]
    feed(session, b"a line in answer to nothing of ours", b"done")
    assert session.problems == 4


def test_the_tables_name_every_state_and_nothing_else() -> None:
    assert {state for state, _ in TRANSITIONS} == set(TRANSITIONS.values()) == set(State)
    assert {state for state, _ in PEERING} == set(PEERING.values()) == set(Peering)


def test_commands_without_an_answer_are_judged_by_the_audit_after_the_next_attach() -> None:
    session = ready()
    session.announce({ONE: Announcement(), TWO: Announcement(med=1)})
    assert len(session.take_lines()) == 2
    session.detached(20.0)
    session.attached(running(established=True, unacked=1), 21.0)
    assert session.take_lines() == [SHOW]
    feed(session, b"done", ROUTE, b"done")
    assert session.take_lines() == [REFRESH]
    feed(session, b"done")
    (line,) = session.take_lines()  # the first one had arrived
    assert b" med 1 " in line


def test_a_withdrawal_asked_for_before_the_set_is_whole_is_not_remembered_after_it() -> None:
    session = ready()
    session.announce({ONE: None})
    session.complete()
    assert not session._outgoing._wanted
    assert session._outgoing.whole


def test_an_open_without_our_address_leaves_it_unknown() -> None:
    session = Session(PeerDefinition(PEER, 65515, 65001, "10.99.1.1"))
    nameless = OPEN.replace(b'"local": "10.99.1.1", ', b"")
    session.attached(running(established=True, opened=nameless), 0.0)
    assert session._language.local is None
    feed(session, OPEN)
    assert session._language.local is not None


def test_a_timer_that_fires_without_an_exabgp_does_nothing() -> None:
    session = Session(DEFINITION)
    session.handle_timer(1e9)
    assert (session.take_lines(), session.take_restart()) == ([], None)


def test_what_a_dead_exabgp_held_is_not_announced_by_its_successor() -> None:
    session = ready(held=[ROUTE])
    session.attached(running(epoch=2), 5.0)
    session.take_events()
    feed(session, OPEN, state_line("up"))  # before the audit's answer
    assert not session.announced
    assert [type(event) for event in session.take_events()] == [SessionUp]


def test_half_an_answer_from_before_a_detach_is_forgotten() -> None:
    session = Session(DEFINITION)
    session.attached(running(), 0.0)
    session.take_lines()
    feed(session, ROUTE)
    session.detached(1.0)
    session.attached(running(), 2.0)
    session.take_lines()
    feed(session, b"done")
    assert not session._outgoing.held


def test_a_new_exabgp_is_asked_once_more_for_what_the_last_one_refused() -> None:
    session = ready()
    session.announce({ONE: Announcement()})
    session.take_lines()
    feed(session, b"error")
    session.attached(running(epoch=2), 5.0)
    session.take_lines()
    feed(session, b"done")
    assert session.take_lines() == [ANNOUNCE_ONE]


def test_an_agent_that_slept_gives_the_answers_time_to_be_read() -> None:
    session = Session(DEFINITION)
    session.attached(running(), 0.0)
    session.take_lines()
    session.handle_timer(0.0)
    session.handle_timer(500.0)
    assert session.take_restart() is None
    session.handle_timer(510.0)
    assert session.take_restart() is not None
