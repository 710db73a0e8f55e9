"""A decision is made once for all prefixes with the same paths, and it is the right one for each of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core import learned as module
from bgp_agent.core.importing import ImportPolicy, OwnBlocks, refuse_path, refuse_prefix
from bgp_agent.core.learned import ENUMERATED, Learned, network_of
from bgp_agent.core.prefix import Address, Family, Prefix, PrefixSet, family_of, overlaps, parse_address, parse_prefix
from bgp_agent.core.rib import Rib
from bgp_agent.core.selection import Candidate, select
from bgp_agent.core.values import Hop, Path, Unicast, Update

A, B = "10.42.0.4", "10.42.0.5"
BOTH = frozenset(Family)
POOLS = PrefixSet([parse_prefix("192.168.0.0/16"), parse_prefix("fd00::/16")])
POLICY = ImportPolicy(POOLS, 64512)


def p(text: str) -> Prefix:
    return parse_prefix(text)


def path(peer: str = A, hop: str = "10.42.1.5", *as_path: int) -> Path:
    return Path(peer, parse_address(hop), as_path or (65515, 64512))


def on_link(next_hop: Address) -> tuple[tuple[Hop, ...], str]:
    return (Hop(2, next_hop),), ""


def by_hop(*hops: str) -> Unicast:
    return Unicast(tuple(Hop(2, parse_address(hop)) for hop in hops))


class Tables:
    """Two peers' tables and what is decided of them."""

    def __init__(self) -> None:
        self.rib = Rib(120.0)
        for peer in (A, B):
            self.rib.add_peer(peer, 1_000_000)
            self.rib.session_up(peer, BOTH, 0.0)
        self.learned = Learned(self.rib, POLICY, on_link, 8)
        self.learned.asns = {A: 65515, B: 65515}

    def tell(self, made: Path, *prefixes: str, now: float = 0.0) -> None:
        self.rib.apply(Update(made.peer, (), ((made, tuple(map(p, prefixes))),)), now)
        self.decide()

    def withdraw(self, peer: str, *prefixes: str) -> None:
        self.rib.apply(Update(peer, tuple(map(p, prefixes)), ()), 0.0)
        self.decide()

    def decide(self) -> None:
        for prefix in self.rib.dirty:
            self.learned.decide(prefix)
        self.rib.dirty.clear()

    def target(self, prefix: str) -> object:
        return self.learned.routes[p(prefix)].target


@pytest.fixture
def tables() -> Tables:
    return Tables()


ONE, TWO = "192.168.1.0/26", "192.168.2.0/26"


# --- deciding --------------------------------------------------------------------------------------------------------
def test_prefixes_with_the_same_paths_share_one_decision(tables: Tables) -> None:
    tables.tell(path(), ONE, TWO)
    assert tables.learned.routes[p(ONE)] is tables.learned.routes[p(TWO)]


def test_a_prefix_that_policy_keeps_out_has_its_reason_until_it_is_withdrawn(tables: Tables) -> None:
    tables.tell(path(), "10.0.0.0/8")
    assert tables.learned.refused == {p("10.0.0.0/8"): "outside the pools (192.168.0.0/16)"}
    tables.withdraw(A, "10.0.0.0/8")
    assert tables.learned.refused == {}
    assert tables.learned.decide(p("10.0.0.0/8")) is None


def test_a_prefix_moves_between_refused_and_accepted_with_the_rules(tables: Tables) -> None:
    tables.tell(path(), ONE)
    tables.learned.policy = ImportPolicy(POOLS, 64512, refuse=PrefixSet([p("192.168.1.0/24")]))
    tables.rib.dirty |= tables.learned.everything()
    tables.decide()
    assert (set(tables.learned.routes), set(tables.learned.refused)) == (set(), {p(ONE)})
    tables.learned.policy = POLICY
    tables.rib.dirty |= tables.learned.everything()
    tables.decide()
    assert (set(tables.learned.routes), set(tables.learned.refused)) == ({p(ONE)}, set())


def test_which_of_two_peers_is_stale_makes_another_decision(tables: Tables) -> None:
    """First one route server is lost and comes back with the very same attributes, then the other one."""
    first, second = path(A, "10.42.1.5"), path(B, "10.42.1.6")
    tables.tell(first, ONE)
    tables.tell(second, ONE)
    tables.rib.session_down(A, "gone", 1.0)
    tables.decide()
    assert tables.target(ONE) == by_hop("10.42.1.6")
    tables.rib.session_up(A, BOTH, 2.0)
    tables.tell(first, ONE, now=2.0)
    assert tables.target(ONE) == by_hop("10.42.1.5", "10.42.1.6")
    tables.rib.session_down(B, "gone", 3.0)
    tables.decide()
    assert tables.target(ONE) == by_hop("10.42.1.5"), "the live one"


def test_the_same_attributes_are_judged_for_each_family(tables: Tables) -> None:
    both = path(A, "10.42.1.5")
    tables.tell(both, ONE, "fd00:1::/64")
    assert not tables.learned.routes[p(ONE)].refused
    assert tables.learned.routes[p("fd00:1::/64")].reason == "the next hop 10.42.1.5 is of the other family"


def test_a_peer_of_our_own_as_is_internal(tables: Tables) -> None:
    tables.learned.asns[B] = 64512
    tables.tell(path(A, "10.42.1.5", 1), ONE)
    tables.tell(path(B, "10.42.1.6", 1), ONE)
    assert tables.target(ONE) == by_hop("10.42.1.5"), "external before internal"


def test_decisions_are_made_afresh_when_they_are_forgotten(tables: Tables) -> None:
    tables.tell(path(), ONE)
    before = tables.learned.routes[p(ONE)]
    tables.learned.forget_decisions()
    assert tables.learned.decide(p(ONE)) is not before


def test_the_memory_of_decisions_is_bounded(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    for n in range(10):
        tables.tell(path(A, f"10.42.1.{n + 5}"), f"192.168.{n}.0/26")
    assert len(tables.learned._selections) <= 3
    assert len(tables.learned.routes) == 10


# --- what must be judged again ---------------------------------------------------------------------------------------
small = st.builds(
    lambda n, length: network_of(Prefix(bytes((192, 168, n >> 8, n & 255, 32))), length),
    st.integers(0, 1023), st.integers(14, 32),
)  # fmt: skip


@given(st.sets(small, max_size=30), small)
def test_what_touches_a_block_is_what_overlaps_it(prefixes: set[Prefix], block: Prefix) -> None:
    tables = Tables()
    tables.rib.apply(Update(A, (), ((path(), tuple(prefixes)),)), 0.0)
    tables.rib.apply(Update(B, (), ((path(B), tuple(sorted(prefixes)[::2])),)), 0.0)
    found = list(tables.learned.touching(block))
    assert set(found) == {prefix for prefix in prefixes if overlaps(prefix, block)}
    assert set(tables.learned.covering(block)) == {q for q in found if q[-1] <= block[-1]}


@pytest.mark.parametrize(
    "block", ["192.168.0.0/20", "192.168.0.0/21", "192.168.0.0/22", "fd00::/64", "fd00::/122", "192.168.0.7/32"]
)
def test_large_blocks_are_scanned_and_small_ones_enumerated_with_one_result(tables: Tables, block: str) -> None:
    inside = [network_of(Prefix(p(block)[:-1] + bytes((length,))), length) for length in range(p(block)[-1] + 1, 33)]
    told = [p("192.168.0.0/16"), p("fd00::/16"), p(block), *(q for q in inside if family_of(q) is family_of(p(block)))]
    tables.rib.apply(Update(A, (), ((path(), tuple(told)),)), 0.0)
    assert set(tables.learned.touching(p(block))) == {q for q in told if overlaps(q, p(block))}


def test_enumerating_is_bounded() -> None:
    widest = max(room for room in range(1, 32) if 2 << room <= ENUMERATED)
    assert len(list(module._inside(network_of(p("192.168.0.0/32"), 32 - widest)))) < ENUMERATED


def test_a_changed_next_hop_touches_the_prefixes_it_is_a_candidate_for(tables: Tables) -> None:
    tables.tell(path(A, "10.42.1.5"), ONE, "192.168.3.0/26")
    tables.tell(path(B, "10.42.1.6"), TWO, "192.168.3.0/26", "192.168.4.0/26")
    touched = set(tables.learned.through({parse_address("10.42.1.6")}))
    assert touched == {p(TWO), p("192.168.3.0/26"), p("192.168.4.0/26")}
    assert tables.learned.through(set()) == []


# --- counting --------------------------------------------------------------------------------------------------------
def test_what_policy_lets_in_is_counted_for_each_peer(tables: Tables) -> None:
    tables.tell(path(A), ONE, TWO, "10.0.0.0/8")
    tables.tell(Path(B, None, (65515,)), ONE)
    assert (tables.learned.accepted(A), tables.learned.accepted(B)) == (2, 0)
    assert tables.learned.accepted(A) == 2, "remembered"
    tables.withdraw(A, ONE)
    assert tables.learned.accepted(A) == 1
    assert tables.learned.accepted("203.0.113.9") == 0
    tables.rib.remove_peer(A)
    assert tables.learned.accepted(A) == 1, "until the router has judged its prefixes again"


# --- a peer that puts itself in between ------------------------------------------------------------------------------
OWNER, FAR = "10.42.1.5", "10.42.2.4"


def between(tables: Tables, *, answers: dict[str, tuple[Hop, ...]] | None = None, carrier: bool = True) -> Learned:
    """Two peers that name themselves as next hop; the way to everything but ``OWNER`` is by a gateway."""
    gateway = (Hop(2, parse_address("10.42.1.1")),)
    known: dict[Address, tuple[Hop, ...]] = {parse_address(OWNER): (Hop(2, parse_address(OWNER)),)}
    known |= {parse_address(a): hops for a, hops in (answers or {}).items()}
    peers = frozenset({parse_address(A), parse_address(B)})
    learned = Learned(
        tables.rib,
        ImportPolicy(POOLS, 64512, peers=peers),
        lambda hop: (known.get(hop, gateway), "it does not"),
        8,
        lambda hop: carrier or hop != parse_address(OWNER),
    )
    learned.asns = {A: 65515, B: 65515}
    return learned


def owned(learned: Learned, by: str | None, prefix: str = "192.168.2.0/26") -> None:
    learned.owners = {p(prefix): parse_address(by)} if by else {}
    learned.rib.dirty |= learned.everything()


def test_a_route_whose_peer_put_itself_in_between_goes_straight_to_its_owner_on_the_link(tables: Tables) -> None:
    learned = between(tables)
    for peer in (A, B):
        tables.tell(path(peer, peer), "192.168.2.0/26")
    owned(learned, OWNER)
    found = learned.decide(p("192.168.2.0/26"))
    assert found is not None
    assert found.target == by_hop(OWNER)
    assert found.reason == f"learned from {A} and {B}; straight to {OWNER}, the node that has it, which is on-link"
    owned(learned, None)
    found = learned.decide(p("192.168.2.0/26"))
    assert found is not None
    assert (found.target, found.owner) == (by_hop("10.42.1.1"), None)


@pytest.mark.parametrize(
    ("answers", "carrier"), [({OWNER: (Hop(2, parse_address("10.42.1.1")),)}, True), ({OWNER: ()}, True), ({}, False)]
)
def test_an_owner_that_is_not_on_the_link_is_reached_as_the_peer_says(
    tables: Tables, answers: dict[str, tuple[Hop, ...]], carrier: bool
) -> None:
    learned = between(tables, answers=answers, carrier=carrier)
    tables.tell(path(A, A), "192.168.2.0/26")
    owned(learned, OWNER)
    found = learned.decide(p("192.168.2.0/26"))
    assert found is not None
    assert (found.target, found.reason) == (by_hop("10.42.1.1"), f"learned from {A}")
    assert found.owner == parse_address(OWNER), "the probe may still ask whether it gets the packets"


def test_a_next_hop_that_a_peer_passes_on_is_not_overruled(tables: Tables) -> None:
    learned = between(tables, answers={FAR: (Hop(2, parse_address(FAR)),)})
    tables.tell(path(A, FAR), "192.168.2.0/26")
    owned(learned, OWNER)
    found = learned.decide(p("192.168.2.0/26"))
    assert found is not None
    assert (found.target, found.owner) == (by_hop(FAR), None)


def test_the_owner_is_told_only_where_a_used_path_goes_to_it(tables: Tables) -> None:
    learned = between(tables, answers={FAR: (Hop(2, parse_address(FAR)),)})
    tables.tell(path(A, A, 65515, 64512, 64512), "192.168.2.0/26")
    tables.tell(path(B, FAR), "192.168.2.0/26")
    owned(learned, OWNER)
    found = learned.decide(p("192.168.2.0/26"))
    assert found is not None
    assert (found.target, found.reason) == (by_hop(FAR), f"learned from {B}, better than 1 other")


def test_a_changed_way_to_an_owner_touches_its_prefixes(tables: Tables) -> None:
    learned = between(tables)
    tables.tell(path(A, A), "192.168.2.0/26", "192.168.3.0/26")
    owned(learned, OWNER)
    list(learned.decide_all(tables.rib.dirty))
    assert learned.through({parse_address(OWNER)}) == [p("192.168.2.0/26")]


# --- against the plain way -------------------------------------------------------------------------------------------
events = st.lists(
    st.one_of(
        st.tuples(st.just("tell"), st.sampled_from([A, B]), st.integers(0, 4), st.integers(0, 2)),
        st.tuples(st.just("withdraw"), st.sampled_from([A, B]), st.integers(0, 4)),
        st.tuples(st.just("down"), st.sampled_from([A, B])),
        st.tuples(st.just("up"), st.sampled_from([A, B])),
    ),
    max_size=30,
)


@given(events)
def test_remembered_decisions_are_those_that_would_be_made_now(sequence: list[tuple[object, ...]]) -> None:
    tables, now = Tables(), 0.0
    paths = {(a, n): path(a, f"10.42.1.{n + 5}", *range(1, n + 2)) for a in (A, B) for n in range(3)}
    for event in sequence:
        now += 1.0
        match event:
            case ("tell", str(peer), int(n), int(which)) if tables.rib.tables[peer].up:
                tables.tell(paths[peer, which], f"192.168.{n}.0/26", now=now)
            case ("withdraw", str(peer), int(n)):
                tables.withdraw(peer, f"192.168.{n}.0/26")
            case ("down", str(peer)):
                tables.rib.session_down(peer, "gone", now)
            case ("up", str(peer)) if not tables.rib.tables[peer].up:
                tables.rib.session_up(peer, BOTH, now)
        tables.decide()
        for prefix, decided in tables.learned.routes.items():
            offers = [
                Candidate(t.paths[prefix], prefix in t.stale, refuse_path(POLICY, t.paths[prefix], 65515, Family.IPV4))
                for t in tables.rib.tables.values()
                if prefix in t.paths
            ]
            fresh = select(offers, on_link, 8)
            assert (decided.used, decided.target, decided.reason) == (fresh.used, fresh.target, fresh.reason)
        known = tables.learned.everything()
        assert known == tables.learned.routes.keys() | tables.learned.refused.keys()
        own = OwnBlocks(PrefixSet(), lambda _: False, lambda _: False)
        assert all(refuse_prefix(POLICY, own, prefix) is None for prefix in tables.learned.routes)
