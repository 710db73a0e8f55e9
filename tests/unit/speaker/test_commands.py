"""The words that ExaBGP is given and the ones it answers with (all seen with 5.0.15)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.prefix import Family, parse_address, parse_prefix
from bgp_agent.core.values import Announcement
from bgp_agent.speaker.commands import Language, Show
from bgp_agent.speaker.definition import PeerDefinition

DEFINITION: Final = PeerDefinition(
    "10.99.1.2", 65515, 65001, "10.99.1.1", local_address="10.99.1.1", families=(Family.IPV4, Family.IPV6)
)
NAME: Final = (
    "neighbor 10.99.1.2 local-ip 10.99.1.1 local-as 65001 peer-as 65515 router-id 10.99.1.1 family-allowed in-open"
)
V4: Final = parse_prefix("192.168.1.0/26")
V6: Final = parse_prefix("2001:db8:1::/64")
MANY: Final = (
    "next-hop 10.9.9.9 as-path ( 65001 65001 ) med 50 community [ 65000:5 65001:1 no-export ] large-community 1:2:3"
)
FULL: Final = Announcement(parse_address("10.99.1.7"), 50, ("65001:1", "65535:65281", "1:2:3"), 2)


@pytest.fixture
def language() -> Language:
    return Language(DEFINITION)


def test_announcements_are_written_as_exabgp_takes_them(language: Language) -> None:
    assert language.announce([V4, parse_prefix("192.168.2.0/26")], Announcement()).line == (
        b"neighbor 10.99.1.2 announce attributes next-hop self nlri 192.168.1.0/26 192.168.2.0/26\n"
    )
    assert language.announce([V4], FULL).line == (
        b"neighbor 10.99.1.2 announce attributes next-hop 10.99.1.7 med 50 community [ 65001:1 65535:65281 ] "
        b"large-community [ 1:2:3 ] as-path [ 65001 65001 65001 ] nlri 192.168.1.0/26\n"
    )
    internal = Language(replace(DEFINITION, asn=65001)).announce([V4], FULL)
    assert b"as-path [ 65001 65001 ] " in internal.line  # an internal peer is not told the own ASN otherwise


def test_a_withdrawal_repeats_the_attributes_of_what_it_withdraws(language: Language) -> None:
    announced, withdrawn = language.announce([V4], FULL), language.withdraw([V4], FULL)
    assert withdrawn.line == announced.line.replace(b"announce", b"withdraw")
    assert withdrawn.withdraw
    assert b"next-hop self nlri" in language.withdraw([V4], None).line
    assert b"next-hop :: nlri" in language.withdraw([V6], None).line
    other = Language(PeerDefinition("2001:db8::2", 65515, 65001, "10.99.1.1"))
    assert b"next-hop 0.0.0.0 nlri" in other.withdraw([V4], None).line


def test_end_of_rib_refresh_and_show(language: Language) -> None:
    assert language.end_of_rib(Family.IPV6).line == b"neighbor 10.99.1.2 announce eor ipv6 unicast\n"
    assert language.refresh(Family.IPV4).line == b"neighbor 10.99.1.2 announce route-refresh ipv4 unicast\n"
    assert Show().line == b"show adj-rib out extensive\n"


@pytest.mark.parametrize(
    ("prefix", "announcement", "reason"),
    [
        (V4, FULL, None),
        (V6, Announcement(parse_address("2001:db8::1")), None),
        (V6, Announcement(), "ipv6 over an ipv4 session needs a next hop of its own"),
        (V6, Announcement(parse_address("10.99.1.7")), "the next hop 10.99.1.7 is not ipv6"),
        (V4, Announcement(med=-1), "med -1 is not"),
        (V4, Announcement(med=2**32), "med 4294967296 is not"),
        (V4, Announcement(prepend=255), "prepend 255 is not"),
        (V4, Announcement(prepend=-1), "prepend -1 is not"),
        (V4, Announcement(communities=("65001:1", "shutdown")), "'shutdown' is not a community"),
        (V4, Announcement(communities=("65536:1",)), "'65536:1' is not a community"),
        (V4, Announcement(communities=("1:2:4294967296",)), "is not a community"),
        (V4, Announcement(communities=("1:1 ] nlri 0.0.0.0/0",)), "is not a community"),
        (V4, Announcement(communities=("no-export", "4294967295:0:1")), None),
    ],
)  # fmt: skip
def test_what_exabgp_would_send_malformed_is_refused_here(
    prefix: bytes, announcement: Announcement, reason: str | None, language: Language
) -> None:
    refused = language.refuse(prefix, language.canonical(announcement))  # type: ignore[arg-type]
    assert refused is None if reason is None else reason in (refused or "")


def test_a_family_that_the_neighbor_lacks_is_refused_because_exabgp_would_say_done() -> None:
    reason = Language(PeerDefinition("10.99.1.2", 65515, 65001, "10.99.1.1")).refuse(V6, Announcement())
    assert reason == "the session with 10.99.1.2 is not configured for ipv6"


def test_announcements_that_look_alike_to_the_peer_are_equal(language: Language) -> None:
    own = Announcement(parse_address("10.99.1.1"), communities=("65001:2", "no-export", "1:2:3", "65001:1", "65001:2"))
    assert language.canonical(own) == Announcement(None, communities=("65001:1", "65001:2", "65535:65281", "1:2:3"))
    assert language.canonical(FULL).next_hop == FULL.next_hop


def test_the_real_answers_are_read(language: Language) -> None:
    for words, announcement in (
        ("next-hop 10.99.1.1", Announcement()),
        (MANY,
         Announcement(parse_address("10.9.9.9"), 50, ("65000:5", "65001:1", "65535:65281", "1:2:3"), 1)),
        ("next-hop 10.99.1.1 community no-export", Announcement(communities=("65535:65281",))),
        ("next-hop 10.99.1.1 large-community [ 1:2:3 4:5:6 ]", Announcement(communities=("1:2:3", "4:5:6"))),
        ("next-hop 10.99.1.1 as-path ( 65001 )", None),  # what BGP would add anyway, but not asked for like that
        ("next-hop 10.99.1.1 as-path ( 64999 65001 )", None),
        ("next-hop 10.99.1.1 origin egp", None),
        ("next-hop 10.99.1.1 local-preference 100", None),
    ):  # fmt: skip
        assert language.read_route(f"{NAME} ipv4 unicast 192.168.1.0/26 {words}") == (V4, announcement), words


def test_the_own_address_is_learned_from_the_answer_where_nothing_says_it() -> None:
    language = Language(PeerDefinition("10.99.1.2", 65515, 65001, "10.99.1.1"))
    auto = NAME.replace("10.99.1.1 local-as", "auto local-as")
    assert language.read_route(f"{auto} ipv4 unicast 192.168.1.0/26 next-hop 10.99.1.1") == (
        V4, Announcement(parse_address("10.99.1.1")),
    )  # fmt: skip
    assert language.read_route(f"{NAME} ipv4 unicast 192.168.1.0/26 next-hop 10.99.1.1") == (V4, Announcement())


@pytest.mark.parametrize(
    "line",
    ["", "x", f"{NAME} ipv4 unicast 10.0.0.0/33 next-hop 10.0.0.1", f"{NAME} ipv4 unicast 10.0.0.0/8 next-hop nowhere",
     f"{NAME} l2vpn vpls x next-hop y", f"{NAME} ipv4 unicast 10.0.0.0/8"],
)  # fmt: skip
def test_answers_that_cannot_be_read_are_none(line: str, language: Language) -> None:
    assert language.read_route(line) is None


@given(st.text() | st.text().map(lambda text: f"{NAME} ipv4 unicast {text}"))
def test_no_answer_raises(line: str) -> None:
    Language(DEFINITION).read_route(line)
