"""The best path: the order of RFC 4271 section 9.1.2.2, whatever the order in which the peers are asked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.prefix import Address, parse_address
from bgp_agent.core.selection import Candidate, Selection, select
from bgp_agent.core.values import Hop, Path, Unicast

A, B, C = "10.42.0.4", "10.42.0.5", "10.42.0.10"
FAR = parse_address("10.99.0.1")
GOES = ("64512:1", "65535:0")


def resolve(next_hop: Address) -> tuple[tuple[Hop, ...], str]:
    return ((), "no route to it") if next_hop == FAR else ((Hop(2, next_hop),), "on the link eth0")


def offer(
    peer: str = A, hop: str | None = "10.42.1.5", as_path: tuple[int, ...] = (65515, 64512), **more: object
) -> Candidate:
    """One candidate; what is of the candidate and not of its path: ``stale``, ``refused``, ``internal``."""
    own = {name: more.pop(name) for name in ("stale", "refused", "internal") if name in more}
    path = Path(peer, parse_address(hop) if hop else None, as_path, **more)  # type: ignore[arg-type]  # a short hand
    return Candidate(path, bool(own.get("stale")), own.get("refused"), bool(own.get("internal")))  # type: ignore[arg-type]


def decide(*candidates: Candidate, max_paths: int = 8) -> Selection:
    return select(candidates, resolve, max_paths)


def winners(*candidates: Candidate) -> set[str]:
    return {path.peer for path in decide(*candidates).used}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        pytest.param(offer(A, as_path=(1,) * 9), offer(B, stale=True), id="a live path beats any stale one"),
        pytest.param(
            offer(A, local_preference=200, as_path=(1, 2, 3), internal=True), offer(B, as_path=(1,)),
            id="a higher local preference beats a shorter AS path",
        ),
        pytest.param(
            offer(A, as_path=(1,)), offer(B, local_preference=50, as_path=(), internal=True),
            id="a local preference below 100 loses to an external path",
        ),
        pytest.param(
            offer(A, local_preference=1, as_path=(1,)), offer(B, local_preference=900, as_path=(1, 2)),
            id="an external peer has no say in local preference",
        ),
        pytest.param(offer(A, as_path=(1,)), offer(B, as_path=(2, 3)), id="a shorter AS path"),
        pytest.param(
            offer(A, local_preference=1, as_path=(1, 2, 3), internal=True), offer(B, as_path=(1,), communities=GOES),
            id="whatever is here to stay beats what is about to be withdrawn (RFC 8326)",
        ),
        pytest.param(
            offer(A, communities=GOES), offer(B, stale=True), id="a live path that is about to go beats a stale one"
        ),
        pytest.param(offer(A, origin=0, med=9), offer(B, origin=2, med=1), id="a lower origin beats a lower MED"),
        pytest.param(offer(A, med=1), offer(B, med=2), id="a lower MED of one neighbouring AS"),
        pytest.param(offer(A), offer(B, med=1), id="a missing MED is the lowest"),
        pytest.param(offer(A, internal=True, med=1), offer(B, med=2), id="MED comes before external over internal"),
        pytest.param(offer(A), offer(B, internal=True), id="external beats internal"),
        pytest.param(offer(A, as_path=(1, 2, 3)), offer(B, hop="10.99.0.1", as_path=(1,)), id="it resolves"),
        pytest.param(offer(A, as_path=(1, 2, 3)), offer(B, refused="why", as_path=(1,)), id="policy lets it in"),
    ],
)  # fmt: skip
def test_the_better_path_wins_alone(better: Candidate, worse: Candidate) -> None:
    assert winners(better, worse) == winners(worse, better) == {A}


def test_med_says_nothing_between_different_neighbouring_ases() -> None:
    assert winners(offer(A, as_path=(1, 9), med=5), offer(B, as_path=(2, 9), med=1)) == {A, B}


def test_med_of_internal_paths_without_an_as_is_compared_among_them() -> None:
    one, other = offer(A, as_path=(), internal=True, med=5), offer(B, as_path=(), internal=True, med=1)
    assert winners(one, other) == {B}


def test_equal_paths_are_used_together_and_the_lowest_peer_address_names_them() -> None:
    made = decide(offer(C, "10.42.1.7"), offer(B, "10.42.1.6"), offer(A, "10.42.1.5"))
    assert made.target == Unicast(tuple(Hop(2, parse_address(f"10.42.1.{n}")) for n in (5, 6, 7)))
    assert made.best.peer == A
    assert made.reason == f"learned from {A} and {B} and {C}", "10.42.0.10 comes after 10.42.0.5"


def test_more_next_hops_than_max_paths_are_cut_and_the_paths_left_out_are_not_said_to_be_used() -> None:
    made = decide(offer(A, "10.42.1.7"), offer(B, "10.42.1.5"), offer(C, "10.42.1.6"), max_paths=2)
    assert made.target == Unicast((Hop(2, parse_address("10.42.1.5")), Hop(2, parse_address("10.42.1.6"))))
    assert [path.peer for path in made.used] == [B, C]
    assert made.reason == f"learned from {B} and {C}; 1 as good above kernel.max_paths"


def test_two_peers_with_one_next_hop_are_one_hop() -> None:
    made = decide(offer(A), offer(B))
    assert made.target == Unicast((Hop(2, parse_address("10.42.1.5")),))
    assert len(made.used) == 2


def test_the_reason_counts_the_others() -> None:
    assert decide(offer(A)).reason == f"learned from {A}"
    assert decide(offer(A), offer(B, stale=True)).reason == f"learned from {A}, better than 1 other"
    assert decide(offer(A), offer(B, as_path=(1,) * 5), offer(C, refused="x")).reason.endswith("better than 2 others")


def test_a_path_that_is_about_to_be_withdrawn_is_used_where_there_is_no_other_and_says_so() -> None:
    made = decide(offer(A, communities=GOES), offer(B, hop="10.99.0.1"), offer(C, refused="no"))
    assert [path.peer for path in made.used] == [A]
    assert made.reason.endswith("; about to be withdrawn (GRACEFUL_SHUTDOWN), and no other path is there")


def test_a_stale_path_is_kept_when_nobody_else_offers_the_prefix_and_says_so() -> None:
    made = decide(offer(A, stale=True), offer(B, refused="no"))
    assert made.stale
    assert made.reason == f"kept from {A}, whose session is lost; no live peer offers it"


def test_when_every_path_is_refused_each_peers_reason_is_told() -> None:
    one = decide(offer(A, refused="same words"), offer(B, refused="same words"))
    assert (one.refused, one.target, one.reason) == (True, None, "same words")
    two = decide(offer(B, refused="because"), offer(A, refused="otherwise"))
    assert two.reason == f"{A}: otherwise; {B}: because"
    assert two.best.peer == A


def test_a_next_hop_without_a_carrier_serves_only_where_there_is_no_other() -> None:
    dark, lit = offer(A, "10.42.1.5", as_path=(1,)), offer(B, "10.42.1.6", as_path=(1, 2))

    def decided(*offers: Candidate) -> Selection:
        return select(offers, resolve, 8, lambda hop: hop != parse_address("10.42.1.5"))

    assert decided(dark, lit).used == (lit.path,)
    assert decided(dark, lit).reason == f"learned from {B}, better than 1 other; no carrier on the way to 10.42.1.5"
    assert decided(dark).used == (dark.path,)
    assert decided(dark).reason == f"learned from {A}; no carrier on the way to 10.42.1.5"
    stale = offer(B, "10.42.1.6", stale=True)
    assert decided(dark, stale).used == (dark.path,), "a lost session says less than a lost carrier"


def test_next_hops_that_do_not_resolve_are_waited_for() -> None:
    made = decide(offer(A, "10.99.0.1"), offer(B, refused="no"))
    assert made.target is None
    assert not made.refused
    assert made.reason == "waiting: the next hop 10.99.0.1 does not resolve: no route to it"


def test_a_missing_next_hop_waits_too_should_policy_ever_let_it_in() -> None:
    assert decide(offer(hop=None)).reason == "waiting: the next hop does not resolve: there is none"


# --- whatever is offered ---------------------------------------------------------------------------------------------
@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    """One candidate a peer, as the tables hold them. Policy refuses a path without a next hop."""
    peers = draw(st.lists(st.sampled_from([f"10.42.0.{n}" for n in range(4, 12)]), min_size=1, max_size=6, unique=True))
    made = []
    for peer in peers:
        hop = draw(st.sampled_from(["10.42.1.5", "10.42.1.6", "10.42.1.7", "10.99.0.1", None]))
        path = Path(
            peer,
            parse_address(hop) if hop else None,
            tuple(draw(st.lists(st.sampled_from([1, 2]), max_size=2))),
            draw(st.integers(0, 2)),
            draw(st.sampled_from([None, 0, 5])),
            draw(st.sampled_from([None, 100, 200])),
        )
        refused = draw(st.sampled_from([None, None, "no"])) if hop else "no next hop"
        made.append(Candidate(path, draw(st.booleans()), refused, draw(st.booleans())))
    return made


def told(selection: Selection) -> tuple[object, ...]:
    best = selection.best
    return selection.used, best, selection.target, selection.reason, selection.stale, selection.refused


@given(candidates(), st.randoms(use_true_random=False), st.integers(1, 4))
def test_the_choice_does_not_depend_on_the_order_of_the_offers(
    offers: list[Candidate], random: object, max_paths: int
) -> None:
    mixed = list(offers)
    random.shuffle(mixed)  # type: ignore[attr-defined]  # Hypothesis' own random
    assert told(select(offers, resolve, max_paths)) == told(select(mixed, resolve, max_paths))


@given(candidates(), st.integers(1, 4))
def test_the_choice_is_one_that_can_be_installed(offers: list[Candidate], max_paths: int) -> None:
    made = select(offers, resolve, max_paths)
    able = [c for c in offers if c.refused is None and c.path.next_hop != FAR]
    assert (made.target is not None) == bool(able)
    assert made.refused == all(c.refused for c in offers)
    assert made.reason
    if made.target is None:
        assert made.used == ()
        return
    hops = made.target.hops
    assert 1 <= len(hops) <= max_paths
    assert list(hops) == sorted(set(hops))
    by_path = {c.path: c for c in offers}
    chosen = [by_path[path] for path in made.used]
    assert set(chosen) <= set(able)
    assert {c.stale for c in chosen} == {made.stale}
    assert made.stale == all(c.stale for c in able), "stale never beats live"
    assert {hop.gateway for hop in hops} == {path.next_hop for path in made.used}


@given(candidates())
def test_an_offer_that_loses_changes_nothing_when_it_goes(offers: list[Candidate]) -> None:
    """Total and consistent, except that MED does not order paths of different neighbours: without MED it must hold."""
    plain = [_without_med(c) for c in offers]
    made = select(plain, resolve, 8)
    kept: Sequence[Candidate] = [c for c in plain if c.path in made.used]
    if kept:
        assert select(kept, resolve, 8).target == made.target


def _without_med(candidate: Candidate) -> Candidate:
    path = candidate.path
    bare = Path(path.peer, path.next_hop, path.as_path, path.origin, None, path.local_preference)
    return Candidate(bare, candidate.stale, candidate.refused, candidate.internal)
