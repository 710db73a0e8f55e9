"""The facts of the hand-over, put together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bgp_agent.core.attraction import Attraction, CloudView
from bgp_agent.core.cloudtable import APPLIANCE, Table, TableRoute, name_of
from bgp_agent.core.cloudtable import Node as Here
from bgp_agent.core.handover import Answer, Mode, State, Times
from bgp_agent.core.prefix import Prefix, parse_address, prefix_text
from bgp_agent.core.proof import BGP, USER, Effective, Learned, Network, Row
from bgp_agent.core.values import BlockState, SourceState
from tests.unit.core.node import RS0, RS1, Node, p, peer, settings

A, B, FOREIGN = p("192.168.1.0/26"), p("192.168.2.0/26"), p("192.168.77.0/26")
HERE, THERE, SERVER = map(parse_address, ("10.42.1.4", "10.42.1.5", "10.42.0.4"))
TIMES = Times(after=10.0, revert_after=60.0, settle=30.0)


def route(prefix: Prefix, hop: str = "10.42.1.4", state: str = "Succeeded", name: str | None = None) -> TableRoute:
    return TableRoute(name or name_of(prefix), prefix_text(prefix), APPLIANCE, hop, state)


def named(world: World) -> list[tuple[Prefix, bool]]:
    """(the prefix, is it put) of each write that is open."""
    return [(each.prefix, each.put) for each in world.made.difference.writes]


class World:
    """A node with two peers and the blocks A and B, and a route table that does as it is told."""

    def __init__(self, mode: Mode = Mode.STANDBY, *blocks: str, node: Node | None = None, up: bool = True) -> None:
        self.node = node or Node(settings(min_peers=None))
        self.made = Attraction(self.node.router, mode, TIMES, self.node.now)
        self.table: dict[str, TableRoute] = {}
        self.view = CloudView(node=Here("node-a", HERE), tables=())
        if node is None:
            self.node.source(*(blocks or ("192.168.1.0/26", "192.168.2.0/26")))
        if up:
            self.connect()

    def connect(self, *peers: str, has: tuple[str, ...] = ("192.168.1.0/26", "192.168.2.0/26")) -> None:
        self.node.up(*peers)
        for each in peers or (RS0, RS1):
            self.node.acknowledges(*has, by=each)

    def look(self, seconds: float = 0.0, **more: object) -> State:
        self.node.now += seconds
        self.view = replace(self.view, tables=(Table("/t/rt1", tuple(self.table.values()), ("nodes",)),))
        self.view = replace(self.view, **more)  # type: ignore[arg-type]  # a test's short hand
        self.made.view = self.view
        self.said = self.made.look(self.node.now)
        return self.made.handover.state

    def write(self) -> None:
        """The cloud does what is wanted of it."""
        for each in self.made.difference.writes:
            if each.put:
                self.table[each.name] = route(each.prefix)
            else:
                del self.table[each.name]

    def fall_back(self) -> None:
        """Everything is in the table and in effect, and the peers are gone."""
        for each in (RS0, RS1):
            self.node.down(each)
        self.look()
        assert self.look(10.0) is State.FALLBACK
        self.write()
        self.look()
        self.look(30.0)

    def canary(self) -> None:
        """The peers are back, and the canary's route is out."""
        self.fall_back()
        self.connect()
        self.look()
        assert self.look(60.0) is State.CANARY
        self.write()
        self.look()

    def seen(self, *rows: Row) -> Network:
        """The network's answer of this moment."""
        return Network(effective=Effective(self.node.now, "nic-a", rows))


def udr(prefix: Prefix) -> Row:
    return Row(prefix, USER, active=True, next_hops=(HERE,))


def bgp(prefix: Prefix) -> Row:
    return Row(prefix, BGP, active=True, next_hops=(SERVER,))


def test_all_is_well_with_bgp_and_the_table_stays_empty() -> None:
    world = World()
    assert world.look() is State.BGP
    assert (world.made.wanted, world.made.difference.writes, world.made.next_timer()) == (frozenset(), (), None)
    assert world.made.facts.peers == "2 of 2 peers established"
    assert not world.made.urgent


def test_with_min_peers_all_one_lost_instance_is_enough_for_the_fallback_and_it_is_said_once() -> None:
    world = World()
    world.look()
    world.node.down(RS1)
    assert world.look() is State.SHORT
    assert world.look(10.0) is State.FALLBACK
    (said,) = world.said
    assert (said.state, said.reason) == ("fallback", "`fallback.after` has passed")
    assert world.made.facts.peers == "1 of 2 peers established"
    world.look()
    assert world.said == []
    assert [each.prefix for each in world.made.difference.writes] == [A, B]


def test_with_fewer_wanted_peers_the_others_may_go() -> None:
    world = World(node=Node(settings(min_peers=1)), up=False)
    world.node.source("192.168.1.0/26", "192.168.2.0/26")
    world.connect(RS0)
    world.look()
    assert world.look(100.0) is State.BGP


def test_sessions_that_nothing_was_heard_of_yet_are_waited_for_and_then_count_as_lost() -> None:
    world = World(up=False)
    assert world.look() is State.BGP
    assert world.made.next_timer() == world.node.now + 10.0
    assert world.look(10.0) is State.SHORT


def test_an_agent_without_any_peer_lives_by_the_table() -> None:
    node = Node()
    node.router.configure(replace(settings(), peers=()), node.now)
    node.source("192.168.1.0/26")
    world = World(node=node, up=False)
    world.look()
    world.look(10.0)
    assert world.look(10.0) is State.FALLBACK
    assert world.made.wanted == frozenset({A})


def test_a_node_without_a_peering_does_not_even_wait_and_says_why() -> None:
    world = World(up=False)
    assert world.look(alone="rs1 has no bgpConnection for this node") is State.FALLBACK
    assert world.made.handover.mode is Mode.ALWAYS
    assert world.made.facts.peers == "rs1 has no bgpConnection for this node"
    world.connect()
    world.write()
    world.look()
    assert world.look(60.0) is State.CANARY, "a session that stands is the better proof"


def test_with_mode_off_no_missing_peering_writes_a_route() -> None:
    world = World(Mode.OFF, up=False)
    world.look(alone="no peering")
    world.look(100.0)
    assert world.made.wanted == frozenset()
    assert world.made.report(world.node.now).state == "off"


def test_tables_that_were_not_read_lack_nothing_and_nothing_is_said_of_them() -> None:
    world = World(up=False)
    for more in ({"tables": None}, {"tables": None, "problem": "ARM is gone"}):
        world.look(10.0, **more)
        assert (world.said, world.made.difference.writes, world.made.facts.present) == ([], (), None)
    assert world.made.cannot_move() == "the route tables have not been read yet: ARM is gone"
    assert world.made.mode_word("off") == "off", "nothing of it is in the table"


# --- what stays ------------------------------------------------------------------------------------------------------
def test_before_the_source_was_read_no_route_of_ours_is_taken_out() -> None:
    node = Node()
    world = World(node=node, up=False)
    world.table = {name_of(A): route(A), name_of(B): route(B)}
    node.up()
    world.look()
    world.look(1000.0)
    assert named(world) == []
    assert world.made.keep == {A, B}
    node.source("192.168.1.0/26")
    world.connect(has=("192.168.1.0/26",))
    world.look()
    assert named(world) == [(B, False)], "it is nobody's"
    assert world.made.wanted == {A}, "it was found: it goes as carefully as ever"


def test_a_source_that_was_read_and_is_lost_gives_up_nothing() -> None:
    world = World(Mode.ALWAYS)
    world.look()
    world.write()
    world.node.source("192.168.1.0/26", state=SourceState.STALE)
    world.look(1000.0)
    assert named(world) == []
    assert world.made.wanted == {A, B}


def test_a_released_blocks_route_goes_when_the_peers_have_let_go_and_a_moved_ones_stays() -> None:
    world = World(Mode.ALWAYS)
    world.look()
    world.write()
    world.node.source("192.168.1.0/26")
    world.look()
    assert named(world) == [], "it is still announced"
    world.node.lets_go("192.168.2.0/26")
    world.node.lets_go("192.168.2.0/26", by=RS1)
    world.look()
    assert named(world) == [(B, False)]
    world.table[name_of(B)] = route(B, "10.42.1.5")
    world.look()
    assert named(world) == [], "the new owner has written it"


def test_an_own_block_that_is_held_back_keeps_its_route() -> None:
    node = Node(forwarding=False)
    node.source("192.168.1.0/26")
    world = World(node=node, up=False)
    world.table = {name_of(A): route(A)}
    node.up()
    world.look(100.0)
    assert (named(world), world.made.wanted) == ([], frozenset())


def test_a_former_owners_route_for_our_block_is_written_over_while_bgp_is_well() -> None:
    world = World()
    world.look()
    world.table[name_of(A)] = route(A, "10.42.1.5")
    world.look(60.0)
    assert named(world) == [(A, True), (B, True)]


def test_another_nodes_routes_in_the_same_table_are_no_reason_for_anything() -> None:
    world = World()
    world.table[name_of(FOREIGN)] = route(FOREIGN, "10.42.1.5")
    assert world.look() is State.BGP
    assert named(world) == []


# --- evidence --------------------------------------------------------------------------------------------------------
def test_a_route_is_in_effect_after_settle_or_when_the_network_says_so() -> None:
    world = World(Mode.ALWAYS)
    world.look()
    world.write()
    world.look()
    assert (world.made.facts.in_effect, world.made.urgent) == (frozenset(), True)
    assert world.made.next_timer() == world.node.now + 30.0
    world.node.now -= 0.1
    early = world.seen(udr(A))
    world.look(1.1, provable=True, network=early)
    assert world.made.facts.in_effect == frozenset(), "that was asked for before it was known to be there"
    world.look(network=world.seen(udr(A)))
    assert world.made.facts.in_effect == {A}
    world.look(29.0, provable=False)
    assert world.made.facts.in_effect == {A, B}
    assert world.made.next_timer() is None


def test_a_route_that_the_network_never_honours_is_waited_for_without_a_timer_in_the_past() -> None:
    world = World(Mode.ALWAYS)
    world.look()
    world.write()
    world.look()
    world.look(100.0, provable=True, network=world.seen())
    assert world.made.facts.in_effect == frozenset()
    assert world.made.next_timer() is None, "or the agent would look again at once, for ever"


def test_a_canary_that_the_table_has_lost_and_the_fabric_still_follows_is_not_out() -> None:
    world = World()
    world.canary()
    assert world.made.handover.canary == A
    world.look(1.0, network=world.seen(udr(A), udr(B)), provable=True)
    assert A in (world.made.facts.present or ())
    assert world.look(100.0) is State.CANARY
    world.look(network=world.seen(bgp(A), udr(B)))
    assert A not in (world.made.facts.present or ())
    assert world.look(30.0) is State.BGP


def test_a_canary_that_no_bgp_route_carries_brings_the_udr_back_with_the_cause() -> None:
    world = World()
    world.canary()
    assert world.look(1.0, network=replace(world.seen(udr(B)), forwarding=False)) is State.RETURNING
    assert world.made.wanted == {A, B}
    assert "no BGP route is in effect for 192.168.1.0/26 on nic-a: IP forwarding is off" in world.made.handover.reason


def test_an_answer_about_one_canary_is_not_an_answer_about_the_next() -> None:
    world = World()
    world.canary()
    world.made.answer = Answer.SILENT
    assert world.look(1.0) is State.RETURNING
    assert world.made.answer is Answer.UNKNOWN


def test_one_instance_that_silently_lacks_a_block_stops_the_return() -> None:
    world = World()
    world.fall_back()
    world.connect()
    world.look()
    half = Learned(world.node.now, {"IN_0": frozenset({A, B}), "IN_1": frozenset({A})})
    assert world.look(1.0, network=Network(learned=half)) is State.RETURNING
    assert world.made.facts.denied == "IN_1 has not learned 192.168.2.0/26"
    assert world.look(1000.0) is State.RETURNING
    assert "IN_1 has not learned" in world.made.explain(world.node.now)
    assert "IN_1 has not learned 192.168.2.0/26" in world.made.report(world.node.now).warnings
    whole = Learned(world.node.now, {"IN_0": frozenset({A, B}), "IN_1": frozenset({A, B})})
    world.look(network=Network(learned=whole))
    assert world.look(60.0) is State.CANARY


def test_propagation_that_is_switched_off_denies_bgp_before_anybody_is_asked() -> None:
    world = World()
    world.look()
    assert world.look(network=Network(silent=("rt1",))) is State.SHORT
    assert world.made.urgent, "a doubt is asked about at once"
    assert world.look(10.0) is State.FALLBACK


def test_a_block_inside_the_networks_space_is_the_tables_alone_and_says_why() -> None:
    world = World()
    world.look(network=Network(space=(p("192.168.2.0/24"),)))
    assert (world.made.handover.state, world.made.wanted) == (State.BGP, frozenset({B}))
    assert any("192.168.2.0/26: it lies in the virtual network's own" in each for each in world.made.report(0).warnings)


def test_a_block_above_the_peers_limit_is_the_tables_alone() -> None:
    world = World(node=Node(settings(peer(RS0, announce_limit=1), peer(RS1, announce_limit=1))), up=False)
    world.node.source("192.168.1.0/26", "192.168.2.0/26")
    world.node.up()
    for each in (RS0, RS1):
        world.node.acknowledges("192.168.1.0/26", by=each)
    world.look()
    assert world.made.wanted == {B}
    assert any("192.168.2.0/26: " in each for each in world.made.report(0).warnings)


def test_a_block_of_a_family_that_no_peer_takes_is_the_tables_alone() -> None:
    six = p("fd00:1::/64")
    given = settings(pools=settings().pools.__class__([p("192.168.0.0/16"), p("fd00:1::/48")]))
    world = World(node=Node(given), up=False)
    world.node.source("192.168.1.0/26", "fd00:1::/64")
    world.connect()
    world.node.router.own.forward({})
    world.look()
    assert six in world.made.facts.only_table


# --- maintenance -----------------------------------------------------------------------------------------------------
def test_maintenance_is_asked_for_by_several_and_lasts_until_nobody_does() -> None:
    world = World()
    world.look()
    world.made.asked["drain"] = "a drain"
    assert world.look(event="Azure is to Redeploy this machine") is State.MAINTENANCE
    assert world.made.facts.asked == "a drain and Azure is to Redeploy this machine"
    assert world.made.mode_word("bgp") == "bgp", "the table holds nothing yet"
    world.write()
    world.look()
    assert world.made.mode_word("bgp") == "maintenance"
    assert not world.made.handover.bgp_may_go
    world.look(30.0)
    assert world.made.handover.bgp_may_go
    del world.made.asked["drain"]
    world.node.router.own.drain(on=True)
    assert world.look(event=None) is State.MAINTENANCE
    assert world.made.facts.asked == "the node is drained"
    world.node.router.own.drain(on=False)
    assert world.look() is State.RETURNING


def test_why_the_traffic_cannot_be_moved() -> None:
    world = World(Mode.OFF)
    world.look()
    assert world.made.cannot_move() == "fallback.mode is off"
    world.made.mode = Mode.STANDBY
    assert world.made.cannot_move() is None
    world.look(tables=())
    assert world.made.cannot_move() == "no route table is known; name it in azure.route_tables"
    world.look(tables=None, problem=None)
    assert world.made.cannot_move() == "the route tables have not been read yet"


def test_a_strangers_route_for_our_block_and_a_refusal_are_reasons_too() -> None:
    world = World(Mode.ALWAYS)
    world.table["theirs"] = route(A, "10.42.9.9", name="theirs")
    world.look(refused={B: "RouteTableRoutesLimitReached"})
    problems = world.made.problems()
    assert "'theirs' of somebody else" in problems[A]
    assert problems[B] == "RouteTableRoutesLimitReached"
    assert (world.made.cannot_move() or "").startswith("192.168.1.0/26: route 'theirs'")


# --- what is told ----------------------------------------------------------------------------------------------------
def test_each_block_is_told_with_the_table_in_view() -> None:
    world = World(Mode.ALWAYS)
    world.look()
    state = BlockState.ANNOUNCED
    assert world.made.block(A, state, "x") == (state, "x; its route is about to be written to the route table")
    world.look(refused={A: "no"})
    assert world.made.block(A, state, "x") == (state, "x; not in the route table: no")
    assert world.made.block(FOREIGN, state, "x") == (state, "x")
    world.write()
    world.look(refused={A: "no"})
    assert world.made.block(A, state, "x") == (
        BlockState.FALLBACK, "its route in the route table leads here; BGP: x",
    )  # fmt: skip
    assert world.made.attracts(A)


def test_reachable_is_the_networks_answer_and_not_an_old_one() -> None:
    world = World()
    world.look()
    assert world.made.reachable(A, lambda at: at) is None
    world.look(1.0, network=world.seen(bgp(A), Row(B, "Default", active=True, next_hops=())))
    found = world.made.reachable(A, lambda at: at + 1000)
    assert found is not None
    assert (found.by, found.reason, found.at) == (
        "bgp", "a BGP route is in effect on nic-a", world.node.now - 1 + 1000,
    )  # fmt: skip
    for prefix, words in ((B, "a route elsewhere is in effect on nic-a"), (FOREIGN, "no route is in effect on nic-a")):
        lost = world.made.reachable(prefix, lambda at: at)
        assert lost is not None
        assert (lost.by, lost.reason) == (None, words)
    world.look(network=world.seen(udr(A)))
    by_table = world.made.reachable(A, lambda at: at)
    assert by_table is not None
    assert by_table.reason == "a user-defined route is in effect on nic-a"
    world.node.now += 1
    world.node.down(RS0)
    world.look()
    assert world.made.reachable(A, lambda at: at) is None, "that was before the session went"


def test_without_an_address_of_ours_nothing_is_in_effect_here() -> None:
    world = World()
    world.look(node=None, network=world.seen(udr(A)))
    found = world.made.reachable(A, lambda at: at)
    assert found is not None
    assert found.by is None


def test_the_report_has_each_route_with_its_state_and_reason() -> None:
    world = World()
    world.look()
    world.made.mode = Mode.ALWAYS
    world.look(pending=12.0, notes=("a note",), covers="subnets", problem="ARM is slow")
    found = world.made.report(world.node.now)
    assert [(each.state, each.reason) for each in found.routes] == [("pending", "ARM is slow")] * 2
    assert found.reason.endswith("; the open writes take about 12 s")
    assert (found.mode, found.state, found.tables, found.covers) == ("always", "fallback", ("rt1",), "subnets")
    assert found.warnings == ("ARM is slow", "a note")
    world.look(refused={B: "no"}, problem=None)
    assert [each.reason for each in world.made.report(0).routes] == ["about to be written", "no"]
    world.write()
    world.look(refused={})
    assert {each.reason for each in world.made.report(0).routes} == {"written; the fabric follows within a minute"}
    world.look(30.0)
    assert {(each.state, each.reason) for each in world.made.report(0).routes} == {("written", "in effect")}


def test_a_route_on_its_way_out_is_reported_as_such() -> None:
    world = World()
    world.canary()
    world.look(30.0)
    assert world.made.handover.state is State.BGP
    (left,) = world.made.report(world.node.now).routes
    assert (left.prefix, left.state, left.reason) == (B, "removing", "not wanted any more")


def test_looks_without_news_compare_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(Mode.ALWAYS)
    world.look()
    tables = world.made.view.tables

    def never(*_: object) -> None:
        raise AssertionError("the tables are compared again")

    monkeypatch.setattr("bgp_agent.core.attraction.difference", never)
    world.look(tables=tables)
