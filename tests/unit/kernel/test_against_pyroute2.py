"""An independent reader of netlink sees the routes that we mean to write."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from pyroute2 import IPRoute

from bgp_agent.core.fib import Operation, Verb
from bgp_agent.core.prefix import parse_address, parse_prefix
from bgp_agent.core.values import Blackhole, Hop, Target, Unicast
from bgp_agent.kernel.routes import Packer
from bgp_agent.kernel.sockets import Writer, open_socket
from lab.netns import Network

pytestmark = pytest.mark.netns

BLACKHOLE, UNICAST = 6, 1


def test_another_reader_finds_prefix_metric_protocol_type_and_every_next_hop() -> None:
    with Network() as network:
        here, there = network.add("here"), network.add("there")
        network.wire(here, "eth0", there, "eth0", left_addresses=["10.0.0.1/24", "fd00::1/64"])
        index = int(here.ip("-o link show eth0").split(":", 1)[0])
        hops = [Hop(index, parse_address(f"10.0.0.{n}")) for n in (2, 3)]
        six = [Hop(index, parse_address(f"fd00::{n}")) for n in (2, 3)]
        wanted: dict[str, Target] = {
            "192.168.1.0/26": Blackhole(),
            "192.168.2.0/26": Unicast((hops[0],)),
            "192.168.3.0/26": Unicast(tuple(hops)),
            "2001:db8:1::/64": Blackhole(),
            "2001:db8:2::/64": Unicast((six[0],)),
            "2001:db8:3::/64": Unicast(tuple(six)),
        }
        operations = [
            Operation(
                Verb.CREATE, parse_prefix(text), 254, BLACKHOLE if isinstance(target, Blackhole) else UNICAST, target
            )
            for text, target in wanted.items()
        ]
        with here.entered():
            with closing(Writer(open_socket, Packer(4096, 179))) as writer:
                refusals, lost = writer.write(operations)
            assert not refusals
            assert not lost
            with IPRoute() as other:
                seen = {
                    f"{route.get('dst')}/{route['dst_len']}": route
                    for family in (socket.AF_INET, socket.AF_INET6)
                    for route in other.get_routes(family=family, table=254)
                    if route["proto"] == 179
                }
        assert set(seen) == set(wanted)
        for text, target in wanted.items():
            route = seen[text]
            assert route.get("priority") == 4096
            assert route["type"] == (BLACKHOLE if isinstance(target, Blackhole) else UNICAST)
            if isinstance(target, Unicast):
                legs = route.get("multipath") or [route]
                gateways = {parse_address(leg.get("gateway")) for leg in legs}
                assert gateways == {hop.gateway for hop in target.hops}
                assert {leg.get("oif") for leg in legs} == {index}
