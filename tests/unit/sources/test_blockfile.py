from __future__ import annotations

import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.prefix import Prefix, PrefixSet, overlaps, parse_prefix, prefix_text
from bgp_agent.sources.blockfile import MAX_BLOCKS, parse

POOLS = PrefixSet([parse_prefix("192.168.0.0/16"), parse_prefix("fd00:10::/32")])


def blocks(*texts: str) -> frozenset[Prefix]:
    return frozenset(map(parse_prefix, texts))


def test_the_documented_file() -> None:
    found = parse("blocks: [{cidr: 192.168.1.0/26}, {cidr: 192.168.1.64/26}]", POOLS)
    assert found.blocks == blocks("192.168.1.0/26", "192.168.1.64/26")
    assert found.readable
    assert found.problems == ()


def test_both_families_in_block_style() -> None:
    found = parse("blocks:\n- cidr: 192.168.1.0/26\n- cidr: fd00:10:0:1::/64\n", POOLS)
    assert found.blocks == blocks("192.168.1.0/26", "fd00:10:0:1::/64")
    assert found.problems == ()


def test_an_empty_list_is_a_good_file_without_blocks() -> None:
    found = parse("blocks: []\n", POOLS)
    assert (found.blocks, found.problems, found.readable) == (frozenset(), (), True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("# nothing\n", "it is empty"),
        ("~", "it is empty"),
        ("- cidr: 192.168.1.0/26", "must be a mapping with the key `blocks`"),
        ("192.168.1.0/26", "must be a mapping"),
        ("block: []", "the key `blocks` is missing, there is 'block'"),
        ("blocks:", "`blocks` must be a list"),
        ("blocks: {cidr: 192.168.1.0/26}", "`blocks` must be a list"),
        ("blocks: 192.168.1.0/26", "`blocks` must be a list"),
        ("blocks: [{cidr: 192.168.1.0/26}", "did not find expected"),
        ("blocks:\n- cidr: 192.168.1.0/26\n  cidr: 192.168.2.0/26", "line 3: the key 'cidr' stands here twice"),
        ("blocks: []\nblocks: []", "line 2: the key 'blocks' stands here twice"),
        ("blocks: []\n---\nblocks: []", "line 2: a second document"),
        ("\x00", "a character that YAML does not allow"),
        ("a: &a [1]\nblocks: " + "[" * 40, "nested deeper than 32"),
    ],
)
def test_what_is_no_block_file_says_so_and_where(text: str, reason: str) -> None:
    found = parse(text, POOLS)
    assert not found.readable
    assert found.blocks == frozenset()
    assert reason in found.reason


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{cidr: 10.0.0.0/26}", "10.0.0.0/26 is outside the pools"),
        ("{cidr: 192.0.0.0/8}", "192.0.0.0/8 is outside the pools"),
        ("{cidr: 0.0.0.0/0}", "0.0.0.0/0 is outside the pools"),
        ("{cidr: '::/0'}", "::/0 is outside the pools"),
        ("{cidr: 192.168.1.1/26}", "has host bits set; the prefix is 192.168.1.0/26"),
        ("{cidr: 192.168.1.0}", "has no length"),
        ("{cidr: 192.168.1.0/33}", "the length is not a number from 0 to 32"),
        ("{cidr: 192.168.1.0/-1}", "the length is not a number"),
        ("{cidr: 192.168.01.0/26}", "is not an IPv4 or IPv6 address"),
        ("{cidr: 26}", "26 is no prefix"),
        ("{cidr: null}", "an empty entry is no prefix"),
        ("{cidr: [192.168.1.0/26]}", "is no prefix"),
        ("{cdir: 192.168.1.0/26}", "the key `cidr` is missing, there is 'cdir'"),
        ("{cidr: 192.168.1.0/26, node: a}", "unknown key 'node'"),
        ("192.168.1.0/26", "is no block: write {cidr: 192.168.1.0/26}"),
        ("", "an empty entry is no block"),
        ("{cidr: 192.168.9.0/24}", "192.168.9.0/24 stands here twice"),
        ("{cidr: 192.168.9.0/26}", "192.168.9.0/26 overlaps 192.168.9.0/24: keep one"),
    ],
)
def test_one_bad_entry_is_refused_with_its_line_and_hides_no_other(entry: str, reason: str) -> None:
    found = parse(
        f"blocks:\n- cidr: 192.168.8.0/24\n- cidr: 192.168.9.0/24\n- {entry}\n- cidr: 192.168.7.0/24\n", POOLS
    )
    assert found.readable
    assert blocks("192.168.8.0/24", "192.168.7.0/24") <= found.blocks
    assert reason in found.reason
    assert "line 4: " in found.reason


def test_of_two_blocks_that_overlap_neither_is_taken() -> None:
    found = parse("blocks: [{cidr: 192.168.9.0/24}, {cidr: 192.168.9.64/26}, {cidr: 192.168.10.0/24}]", POOLS)
    assert found.blocks == blocks("192.168.10.0/24")


def test_an_unknown_key_beside_blocks_is_a_problem() -> None:
    found = parse("blocks: [{cidr: 192.168.9.0/24}]\nblock: []\n", POOLS)
    assert found.blocks == blocks("192.168.9.0/24")
    assert found.problems == ("line 2: unknown key 'block': only `blocks` stands here",)


def test_many_problems_are_counted_and_not_all_listed() -> None:
    found = parse("blocks: [" + ", ".join(["x"] * 1000) + "]", POOLS)
    assert len(found.problems) == 1000
    assert len(found.reason) < 500
    assert found.reason.endswith("; and 997 more")


def test_a_file_with_too_many_entries_is_refused() -> None:
    found = parse("blocks: [" + "x," * (MAX_BLOCKS + 1) + "]", POOLS)
    assert not found.readable
    assert "more than 100,000" in found.reason


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    found = parse("\n".join([*lines, "blocks: *a8"]), POOLS)
    assert not found.readable
    assert "aliases counted as often as they are used" in found.reason


prefixes = st.builds(
    lambda address, length: ipaddress.ip_network((address << 8, length), strict=False),
    st.integers(0xC0A800, 0xC0A8FF),
    st.integers(16, 32),
)


@given(st.lists(prefixes, max_size=12))
def test_what_is_taken_never_overlaps_and_all_of_it_was_written(networks: list[ipaddress.IPv4Network]) -> None:
    found = parse("blocks: [" + ", ".join(f"{{cidr: {network}}}" for network in networks) + "]", POOLS)
    written = [parse_prefix(str(network)) for network in networks]
    lonely = {p for p in written if not any(overlaps(p, q) for q in set(written) - {p})}
    assert found.blocks == lonely
    assert bool(found.problems) == (len(written) != len(lonely))


@given(st.text())
def test_no_text_raises(text: str) -> None:
    found = parse(text, POOLS)
    assert found.problems


@given(st.data())
def test_a_file_cut_short_in_flow_style_is_never_a_smaller_truth(data: st.DataObject) -> None:
    text = "blocks: [{cidr: 192.168.1.0/26}, {cidr: 192.168.2.0/26}]"
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    assert parse(cut, POOLS).problems


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["blocks", "cidr", "x"]), x),
    )
)
def test_no_shape_raises(value: object) -> None:
    found = parse(json.dumps(value), POOLS)
    assert found.problems or value == {"blocks": []}
    assert all(prefix_text(prefix) for prefix in found.blocks)
