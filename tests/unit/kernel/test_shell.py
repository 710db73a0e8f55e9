from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import textwrap
import threading

import pytest
import structlog.testing

from bgp_agent.core.prefix import Address, Family, Prefix, network, parse_address, parse_prefix
from bgp_agent.core.values import Blackhole, Hop, RouteState, Target, Unicast
from lab.netns import Namespace
from tests.unit.kernel.rig import P6, P, Rig, Watcher, opener_in, running, until

pytestmark = pytest.mark.netns

CASES = [pytest.param(P, "10.42.1.1", "10.42.2.1", id="ipv4"), pytest.param(P6, "fd42:1::1", "fd42:2::1", id="ipv6")]


def text(prefix: Prefix) -> str:
    return "fd01::/64" if prefix == P6 else "192.168.2.0/26"


def six(prefix: Prefix) -> str:
    return "-6 " if prefix == P6 else ""


def many(count: int) -> list[Prefix]:
    return [network(Address((0x0B000000 + (number << 6)).to_bytes(4, "big")), 26) for number in range(count)]


# --- writing ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("prefix", "one", "two"), CASES)
async def test_every_change_of_a_route_is_one_message_and_no_packet_finds_none(
    node: Namespace, watcher: Watcher, prefix: Prefix, one: str, two: str
) -> None:
    async with running(Rig(node)) as rig:
        steps: list[Target] = [rig.via(one), rig.via(one, two), rig.via(two), Blackhole(), rig.via(one)]
        for target in steps:
            rig.want(prefix, target)
            assert rig.fib.state(prefix)[0] is RouteState.INSTALLED, rig.fib.state(prefix)
            await rig.dumped()
            assert rig.fib.operations() == []
            assert rig.standing()[prefix] == target
        assert rig.fib.repaired == 0
        heard = await asyncio.to_thread(watcher.mark, "steps")
        assert len([line for line in heard if text(prefix) in line]) == len(steps), heard
        assert not [line for line in heard if line.startswith("Deleted")], heard
        rig.want(prefix, None)
        assert rig.shown(text(prefix)) == []


async def test_a_route_that_went_before_we_came_to_delete_it_is_no_refusal(node: Namespace) -> None:
    """As when a link goes down and takes routes along: the kernel says ESRCH, and that is what was wanted."""
    async with running(Rig(node)) as rig:
        rig.want(P, rig.via("10.42.1.1"))
        node.ip("route delete 192.168.2.0/26 proto 179")  # before the loop hears of it
        with structlog.testing.capture_logs() as said:
            rig.want(P, None)
        assert said == []
        assert rig.fib.pending == 0


async def test_a_host_route_and_a_route_by_an_interface_and_a_source_are_read_back_as_written(node: Namespace) -> None:
    async with running(Rig(node)) as rig:
        hop = rig.via("10.42.1.1").hops[0]
        targets = {
            "198.51.100.1/32": Unicast((Hop(hop.interface, None),)),
            "198.51.100.2/32": Unicast((Hop(hop.interface, parse_address("192.0.2.1"), onlink=True),)),
            "198.51.100.3/32": Unicast((hop,), source=parse_address("10.42.2.4")),
            "0.0.0.0/0": Unicast((hop,)),
            "fd05::1/128": Unicast((Hop(hop.interface, parse_address("fe80::1")),)),
            "fd05::2/128": Unicast((Hop(hop.interface, None),)),
            "::/0": rig.via("fd42:1::1", "fd42:2::1"),
        }
        for prefix, target in targets.items():
            rig.want(prefix, target)
        await rig.dumped()
        assert rig.standing() == {parse_prefix(prefix): target for prefix, target in targets.items()}
        assert (rig.fib.pending, rig.fib.repaired) == (0, 0)


async def test_strangers_routes_are_the_same_byte_for_byte_whatever_we_do_at_their_prefixes(node: Namespace) -> None:
    for line in (
        "route add 192.168.2.0/26 via 10.42.1.9 proto 80 metric 32",
        "route add 192.168.3.0/26 via 10.42.1.9 proto 12 metric 4096",
        "route add 192.168.4.0/26 proto static metric 4096 nexthop via 10.42.1.9 nexthop via 10.42.2.9",
        "route add blackhole 192.168.5.0/26 proto 80",
        "-6 route add fd01::/64 via fd42:1::9 proto 12 metric 4096",
        "-6 route add fd02::/64 proto static metric 4096 nexthop via fd42:1::9 nexthop via fd42:2::9",
        "-6 route add fd03::/64 via fd42:1::9 proto static metric 1024",
    ):
        node.ip(line)
    async with running(Rig(node)) as rig:
        before = rig.shown(ours=False)
        prefixes = ["192.168.2.0/26", "192.168.3.0/26", "192.168.4.0/26", "192.168.5.0/26", *(
            "fd01::/64", "fd02::/64", "fd03::/64")]  # fmt: skip
        for gateways in (("1",), ("1", "2"), ("2",)):
            for prefix in prefixes:
                start = "fd42:{}::1" if ":" in prefix else "10.42.{}.1"
                rig.want(prefix, rig.via(*(start.format(number) for number in gateways)))
        states = {prefix: rig.fib.state(parse_prefix(prefix)) for prefix in prefixes}
        assert states["192.168.2.0/26"][1].startswith("protocol felix (80) holds 192.168.2.0/26 with metric 32")
        assert "at our own metric 4096" in states["192.168.3.0/26"][1]
        assert {state for prefix, (state, _) in states.items() if prefix != "fd03::/64"} == {RouteState.SHADOWED}
        for prefix in prefixes:
            rig.want(prefix, None)
        assert rig.shown(ours=False) == before


async def test_ours_follows_within_a_second_when_the_stranger_at_our_key_goes(node: Namespace) -> None:
    node.ip("route add 192.168.2.0/26 via 10.42.1.9 proto static metric 4096")
    async with running(Rig(node)) as rig:
        rig.want(P, rig.via("10.42.1.1"))
        assert rig.fib.state(P)[0] is RouteState.SHADOWED
        await rig.ip("route del 192.168.2.0/26 proto static")
        await rig.is_back(P)


async def test_a_stranger_that_came_unseen_is_found_by_the_refusal_and_named(node: Namespace) -> None:
    async with running(Rig(node)) as rig:
        node.ip("route add 192.168.2.0/26 via 10.42.1.9 proto bird metric 4096")  # the loop does not run meanwhile
        rig.want(P, rig.via("10.42.1.1"))
        assert rig.fib.state(P)[0] is RouteState.PENDING
        await until("the holder is named", lambda: "protocol bird (12) holds" in rig.fib.state(P)[1], 1.0)
        assert rig.shown("192.168.2.0/26", ours=False) == [
            "192.168.2.0/26 via 10.42.1.9 dev eth0 proto bird metric 4096"
        ]


async def test_a_replace_that_the_kernel_refuses_leaves_the_old_route_and_says_why(node: Namespace) -> None:
    async with running(Rig(node)) as rig:
        rig.want(P, rig.via("10.42.1.1"))
        rig.want(P, Unicast((Hop(rig.via("10.42.1.1").hops[0].interface, parse_address("203.0.113.9")),)))
        state, reason = rig.fib.state(P)
        assert state is RouteState.PENDING
        assert reason == "network unreachable: via 203.0.113.9 on eth0 (Nexthop has invalid gateway)"
        assert rig.shown("192.168.2.0/26") == ["192.168.2.0/26 via 10.42.1.1 dev eth0"]
        rig.want(P, Unicast((Hop(777, parse_address("203.0.113.9")),)))
        assert "the link with index 777 is gone" in rig.fib.state(P)[1]


# --- what others do --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("prefix", "one", "two"), CASES)
async def test_a_route_that_somebody_removes_is_back_at_once_and_counted(
    node: Namespace, prefix: Prefix, one: str, two: str
) -> None:
    async with running(Rig(node)) as rig:
        for target in (rig.via(one), rig.via(one, two), Blackhole()):
            rig.want(prefix, target)
            counted = rig.fib.repaired + 1
            await rig.ip(
                f"{six(prefix)}route del {'blackhole ' * isinstance(target, Blackhole)}{text(prefix)} proto 179"
            )
            await rig.repaired(counted)
            await rig.dumped()
            assert rig.standing()[prefix] == target


@pytest.mark.parametrize(("prefix", "one", "two"), CASES)
async def test_a_route_that_somebody_changed_under_our_name_is_changed_back(
    node: Namespace, prefix: Prefix, one: str, two: str
) -> None:
    async with running(Rig(node)) as rig:
        target = rig.via(one)
        rig.want(prefix, target)
        await rig.ip(f"{six(prefix)}route replace {text(prefix)} via {two} proto 179 metric 4096")
        await until("repaired", lambda: rig.fib.repaired == 1, 1.0)
        await rig.ip(f"{six(prefix)}route replace {text(prefix)} via {one} mtu 1300 proto 179 metric 4096")
        await until("repaired", lambda: rig.fib.repaired == 2, 1.0)
        assert "mtu" not in rig.shown(text(prefix))[0]


@pytest.mark.parametrize(("prefix", "one", "two"), CASES)
async def test_a_stranger_who_replaces_our_route_keeps_it_and_is_named(
    node: Namespace, prefix: Prefix, one: str, two: str
) -> None:
    """There is no DELROUTE of ours: only his NEWROUTE tells."""
    async with running(Rig(node)) as rig:
        rig.want(prefix, rig.via(one))
        await rig.ip(f"{six(prefix)}route replace {text(prefix)} via {two} proto static metric 4096")
        await until("named", lambda: "at our own metric 4096" in rig.fib.state(prefix)[1], 1.0)
        rig.want(prefix, rig.via(one, two))
        assert len(rig.shown(text(prefix), ours=False)) == 1
        assert "proto static" in rig.shown(text(prefix), ours=False)[0]
        await rig.ip(f"{six(prefix)}route del {text(prefix)} proto static")
        await rig.is_back(prefix)


async def test_a_stranger_who_joins_our_ipv6_route_is_put_out_again(node: Namespace) -> None:
    """IPv6 makes his `append` a next hop of ours, and shows it under our protocol."""
    async with running(Rig(node)) as rig:
        rig.want(P6, rig.via("fd42:1::1"))
        await rig.ip("-6 route append fd01::/64 via fd42:2::1 proto static metric 4096")
        await until("ours is alone again", lambda: rig.fib.repaired == 1, 1.0)
        assert rig.shown("fd01::/64") == ["fd01::/64 via fd42:1::1 dev eth0 pref medium"]


async def test_a_next_hop_taken_out_of_our_ipv6_ecmp_is_put_back(node: Namespace) -> None:
    async with running(Rig(node)) as rig:
        target = rig.via("fd42:1::1", "fd42:2::1")
        rig.want(P6, target)
        await rig.ip("-6 route del fd01::/64 via fd42:2::1 metric 4096")
        await until("repaired", lambda: rig.fib.repaired == 1, 1.0)
        await rig.dumped()
        assert rig.standing()[P6] == target


async def test_somebody_flushes_everything_of_ours(node: Namespace) -> None:
    async with running(Rig(node)) as rig:
        prefixes = many(500)
        rig.fib.want_many((prefix, rig.via("10.42.1.1")) for prefix in prefixes)
        rig.kernel.flush()
        await rig.ip("route flush proto 179")
        await until("all are back", lambda: rig.fib.repaired >= 500 and rig.fib.pending == 0)
        await rig.dumped()
        assert len(rig.standing()) == len(rig.shown()) == 500


async def test_more_messages_than_the_buffer_holds_lose_nothing(node: Namespace) -> None:
    async with running(Rig(node, buffer=4096)) as rig:
        rig.fib.want_many((prefix, rig.via("10.42.1.1")) for prefix in many(3000))
        rig.kernel.flush()
        await rig.dumped()
        assert rig.kernel.overruns == 0  # our own writes are not heard, so they cannot overrun anything
        node.ip("route flush proto 179")  # the loop does not run meanwhile
        await until("the overrun was noticed", lambda: rig.kernel.overruns > 0)
        await until("all are back", lambda: rig.fib.repaired == 3000 and rig.fib.pending == 0)
        assert len(rig.shown()) == 3000


async def test_what_no_message_tells_is_found_by_the_slow_dump(node: Namespace) -> None:
    class Deaf(socket.socket):
        """A listener that joins no group."""

        def setsockopt(self, *arguments: object) -> None:
            if arguments[:2] != (270, 1):
                super().setsockopt(*arguments)  # type: ignore[call-overload]  # passed on as it came

    def opener() -> socket.socket:
        with node.entered():
            return Deaf(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)

    async with running(Rig(node, opener=opener, period=0.2)) as rig:
        rig.want(P, rig.via("10.42.1.1"))
        await rig.ip("route del 192.168.2.0/26 proto 179")
        await until("repaired", lambda: rig.fib.repaired == 1)


# --- gateways ---------------------------------------------------------------------------------------------------------
async def test_a_changed_default_gateway_is_heard_and_our_own_route_does_not_answer_for_it(node: Namespace) -> None:
    node.ip("route add default via 10.42.1.1 metric 100")
    async with running(Rig(node)) as rig:
        far = parse_address("10.99.0.7")
        rig.want("10.99.0.7/32", rig.via("10.99.0.7"))
        rig.told.clear()
        await rig.ip("route replace default via 10.42.2.1 metric 100")
        await until("the change is told", lambda: any(far in told.next_hops for told in rig.told), 1.0)
        assert rig.via("10.99.0.7") == rig.via("10.42.2.1")


# --- start, stop, trouble --------------------------------------------------------------------------------------------
async def test_a_restart_adopts_what_is_right_and_causes_no_route_event(node: Namespace, watcher: Watcher) -> None:
    async with running(Rig(node)) as rig:
        targets: list[tuple[Prefix, Target]] = [
            (P, rig.via("10.42.1.1")),
            (P6, rig.via("fd42:1::1", "fd42:2::1")),
            (many(1)[0], Blackhole()),
        ]
        rig.fib.want_many(targets)
        rig.kernel.flush()
    await asyncio.to_thread(watcher.mark, "first life")
    async with running(Rig(node)) as rig:
        assert rig.told[0].ready
        assert rig.fib.adopted() == dict(targets)
        rig.fib.want_many(targets[:2])
        rig.kernel.flush()
        await rig.dumped()
        assert await asyncio.to_thread(watcher.mark, "second life") == []
        rig.want(many(1)[0], None)
        assert len(rig.shown()) == 2


async def test_with_install_off_everything_is_read_and_nothing_written(node: Namespace) -> None:
    node.ip("route add 192.168.3.0/26 via 10.42.1.1 proto 179 metric 4096")
    async with running(Rig(node, install=False)) as rig:
        rig.want(P, rig.via("10.42.1.1"))
        rig.want("192.168.3.0/26", None)
        assert rig.fib.state(P) == (RouteState.PENDING, "not written: kernel.install is off")
        assert len(rig.shown()) == 1


async def test_cleanup_takes_ours_and_nothing_else(node: Namespace) -> None:
    node.ip("route add 192.168.9.0/26 via 10.42.1.1 proto 179 metric 77")
    node.ip("-6 route add fd09::/64 via fd42:1::1 proto static metric 4096")
    rig = Rig(node)
    before = rig.shown(ours=False)
    async with running(rig):
        for prefix, target in ((P, rig.via("10.42.1.1")), (P6, rig.via("fd42:1::1", "fd42:2::1"))):
            rig.want(prefix, target)
        rig.blackhole("192.168.1.0/26")
    node.ip("route add unreachable 192.168.8.0/26 proto 179 metric 4096")
    assert await Rig(node).kernel.cleanup() == 4
    assert rig.shown(ours=False) == before
    assert await Rig(node).kernel.cleanup() == 0


async def test_sockets_that_fail_are_opened_again_and_the_reason_is_told_meanwhile(node: Namespace) -> None:
    broken = threading.Event()

    def opener() -> socket.socket:
        if broken.is_set():
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opener_in(node)()

    async with running(Rig(node, opener=opener)) as rig:
        rig.want(P, rig.via("10.42.1.1"))
        broken.set()
        assert rig.kernel._writer is not None
        rig.kernel._writer._socket.close()
        rig.want("192.168.3.0/26", rig.via("10.42.2.1"))
        assert "could not be written to" in rig.fib.state(parse_prefix("192.168.3.0/26"))[1]
        await until("the reason is told", lambda: "Too many open files" in rig.kernel.reason)
        broken.clear()
        await rig.ip("route del 192.168.2.0/26 proto 179")
        await until("both stand", lambda: len(rig.standing()) == 2 and not rig.fib.pending and not rig.kernel.reason)
        assert len(rig.shown()) == 2


def test_without_cap_net_admin_the_state_says_so_and_reading_goes_on(node: Namespace) -> None:
    program = """
        import asyncio, sys
        from bgp_agent.core.fib import Fib
        from bgp_agent.core.nexthop import NextHops
        from bgp_agent.core.prefix import parse_address, parse_prefix
        from bgp_agent.core.values import Unicast
        from bgp_agent.kernel import Kernel

        async def main():
            next_hops = NextHops(179)
            fib = Fib(4096, 179, interface=next_hops.interface)
            kernel = Kernel(fib, next_hops, lambda changed: None)
            async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
                task = tasks.create_task(kernel.run())
                while not kernel.ready:
                    await asyncio.sleep(0.01)
                prefix = parse_prefix("192.168.2.0/26")
                fib.want(prefix, Unicast(next_hops.resolve(parse_address("10.42.1.1")).hops))
                kernel.flush()
                print(fib.state(prefix)[1])
                print(kernel.lookup(parse_address("10.42.1.1")))
                task.cancel()

        asyncio.run(main())
    """
    out = node.run(
        "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--", sys.executable, "-c",
        textwrap.dedent(program),
    )  # fmt: skip
    said = [line for line in out.splitlines() if "warning" not in line]
    assert said[0] == "the kernel does not let this process change routes: it needs CAP_NET_ADMIN"
    assert said[1].startswith("10.42.1.1 dev eth0 src 10.42.1.4 proto 2")


# --- an own table ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("table", [100, 70_000])
async def test_with_an_own_table_learned_routes_forward_and_the_pods_routes_stand_beside_the_blackhole(
    node: Namespace, table: int
) -> None:
    node.ip("route add default via 10.42.1.1")
    node.ip("route add 192.168.1.5/32 dev eth1 proto static")  # a pod's own
    async with running(Rig(node, table=table)) as rig:
        rig.want(P, rig.via("10.42.2.1"))
        rig.blackhole("192.168.1.0/26")
        assert rig.shown(table=str(table)) == ["192.168.2.0/26 via 10.42.2.1 dev eth1"]
        assert rig.shown() == ["blackhole 192.168.1.0/26"]
        assert " via 10.42.2.1 dev eth1" in rig.kernel.lookup(parse_address("192.168.2.7"))
        assert " dev eth1 " in rig.kernel.lookup(parse_address("192.168.1.5"))
        assert rig.kernel.lookup(parse_address("192.168.1.6")) == "192.168.1.6: dropped: a blackhole answers"
        assert " via 10.42.1.1 dev eth0" in rig.kernel.lookup(parse_address("9.9.9.9"))
        await rig.ip("rule del priority 32765")
        await until("the rule is back", lambda: f"lookup {table}" in node.ip("rule show"), 1.0)
        await rig.ip(f"route del 192.168.2.0/26 table {table}")
        await until("repaired", lambda: rig.fib.repaired == 1, 1.0)
        rules = node.ip("rule show") + node.ip("-6 rule show")
        assert rules.count("lookup main suppress_prefixlength 0 proto 179") == 2
    assert await Rig(node, table=table).kernel.cleanup() == 2
    assert f"lookup {table}" not in node.ip("rule show") + node.ip("-6 rule show")
    assert "suppress" not in node.ip("rule show") + node.ip("-6 rule show")


@pytest.mark.parametrize(("prefix", "one", "two"), CASES)
async def test_with_an_own_table_a_wider_route_in_main_forwards_and_that_is_said_until_it_goes(
    node: Namespace, prefix: Prefix, one: str, two: str
) -> None:
    wide, address = ("fd01::/32", "fd01::7") if prefix == P6 else ("192.168.0.0/16", "192.168.2.7")
    node.ip(f"{six(prefix)}route add default via {one}")
    async with running(Rig(node, table=100)) as rig:
        rig.want(prefix, rig.via(two))

        def says(state: RouteState, gateway: str) -> bool:
            forwards = f" via {gateway} " in rig.kernel.lookup(parse_address(address))
            return forwards and rig.fib.state(prefix)[0] is rig.fib.standing(prefix) is state

        assert says(RouteState.INSTALLED, two), "a default route in main is asked later"
        for _ in range(2):
            await rig.ip(f"{six(prefix)}route add {wide} via {one} proto static metric 9000")
            await until("it is told", lambda: says(RouteState.SHADOWED, one), 1.0)
            assert f"holds {wide} in table main, which is asked before table 100" in rig.fib.state(prefix)[1]
            await rig.dumped()
            assert says(RouteState.SHADOWED, one)
            await rig.ip(f"{six(prefix)}route del {wide}")
            await until("ours forwards again", lambda: says(RouteState.INSTALLED, two), 1.0)


# --- sysctls, words --------------------------------------------------------------------------------------------------
async def test_a_change_of_forwarding_and_rp_filter_is_heard_at_once_and_comes_with_its_remedy(node: Namespace) -> None:
    async with running(Rig(node)) as rig:
        sysctls = rig.kernel.sysctls
        assert sysctls.forwarding(Family.IPV4) is False
        assert "sysctl -w net.ipv4.ip_forward=1" in "".join(rig.kernel.warnings())
        rig.told.clear()
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            await asyncio.to_thread(node.sysctl, key, 1)
        await until(
            "forwarding is seen", lambda: sysctls.forwarding(Family.IPV4) and sysctls.forwarding(Family.IPV6), 1
        )
        assert any(told.sysctls for told in rig.told)
        await asyncio.to_thread(node.sysctl, "net.ipv4.conf.all.rp_filter", 1)
        await until(
            "rp_filter is seen", lambda: "rp_filter is strict on eth0, eth1" in "".join(rig.kernel.warnings()), 1
        )
        await asyncio.to_thread(node.sysctl, "net.ipv4.conf.all.rp_filter", 2)
        await until("nothing is left to say", lambda: rig.kernel.warnings() == (), 1)
        await asyncio.to_thread(node.sysctl, "net.ipv4.conf.eth1.forwarding", 0)
        await until("one link is named", lambda: "off on eth1" in "".join(rig.kernel.warnings()), 1)


async def test_lookup_says_in_words_what_the_kernel_would_do(node: Namespace) -> None:
    node.ip("route add default via 10.42.1.1 proto dhcp metric 100")
    node.ip("route add unreachable 198.51.100.0/24")
    node.ip("route add prohibit 198.51.101.0/24")
    node.sysctl("net.ipv4.ip_forward", 1)
    async with running(Rig(node)) as rig:
        rig.want(P, rig.via("10.42.1.1"))
        rig.want(P6, rig.via("fd42:1::1", "fd42:2::1"))
        rig.blackhole("fd02::/64")
        asked = {
            "192.168.2.7": "192.168.2.7 via 10.42.1.1 dev eth0 src 10.42.1.4 proto 179 metric 4096, by 192.168.2.0/26",
            "9.9.9.9": "9.9.9.9 via 10.42.1.1 dev eth0 src 10.42.1.4 proto 16 metric 100, by 0.0.0.0/0",
            "10.42.1.4": "10.42.1.4 local proto 2 metric 0, by 10.42.1.4/32",
            "198.51.100.1": "198.51.100.1: an unreachable route answers",
            "198.51.101.1": "198.51.101.1: prohibited by a route",
            "fd02::1": "fd02::1: dropped: a blackhole answers",
            "fd09::1": "fd09::1: network unreachable: no route",
        }
        assert {address: rig.kernel.lookup(parse_address(address)) for address in asked} == asked
        assert "with 2 next hops" in rig.kernel.lookup(parse_address("fd01::7"))
        link = rig.via("10.42.2.1").hops[0].interface
        forwarded = rig.kernel.lookup(parse_address("192.168.2.7"), source=parse_address("10.42.2.9"), iif=link)
        assert forwarded.startswith("192.168.2.7 via 10.42.1.1 dev eth0")


@pytest.mark.parametrize("count", [10_000, 100_000])
async def test_many_routes_go_in_and_out_and_a_dump_of_them_changes_nothing(node: Namespace, count: int) -> None:
    async with running(Rig(node)) as rig:
        prefixes = many(count)
        target = rig.via("10.42.1.1")
        rig.fib.want_many((prefix, target) for prefix in prefixes)
        assert len(rig.kernel.flush()) == count
        assert (rig.fib.installed, rig.fib.pending) == (count, 0)
        assert len(rig.shown()) == count
        await rig.dumped()
        assert (rig.fib.operations(), rig.fib.repaired) == ([], 0)
        rig.fib.want_many((prefix, None) for prefix in prefixes)
        rig.kernel.flush()
        assert rig.shown() == []


async def test_one_bad_route_among_many_stops_none_of_them(node: Namespace) -> None:
    async with running(Rig(node)) as rig:
        good = rig.via("10.42.1.1")
        bad = Unicast((Hop(good.hops[0].interface, parse_address("203.0.113.9")),))
        rig.fib.want_many((prefix, bad if number % 7 == 3 else good) for number, prefix in enumerate(many(5000)))
        rig.kernel.flush()
        refused = sum(number % 7 == 3 for number in range(5000))
        assert (rig.fib.installed, rig.fib.pending) == (5000 - refused, refused)
        assert len(rig.shown()) == 5000 - refused
        assert rig.kernel.overruns == 0


async def test_an_opener_that_never_works_keeps_the_reason_and_the_agent_alive() -> None:
    def opener() -> socket.socket:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    rig = Rig(Namespace("none"), opener=opener)
    task = asyncio.create_task(rig.kernel.run())
    await until("the reason is told", lambda: "Operation not permitted" in rig.kernel.reason)
    rig.want(P, Blackhole())
    assert rig.fib.state(P)[0] is RouteState.PENDING
    assert "the kernel cannot be asked" in rig.kernel.lookup(parse_address("9.9.9.9"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
