"""Own blocks against the facts that move them: forwarding, blackholes, acknowledgements, a drain, a reload."""

from __future__ import annotations

import pytest

from bgp_agent.core.blocks import Phase
from bgp_agent.core.notice import ANSWER, Drain
from bgp_agent.core.own import Own
from bgp_agent.core.peers import Peer
from bgp_agent.core.prefix import Family, Prefix, parse_address
from bgp_agent.core.settings import PeerSettings, Settings
from bgp_agent.core.values import (
    AnnouncementsChanged,
    Blocks,
    BlockState,
    RouteState,
    SessionDown,
    SessionUp,
    SourceState,
)
from tests.unit.core.node import RS0, RS1, p, peer, settings

ONE, TWO, SIX = p("192.168.1.0/26"), p("192.168.2.0/26"), p("fd00:1::/122")
BOTH = frozenset(Family)


class OwnBlocks:
    """Own blocks with two peers and a kernel that is a dictionary."""

    def __init__(self, given: Settings | None = None) -> None:
        self.kernel: dict[Prefix, RouteState] = {}
        self.settings = given or settings()
        self.peers = {s.address: Peer(s, 0.0) for s in self.settings.peers}
        self.own = Own(self.settings, self.peers, self.state)
        self.own.configure(self.settings)

    def state(self, prefix: Prefix) -> tuple[RouteState, str]:
        return self.kernel.get(prefix, RouteState.PENDING), "about to be written"

    def configure(self, given: Settings) -> None:
        self.settings = given
        for s in given.peers:
            self.peers.setdefault(s.address, Peer(s, 0.0))
        self.own.configure(given)
        self.step()

    def step(self, now: float = 0.0) -> None:
        while self.own.table.dirty:
            for prefix in sorted(self.own.table.dirty):
                self.own.step(prefix, now)
                self.own.table.dirty.discard(prefix)

    def source(self, *blocks: Prefix, written: bool = True, state: SourceState = SourceState.SYNCED) -> None:
        if written:
            self.kernel |= dict.fromkeys(blocks, RouteState.INSTALLED)
        self.own.table.source_says(Blocks("file", state, "the file is unreadable", frozenset(blocks)), 0.0)
        self.step()

    def up(self, *addresses: str) -> None:
        for address in addresses or (RS0, RS1):
            self.peers[address].on_up(SessionUp(address, BOTH, 30, "plain", graceful_restart=False), 0.0)
        self.own.touch(self.own.table.blocks)
        self.step()

    def acknowledged(self, *prefixes: Prefix, by: str = RS0, gone: bool = False, leaving: bool | None = None) -> None:
        marks = () if leaving is None else tuple((prefix, leaving) for prefix in prefixes)
        event = AnnouncementsChanged(by, () if gone else prefixes, prefixes if gone else (), (), marks)
        self.peers[by].on_announcements(event)
        self.own.touch(prefixes)
        self.step()

    def told_now(self) -> dict[str, dict[Prefix, bool | None]]:
        """What each peer is told now: that a block is announced, as leaving or not, or (None) withdrawn."""
        self.step()
        return {
            address: {prefix: None if made is None else made.leaving for prefix, made in export.take_changes().items()}
            for address, export in self.own.exports.items()
        }

    def wanted(self, address: str = RS0) -> set[Prefix]:
        return set(self.own.exports[address].wanted)

    def said(self, prefix: Prefix = ONE) -> tuple[str, str]:
        state, reason = self.own.describe(prefix)
        return state.value, reason


@pytest.fixture
def node() -> OwnBlocks:
    return OwnBlocks()


# --- the gate --------------------------------------------------------------------------------------------------------
def test_a_block_waits_for_its_blackhole(node: OwnBlocks) -> None:
    node.source(ONE, written=False)
    assert node.wanted() == set()
    assert node.said() == ("withheld", "its blackhole is not in place: about to be written")
    node.kernel[ONE] = RouteState.SHADOWED
    node.own.touch([ONE, TWO])
    assert node.said() == ("withheld", "about to be announced")
    node.step()
    assert node.wanted() == {ONE}


@pytest.mark.parametrize("given", [settings(blackhole=False), settings(install=False)])
def test_where_no_blackhole_is_written_forwarding_alone_opens_the_gate(given: Settings) -> None:
    node = OwnBlocks(given)
    node.source(ONE, written=False)
    assert node.wanted() == {ONE}


@pytest.mark.parametrize(
    ("family", "prefix", "key"),
    [(Family.IPV4, ONE, "net.ipv4.ip_forward"), (Family.IPV6, SIX, "net.ipv6.conf.all.forwarding")],
)
def test_forwarding_is_asked_for_by_family(family: Family, prefix: Prefix, key: str) -> None:
    six = parse_address("fd00::4")
    given = settings(peer(families=BOTH), peer(RS1, families=BOTH), own_addresses=((Family.IPV6, six),))
    node = OwnBlocks(given)
    node.own.forward({family: False})
    node.source(ONE, SIX)
    assert node.wanted() == {ONE, SIX} - {prefix}
    assert node.said(prefix) == ("withheld", f"forwarding is off: set {key}=1")
    node.own.forward({family: True})
    node.step()
    node.own.forward({family: False})
    node.step()
    assert node.wanted() == {ONE, SIX}, "losing it later never withdraws"


def test_no_blackhole_stands_where_none_is_wanted() -> None:
    node = OwnBlocks(settings(blackhole=False))
    node.kernel[ONE] = RouteState.INSTALLED
    assert not node.own.standing(ONE)


def test_a_step_of_a_block_that_is_gone_does_nothing(node: OwnBlocks) -> None:
    node.own.step(ONE, 0.0)
    assert node.own.table.blocks == {}


# --- acknowledgements ------------------------------------------------------------------------------------------------
def test_only_established_peers_hold_a_block(node: OwnBlocks) -> None:
    node.source(ONE)
    assert node.said() == ("pending", "none of 2 peers is established")
    node.up()
    assert node.said() == ("pending", f"sent; not acknowledged yet for {RS0} or {RS1}")
    node.acknowledged(ONE)
    assert node.said() == ("announced", "acknowledged by 1 of 2 peers")
    node.peers[RS0].on_down(SessionDown(RS0, "gone", was_established=True), 1.0)
    assert node.own.holders(ONE) == []


def test_a_withdrawal_is_over_when_nobody_holds_the_block(node: OwnBlocks) -> None:
    node.source(ONE)
    node.up()
    for address in (RS0, RS1):
        node.acknowledged(ONE, by=address)
    node.source()
    assert node.said() == ("withheld", f"no longer wanted; still acknowledged by {RS0} and {RS1}")
    node.acknowledged(ONE, gone=True)
    assert node.own.table.blocks[ONE].phase is Phase.WITHDRAWING
    node.acknowledged(ONE, by=RS1, gone=True)
    assert node.own.table.blocks[ONE].phase is Phase.RELEASING


def test_what_exabgp_refuses_is_told(node: OwnBlocks) -> None:
    node.source(ONE)
    node.up()
    node.peers[RS0].on_announcements(AnnouncementsChanged(RS0, (), (), ((ONE, "ExaBGP refused it"),)))
    assert node.said() == ("pending", f"{RS0}: ExaBGP refused it")


# --- limits, families, several peers ---------------------------------------------------------------------------------
def test_a_block_that_no_peer_may_be_told_of_is_withheld_with_each_reason() -> None:
    node = OwnBlocks(settings(peer(announce_limit=1), peer(RS1, families=frozenset({Family.IPV6}))))
    node.source(ONE, TWO)
    ipv6_only = f"{RS1}: its peer configuration does not list ipv4"
    assert node.said(TWO) == ("withheld", f"{RS0}: above its announce_limit of 1; {ipv6_only}")


def test_a_block_that_one_peer_of_two_may_not_be_told_of_says_why() -> None:
    node = OwnBlocks(settings(peer(announce_limit=1), peer(RS1)))
    node.source(ONE, TWO)
    node.up()
    node.acknowledged(ONE, TWO, by=RS1)
    assert node.said(TWO) == ("announced", f"acknowledged by 1 of 2 peers; {RS0}: above its announce_limit of 1")


def test_the_limit_of_one_peer_is_not_the_limit_of_another() -> None:
    node = OwnBlocks(settings(peer(announce_limit=1), peer(RS1, announce_limit=2)))
    node.source(ONE, TWO)
    assert (node.wanted(RS0), node.wanted(RS1)) == ({ONE}, {ONE, TWO})
    node.source(TWO)
    assert (node.wanted(RS0), node.wanted(RS1)) == ({TWO}, {TWO})


@pytest.mark.parametrize(
    ("address", "prefix", "hop"), [(RS0, SIX, "fd00::4"), ("fd00::1", ONE, "10.42.1.4")]
)  # fmt: skip
def test_the_other_family_goes_over_a_session_with_the_nodes_own_address(
    address: str, prefix: Prefix, hop: str
) -> None:
    given = settings(
        peer(address, families=BOTH),
        own_addresses=((Family.IPV4, parse_address("10.42.1.4")), (Family.IPV6, parse_address("fd00::4"))),
    )
    node = OwnBlocks(given)
    node.source(ONE, SIX)
    assert node.wanted(address) == {ONE, SIX}
    assert node.own.exports[address].wanted[prefix].next_hop == parse_address(hop)


# --- a reload --------------------------------------------------------------------------------------------------------
def test_a_new_peer_is_offered_what_the_others_hear_and_a_removed_one_is_forgotten(node: OwnBlocks) -> None:
    node.source(ONE)
    node.configure(settings(peer(RS1), peer("10.42.0.6")))
    assert node.own.exports.keys() == {RS1, "10.42.0.6"}
    assert node.wanted("10.42.0.6") == {ONE}


def test_a_new_peer_of_a_drained_node_hears_nothing(node: OwnBlocks) -> None:
    node.source(ONE)
    node.own.drain(on=True)
    node.configure(settings(peer(), peer(RS1), peer("10.42.0.6")))
    assert all(node.wanted(address) == set() for address in (RS0, RS1, "10.42.0.6"))
    node.own.drain(on=False)
    node.step()
    assert all(node.wanted(address) == {ONE} for address in (RS0, RS1, "10.42.0.6"))


def test_a_new_peer_is_not_told_of_a_block_that_was_only_found_in_the_kernel(node: OwnBlocks) -> None:
    node.own.table.adopt([ONE], announced=False, now=0.0)
    node.kernel[ONE] = RouteState.INSTALLED
    node.step()
    node.configure(settings(peer(), peer(RS1), peer("10.42.0.6")))
    assert not any(export.take_changes() for export in node.own.exports.values())


# --- a drain ---------------------------------------------------------------------------------------------------------
def test_a_drained_block_is_withheld_and_says_who_still_has_it(node: OwnBlocks) -> None:
    node.source(ONE)
    node.up()
    node.acknowledged(ONE)
    node.own.drain(on=True)
    node.step()
    words = "drained: announced again after `bgp-agent undrain`"
    assert node.said() == ("withheld", f"{words}; still acknowledged by {RS0}")
    node.acknowledged(ONE, gone=True)
    assert node.said() == ("withheld", words)


def test_a_drained_restart_withdraws_what_it_finds_announced_though_the_source_is_unreadable(node: OwnBlocks) -> None:
    """Killed in the middle of a drain: nobody has offered the block in this run, and yet a peer has it."""
    node.own.drain(on=True)
    node.up()
    node.own.table.adopt([ONE], announced=True, now=0.0)
    node.acknowledged(ONE)
    assert node.own.exports[RS0].take_changes() == {ONE: None}
    assert node.own.exports[RS1].take_changes() == {}


# --- notice before blocks go (RFC 8326) ------------------------------------------------------------------------------
def announcing(*, graceful_restart: bool = False) -> OwnBlocks:
    """ONE is announced and acknowledged by both peers, which get 2 s of notice."""
    node = OwnBlocks(settings(graceful_shutdown=2.0))
    node.source(ONE)
    node.up()
    for address, made in node.peers.items():
        made.on_up(SessionUp(address, BOTH, 30, "plain", graceful_restart and address == RS1), 0.0)
        node.acknowledged(ONE, by=address)
    node.told_now()
    return node


def test_a_drain_tells_every_peer_first_and_withdraws_when_all_had_time_to_move() -> None:
    node = announcing()
    node.own.drain(on=True, now=100.0)
    assert node.told_now() == {RS0: {ONE: True}, RS1: {ONE: True}}
    assert node.own.leave_waits_for() == f"waiting for {RS0} and {RS1} to acknowledge GRACEFUL_SHUTDOWN"
    assert (node.own.drained, node.own.next_timer()) == (True, 102.0 + ANSWER)
    words = "draining: peers are told that it goes (GRACEFUL_SHUTDOWN), then it is withdrawn"
    assert node.said() == ("announced", words)
    node.acknowledged(ONE, leaving=True)
    node.own.look(101.0)
    assert node.own.leave_waits_for() == f"waiting for {RS1} to acknowledge GRACEFUL_SHUTDOWN"
    node.acknowledged(ONE, by=RS1, leaving=True)
    node.own.look(101.0)
    assert node.own.leave_waits_for() == "peers have 2 s to move to other paths (GRACEFUL_SHUTDOWN)"
    assert node.own.next_timer() == 103.0
    node.own.handle_timer(102.9)
    assert node.told_now() == {RS0: {}, RS1: {}}
    node.own.handle_timer(103.0)
    assert node.told_now() == {RS0: {ONE: None}, RS1: {ONE: None}}
    assert node.own.leave_waits_for() == f"waiting for {RS0} and {RS1} to acknowledge the withdrawal"
    for address in (RS0, RS1):
        node.acknowledged(ONE, by=address, gone=True)
    assert (node.own.leave_waits_for(), node.own.next_timer()) == (None, None)


def test_a_peer_that_does_not_take_the_notice_is_not_waited_for_for_ever() -> None:
    node = announcing()
    node.own.drain(on=True, now=100.0)
    node.acknowledged(ONE, leaving=True)
    node.own.look(100.1)
    node.own.handle_timer(102.0 + ANSWER)
    assert node.own.draining is Drain.DRAINED


def test_a_drain_that_is_taken_back_before_it_withdraws_takes_only_the_community_back() -> None:
    node = announcing()
    node.own.drain(on=True, now=100.0)
    node.told_now()
    node.own.drain(on=False)
    assert node.told_now() == {RS0: {ONE: False}, RS1: {ONE: False}}
    assert (node.own.leave_waits_for(), node.own.next_timer()) == (None, None)
    node.own.handle_timer(200.0)
    assert not node.own.drained


def test_asking_twice_for_a_drain_gives_no_second_notice() -> None:
    node = announcing()
    for now in (100.0, 106.0):
        node.own.drain(on=True, now=now)
    assert node.own.next_timer() == 102.0 + ANSWER
    node.own.handle_timer(107.0)
    node.own.drain(on=True, now=108.0)
    assert node.own.next_timer() is None


def test_while_peers_have_notice_nothing_new_is_announced_to_anybody() -> None:
    node = announcing()
    node.own.drain(on=True, now=100.0)
    node.source(ONE, TWO)
    node.configure(settings(peer(), peer(RS1), peer("10.42.0.6"), graceful_shutdown=2.0))
    assert (node.wanted(), node.wanted("10.42.0.6")) == ({ONE}, set())
    assert node.said(TWO)[0] == "withheld"


@pytest.mark.parametrize("given", [0.0, 2.0])
def test_without_notice_or_anybody_to_give_it_to_a_drain_withdraws_at_once(given: float) -> None:
    node = announcing()
    node.configure(settings(graceful_shutdown=given))
    for made in node.peers.values():
        if given:
            made.on_down(SessionDown(made.address, "gone", was_established=True), 0.0)
    node.own.drain(on=True, now=100.0)
    assert node.told_now() == {RS0: {ONE: None}, RS1: {ONE: None}}


def test_a_drain_that_is_remembered_gives_no_second_notice() -> None:
    node = announcing()
    node.own.drain(on=True)
    assert node.told_now() == {RS0: {ONE: None}, RS1: {ONE: None}}


def test_before_the_speaker_stops_those_that_lose_the_blocks_with_it_are_told() -> None:
    node = announcing(graceful_restart=True)
    node.own.end_sessions(100.0)
    assert node.told_now() == {RS0: {ONE: True}, RS1: {}}
    assert node.own.notice_waits_for() == f"waiting for {RS0} to acknowledge GRACEFUL_SHUTDOWN"
    node.acknowledged(ONE, leaving=True)
    node.own.look(100.0)
    node.own.handle_timer(102.0)
    assert (node.own.notice_waits_for(), node.own.leave_waits_for()) == (None, None)
    assert node.told_now() == {RS0: {}, RS1: {}}, "it stays as it is until the session ends"
    node.own.ended(RS0)
    assert node.told_now() == {RS0: {ONE: False}, RS1: {}}, "the next session begins without"


def test_a_speaker_whose_peers_all_keep_the_blocks_stops_without_a_word() -> None:
    node = announcing()
    for address, made in node.peers.items():
        made.on_up(SessionUp(address, BOTH, 30, "plain", graceful_restart=True), 0.0)
    node.own.end_sessions(100.0)
    assert node.told_now() == {RS0: {}, RS1: {}}
    assert node.own.notice_waits_for() is None


# --- adoption --------------------------------------------------------------------------------------------------------
def test_an_adopted_block_says_so_and_why_the_source_has_not_named_it(node: OwnBlocks) -> None:
    node.up()
    node.own.table.adopt([ONE], announced=True, now=0.0)
    node.acknowledged(ONE)
    waiting = "the source has not been read yet"
    assert node.said()[1] == f"acknowledged by 1 of 2 peers; adopted from an earlier run ({waiting})"
    node.source(state=SourceState.STALE)
    assert node.said()[1].endswith("adopted from an earlier run (the file is unreadable)")
    assert node.own.describe(ONE)[0] is BlockState.ANNOUNCED


def test_a_block_found_in_the_kernel_alone_is_not_announced_before_the_source_names_it(node: OwnBlocks) -> None:
    node.own.table.adopt([ONE], announced=False, now=0.0)
    node.kernel[ONE] = RouteState.INSTALLED
    node.step()
    node.up()
    assert node.said() == ("withheld", "found in the kernel from an earlier run; the source has not named it yet")
    node.source(ONE)
    assert node.wanted() == {ONE}
    assert PeerSettings(RS0, parse_address(RS0), 65515, BOTH).announce_limit is None


# --- a block that is given up while addresses in it live on ----------------------------------------------------------
HEIRS = (p("192.168.1.5/32"), p("192.168.1.9/32"))


def given_up(node: OwnBlocks) -> None:
    node.source(ONE)
    node.up()
    node.acknowledged(ONE)
    node.acknowledged(ONE, by=RS1)
    node.source(*HEIRS)


def test_a_block_is_withdrawn_from_a_peer_only_when_that_peer_has_the_addresses_that_live_on(node: OwnBlocks) -> None:
    given_up(node)
    assert all(ONE in export.wanted for export in node.own.exports.values())
    node.acknowledged(*HEIRS)
    assert ONE not in node.own.exports[RS0].wanted
    assert ONE in node.own.exports[RS1].wanted
    node.acknowledged(HEIRS[0], by=RS1)
    assert ONE in node.own.exports[RS1].wanted
    node.acknowledged(HEIRS[1], by=RS1)
    assert ONE not in node.own.exports[RS1].wanted


def test_a_block_that_is_given_up_while_peers_have_notice_carries_its_addresses_until_all_goes() -> None:
    node = announcing()
    node.own.drain(on=True, now=100.0)
    node.source(*HEIRS)
    assert node.told_now() == {RS0: {ONE: True}, RS1: {ONE: True}}, "nothing new, and nothing goes"
    node.own.handle_timer(200.0)
    assert node.told_now() == {RS0: {ONE: None}, RS1: {ONE: None}}


def test_a_drain_marks_also_a_block_that_waits_for_its_addresses() -> None:
    node = announcing()
    node.source(*HEIRS)
    node.told_now()
    node.own.drain(on=True, now=100.0)
    told = node.told_now()
    assert told[RS0] == told[RS1] == dict.fromkeys((ONE, *HEIRS), True)


def test_an_address_that_a_peer_refuses_does_not_keep_the_block(node: OwnBlocks) -> None:
    given_up(node)
    node.acknowledged(HEIRS[0])
    node.acknowledged(HEIRS[0], by=RS1)
    for peer_ in node.peers.values():
        peer_.refused[HEIRS[1]] = "no"
    node.own.touch(HEIRS)
    node.step()
    assert all(ONE not in export.wanted for export in node.own.exports.values())


def test_the_block_waits_while_the_blackhole_of_an_address_is_being_written(node: OwnBlocks) -> None:
    node.source(ONE)
    node.up()
    node.acknowledged(ONE)
    node.acknowledged(ONE, by=RS1)
    node.source(*HEIRS, written=False)
    assert ONE in node.own.exports[RS0].wanted
    node.own.forward(dict.fromkeys(Family, False))
    node.step()
    assert ONE not in node.own.exports[RS0].wanted


def test_an_address_above_the_limit_does_not_keep_the_block() -> None:
    node = OwnBlocks(settings(peer(RS0, announce_limit=1)))
    node.source(ONE)
    node.up(RS0)
    node.acknowledged(ONE)
    node.source(*HEIRS)
    assert ONE not in node.own.exports[RS0].wanted


def test_an_address_that_is_released_before_it_was_acknowledged_does_not_keep_the_block(node: OwnBlocks) -> None:
    given_up(node)
    node.source()
    assert all(ONE not in export.wanted for export in node.own.exports.values())


def test_a_drain_waits_for_no_address(node: OwnBlocks) -> None:
    given_up(node)
    node.own.drain(on=True)
    node.step()
    assert all(ONE not in export.wanted for export in node.own.exports.values())
