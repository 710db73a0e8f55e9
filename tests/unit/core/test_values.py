"""The values that cross the seams: frozen, comparable as their users need it, and with the words of the contract."""

from __future__ import annotations

import dataclasses
import inspect
import weakref
from enum import Enum

import pytest

from bgp_agent.core import reports, values
from bgp_agent.core.prefix import parse_address
from bgp_agent.core.values import (
    Announcement,
    Blackhole,
    BlockState,
    Hop,
    Path,
    PeerState,
    RouteState,
    SourceState,
    Unicast,
)

MADE = [
    made
    for module in (values, reports)
    for _, made in inspect.getmembers(module, inspect.isclass)
    if made.__module__ == module.__name__ and dataclasses.is_dataclass(made)
]


@pytest.mark.parametrize("made", MADE)
def test_every_value_is_frozen_small_and_says_what_it_is(made: type) -> None:
    assert made.__dataclass_params__.frozen  # type: ignore[attr-defined]  # how dataclasses tell it
    assert "__slots__" in vars(made)
    assert made.__doc__
    assert not made.__doc__.startswith(f"{made.__name__}(")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RouteState, {"installed", "shadowed", "pending", "refused", "stale"}),
        (BlockState, {"announced", "pending", "withheld", "fallback"}),
        (PeerState, {"established", "connecting", "down", "disabled"}),
        (SourceState, {"synced", "stale", "waiting"}),
    ],
)
def test_states_have_the_words_of_the_contract(state: type[Enum], words: set[str]) -> None:
    assert {member.value for member in state} == words


def test_a_path_is_itself_alone_so_that_it_can_key_a_cache() -> None:
    one, other = (Path("10.42.0.4", None, (65515,)) for _ in range(2))
    assert one != other
    assert len({one, other, one}) == 2
    assert weakref.ref(one)() is one


def test_targets_are_compared_by_what_they_do() -> None:
    hop = Hop(2, parse_address("10.42.1.1"))
    assert Unicast((hop,)) == Unicast((Hop(2, parse_address("10.42.1.1")),))
    assert Unicast((hop,)) != Unicast((hop,), source=parse_address("10.42.1.4"))
    assert Blackhole() == Blackhole()


def test_hops_of_one_family_sort_by_link_and_gateway() -> None:
    hops = [Hop(n, parse_address(f"10.42.1.{m}")) for n in (3, 2) for m in (9, 8)]
    assert [(h.interface, h.gateway) for h in sorted(hops)] == sorted((h.interface, h.gateway) for h in hops)


def test_an_announcement_says_that_it_is_about_to_be_withdrawn() -> None:
    assert Announcement(communities=("64512:1", "65535:0")).leaving
    assert not Announcement(communities=("64512:1",)).leaving
