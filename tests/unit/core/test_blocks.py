"""The life of an own block: every phase, every event, and the times in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.blocks import LET_GO, TRANSITIONS, OwnBlockTable, Phase
from bgp_agent.core.prefix import Prefix, parse_prefix
from bgp_agent.core.values import Blocks, SourceState

ONE, TWO = parse_prefix("192.168.1.0/26"), parse_prefix("192.168.2.0/26")
EVENTS = ("wanted", "unwanted", "gate open", "acknowledged", "let go")

#: What the table must say, written a second time: (phase, event) -> phase, "gone", or the phase itself for no change.
EXPECTED = {
    Phase.GATED: (Phase.GATED, Phase.RELEASING, Phase.OFFERED, Phase.GATED, Phase.GATED),
    Phase.OFFERED: (Phase.OFFERED, Phase.WITHDRAWING, Phase.OFFERED, Phase.OFFERED, Phase.OFFERED),
    Phase.WITHDRAWING: (Phase.OFFERED, Phase.WITHDRAWING, Phase.WITHDRAWING, Phase.RELEASING, Phase.WITHDRAWING),
    Phase.RELEASING: (Phase.GATED, Phase.RELEASING, Phase.RELEASING, Phase.RELEASING, None),
}


def says(*blocks: Prefix, state: SourceState = SourceState.SYNCED) -> Blocks:
    return Blocks("file", state, "words", frozenset(blocks))


def table_in(phase: Phase, now: float = 0.0) -> OwnBlockTable:
    """A table whose block ONE got into a phase in the ordinary way."""
    table = OwnBlockTable()
    table.source_says(says(ONE), now)
    if phase is not Phase.GATED:
        table.gate_open(ONE, now)
    if phase in (Phase.WITHDRAWING, Phase.RELEASING):
        table.source_says(says(), now)
    if phase is Phase.RELEASING:
        table.acknowledged(ONE, now)
    assert table.blocks[ONE].phase is phase
    table.dirty.clear()
    return table


def happens(table: OwnBlockTable, event: str, now: float) -> None:
    match event:
        case "wanted":
            table.source_says(says(ONE), now)
        case "unwanted":
            table.source_says(says(), now)
        case "gate open":
            table.gate_open(ONE, now)
        case "acknowledged":
            table.acknowledged(ONE, now)
        case _:
            table.let_go(ONE, now)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("phase", list(Phase))
def test_every_event_in_every_phase(phase: Phase, event: str) -> None:
    table = table_in(phase)
    happens(table, event, 7.0)
    after = EXPECTED[phase][EVENTS.index(event)]
    if after is None:
        assert (table.blocks, table.gone, table.dirty) == ({}, {ONE}, {ONE})
        return
    assert table.blocks[ONE].phase is after
    moved = after is not phase
    assert table.dirty == ({ONE} if moved else set())
    assert table.blocks[ONE].since == (7.0 if moved else 0.0)


def test_the_table_has_no_event_that_nothing_raises() -> None:
    assert {event for _, event in TRANSITIONS} <= set(EVENTS)
    assert {phase for phase, _ in TRANSITIONS} == set(Phase)


def test_an_event_for_a_block_that_is_unknown_changes_nothing() -> None:
    table = OwnBlockTable()
    table.gate_open(ONE, 0.0)
    table.let_go(ONE, 0.0)
    assert (table.blocks, table.dirty, table.gone) == ({}, set(), set())
    assert not table.held(ONE)


# --- the source ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", [SourceState.STALE, SourceState.WAITING])
def test_a_source_that_lost_the_truth_takes_nothing_away_and_may_add(state: SourceState) -> None:
    table = OwnBlockTable()
    table.source_says(says(ONE), 0.0)
    table.source_says(says(TWO, state=state), 1.0)
    assert table.in_phase(Phase.GATED) == [ONE, TWO]
    assert table.source.state is state


def test_only_a_synced_source_has_synced_once() -> None:
    table = OwnBlockTable()
    table.source_says(says(ONE, state=SourceState.STALE), 0.0)
    assert not table.synced_once
    table.source_says(says(), 1.0)
    assert table.synced_once
    table.source_says(says(state=SourceState.STALE), 2.0)
    assert table.synced_once


def test_a_source_that_lost_the_truth_gives_up_what_it_can_prove_to_be_gone() -> None:
    table = OwnBlockTable()
    table.source_says(says(ONE, TWO), 0.0)
    table.source_says(Blocks("calico", SourceState.STALE, "", frozenset(), gone=frozenset({TWO})), 1.0)
    assert table.in_phase(Phase.GATED) == [ONE]


def test_the_heirs_of_a_block_that_is_given_up_are_the_addresses_in_it() -> None:
    inside, outside = parse_prefix("192.168.1.5/32"), parse_prefix("10.9.9.9/32")
    table = OwnBlockTable()
    table.source_says(says(ONE), 0.0)
    table.source_says(says(inside, outside), 1.0)
    assert table.heirs(ONE) == [inside]
    assert table.heir_of == {inside: ONE}
    assert not table.heirs(inside)
    table.source_says(says(), 2.0)
    assert not table.heirs(ONE)


# --- letting go ------------------------------------------------------------------------------------------------------
def test_a_block_that_nobody_was_told_of_is_let_go_at_once() -> None:
    table = table_in(Phase.GATED)
    table.source_says(says(), 5.0)
    assert table.next_timer() == 5.0
    table.handle_timer(5.0)
    assert table.gone == {ONE}
    assert table.next_timer() is None


def test_a_withdrawn_block_is_kept_while_the_network_forgets() -> None:
    table = table_in(Phase.WITHDRAWING)
    table.acknowledged(ONE, 10.0)
    assert not table.held(ONE)
    assert table.next_timer() == 10.0 + LET_GO
    table.handle_timer(10.0 + LET_GO - 0.1)
    assert ONE in table.blocks
    table.handle_timer(10.0 + LET_GO)
    assert table.blocks == {}


def test_a_block_that_is_wanted_again_is_not_let_go_by_the_old_time() -> None:
    table = table_in(Phase.RELEASING)
    table.source_says(says(ONE), 30.0)
    table.handle_timer(1000.0)
    assert table.blocks[ONE].phase is Phase.GATED
    assert table.next_timer() is None


# --- adopting --------------------------------------------------------------------------------------------------------
def test_what_stood_in_the_kernel_is_gated_and_what_was_announced_is_offered() -> None:
    table = OwnBlockTable()
    table.adopt([ONE], announced=False, now=0.0)
    table.adopt([TWO], announced=True, now=0.0)
    assert (table.in_phase(Phase.GATED), table.in_phase(Phase.OFFERED)) == ([ONE], [TWO])
    assert all(block.adopted for block in table.blocks.values())
    assert table.unread(ONE)
    assert not table.unread(TWO)


def test_an_adopted_block_that_the_source_names_is_an_ordinary_one() -> None:
    table = OwnBlockTable()
    table.adopt([ONE], announced=False, now=0.0)
    table.dirty.clear()
    table.source_says(says(ONE), 1.0)
    assert table.dirty == {ONE}
    assert not table.blocks[ONE].adopted
    assert not table.unread(ONE)
    table.source_says(says(), 2.0)
    table.handle_timer(2.0)
    assert table.gone == {ONE}


def test_an_adopted_block_that_a_synced_source_does_not_name_waits_as_if_it_had_been_announced() -> None:
    table = OwnBlockTable()
    table.adopt([ONE], announced=False, now=0.0)
    table.source_says(says(), 5.0)
    assert table.blocks[ONE].phase is Phase.RELEASING
    assert table.next_timer() == 5.0 + LET_GO


@pytest.mark.parametrize(
    ("phase", "after"),
    [
        (Phase.GATED, Phase.OFFERED),
        (Phase.OFFERED, Phase.OFFERED),
        (Phase.WITHDRAWING, Phase.WITHDRAWING),
        (Phase.RELEASING, Phase.WITHDRAWING),
    ],
)
def test_a_known_block_that_is_found_announced_has_to_be_withdrawn_before_it_is_let_go(
    phase: Phase, after: Phase
) -> None:
    table = table_in(phase)
    table.adopt([ONE], announced=True, now=3.0)
    assert table.blocks[ONE].phase is after
    assert table.dirty == {ONE}
    table.handle_timer(1000.0)
    assert ONE in table.blocks


def test_a_known_block_that_is_found_in_the_kernel_is_what_it_was() -> None:
    table = table_in(Phase.WITHDRAWING)
    table.adopt([ONE], announced=False, now=3.0)
    assert table.blocks[ONE].phase is Phase.WITHDRAWING


def test_a_stranger_that_is_found_announced_is_withdrawn_when_the_source_has_spoken() -> None:
    table = OwnBlockTable()
    table.source_says(says(ONE), 0.0)
    table.adopt([TWO], announced=True, now=1.0)
    assert table.blocks[TWO].phase is Phase.WITHDRAWING


# --- whatever happens ------------------------------------------------------------------------------------------------
moves = st.lists(st.tuples(st.sampled_from([*EVENTS, "stale", "adopt", "found", "time"]), st.floats(0, 100)))


@given(moves)
def test_a_block_leaves_only_unwanted_and_its_time_is_set_only_while_it_is_released(
    sequence: list[tuple[str, float]],
) -> None:
    table, now, wanted = OwnBlockTable(), 0.0, False
    for event, seconds in sequence:
        now += seconds
        match event:
            case "stale":
                table.source_says(says(state=SourceState.STALE), now)
            case "adopt" | "found":
                table.adopt([ONE], announced=event == "found", now=now)
            case "time":
                table.handle_timer(now)
            case _:
                happens(table, event, now)
        wanted = event == "wanted" or (wanted and event != "unwanted")
        block = table.blocks.get(ONE)
        if block is None:
            assert not wanted
            continue
        assert (block.until is not None) == (block.phase is Phase.RELEASING)
        assert not (wanted and block.phase in (Phase.WITHDRAWING, Phase.RELEASING))
        assert table.next_timer() == block.until
