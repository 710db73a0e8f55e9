"""The explanation names the one prefix that decides, and every fact on the way to it."""

from __future__ import annotations

import pytest

from bgp_agent.core.blocks import LET_GO
from bgp_agent.core.explain import _words, explain, read_target
from bgp_agent.core.prefix import PrefixError, host, parse_address
from bgp_agent.core.reports import Explanation, Verified
from bgp_agent.core.seen import KernelRoute
from bgp_agent.core.values import Blocks, Hop, SourceState, Unicast
from tests.unit.core.node import RS0, RS1, VIA_GATEWAY, Node, p, peer, settings

OWN, OTHER, SUMMARY = "192.168.1.0/26", "192.168.2.0/26", "192.168.0.0/16"
SEEN = Verified("delivered", "node-b", "node-a", 5.0, "it answered")


def told(node: Node, target: str, kernel: str | None = None) -> Explanation:
    return explain(node.router, target, kernel, {p(OTHER): SEEN})


@pytest.fixture
def node() -> Node:
    made = Node()
    made.up()
    made.source(OWN)
    made.told(OTHER, SUMMARY)
    return made


def test_a_target_is_an_address_or_a_prefix() -> None:
    assert read_target("192.168.2.7") == p("192.168.2.7/32")
    assert read_target(OTHER) == p(OTHER)
    with pytest.raises(PrefixError, match="is not an IPv4 or IPv6 address"):
        read_target("node-b")


def test_the_most_specific_route_decides_and_the_wider_ones_are_told_after_it(node: Node) -> None:
    made = told(node, "192.168.2.7", "via 10.42.1.1 dev eth0")
    assert (made.prefix, made.verified, made.kernel) == (p(OTHER), SEEN, "via 10.42.1.1 dev eth0")
    assert made.verdict.startswith(f"{OTHER} is installed via 10.42.1.1: learned from {RS0}")
    assert made.steps[0] == made.verdict
    assert made.steps[1].startswith(f"{SUMMARY} is installed")
    assert [o.prefix for o in made.offers] == [p(OTHER), p(SUMMARY)]
    assert [(o.peer, o.best, o.refused, o.stale) for o in made.offers] == [(RS0, True, None, False)] * 2


def test_a_refused_offer_is_told_and_does_not_decide(node: Node) -> None:
    node.told("192.168.2.7/32", by=RS1, path=())
    made = told(node, "192.168.2.7")
    assert made.prefix == p(OTHER)
    assert made.steps[0].startswith("192.168.2.7/32 is refused via")
    assert (made.offers[0].peer, made.offers[0].refused) == (RS1, "an empty AS path from an external peer")


@pytest.mark.parametrize(
    ("blackhole", "target", "ends"),
    [
        (True, "192.168.1.9", "nothing here uses 192.168.1.9: the packet ends in the block's blackhole"),
        (False, "192.168.1.9", "nothing here uses 192.168.1.9: the node's other routes decide"),
        (True, "192.168.1.8", "192.168.1.8 is in use here: its own route delivers the packet"),
        (True, OWN, "a pod's own route is more specific; without one the packet ends in the blackhole"),
        (False, OWN, "a pod's own route is more specific; without one the node's other routes decide"),
    ],
)
def test_an_own_block_says_how_it_stands_and_where_the_packet_ends(blackhole: bool, target: str, ends: str) -> None:
    node = Node(settings(blackhole=blackhole))
    node.up()
    node.source(OWN)
    node.next_hops.new(KernelRoute(254, p("192.168.1.8/32"), 0, 3, Unicast((Hop(3, None),))))
    made = told(node, target)
    assert made.prefix == p(OWN)
    assert made.verdict.startswith(f"{OWN} is this node's own block (pending: sent; not acknowledged yet")
    assert made.verdict.endswith(ends)


def test_an_own_block_that_a_peer_offers_too_shows_the_offer(node: Node) -> None:
    node.told(OWN)
    offers = told(node, OWN).offers
    assert [o.refused for o in offers] == ["it is this node's own block", None], "the block's own, then the summary"


def test_a_block_that_is_being_released_says_what_its_blackhole_waits_for(node: Node) -> None:
    node.acknowledges(OWN)
    node.source()
    node.lets_go(OWN)
    assert "its blackhole stands until the network has let go" in told(node, "192.168.1.9").verdict
    node.wait(LET_GO)
    assert told(node, "192.168.1.9").prefix == p(SUMMARY)


def test_a_peer_is_a_host_route_by_the_gateway(node: Node) -> None:
    made = told(node, RS0)
    assert made.prefix == host(parse_address(RS0))
    assert "keeps the session apart from what it carries" in made.verdict
    near = Node(settings(peer("10.42.1.200")))
    assert told(near, "10.42.1.200").verdict == "10.42.1.200 is a BGP peer: the node's other routes decide"


def test_an_address_of_the_node_has_arrived(node: Node) -> None:
    assert told(node, "10.42.1.4").verdict == "10.42.1.4 is an address of this node: the packet has arrived"


def test_a_borrowed_address_says_from_which_block(node: Node) -> None:
    node.told("192.168.1.9/32")
    made = told(node, "192.168.1.9")
    assert made.prefix == p("192.168.1.9/32")
    assert made.verdict.endswith(f"another node borrowed it from this node's own block {OWN}")


def test_what_is_pending_carries_nothing(node: Node) -> None:
    node.withdrawn(SUMMARY)
    node.next_hops.deleted(KernelRoute(254, p("0.0.0.0/0"), 0, 4, VIA_GATEWAY))
    node.router.on_links(node.next_hops.take_changes())
    node.settle()
    made = told(node, "192.168.2.7")
    assert made.verdict == f"{OTHER} is pending and carries nothing yet: the node's other routes decide"
    assert len(made.steps) == 1, "the pool needs no words where a prefix inside of it is known"


def test_what_nobody_covers_is_said_with_the_pools(node: Node) -> None:
    outside = told(node, "10.1.1.1")
    assert outside.verdict == "No prefix of this agent covers 10.1.1.1: the node's other routes decide"
    assert (outside.prefix, outside.verified, outside.kernel) == (None, None, None)
    assert outside.steps == ("it is outside the pools (192.168.0.0/16)",)
    assert told(node, "2001:db8::1").steps == ("it is outside the pools: there is no ipv6 pool",)
    assert told(node, "10.0.0.0/8").prefix is None
    node.withdrawn(SUMMARY)
    assert told(node, "192.168.9.9").steps == (f"it is inside the pool {SUMMARY}, but no peer offers a prefix for it",)


def test_what_the_source_withholds_is_told_first_and_is_the_answer_where_no_route_is(node: Node) -> None:
    held = {p("192.168.7.0/26"): "disableBGPExport is set on IPPool x", p("192.168.7.1/32"): "outside every IPPool"}
    blocks = Blocks("calico", SourceState.SYNCED, "", frozenset({p(OWN)}), withheld=held)
    node.router.on_source(blocks, node.now)
    node.router.derive(node.now)
    words = "192.168.7.1/32 is this node's and not announced: outside every IPPool"
    wider = "192.168.7.0/26 is this node's and not announced: disableBGPExport is set on IPPool x"
    made = told(node, "192.168.7.1")
    assert made.steps[:2] == (words, wider)
    assert made.prefix == p(SUMMARY), "the summary that a peer announces decides"
    node.withdrawn(SUMMARY)
    assert told(node, "192.168.7.1").verdict == words
    assert told(node, "192.168.8.1").steps == (f"it is inside the pool {SUMMARY}, but no peer offers a prefix for it",)


def test_a_default_route_that_was_refused_is_told_and_does_not_decide(node: Node) -> None:
    node.told("0.0.0.0/0")
    made = told(node, "10.1.1.1")
    assert made.prefix is None
    assert made.verdict == "What peers offer for 10.1.1.1 is refused: the node's other routes decide"
    assert made.steps[0].endswith("the default route is never learned")


def test_stale_and_adopted_routes_decide_too(node: Node) -> None:
    node.down()
    made = told(node, "192.168.2.7")
    assert made.verdict.startswith(f"{OTHER} is stale via 10.42.1.1")
    assert made.offers[0].stale
    young = Node(found={p(OTHER): VIA_GATEWAY})
    adopted = told(young, "192.168.2.7")
    assert adopted.prefix == p(OTHER)
    assert "from an earlier run" in adopted.verdict
    assert adopted.offers == ()


def test_a_prefix_that_is_gone_by_now_is_its_own_words(node: Node) -> None:
    assert _words(node.router, p("10.1.1.0/24"), p("10.1.1.1/32")) == "10.1.1.0/24"


def test_surplus_has_no_next_hop_to_show() -> None:
    node = Node(settings(peer(max_prefixes=1)))
    node.up(RS0)
    node.told(OTHER, "192.168.3.0/26")
    made = told(node, "192.168.3.1")
    assert made.prefix is None
    assert made.steps[0] == f"192.168.3.0/26 is refused: above max_prefixes 1 of {RS0}"
