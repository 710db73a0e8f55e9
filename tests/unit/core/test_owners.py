"""Who has a block, and where: whatever the order in which it was told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.ipam import Block
from bgp_agent.core.owners import Owners
from bgp_agent.core.prefix import Address, Prefix, parse_address, parse_prefix

ONE, TWO = parse_prefix("192.168.1.0/26"), parse_prefix("192.168.2.0/26")
BORROWED = parse_prefix("192.168.2.5/32")
V6 = parse_prefix("fd00:1::/122")
AT: dict[str, tuple[Address, ...]] = {
    name: (parse_address(f"10.0.0.{n}"), parse_address(f"fd99::{n}")) for n, name in enumerate("abc", 4)
}


def known(*blocks: Block) -> Owners:
    owners = Owners("a")
    owners.nodes(AT)
    for n, block in enumerate(blocks):
        owners.block(str(n), block)
    return owners


def test_a_block_is_where_its_owner_is_in_its_own_family() -> None:
    owners = known(Block(TWO, "b"), Block(V6, "c"))
    assert owners.take_changes() == {TWO: AT["b"][0], V6: AT["c"][1]}
    assert owners.take_changes() == {}


def test_an_own_block_and_one_without_owner_are_nowhere() -> None:
    assert known(Block(ONE, "a"), Block(TWO, None)).take_changes() == {}


def test_an_address_is_where_it_is_used_not_where_its_block_is() -> None:
    owners = known(Block(TWO, "b", elsewhere=((BORROWED, "c"),)))
    assert owners.take_changes() == {TWO: AT["b"][0], BORROWED: AT["c"][0]}
    owners.block("0", Block(TWO, "b"))
    assert owners.take_changes() == {BORROWED: None}


def test_a_block_of_one_address_is_where_that_address_is_used() -> None:
    assert known(Block(BORROWED, "b", elsewhere=((BORROWED, "c"),))).take_changes() == {BORROWED: AT["c"][0]}


def test_a_block_that_moves_is_told_once_with_its_new_place() -> None:
    owners = known(Block(TWO, "b"))
    owners.take_changes()
    owners.block("0", Block(TWO, "c"))
    assert owners.take_changes() == {TWO: AT["c"][0]}
    owners.block("0", Block(TWO, "c", going=True))
    assert owners.take_changes() == {TWO: None}


def test_a_node_that_gets_another_address_or_goes_takes_its_blocks_along() -> None:
    owners = known(Block(TWO, "b"))
    owners.take_changes()
    owners.nodes({"b": AT["c"]})
    assert owners.take_changes() == {TWO: AT["c"][0]}
    owners.nodes({"b": None})
    assert owners.take_changes() == {TWO: None}


def test_what_is_in_doubt_is_taken_back_and_told_again_when_it_is_not() -> None:
    owners = known(Block(TWO, "b"))
    assert owners.doubt() == {}
    owners.trust()
    owners.take_changes()
    assert owners.doubt() == {TWO: None}
    owners.block("0", Block(TWO, "c"))
    owners.trust()
    assert owners.take_changes() == {TWO: AT["c"][0]}


prefixes = st.sampled_from([ONE, TWO])
facts = st.lists(
    st.one_of(
        st.tuples(
            st.just("block"),
            st.sampled_from(["x", "y"]),
            st.none() | st.builds(Block, prefixes, st.none() | st.sampled_from("abc")),
        ),
        st.tuples(st.just("node"), st.sampled_from("abc"), st.none() | st.sampled_from(list(AT.values()))),
        st.tuples(st.just("look"), st.none(), st.none()),
    ),
    max_size=20,
)


@given(facts)
def test_what_was_told_is_what_the_last_word_on_each_object_says(sequence: list[tuple[str, str, object]]) -> None:
    owners, told = Owners("a"), dict[Prefix, Address]()
    blocks: dict[str, Block] = {}
    nodes: dict[str, tuple[Address, ...]] = {}

    def look() -> None:
        for prefix, address in owners.take_changes().items():
            told.pop(prefix, None)
            if address is not None:
                told[prefix] = address

    for what, name, value in sequence:
        if what == "look":
            look()
        elif what == "node":
            assert value is None or isinstance(value, tuple)
            owners.nodes({name: value})
            nodes.pop(name, None)
            if value is not None:
                nodes[name] = value
        else:
            assert value is None or isinstance(value, Block)
            if value is not None and any(n != name and b.cidr == value.cidr for n, b in blocks.items()):
                continue  # the name of an IPAMBlock is made of its CIDR
            owners.block(name, value)
            blocks.pop(name, None)
            if value is not None:
                blocks[name] = value
    look()
    expected = {b.cidr: nodes[b.owner][0] for b in blocks.values() if b.owner not in {None, "a"} and b.owner in nodes}
    assert told == expected
