"""What a peer is wanted to hear: never above its limit, in the order of the offers, said once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.export import Export
from bgp_agent.core.prefix import Address, Family, Prefix, family_of, parse_address, parse_prefix
from bgp_agent.core.settings import PeerSettings
from bgp_agent.core.values import Announcement

ONE, TWO, THREE = (parse_prefix(f"192.168.{n}.0/26") for n in (1, 2, 3))
SIX = parse_prefix("fd00:1::/122")
OWN4, OWN6 = parse_address("10.42.1.4"), parse_address("fd00::4")
BOTH = frozenset(Family)


def settings(address: str = "10.42.0.4", families: frozenset[Family] = BOTH, **more: object) -> PeerSettings:
    return PeerSettings(address, parse_address(address), 65515, families, **more)  # type: ignore[arg-type]  # a short hand


def export(next_hops: dict[Family, Address] | None = None, **more: object) -> Export:
    return Export(settings(**more), next_hops or {})  # type: ignore[arg-type]  # a short hand


def test_what_is_offered_is_wanted_and_said_once() -> None:
    made = export()
    made.offer(ONE)
    made.offer(ONE)
    assert made.take_changes() == {ONE: Announcement()}
    made.offer(ONE)
    assert made.take_changes() == {}
    made.withdraw(ONE)
    made.withdraw(TWO)
    assert made.take_changes() == {ONE: None}
    assert made.why_not(ONE) == "not offered"


def test_the_attributes_of_the_peer_go_with_every_announcement() -> None:
    given_ = Announcement(None, 50, ("64512:10",), 2)
    made = export(attributes=given_)
    made.offer(ONE)
    assert made.wanted == {ONE: given_}
    assert made.why_not(ONE) is None


# --- taking leave ----------------------------------------------------------------------------------------------------
def leaving(*communities: str, med: int | None = None, prepend: int = 0) -> Announcement:
    return Announcement(None, med, (*communities, "65535:0"), prepend)


def test_what_leaves_is_announced_once_more_with_the_community_and_nothing_new_is() -> None:
    given_ = Announcement(None, 50, ("64512:10",), 2)
    made = export({Family.IPV6: OWN6}, attributes=given_, announce_limit=2)
    for prefix in (ONE, SIX, TWO):
        made.offer(prefix)
    made.take_changes()
    made.leaving = True
    for prefix in (ONE, SIX, TWO, THREE):
        made.offer(prefix)
    said = leaving("64512:10", med=50, prepend=2)
    assert made.take_changes() == {ONE: said, SIX: replace(said, next_hop=OWN6)}
    made.withdraw(SIX)
    assert made.take_changes() == {SIX: None}, "and what waited for room does not take its place"
    made.leaving = False
    for prefix in (ONE, TWO):
        made.offer(prefix)
    assert made.take_changes() == {ONE: given_, TWO: given_}


def test_who_is_always_told_that_all_is_leaving_is_not_told_again() -> None:
    made = export(attributes=leaving())
    made.offer(ONE)
    made.leaving = True
    made.offer(ONE)
    assert made.take_changes() == {ONE: leaving()}


# --- families --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("address", "prefix", "own", "family"),
    [
        ("10.42.0.4", SIX, OWN6, Family.IPV6),
        ("fd00::1", ONE, OWN4, Family.IPV4),
    ],
)
def test_the_other_family_needs_a_next_hop_of_its_own(
    address: str, prefix: Prefix, own: Address, family: Family
) -> None:
    attributes = Announcement(None, 7, ("1:2",), 1)
    bare = export(address=address, attributes=attributes)
    bare.offer(prefix)
    assert bare.wanted == {}
    key = "address6" if family is Family.IPV6 else "address"
    assert bare.why_not(prefix) == f"this node has no {family.value} address to name as the next hop (node.{key})"
    made = export({family: own}, address=address, attributes=attributes)
    made.offer(prefix)
    assert made.wanted == {prefix: Announcement(own, 7, ("1:2",), 1)}


def test_a_family_that_the_peer_does_not_take_is_not_offered() -> None:
    made = export({Family.IPV6: OWN6}, families=frozenset({Family.IPV4}))
    made.offer(SIX)
    assert made.wanted == made.over == {}
    assert made.why_not(SIX) == "its peer configuration does not list ipv6"


# --- the limit -------------------------------------------------------------------------------------------------------
def test_above_the_limit_the_next_one_waits_for_room() -> None:
    made = export(announce_limit=2)
    for prefix in (ONE, TWO, THREE):
        made.offer(prefix)
    assert list(made.wanted) == [ONE, TWO]
    assert made.why_not(THREE) == "above its announce_limit of 2"
    made.take_changes()
    made.withdraw(ONE)
    assert made.take_changes() == {ONE: None, THREE: Announcement()}
    made.withdraw(ONE)
    assert list(made.wanted) == [TWO, THREE]


def test_what_waits_can_be_withdrawn_without_a_word() -> None:
    made = export(announce_limit=1)
    made.offer(ONE)
    made.offer(TWO)
    made.take_changes()
    made.withdraw(TWO)
    made.withdraw(ONE)
    assert made.take_changes() == {ONE: None}


# --- reloading -------------------------------------------------------------------------------------------------------
def test_a_reload_says_only_what_differs() -> None:
    made = export()
    made.offer(ONE)
    made.offer(TWO)
    made.take_changes()
    made.reconfigure(settings(announce_limit=5), {})
    assert made.take_changes() == {}
    made.reconfigure(settings(attributes=Announcement(None, 9)), {})
    assert made.take_changes() == {ONE: Announcement(None, 9), TWO: Announcement(None, 9)}


def test_a_lowered_limit_withdraws_what_came_last_and_a_raised_one_lets_it_in() -> None:
    made = export()
    for prefix in (ONE, TWO, THREE):
        made.offer(prefix)
    made.take_changes()
    made.reconfigure(settings(announce_limit=1), {})
    assert made.take_changes() == {TWO: None, THREE: None}
    assert (list(made.wanted), list(made.over)) == ([ONE], [TWO, THREE])
    made.reconfigure(settings(announce_limit=2), {})
    assert made.take_changes() == {TWO: Announcement()}
    made.reconfigure(settings(announce_limit=None), {})
    assert made.take_changes() == {THREE: Announcement()}


def test_a_family_or_a_next_hop_that_a_reload_takes_away_is_withdrawn() -> None:
    made = export({Family.IPV6: OWN6}, announce_limit=2)
    for prefix in (SIX, ONE, TWO):
        made.offer(prefix)
    made.take_changes()
    made.reconfigure(settings(announce_limit=2), {})
    assert made.take_changes() == {SIX: None, TWO: Announcement()}, "and its room is used"
    made.reconfigure(settings(families=frozenset({Family.IPV6})), {})
    assert made.take_changes() == {ONE: None, TWO: None}
    assert made.why_not(ONE) == "its peer configuration does not list ipv4"


# --- whatever is offered ---------------------------------------------------------------------------------------------
PREFIXES = (ONE, TWO, THREE, SIX)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.sampled_from(PREFIXES)),
        st.tuples(st.just("withdraw"), st.sampled_from(PREFIXES)),
        st.tuples(st.just("limit"), st.sampled_from([None, 1, 2, 3])),
        st.tuples(st.just("families"), st.sets(st.sampled_from(list(Family)), min_size=1).map(frozenset)),
        st.tuples(st.just("next hop"), st.booleans()),
        st.tuples(st.just("taken")),
    ),
    max_size=30,
)


@given(moves)
def test_what_is_wanted_is_always_the_first_that_were_offered(sequence: list[tuple[object, ...]]) -> None:  # noqa: C901  # a table of events
    given_, next_hops = settings(announce_limit=2), {Family.IPV6: OWN6}
    made = Export(given_, next_hops)
    offered: list[Prefix] = []  # the model
    told: dict[Prefix, Announcement] = {}  # what somebody knows who only hears the changes
    for move in sequence:
        match move:
            case ("offer", bytes(prefix)):
                made.offer(Prefix(prefix))
                if Prefix(prefix) not in offered and carried(given_, next_hops, Prefix(prefix)):
                    offered.append(Prefix(prefix))
            case ("withdraw", bytes(prefix)):
                made.withdraw(Prefix(prefix))
                offered = [p for p in offered if p != prefix]
            case ("limit", None | int() as limit):
                given_ = settings(families=given_.families, announce_limit=limit)
            case ("families", frozenset() as families):
                given_ = settings(families=families, announce_limit=given_.announce_limit)
            case ("next hop", bool(known)):
                next_hops = {Family.IPV6: OWN6} if known else {}
        if move[0] in {"limit", "families", "next hop"}:
            made.reconfigure(given_, next_hops)
            offered = [p for p in offered if carried(given_, next_hops, p)]
        limit = len(offered) if given_.announce_limit is None else given_.announce_limit
        assert list(made.wanted) == offered[:limit]
        assert list(made.over) == offered[limit:]
        for prefix, announcement in made.take_changes().items():
            if announcement is None:
                told.pop(prefix, None)
            else:
                told[prefix] = announcement
        assert told == made.wanted


def carried(given_: PeerSettings, next_hops: dict[Family, Address], prefix: Prefix) -> bool:
    return family_of(prefix) in given_.families and (family_of(prefix) is Family.IPV4 or bool(next_hops))
