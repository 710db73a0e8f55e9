"""What the network says of a block, and what that means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.prefix import Address, parse_address, parse_prefix
from bgp_agent.core.proof import (
    BGP,
    USER,
    Effective,
    Learned,
    Network,
    Row,
    cause,
    ineffective,
    inside,
    lacking,
    muted,
)

A, B, C, D, E = (parse_prefix(f"192.168.{n}.0/26") for n in (1, 2, 3, 4, 5))
INSIDE, SPACE = parse_prefix("10.42.9.0/26"), parse_prefix("10.42.0.0/16")
HERE, THERE, SERVER = map(parse_address, ("10.42.1.4", "10.42.1.5", "10.42.0.4"))


def effective(*rows: Row, at: float = 10.0) -> Effective:
    return Effective(at, "nic-a", rows)


def udr(hop: Address = HERE, *, active: bool = True) -> Row:
    return Row(A, USER, active, (hop,))


def bgp(*, active: bool = True) -> Row:
    return Row(A, BGP, active, (SERVER,))


@pytest.mark.parametrize(
    ("rows", "carrier"),
    [
        ((), None),
        ((Row(B, USER, active=True, next_hops=(HERE,)),), None),
        ((udr(active=False),), None),
        ((bgp(),), "bgp"),
        ((udr(), bgp(active=False)), "udr"),
        ((udr(THERE), bgp(active=False)), "elsewhere"),
        ((Row(A, "Default", active=True, next_hops=()),), "elsewhere"),
    ],
)
def test_who_carries_a_block_by_the_rows_in_effect(rows: tuple[Row, ...], carrier: str | None) -> None:
    assert effective(*rows).carrier(A, (HERE,)) == carrier


@given(st.lists(st.builds(Row, st.sampled_from([A, B]), st.sampled_from([USER, BGP, "Default"]), st.booleans(),
                          st.lists(st.sampled_from([HERE, THERE]), max_size=2).map(tuple)), max_size=6))  # fmt: skip
def test_a_route_that_is_beaten_or_another_blocks_never_counts(rows: list[Row]) -> None:
    active = [row for row in rows if row.active and row.prefix == A]
    assert effective(*rows).carrier(A, (HERE,)) == effective(*active).carrier(A, (HERE,))


def test_a_block_inside_the_networks_own_space_is_named_with_that_space() -> None:
    assert inside(INSIDE, (parse_prefix("10.50.0.0/16"), SPACE)) == SPACE
    assert inside(A, (SPACE,)) is None


def test_an_instance_that_lacks_a_block_is_named_and_an_old_answer_says_nothing() -> None:
    both = {"IN_0": frozenset({A, B}), "IN_1": frozenset({B})}
    assert lacking(Learned(10.0, both), (B, A), 10.0) == "IN_1 has not learned 192.168.1.0/26"
    assert lacking(Learned(9.9, both), (A,), 10.0) is None
    assert lacking(None, (A,), 10.0) is None
    assert lacking(Learned(10.0, both), (B,), 10.0) is None
    neither = lacking(Learned(10.0, {"IN_1": frozenset(), "IN_0": frozenset()}), (A,), 0.0)
    assert neither == "IN_0 has not learned 192.168.1.0/26; IN_1 has not learned 192.168.1.0/26"


def test_of_many_blocks_three_are_named_and_the_others_are_counted() -> None:
    words = lacking(Learned(1.0, {"IN_0": frozenset()}), (E, D, C, B, A), 0.0)
    assert words == "IN_0 has not learned 192.168.1.0/26, 192.168.2.0/26, 192.168.3.0/26 and 2 more"


def test_blocks_without_a_route_in_effect_are_told_with_the_interface_and_the_cause() -> None:
    network = Network(effective=effective(bgp()), forwarding=False)
    assert ineffective(network, (A,), (HERE,), 0.0) is None
    assert ineffective(network, (A, B), (HERE,), 10.0) == (
        "no BGP route is in effect for 192.168.2.0/26 on nic-a: IP forwarding is off on the node's network interface"
    )
    assert ineffective(network, (A, B), (HERE,), 10.1) is None, "it was asked for before the last change"
    assert ineffective(Network(), (A,), (HERE,), 0.0) is None


def test_a_route_that_leads_elsewhere_carries_nothing() -> None:
    network = Network(effective=effective(udr(THERE)))
    assert ineffective(network, (A,), (HERE,), 0.0) == "no BGP route is in effect for 192.168.1.0/26 on nic-a"


def test_tables_that_keep_bgp_out_are_told_with_the_command_that_helps() -> None:
    words = muted(Network(silent=("rt1", "rt2"))) or ""
    assert words.startswith("BGP propagation is switched off in route table rt1 and rt2")
    assert "--disable-bgp-route-propagation false" in words
    assert muted(Network()) is None


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Network(space=(SPACE,), silent=("rt1",), forwarding=False), "own space 10.42.0.0/16"),
        (Network(silent=("rt1",), forwarding=False), "propagation is switched off in rt1"),
        (Network(forwarding=False), "IP forwarding is off"),
    ],
)
def test_the_likely_cause_is_the_one_that_alone_suffices(network: Network, words: str) -> None:
    assert words in cause(network, INSIDE)


def test_no_cause_is_invented() -> None:
    assert cause(Network(forwarding=True), A) == ""
