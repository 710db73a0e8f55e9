from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.nexthop import InterfaceAddress, Link, NextHops, Resolution
from bgp_agent.core.prefix import Address, Prefix, covers, host, network, parse_address, parse_prefix
from bgp_agent.core.seen import MAIN, KernelRoute, Seen, Strange
from bgp_agent.core.values import Blackhole, Hop, Unicast

LO, ETH0, ETH1 = 1, 2, 3
GATEWAY, OTHER = parse_address("10.42.1.1"), parse_address("10.42.2.1")
PEER, FAR = parse_address("10.42.1.7"), parse_address("10.99.0.7")


def via(*hops: tuple[int, str | None]) -> Unicast:
    return Unicast(tuple(Hop(link, parse_address(text) if text else None) for link, text in hops))


def route(prefix: str, target: Seen, metric: int = 0, protocol: int = 2, dead: tuple[Hop, ...] = ()) -> KernelRoute:
    return KernelRoute(MAIN, parse_prefix(prefix), metric, protocol, target, dead=dead)


SUBNET = route("10.42.1.0/24", via((ETH0, None)))
SUBNET1 = route("10.42.2.0/24", via((ETH1, None)))
DEFAULT = route("0.0.0.0/0", via((ETH0, "10.42.1.1")), 100, 16)


def links(eth0: bool = True, eth1: bool = True, running: bool = True) -> list[Link]:
    return [
        Link(LO, "lo", up=True, running=True, mtu=65536, loopback=True),
        Link(ETH0, "eth0", eth0, running, 1500),
        Link(ETH1, "eth1", eth1, running=True, mtu=1500),
    ]


def read(next_hops: NextHops, *routes: KernelRoute) -> None:
    next_hops.begin()
    next_hops.rows(routes)
    next_hops.end()


def node(*routes: KernelRoute) -> NextHops:
    next_hops = NextHops(179)
    next_hops.replace_links(links())
    next_hops.replace_addresses(
        [
            InterfaceAddress(LO, parse_address("127.0.0.1"), 8),
            InterfaceAddress(ETH0, parse_address("10.42.1.4"), 24),
            InterfaceAddress(ETH1, parse_address("10.42.2.4"), 24),
            InterfaceAddress(ETH1, parse_address("fe80::4"), 64),
            InterfaceAddress(LO, parse_address("192.168.9.9"), 32),
        ]
    )
    read(next_hops, *routes)
    return next_hops


def hops(next_hops: NextHops, address: Address) -> tuple[Hop, ...]:
    return next_hops.resolve(address).hops


def test_a_next_hop_on_a_link_is_its_own_gateway() -> None:
    answer = node(SUBNET, DEFAULT).resolve(PEER)
    assert answer == Resolution((Hop(ETH0, PEER),), "on the link eth0", on_link=True)


def test_a_far_next_hop_goes_by_the_gateway_of_the_longest_match() -> None:
    answer = node(SUBNET, SUBNET1, DEFAULT, route("10.99.0.0/16", via((ETH1, "10.42.2.1")))).resolve(FAR)
    assert answer == Resolution((Hop(ETH1, OTHER),), "by 10.99.0.0/16 of protocol kernel (2), link eth1")


def test_of_routes_for_one_prefix_the_lowest_metric_answers() -> None:
    next_hops = node(SUBNET, SUBNET1, DEFAULT, route("0.0.0.0/0", via((ETH1, "10.42.2.1")), 50))
    assert hops(next_hops, FAR) == (Hop(ETH1, OTHER),)


def test_our_own_routes_never_resolve_a_next_hop() -> None:
    """A host route of ours would still answer with the gateway of yesterday."""
    next_hops = node(SUBNET, SUBNET1, DEFAULT, route("10.99.0.7/32", via((ETH1, "10.42.2.1")), 4096, 179))
    next_hops.new(route("10.99.0.0/24", via((ETH1, "10.42.2.1")), 0, 179))
    assert hops(next_hops, FAR) == (Hop(ETH0, GATEWAY),)


def test_an_address_of_the_node_itself_is_refused() -> None:
    assert node(SUBNET).resolve(parse_address("10.42.1.4")) == Resolution((), "10.42.1.4 is an address of this node")


def test_without_a_route_the_reason_says_so() -> None:
    assert node(SUBNET).resolve(FAR).reason == "no route to 10.99.0.7, our own left aside"


def test_a_link_that_is_down_does_not_count_even_before_its_routes_are_known_to_be_gone() -> None:
    next_hops = node(SUBNET, DEFAULT)
    next_hops.link(links(eth0=False)[1])
    assert next_hops.resolve(PEER) == Resolution((), "10.42.1.0/24 of protocol kernel (2): the link eth0 is down")
    next_hops.link_gone(ETH0)
    assert next_hops.resolve(PEER).reason.endswith("the link with index 2 is gone")


def test_a_link_that_lost_its_carrier_still_counts_as_it_does_in_the_kernel_and_that_is_told() -> None:
    next_hops = node(SUBNET)
    assert next_hops.resolve(PEER).carrier
    next_hops.link(links(running=False)[1])
    assert next_hops.take_changes() == {PEER}
    assert hops(next_hops, PEER) == (Hop(ETH0, PEER),)
    assert not next_hops.resolve(PEER).carrier


def test_of_several_next_hops_those_with_a_carrier_answer() -> None:
    default = route("0.0.0.0/0", via((ETH0, "10.42.1.1"), (ETH1, "10.42.2.1")), 100, 16)
    next_hops = node(SUBNET, SUBNET1, default)
    assert len(hops(next_hops, FAR)) == 2
    next_hops.link(links(running=False)[1])
    assert hops(next_hops, FAR) == (Hop(ETH1, OTHER),)
    assert next_hops.resolve(FAR).carrier


def test_when_the_best_route_is_down_the_next_one_answers() -> None:
    next_hops = node(SUBNET, SUBNET1, DEFAULT, route("0.0.0.0/0", via((ETH1, "10.42.2.1")), 50))
    next_hops.link(links(eth1=False)[2])
    assert hops(next_hops, FAR) == (Hop(ETH0, GATEWAY),)


def test_of_several_next_hops_the_living_ones_answer_sorted() -> None:
    two = via((ETH1, "10.42.2.1"), (ETH0, "10.42.1.1"))
    assert hops(node(SUBNET, route("0.0.0.0/0", two)), FAR) == (Hop(ETH0, GATEWAY), Hop(ETH1, OTHER))
    dead = node(route("0.0.0.0/0", two, dead=(two.hops[0],)))
    assert hops(dead, FAR) == (Hop(ETH0, GATEWAY),)
    dead.link(links(eth0=False)[1])
    assert hops(dead, FAR) == ()


def test_a_blackhole_or_unreachable_that_covers_the_next_hop_leaves_it_unresolved() -> None:
    assert node(DEFAULT, route("10.99.0.0/24", Blackhole(), 32, 12)).resolve(FAR) == Resolution(
        (), "10.99.0.0/24 of protocol bird (12) is of the kind blackhole"
    )
    assert node(DEFAULT, route("10.99.0.0/24", Strange(7))).resolve(FAR).reason.endswith("of the kind unreachable")
    assert "not understood" in node(DEFAULT, route("10.99.0.0/24", Strange(1))).resolve(FAR).reason


def test_ipv6_next_hops_resolve_alone_among_ipv6_routes() -> None:
    next_hops = node(DEFAULT, route("::/0", via((ETH1, "fe80::1")), 1024, 9))
    assert hops(next_hops, parse_address("fd00::7")) == (Hop(ETH1, parse_address("fe80::1")),)


def test_only_answers_that_are_different_are_told_as_changed() -> None:
    next_hops = node(SUBNET, SUBNET1, DEFAULT)
    next_hops.resolve(PEER)
    next_hops.resolve(FAR)
    assert next_hops.take_changes() == frozenset()
    next_hops.new(route("172.16.0.0/12", via((ETH1, "10.42.2.1"))))
    assert next_hops.take_changes() == frozenset()
    next_hops.new(route("0.0.0.0/0", via((ETH1, "10.42.2.1")), 50))
    assert hops(next_hops, FAR) == (Hop(ETH1, OTHER),)  # asked before it was told, and still told
    assert next_hops.take_changes() == {FAR}
    next_hops.deleted(route("0.0.0.0/0", via((ETH1, "10.42.2.1")), 50))
    next_hops.forget([FAR])
    assert next_hops.take_changes() == frozenset()


def test_what_changes_while_a_dump_runs_is_not_lost_to_it() -> None:
    next_hops = node(SUBNET, SUBNET1, DEFAULT)
    next_hops.begin()
    next_hops.rows([SUBNET, SUBNET1, DEFAULT])
    next_hops.new(route("0.0.0.0/0", via((ETH1, "10.42.2.1")), 50))
    next_hops.deleted(SUBNET)
    next_hops.end()
    assert hops(next_hops, FAR) == (Hop(ETH1, OTHER),)
    assert hops(next_hops, PEER) == (Hop(ETH1, OTHER),)


def test_a_route_that_ours_replaced_answers_no_more() -> None:
    next_hops = node(SUBNET, DEFAULT, route("10.99.0.0/24", via((ETH1, "10.42.2.1")), 4096))
    next_hops.new(route("10.99.0.0/24", via((ETH0, "10.42.1.9")), 4096, 179))
    assert hops(next_hops, FAR) == (Hop(ETH0, GATEWAY),)


def test_rows_outside_of_a_dump_are_ignored() -> None:
    next_hops = node(SUBNET)
    next_hops.rows([DEFAULT])
    next_hops.end()
    assert hops(next_hops, FAR) == ()


def test_news_is_told_from_repetition() -> None:
    next_hops = node(SUBNET)
    eth0 = links()[1]
    entry = InterfaceAddress(ETH0, parse_address("10.42.1.5"), 24)
    assert not next_hops.link(eth0)
    assert not next_hops.replace_links(links())
    assert next_hops.link_gone(ETH0)
    assert not next_hops.link_gone(ETH0)
    assert next_hops.address(entry)
    assert not next_hops.address(entry)
    assert next_hops.address(entry, present=False)
    assert not next_hops.address(entry, present=False)
    assert next_hops.replace_addresses([entry])
    assert not next_hops.replace_addresses([entry])


def test_what_the_import_policy_asks() -> None:
    next_hops = node(SUBNET)
    assert parse_address("10.42.1.4") in next_hops.own_addresses()
    assert next_hops.subnets() == {parse_prefix(text) for text in ("10.42.1.0/24", "10.42.2.0/24", "fe80::/64")}
    assert next_hops.interface(ETH0) == "eth0"
    assert next_hops.interface(77) == "link 77 (deleted)"
    assert [link.name for link in next_hops.links()] == ["lo", "eth0", "eth1"]


@given(
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(16, 32), st.integers(0, 3)), max_size=12),
    st.integers(0, 0xFFFF),
)
def test_the_longest_match_with_the_lowest_metric_wins_whatever_the_routes(
    entries: list[tuple[int, int, int]], number: int
) -> None:
    address = Address(b"\x0a\x63" + number.to_bytes(2, "big"))
    routes: dict[tuple[Prefix, int], KernelRoute] = {}
    for position, (low, length, metric) in enumerate(entries):
        prefix = network(Address(b"\x0a\x63" + low.to_bytes(2, "big")), length)
        target = Unicast((Hop(ETH0, Address(b"\x0a\x2a\x01" + bytes((position + 10,)))),))
        routes[prefix, metric] = KernelRoute(MAIN, prefix, metric, 4, target)
    matching = [entry for entry in routes.values() if covers(entry.prefix, host(address))]
    best = min(matching, key=lambda entry: (-entry.prefix[-1], entry.metric), default=None)
    expected = best.target.hops if best is not None and isinstance(best.target, Unicast) else ()
    assert hops(node(*routes.values()), address) == expected


def test_links_that_have_an_address_are_found_and_a_loopback_is_none_of_them() -> None:
    next_hops = node(SUBNET)
    assert next_hops.links_of([parse_address("10.42.1.4"), parse_address("10.42.2.4")]) == {ETH0, ETH1}
    assert next_hops.links_of([parse_address("192.168.9.9"), PEER]) == set()


def test_an_address_in_use_is_our_own_or_one_that_a_strangers_route_puts_on_a_link() -> None:
    next_hops = node(route("192.168.1.8/32", via((ETH1, None))), route("192.168.1.9/32", via((ETH0, "10.42.1.1"))))
    assert next_hops.in_use(host(parse_address("10.42.1.4")))
    assert next_hops.in_use(host(parse_address("192.168.1.8")))
    assert not next_hops.in_use(host(parse_address("192.168.1.9"))), "it lives elsewhere"
    assert not next_hops.in_use(host(parse_address("192.168.1.10")))


def test_a_next_hop_that_nobody_asks_for_is_forgotten() -> None:
    next_hops = node(SUBNET)
    next_hops.resolve(PEER)
    next_hops.forget([PEER, FAR])
    next_hops.deleted(SUBNET)
    assert next_hops.take_changes() == frozenset()


def test_our_own_routes_and_a_route_that_is_told_again_change_nothing() -> None:
    next_hops = node(SUBNET)
    before = next_hops.revision
    next_hops.new(SUBNET)
    next_hops.new(route("10.42.1.0/24", SUBNET.target, 4096, 179))
    next_hops.deleted(route("10.42.1.0/24", SUBNET.target, 4096, 179))
    assert next_hops.revision == before
