from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.ipam import MAX_ADDRESSES, Affinity, Block, Ipam, Pool
from bgp_agent.core.prefix import Prefix, PrefixSet, covers, host, parse_address, parse_prefix, prefix_text

POOL = parse_prefix("192.168.0.0/16")
ONE = parse_prefix("192.168.1.0/26")
TWO = parse_prefix("192.168.1.64/26")


def address(text: str) -> Prefix:
    return host(parse_address(text))


def node_a(*, export: bool = True, allowed: PrefixSet | None = None) -> Ipam:
    ipam = Ipam("node-a", allowed)
    ipam.pool("pool", Pool(POOL, "pool", export=export))
    return ipam


def claim(
    ipam: Ipam, state: str = "confirmed", *, cidr: Prefix = ONE, node: str = "node-a", going: bool = False
) -> None:
    ipam.affinity(f"{node}-{prefix_text(cidr)}", Affinity(cidr, node, state, going=going))


@pytest.mark.parametrize(("state", "announced"), [("confirmed", True), ("", True), ("pending", False),
                                                  ("pendingDeletion", False), ("Confirmed", False)])  # fmt: skip
def test_only_a_confirmed_affinity_announces(state: str, announced: bool) -> None:
    ipam = node_a()
    claim(ipam, state)
    assert (ipam.own().blocks == {ONE}) is announced


def test_an_affinity_that_is_marked_as_deleted_is_none() -> None:
    ipam = node_a()
    claim(ipam, going=True)
    assert not ipam.own().blocks


def test_another_nodes_affinity_is_nothing_to_us() -> None:
    ipam = node_a()
    claim(ipam, node="node-b")
    assert not ipam.own().blocks


def test_an_affinity_that_moves_to_another_node_is_given_up() -> None:
    ipam = node_a()
    ipam.affinity("one", Affinity(ONE, "node-a", "confirmed"))
    ipam.affinity("one", Affinity(ONE, "node-b", "confirmed"))
    assert not ipam.own().blocks


def test_a_pool_that_must_not_be_exported_withholds_its_blocks_and_addresses() -> None:
    ipam = node_a(export=False)
    claim(ipam)
    ipam.block("two", Block(TWO, "node-b", frozenset({address("192.168.1.70")})))
    own = ipam.own()
    assert not own.blocks
    assert own.withheld == dict.fromkeys([ONE, address("192.168.1.70")], "disableBGPExport is set on IPPool pool")


def test_the_longest_pool_decides() -> None:
    ipam = node_a()
    ipam.pool("inner", Pool(parse_prefix("192.168.1.0/24"), "inner", export=False))
    claim(ipam)
    assert ipam.own().withheld == {ONE: "disableBGPExport is set on IPPool inner"}


def test_a_block_outside_every_pool_is_withheld_and_its_live_addresses_are_not() -> None:
    ipam = Ipam("node-a")
    claim(ipam)
    ipam.block("one", Block(ONE, "node-a", frozenset({address("192.168.1.5")})))
    own = ipam.own()
    assert own.blocks == {address("192.168.1.5")}
    assert own.withheld == {ONE: "outside every IPPool: only its addresses in use are announced"}


def test_the_configured_pools_bound_what_is_announced() -> None:
    ipam = node_a(allowed=PrefixSet([TWO]))
    claim(ipam)
    ipam.block("x", Block(parse_prefix("192.168.2.0/26"), "node-b", frozenset({address("192.168.2.7")})))
    own = ipam.own()
    assert not own.blocks
    assert own.withheld.keys() == {ONE, address("192.168.2.7")}
    assert set(own.withheld.values()) == {"outside the configured `pools`"}


def test_of_two_nodes_that_claim_a_block_the_one_that_its_block_names_has_it() -> None:
    ipam = node_a()
    claim(ipam)
    ipam.block("one", Block(ONE, "node-b"))
    assert ipam.own().withheld == {ONE: "its IPAMBlock belongs to node-b: two nodes claim it"}
    ipam.block("one", Block(ONE, "node-a"))
    assert ipam.own().blocks == {ONE}
    ipam.block("one", None)
    assert ipam.own().blocks == {ONE}


def test_a_borrowed_address_is_announced_by_itself_until_it_is_released() -> None:
    ipam = node_a()
    claim(ipam)
    ipam.block("two", Block(TWO, "node-b", frozenset({address("192.168.1.70")})))
    assert ipam.own().blocks == {ONE, address("192.168.1.70")}
    ipam.block("two", Block(TWO, "node-b"))
    assert ipam.own().blocks == {ONE}


def test_the_addresses_of_an_own_block_need_no_announcement() -> None:
    ipam = node_a()
    claim(ipam)
    ipam.block("one", Block(ONE, "node-a", frozenset({address("192.168.1.5")})))
    assert ipam.own().blocks == {ONE}


def test_a_block_that_lost_its_owner_leaves_its_live_addresses() -> None:
    ipam = node_a()
    claim(ipam)
    ipam.block("one", Block(ONE, None, frozenset({address("192.168.1.5")})))
    claim(ipam, "pendingDeletion")
    assert ipam.own().blocks == {address("192.168.1.5")}
    ipam.pool("pool", None)
    assert ipam.own().blocks == {address("192.168.1.5")}


def test_twenty_thousand_borrowed_addresses_do_not_flood_the_network() -> None:
    ipam = node_a()
    first = int.from_bytes(POOL[:-1], "big")
    used = frozenset(Prefix((first + n).to_bytes(4, "big") + bytes([32])) for n in range(20_000))
    ipam.block("huge", Block(parse_prefix("192.168.0.0/17"), "node-b", used))
    own = ipam.own()
    assert (len(own.blocks), len(own.withheld)) == (MAX_ADDRESSES, 20_000 - MAX_ADDRESSES)


def test_where_pods_live_is_the_pools_and_the_blocks_that_outlived_them() -> None:
    ipam = node_a()
    assert ipam.pools() == PrefixSet([POOL])
    ipam.block("one", Block(ONE, "node-b"))
    stray = parse_prefix("10.9.0.0/26")
    ipam.block("stray", Block(stray, None))
    assert ipam.pools() == PrefixSet([POOL, stray])
    ipam.block("stray", Block(stray, "node-c"))
    assert ipam.pools() == PrefixSet([POOL, stray])
    ipam.block("stray", None)
    ipam.pool("pool", None)
    assert ipam.pools() == PrefixSet([ONE])


def test_the_reason_counts_and_names() -> None:
    ipam = node_a()
    claim(ipam)
    assert ipam.reason(ipam.own()) == "1 block of node-a"
    ipam.block("x", Block(TWO, "node-b", frozenset({address("192.168.1.70")})))
    claim(ipam, cidr=parse_prefix("10.0.0.0/26"))
    assert ipam.reason(ipam.own()) == (
        "1 block of node-a, 1 address outside of them; 1 prefix withheld, such as 10.0.0.0/26: "
        "outside every IPPool: only its addresses in use are announced"
    )


CIDRS = [parse_prefix(f"192.168.1.{n}/30") for n in (0, 4, 8)]
NODES = ["node-a", "node-b"]
facts = st.one_of(
    st.tuples(st.just("affinity"), st.sampled_from(CIDRS), st.sampled_from(NODES),
              st.sampled_from(["confirmed", "pending", "pendingDeletion", None])),
    st.tuples(st.just("block"), st.sampled_from(CIDRS), st.sampled_from([*NODES, None]),
              st.sampled_from([None, frozenset(), frozenset({0}), frozenset({1, 3})])),
    st.tuples(st.just("pool"), st.just(CIDRS[0]), st.just(None), st.sampled_from([True, False, None])),
)  # fmt: skip


def apply(ipam: Ipam, fact: tuple[str, Prefix, str | None, object]) -> None:
    kind, cidr, node, value = fact
    name = prefix_text(cidr)
    match kind, value:
        case "affinity", str() | None as state:
            ipam.affinity(f"{node}-{name}", None if state is None else Affinity(cidr, node or "", state))
        case "block", frozenset() | None as ordinals:
            first = int.from_bytes(cidr[:-1], "big")
            used = frozenset(Prefix((first + n).to_bytes(4, "big") + bytes([32])) for n in ordinals or ())
            ipam.block(name, None if ordinals is None else Block(cidr, node, used))
        case _:
            ipam.pool("pool", None if value is None else Pool(POOL, "pool", export=bool(value)))


@given(st.lists(facts, max_size=30), st.randoms())
def test_only_the_last_word_on_each_object_counts_whatever_the_order_of_the_others(
    history: list[tuple[str, Prefix, str | None, object]], random: object
) -> None:
    """An agent that saw everything and one that has just listed, in any order, announce the same."""
    seen, listed = Ipam("node-a"), Ipam("node-a")
    last = {}
    for fact in history:
        apply(seen, fact)
        seen.pools()
        last[fact[0], fact[1], fact[2] if fact[0] == "affinity" else None] = fact
    shuffled = list(last.values())
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    for fact in shuffled:
        apply(listed, fact)
    assert seen.own() == listed.own()
    assert seen.pools() == listed.pools()


@given(st.lists(facts, max_size=30))
def test_every_address_that_the_node_uses_is_announced_or_withheld_with_a_reason(
    history: list[tuple[str, Prefix, str | None, object]],
) -> None:
    ipam = Ipam("node-a")
    used: dict[Prefix, frozenset[Prefix]] = {}
    for fact in history:
        apply(ipam, fact)
        used = {block.cidr: block.used for block in ipam._blocks.values()}
        own = ipam.own()
        for each in (a for addresses in used.values() for a in addresses):
            assert any(covers(block, each) for block in own.blocks) or each in own.withheld
        assert not own.blocks & own.withheld.keys()
