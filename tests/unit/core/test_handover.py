"""BGP to route table and back: the table of transitions, its evidence, and a world that does its worst."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bgp_agent.core.handover import MAX_DOUBLINGS, TRANSITIONS, Answer, Event, Facts, Handover, Mode, State, Times
from bgp_agent.core.prefix import Prefix, parse_prefix

A, B, C = (parse_prefix(f"192.168.{n}.0/26") for n in (1, 2, 3))
BLOCKS = frozenset({A, B})
NONE: frozenset[Prefix] = frozenset()
TIMES = Times(after=10.0, revert_after=60.0, settle=30.0)
GOOD = Facts(BLOCKS, enough=True, acknowledged=BLOCKS, present=NONE)
BAD = replace(GOOD, enough=False, acknowledged=NONE, peers="0 of 2 peers established")
WRITTEN = replace(BAD, present=BLOCKS, in_effect=BLOCKS)
BACK = replace(GOOD, present=BLOCKS, in_effect=BLOCKS)
#: After the canary's route is out.
OUT = replace(BACK, present=frozenset({B}), in_effect=frozenset({B}))


def handover(mode: Mode = Mode.STANDBY) -> Handover:
    return Handover(mode, TIMES, 0.0)


def fallen_back() -> Handover:
    """In FALLBACK at 10.0, with everything written."""
    made = handover()
    made.look(BAD, 0.0)
    made.look(WRITTEN, 10.0)
    assert made.state is State.FALLBACK
    return made


def with_canary() -> Handover:
    """In CANARY at 80.0, the canary's route still in the table."""
    made = fallen_back()
    made.look(BACK, 20.0)
    made.look(BACK, 80.0)
    assert made.state is State.CANARY
    return made


def test_with_enough_peers_nothing_is_wanted_of_the_table() -> None:
    made = handover()
    made.look(GOOD, 1.0)
    assert (made.state, made.wanted, made.next_timer()) == (State.BGP, NONE, None)


def test_too_few_peers_for_long_enough_put_every_block_into_the_table() -> None:
    made = handover()
    made.look(BAD, 0.0)
    assert (made.state, made.wanted, made.next_timer()) == (State.SHORT, NONE, 10.0)
    assert made.explain(BAD, 4.0).endswith("the route table takes over in 6 s")
    made.look(BAD, 9.9)
    assert made.state is State.SHORT
    made.look(BAD, 10.0)
    assert (made.state, made.wanted) == (State.FALLBACK, BLOCKS)
    assert made.reason == "`fallback.after` has passed"


def test_peers_that_are_back_in_time_cost_nothing() -> None:
    made = handover()
    made.look(BAD, 0.0)
    made.look(GOOD, 9.0)
    made.look(BAD, 12.0)
    made.look(BAD, 21.0)
    assert made.state is State.SHORT, "the time counts from the last loss"


def test_a_block_that_is_not_acknowledged_yet_takes_the_others_nowhere() -> None:
    made = handover()
    made.look(replace(GOOD, acknowledged=frozenset({A})), 0.0)
    made.look(replace(GOOD, acknowledged=frozenset({A})), 100.0)
    assert (made.state, made.wanted) == (State.BGP, NONE)


def test_with_after_0_the_table_takes_over_at_once() -> None:
    made = Handover(Mode.STANDBY, replace(TIMES, after=0.0), 0.0)
    made.look(BAD, 0.0)
    assert made.state is State.FALLBACK


def test_the_return_waits_then_one_block_goes_first_then_the_others() -> None:
    made = fallen_back()
    made.look(BACK, 20.0)
    assert (made.state, made.wanted, made.next_timer()) == (State.RETURNING, BLOCKS, 80.0)
    assert made.explain(BACK, 30.0).endswith("takes over if it stays so for another 50 s")
    made.look(BACK, 80.0)
    assert (made.state, made.canary, made.wanted) == (State.CANARY, A, frozenset({B}))
    assert "taking out the route of 192.168.1.0/26 first" in made.explain(BACK, 80.0)
    made.look(BACK, 120.0)
    assert made.next_timer() is None, "it is watched from the moment its route is out"
    made.look(OUT, 121.0)
    assert made.next_timer() == 151.0
    assert made.explain(OUT, 131.0).endswith("192.168.1.0/26 is watched for another 20 s")
    made.look(replace(OUT, answer=Answer.ANSWERED), 151.0)
    assert (made.state, made.wanted) == (State.BGP, NONE)
    assert made.reason == "192.168.1.0/26 was answered by BGP alone for 30 s"


def test_where_nobody_can_be_asked_it_says_so() -> None:
    made = with_canary()
    made.look(OUT, 81.0)
    made.look(OUT, 111.0)
    assert made.state is State.BGP
    assert made.reason.startswith("not proved")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(OUT, answer=Answer.SILENT), "fell silent"),
        (replace(OUT, denied="instance 1 does not have it"), "instance 1 does not have it"),
        (replace(OUT, enough=False), "fewer peers"),
        (replace(OUT, acknowledged=frozenset({B})), "fewer peers"),
    ],
)
def test_whatever_speaks_against_the_canary_brings_its_route_back(facts: Facts, words: str) -> None:
    made = with_canary()
    made.look(OUT, 81.0)
    made.look(facts, 90.0)
    assert made.wanted == BLOCKS
    assert words in made.reason


def test_each_return_that_the_network_does_not_honour_makes_the_next_one_wait_longer() -> None:
    made, now = with_canary(), 80.0
    for failures in range(1, MAX_DOUBLINGS + 3):
        made.look(replace(OUT, answer=Answer.SILENT), now)
        assert made.failures == failures
        assert made.patience == 60.0 * 2 ** min(failures, MAX_DOUBLINGS)
        made.look(BACK, now)
        made.look(BACK, now + made.patience - 1)
        assert made.wanted == BLOCKS
        now += made.patience
        made.look(BACK, now)
        assert made.canary == A
    made.look(OUT, now)
    made.look(OUT, now + 30.0)
    assert (made.state, made.failures) == (State.BGP, MAX_DOUBLINGS + 2), "one block that was proved is not all"
    made.look(BAD, now + 30.0 + made.patience)
    assert made.patience == 60.0, "BGP that lasted is"


def test_blocks_that_bgp_does_not_carry_after_a_good_canary_do_not_come_and_go_for_ever() -> None:
    made, now, waits = fallen_back(), 20.0, []
    for _ in range(4):
        made.look(BACK, now)
        waits.append(made.patience)
        now += made.patience
        for facts, seconds in ((BACK, 0.0), (OUT, 1.0), (OUT, 30.0), (GOOD, 1.0)):
            now += seconds
            made.look(facts, now)
        assert made.wanted == NONE
        made.look(replace(GOOD, denied="192.168.2.0/26 is not in effect"), now)
        now += 10.0
        made.look(replace(GOOD, denied="192.168.2.0/26 is not in effect"), now)
        assert made.wanted == BLOCKS
    assert waits == [60.0, 120.0, 240.0, 480.0]


def test_mode_off_with_a_lost_peer_waits_for_no_timer() -> None:
    made = handover(Mode.OFF)
    made.look(BAD, 0.0)
    assert (made.state, made.next_timer()) == (State.SHORT, None), "a timer in the past would never rest"


@pytest.mark.parametrize("before", [GOOD, BAD])
def test_a_route_of_a_former_owner_that_turns_up_is_put_right_and_then_taken_out(before: Facts) -> None:
    made = handover()
    made.look(before, 0.0)
    strayed = replace(before, present=frozenset({A}), astray=frozenset({A}))
    made.look(strayed, 5.0)
    assert (made.state, made.wanted) == (State.FALLBACK if before is BAD else State.RETURNING, BLOCKS)


def test_a_route_that_is_led_astray_while_the_last_ones_are_taken_out_is_put_right() -> None:
    made = with_canary()
    made.look(OUT, 81.0)
    made.look(OUT, 111.0)
    assert made.state is State.BGP
    made.look(replace(OUT, in_effect=NONE, astray=frozenset({B})), 112.0)
    assert made.wanted == BLOCKS


def test_routes_of_others_in_a_shared_table_are_no_reason_to_leave_bgp() -> None:
    made = handover()
    made.look(replace(GOOD, present=frozenset({C}), astray=frozenset({C})), 0.0)
    assert (made.state, made.wanted) == (State.BGP, NONE)


def test_a_return_that_failed_is_waited_for_even_with_revert_after_0() -> None:
    made = Handover(Mode.STANDBY, Times(after=0.0, revert_after=0.0, settle=0.0), 0.0)
    made.look(WRITTEN, 0.0)
    made.look(BACK, 1.0)
    made.look(replace(OUT, answer=Answer.SILENT), 2.0)
    assert (made.state, made.next_timer()) == (State.RETURNING, 4.0)


def test_what_speaks_against_bgp_stops_the_return_before_it_begins() -> None:
    made = fallen_back()
    denied = replace(BACK, denied="propagation is off in subnet pods")
    made.look(denied, 20.0)
    made.look(denied, 500.0)
    assert (made.state, made.wanted) == (State.FALLBACK, BLOCKS)
    assert made.explain(denied, 500.0).endswith("BGP is not returned to: propagation is off in subnet pods")
    made.look(BACK, 500.0)
    assert (made.state, made.next_timer()) == (State.RETURNING, 560.0)


def test_bgp_that_the_network_does_not_honour_any_more_is_left() -> None:
    made = handover()
    made.look(GOOD, 0.0)
    denied = replace(GOOD, denied="propagation is off in subnet pods")
    made.look(denied, 100.0)
    made.look(denied, 110.0)
    assert (made.state, made.wanted) == (State.FALLBACK, BLOCKS)


def test_the_return_says_that_it_waits_for_acknowledgements() -> None:
    made = fallen_back()
    half = replace(BACK, acknowledged=frozenset({A}))
    made.look(half, 20.0)
    assert (made.state, made.wanted) == (State.FALLBACK, BLOCKS)
    assert made.explain(half, 20.0).endswith("waiting for every block to be acknowledged by the peers")


def test_a_flapping_peer_never_takes_a_route_out() -> None:
    made = fallen_back()
    for now in range(20, 1000, 50):
        made.look(BACK, float(now))
        made.look(BACK, now + 49.0)
        made.look(WRITTEN, now + 49.5)
        assert made.wanted == BLOCKS


def test_an_agent_that_finds_routes_of_its_own_goes_on_from_there() -> None:
    made = handover()
    made.look(replace(GOOD, present=None), 0.0)
    assert made.wanted == NONE
    made.look(BACK, 1.0)
    assert (made.state, made.wanted) == (State.RETURNING, BLOCKS)


def test_routes_found_before_the_peers_are_back_stay() -> None:
    made = handover()
    made.look(replace(BAD, present=None), 0.0)
    made.look(WRITTEN, 1.0)
    assert (made.state, made.wanted) == (State.FALLBACK, BLOCKS)


def test_maintenance_lets_bgp_go_only_when_the_table_is_in_effect() -> None:
    made = handover()
    asked = replace(GOOD, asked="drain")
    made.look(asked, 0.0)
    assert (made.state, made.wanted, made.bgp_may_go) == (State.MAINTENANCE, BLOCKS, False)
    assert "waiting for the routes" in made.explain(asked, 0.0)
    made.look(replace(asked, present=BLOCKS, in_effect=frozenset({A})), 1.0)
    assert not made.bgp_may_go
    made.look(replace(asked, present=BLOCKS, in_effect=BLOCKS), 2.0)
    assert made.bgp_may_go
    made.look(replace(WRITTEN, asked="drain"), 3.0)
    assert (made.state, made.wanted, made.explain(WRITTEN, 3.0)) == (State.MAINTENANCE, BLOCKS, "maintenance: drain")
    made.look(WRITTEN, 4.0)
    assert (made.state, made.wanted, made.bgp_may_go) == (State.FALLBACK, BLOCKS, False)


@pytest.mark.parametrize("make", [handover, fallen_back, with_canary])
def test_maintenance_can_be_asked_for_at_any_time(make: object) -> None:
    made = make()  # type: ignore[operator]
    made.look(replace(BACK, asked="Redeploy is scheduled"), 200.0)
    assert (made.state, made.wanted) == (State.MAINTENANCE, BLOCKS)


def test_always_means_always() -> None:
    made = handover(Mode.ALWAYS)
    made.look(GOOD, 0.0)
    made.look(BACK, 500.0)
    assert (made.state, made.wanted, made.next_timer()) == (State.FALLBACK, BLOCKS, None)
    made.mode = Mode.STANDBY
    made.look(BACK, 501.0)
    assert made.state is State.RETURNING, "how good BGP was while nobody depended on it counts for nothing"
    later = 501.0 + made.patience
    made.look(BACK, later)
    assert made.next_timer() is None, "the canary's route is taken out first"
    assert made.wanted < BLOCKS
    made.mode = Mode.ALWAYS
    made.look(BACK, 502.0)
    assert (made.state, made.wanted) == (State.FALLBACK, BLOCKS)


def test_off_writes_nothing_and_takes_out_what_is_left_with_the_same_care() -> None:
    made = handover(Mode.OFF)
    made.look(BAD, 0.0)
    made.look(BAD, 100.0)
    assert (made.state, made.wanted) == (State.SHORT, NONE)
    made.look(replace(WRITTEN, asked="drain"), 101.0)
    assert not made.bgp_may_go
    late = handover(Mode.OFF)
    late.look(replace(BAD, present=frozenset({A})), 0.0)
    assert late.wanted == frozenset({A}), "it stays, and the other one is not added"
    one = replace(GOOD, present=frozenset({A}))
    for now in (1.0, 61.0):
        late.look(one, now)
    assert (late.state, late.wanted) == (State.CANARY, NONE)
    late.look(GOOD, 62.0)
    late.look(GOOD, 92.0)
    assert late.state is State.BGP


def test_peers_that_are_lost_again_while_the_last_routes_go_keep_what_is_left() -> None:
    made = with_canary()
    made.look(OUT, 81.0)
    made.look(OUT, 111.0)
    assert (made.state, made.wanted) == (State.BGP, NONE)
    lost = replace(OUT, enough=False)
    made.look(lost, 111.5)
    assert (made.state, made.wanted) == (State.SHORT, frozenset({B})), "it may not have been taken out yet"
    made.look(replace(OUT, acknowledged=NONE), 112.0)
    assert (made.state, made.wanted) == (State.BGP, frozenset({B}))


def test_a_silent_canary_is_no_endless_loop_even_without_any_wait() -> None:
    made = Handover(Mode.STANDBY, Times(after=0.0, revert_after=0.0, settle=0.0), 0.0)
    made.look(replace(WRITTEN, answer=Answer.SILENT), 0.0)
    made.look(replace(OUT, answer=Answer.SILENT), 1.0)
    assert made.state is not State.BGP


def test_what_bgp_is_not_to_carry_stays_in_the_table() -> None:
    made = handover()
    made.look(replace(GOOD, only_table=frozenset({C})), 0.0)
    assert (made.state, made.wanted) == (State.BGP, frozenset({C}))


def test_a_canary_whose_block_is_gone_is_none() -> None:
    made = with_canary()
    made.look(replace(OUT, blocks=frozenset({B}), acknowledged=frozenset({B})), 90.0)
    assert (made.state, made.canary) == (State.CANARY, B), "another one takes its place"


def test_a_node_without_blocks_returns_too() -> None:
    made = fallen_back()
    empty = replace(GOOD, blocks=NONE, acknowledged=NONE)
    for now in (20.0, 80.0, 110.0):
        made.look(empty, now)
    assert (made.state, made.wanted) == (State.BGP, NONE)


def test_every_state_can_be_reached_and_left_and_every_event_is_in_the_table() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State)
    assert set(TRANSITIONS.values()) == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)


class World(RuleBasedStateMachine):
    """A cloud that is slow, sessions that flap, somebody who asks for maintenance; the agent may die at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.made = handover()
        self.table: set[Prefix] = set()
        self.enough, self.acknowledged = True, set(BLOCKS)
        self.asked: str | None = None
        self.denied: str | None = None
        self.read = True
        self.bgp_taken = False

    @property
    def facts(self) -> Facts:
        table = frozenset(self.table)
        return Facts(
            BLOCKS, self.enough, frozenset(self.acknowledged), table if self.read else None, table & BLOCKS,
            denied=self.denied, asked=self.asked,
        )  # fmt: skip

    def look(self) -> None:
        self.made.look(self.facts, self.now)

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 31.0, 61.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.look()

    @rule()
    def the_cloud_does_one_write(self) -> None:
        if not self.read:
            return
        missing, surplus = self.made.wanted - self.table, self.table - self.made.wanted
        if missing:
            self.table.add(min(missing))
        elif surplus:
            gone = min(surplus)
            carried = self.enough and gone in self.acknowledged and self.denied is None and not self.bgp_taken
            assert carried, "a route goes only while BGP carries the block"
            self.table.remove(gone)
        self.look()

    @rule(enough=st.booleans())
    def peers_change(self, *, enough: bool) -> None:
        self.enough = enough
        self.acknowledged = set(BLOCKS) if enough else set()
        self.look()

    @rule()
    def an_acknowledgement_is_lost(self) -> None:
        self.acknowledged.discard(A)
        self.look()

    @rule(asked=st.sampled_from([None, "drain"]))
    def maintenance_changes(self, asked: str | None) -> None:
        self.asked = asked
        if asked is None:
            self.bgp_taken = False
        self.look()

    @rule(denied=st.sampled_from([None, "not honoured"]))
    def the_networks_answer_changes(self, denied: str | None) -> None:
        self.denied = denied
        self.look()

    @precondition(lambda self: self.made.bgp_may_go)
    @rule()
    def bgp_is_taken_away(self) -> None:
        assert self.table >= BLOCKS, "BGP goes only when the table holds every block"
        self.bgp_taken = True
        self.enough, self.acknowledged = False, set()
        self.look()

    @rule()
    def the_agent_is_killed(self) -> None:
        self.made = Handover(Mode.STANDBY, TIMES, self.now)
        self.read = False
        self.look()

    @rule()
    def the_table_is_read(self) -> None:
        self.read = True
        self.look()

    @invariant()
    def whoever_may_attract_is_wanted_to(self) -> None:
        carried = self.enough and self.denied is None
        for block in BLOCKS - self.made.wanted:
            bgp = carried and block in self.acknowledged
            waiting = self.made.state in {State.BGP, State.SHORT} and block not in self.table
            unread = not self.read
            assert bgp or waiting or unread, f"nothing attracts {block!r} in {self.made.state}"

    def teardown(self) -> None:
        """What is left to itself comes to rest where it should."""
        self.enough, self.acknowledged, self.asked, self.denied = True, set(BLOCKS), None, None
        self.read, self.bgp_taken = True, False
        for _ in range(50):
            self.now += 3900.0
            self.look()
            self.the_cloud_does_one_write()
        assert (self.made.state, self.table) == (State.BGP, set())


World.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestWorld = World.TestCase
