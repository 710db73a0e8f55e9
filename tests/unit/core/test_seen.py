"""What a dump shows, against what was heard and written while it ran."""

from __future__ import annotations

import pytest

from bgp_agent.core.prefix import parse_address, parse_prefix
from bgp_agent.core.seen import MAIN, KernelRoute, Seen, Strange, TableView, kind_of, protocol_text
from bgp_agent.core.values import Blackhole, Hop, Unicast

P, Q = parse_prefix("192.168.2.0/26"), parse_prefix("192.168.3.0/26")
VIA_A = Unicast((Hop(2, parse_address("10.42.1.1")),))
VIA_B = Unicast((Hop(2, parse_address("10.42.1.2")),))


def ours(target: Seen = VIA_A, *, plain: bool = True, table: int = MAIN) -> KernelRoute:
    return KernelRoute(table, P, 4096, 179, target, plain)


def foreign(metric: int = 100, protocol: int = 12) -> KernelRoute:
    return KernelRoute(MAIN, P, metric, protocol, VIA_B)


@pytest.fixture
def view() -> TableView:
    return TableView(MAIN, 179, 4096)


def dump(view: TableView, *routes: KernelRoute) -> tuple[bool, bool]:
    """A whole dump: (did anything of ours vanish, is another dump asked for)."""
    view.begin()
    view.rows(routes)
    vanished, _, again = view.end()
    return bool(vanished), again


def test_a_protocol_is_told_as_people_know_it() -> None:
    assert protocol_text(12) == "protocol bird (12)"
    assert protocol_text(179) == "protocol 179"


@pytest.mark.parametrize(("seen", "kind"), [(VIA_A, 1), (Blackhole(), 6), (Strange(7), 7)])
def test_each_route_has_the_type_that_a_delete_has_to_name(seen: Seen, kind: int) -> None:
    assert kind_of(seen) == kind
    assert ours(seen).strange() == Strange(kind)


def test_a_dump_shows_what_is_ours_and_who_else_is_there(view: TableView) -> None:
    assert dump(view, ours(), foreign(), foreign(4096, 80), ours(table=100)) == (False, False)
    assert (view.ours, view.unicast) == ({P: VIA_A}, 1)
    assert view.others == {P: ((100, 12), (4096, 80))}
    assert (view.holder(P), view.holder(Q), view.kind(P)) == (80, None, 1)
    assert dump(view) == (True, False)
    assert (view.ours, view.others, view.unicast) == ({}, {}, 0)


def test_a_route_with_more_in_it_than_we_would_write_is_strange(view: TableView) -> None:
    dump(view, ours(plain=False))
    assert view.ours == {P: Strange(1)}
    dump(view, ours(Strange(7), plain=False))
    assert view.ours == {P: Strange(7)}


def test_an_equal_route_of_a_later_dump_is_no_difference_and_one_object(view: TableView) -> None:
    dump(view, ours())
    again = Unicast(VIA_A.hops)
    view.begin()
    assert view.rows([ours(again)]) == []
    assert view.ours[P] is again
    assert view.rows([ours(again)]) == []
    view.end()


def test_what_was_written_while_a_dump_ran_is_newer_than_its_row(view: TableView) -> None:
    dump(view, ours())
    view.begin()
    view.put(P, VIA_B)
    view.touch(P)
    assert view.rows([ours(VIA_A)]) == []
    vanished, changed, again = view.end()
    assert (view.ours, vanished, changed, again) == ({P: VIA_B}, [], set(), True)


def test_what_was_written_while_a_dump_ran_is_not_gone_because_it_was_not_shown(view: TableView) -> None:
    dump(view, ours())
    view.begin()
    view.touch_all([P])
    assert view.end() == ([], set(), True)
    assert view.ours == {P: VIA_A}


def test_what_was_taken_out_while_a_dump_ran_has_not_vanished(view: TableView) -> None:
    dump(view, ours())
    view.begin()
    view.drop(P)
    assert view.end() == ([], set(), False)


def test_a_stranger_who_came_or_went_while_a_dump_ran_is_asked_for_again(view: TableView) -> None:
    view.begin()
    view.note(P, 100, 12, present=True)
    assert view.end() == ([], set(), True)
    assert view.others == {P: ((100, 12),)}
    view.begin()
    view.rows([foreign()])
    view.note(P, 100, 12, present=False)
    assert view.end() == ([], set(), True)
    assert view.others == {}
    view.note(P, 100, 12, present=False)


def test_rows_and_ends_without_a_beginning_say_nothing_and_ask_for_a_dump(view: TableView) -> None:
    assert view.rows([ours()]) == []
    assert view.end() == ([], set(), True)
    view.touch(P)
    view.touch_all([P])
    assert view.ours == {}
