from __future__ import annotations

import asyncio
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.prefix import (
    Address,
    Prefix,
    PrefixSet,
    address_of,
    covers,
    host,
    parse_address,
    parse_prefix,
)
from bgp_agent.core.reports import Verified
from bgp_agent.probe.service import Prober, address_in
from tests.unit.probe.fabric import PORT, Fabric, Node, Probe, running, until


def probers(fabric: Fabric) -> tuple[Probe, Probe, Probe]:
    made = tuple(node.prober(timeout=0.5) for node in fabric.nodes)
    for prober, node in zip(made, fabric.nodes, strict=True):
        prober.learn(*(other for other in fabric.nodes if other is not node))
    a, b, c = made
    return a, b, c


def blocks(node: Node) -> tuple[Prefix, Prefix]:
    return node.block4, node.block6


def says(prober: Prober, prefix: Prefix) -> tuple[str, str | None, str | None]:
    verified = prober.verified(prefix)
    return verified.state, verified.node, verified.by


async def proved(fabric: Fabric, *those: Prober) -> None:
    for prober in those:
        for prefix in (prefix for node in fabric.nodes for prefix in blocks(node)):
            await until(
                f"{prober.node} knows who gets {prefix.hex()}",
                lambda prober=prober, prefix=prefix: prober.verified(prefix).state == "delivered",  # type: ignore[misc]
            )


@pytest.mark.netns
async def test_after_the_start_every_block_is_proved_both_ways_in_both_families(fabric: Fabric) -> None:
    a, b, c = probers(fabric)
    async with running(a, b, c):
        await proved(fabric, a, b, c)
        for prefix in blocks(fabric.b):
            assert says(a, prefix) == ("delivered", "node-b", "node-a")
        for prefix in blocks(fabric.a):
            state, node, by = says(a, prefix)
            assert (state, node) == ("delivered", "node-a")
            assert by in ("node-b", "node-c")
        assert dict(a.seen)[fabric.b.block4] == a.verified(fabric.b.block4)
        assert dict(a.seen)[fabric.a.block4] == a.verified(fabric.a.block4)


@pytest.mark.netns
async def test_the_wrong_node_is_named_when_the_network_hands_it_the_block(fabric: Fabric) -> None:
    a, b, c = probers(fabric)
    async with running(a, b, c):
        await proved(fabric, a, b, c)
        for prefix in blocks(fabric.b):
            fabric.hand(prefix, fabric.c)
            a.changed(prefix)
            await until("node c is named", lambda p=prefix: says(a, p) == ("misdelivered", "node-c", "node-a"))  # type: ignore[misc]
            fabric.hand(prefix, fabric.b)
            a.changed(prefix)
            await until("all is well again", lambda p=prefix: says(a, p) == ("delivered", "node-b", "node-a"))  # type: ignore[misc]


@pytest.mark.netns
async def test_their_block_to_nobody_is_silence_and_keeps_the_last_answer_with_its_time(fabric: Fabric) -> None:
    a, b, c = probers(fabric)
    async with running(a, b, c):
        await proved(fabric, a, b, c)
        before = a.verified(fabric.b.block4)
        fabric.hand(fabric.b.block4, None)
        asked = await a.probe(fabric.b.block4)
        after = a.verified(fabric.b.block4)
        assert (after.state, after.node) == ("delivered", "node-b")
        assert after.at is not None
        assert before.at is not None
        assert after.at >= before.at
        assert after.reason.startswith("no answer since 20")
        assert (asked.state, asked.node, asked.at) == ("unknown", None, None)  # who asks now is not told of the past
        assert asked.reason == after.reason


@pytest.mark.netns
async def test_a_block_that_nobody_ever_got_is_not_known(fabric: Fabric) -> None:
    for prefix in blocks(fabric.b):
        fabric.hand(prefix, None)
    a, b, c = probers(fabric)
    async with running(a, b, c):
        for prefix in blocks(fabric.b):
            assert (await a.probe(prefix)).state == "unknown"
            assert "did not answer" in a.verified(prefix).reason


@pytest.mark.netns
@pytest.mark.parametrize("wrong", ["nobody", "another node"])
async def test_our_own_block_in_wrong_hands_is_not_known(fabric: Fabric, wrong: str) -> None:
    for prefix in blocks(fabric.a):
        fabric.hand(prefix, None if wrong == "nobody" else fabric.c)
    a, b, c = probers(fabric)
    async with running(a, b, c):
        for prefix in blocks(fabric.a):
            assert (await a.probe(prefix)).state == "unknown"
        if wrong == "another node":
            assert (await b.probe(fabric.a.block4)).node == "node-c"


@pytest.mark.netns
async def test_a_second_own_block_that_the_network_does_not_know_does_not_shadow_the_first(fabric: Fabric) -> None:
    a, b, c = probers(fabric)
    async with running(a, b, c):
        await proved(fabric, a, b, c)
        unknown = parse_prefix("192.168.77.0/26")
        a.own(PrefixSet([*blocks(fabric.a), unknown]))
        await until("the second block was asked for", lambda: "did not answer" in a.verified(unknown).reason)
        assert a.verified(unknown).state == "unknown"
        for _ in range(4):
            assert "no answer" not in (await a.probe(fabric.b.block4)).reason
        fabric.hand(unknown, fabric.a)
        assert (await a.probe(unknown)).state == "delivered"


@pytest.mark.netns
async def test_an_own_block_without_another_node_says_that_there_is_nobody_to_ask(fabric: Fabric) -> None:
    alone = fabric.a.prober()
    async with running(alone):
        assert "nobody to ask" in (await alone.probe(fabric.a.block4)).reason


@pytest.mark.netns
async def test_a_node_without_a_block_asks_from_its_own_address(fabric: Fabric) -> None:
    a, b, _ = probers(fabric)
    a.own(PrefixSet())
    async with running(a, b):
        assert (await a.probe(fabric.b.block4)).node == "node-b"


@pytest.mark.netns
async def test_two_nodes_that_ask_each_other_for_one_address_each_at_the_same_moment_both_learn(
    fabric: Fabric,
) -> None:
    one, other = parse_prefix("192.168.1.5/32"), parse_prefix("192.168.2.5/32")
    a, b = fabric.a.prober(timeout=0.5), fabric.b.prober(timeout=0.5)
    async with running(a, b):
        a.own(PrefixSet([one]))
        b.own(PrefixSet([other]))
        a.learned(other, fabric.b.address4)
        b.learned(one, fabric.a.address4)
        for _ in range(50):
            got = await asyncio.gather(a.probe(other), b.probe(one))
            assert [verified.state for verified in got] == ["delivered", "delivered"]
            assert not any("no answer" in verified.reason for verified in got)


@pytest.mark.netns
async def test_an_owner_without_an_agent_is_proved_by_the_hop_limit(fabric: Fabric) -> None:
    fabric.pod(fabric.b, "192.168.2.7", "pod")
    a = fabric.a.prober(timeout=0.2)
    a.learn(fabric.b)
    async with running(a):
        got = await a.probe(parse_address("192.168.2.7"))
        assert (got.state, got.node, got.by) == ("delivered", "10.0.2.2", "node-a")


@pytest.mark.netns
async def test_another_owner_makes_the_old_proof_void(fabric: Fabric) -> None:
    a, b, c = probers(fabric)
    async with running(a, b, c):
        await proved(fabric, a, b, c)
        fabric.hand(fabric.b.block4, None)
        a.learned(fabric.b.block4, fabric.c.address4)
        assert a.verified(fabric.b.block4).state == "unknown"
        assert "delivered to node-b at 20" in a.verified(fabric.b.block4).reason


@pytest.mark.netns
async def test_outside_of_the_pools_nothing_is_asked_and_nothing_is_answered(fabric: Fabric) -> None:
    a, b, c = probers(fabric)
    async with running(a, b, c):
        assert "outside the pools" in (await a.probe(parse_address("10.0.2.2"))).reason
        with fabric.a.make(socket.AF_INET, socket.SOCK_STREAM) as stranger:
            stranger.settimeout(0)
            with pytest.raises(ConnectionResetError):
                await _hear(stranger, "10.0.2.2")


@pytest.mark.netns
async def test_pods_keep_their_connections_on_every_port_and_among_themselves_on_this_one_too(fabric: Fabric) -> None:
    a, b, c = probers(fabric)
    far = fabric.pod(fabric.a, "192.168.1.7", "far")
    here = fabric.pod(fabric.b, "192.168.2.7", "here")
    beside = fabric.pod(fabric.b, "192.168.2.8", "beside")
    loop = asyncio.get_running_loop()
    async with running(a, b, c):
        for client, port in ((far, 8080), (beside, 8080), (beside, PORT)):
            with here.entered():
                server = socket.create_server(("192.168.2.7", port))
            server.settimeout(0)
            with client.entered():
                asking = socket.socket()
            asking.settimeout(0)
            with server, asking:
                async with asyncio.timeout(3):
                    await loop.sock_connect(asking, ("192.168.2.7", port))
                    accepted, _ = await loop.sock_accept(server)
                    with accepted:
                        await loop.sock_sendall(accepted, b"the pod itself")
                        assert await loop.sock_recv(asking, 100) == b"the pod itself"
        assert (await a.probe(parse_address("192.168.2.7"))).node == "node-b"  # and the probe has its port meanwhile


@pytest.mark.netns
async def test_rules_and_routes_outlive_the_prober_and_are_adopted_by_the_next(fabric: Fabric) -> None:
    async with running(fabric.a.prober()):
        pass
    stands = fabric.a.inside.ip("rule") + fabric.a.inside.ip("-6 route show table 61179")
    assert "61179" in stands
    async with running(fabric.a.prober()):
        assert fabric.a.inside.ip("rule") + fabric.a.inside.ip("-6 route show table 61179") == stands


@pytest.mark.netns
async def test_a_taken_port_turns_the_probe_off_with_the_reason_and_on_again_when_free(
    fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bgp_agent.probe.service.CHECK", 0.05)
    taken = [fabric.a.make(family, socket.SOCK_STREAM) for family in (socket.AF_INET, socket.AF_INET6)]
    for one in taken:
        if one.family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(("", PORT))
        one.listen()
    a, b, c = probers(fabric)
    task = asyncio.create_task(a.run())
    try:
        await until("the reason is known", lambda: "Address already in use" in a.reason)
        assert a.state == "off"
        assert "set probe.port or free it" in a.reason
        assert a.verified(fabric.b.block4).state == "unknown"
        for one in taken:
            one.close()
        async with running(b, c):
            await until("the probe is on", lambda: a.state == "on")
            await proved(fabric, a)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.netns
async def test_without_an_uplink_nothing_that_stands_is_taken_away(fabric: Fabric) -> None:
    async with running(fabric.a.prober()):
        pass
    stands = fabric.a.inside.ip("rule")
    blind = fabric.a.prober()
    blind.uplinks([])
    task = asyncio.create_task(blind.run())
    await until("the reason is known", lambda: "no uplink is known" in blind.reason)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert fabric.a.inside.ip("rule") == stands


@pytest.mark.netns
async def test_a_check_that_fails_later_is_told_and_stops_neither_listener_nor_questions(
    fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bgp_agent.probe.service.CHECK", 0.05)
    a, b, _ = probers(fabric)
    async with running(a, b):
        fabric.a.inside.ip("rule del pref 100")
        fabric.a.inside.ip("route flush table 61179")
        real = a._make

        def broken(family: int, kind: int, protocol: int) -> socket.socket:
            if family == socket.AF_NETLINK:
                raise OSError(24, "Too many open files")
            return real(family, kind, protocol)

        a._make = broken
        await until("the reason is told", lambda: "Too many open files" in a.reason)
        assert a.state == "on"
        assert (await a.probe(fabric.b.block6)).state == "delivered"
        a._make = real
        await until("the rule is back", lambda: "61179" in fabric.a.inside.ip("rule"))
        assert (await a.probe(fabric.b.block4)).state == "delivered"


@pytest.mark.netns
async def test_a_deliver_that_fails_does_not_end_the_prober(fabric: Fabric) -> None:
    a, b, c = probers(fabric)

    def broken(_: list[tuple[Prefix, Verified]]) -> None:
        raise RuntimeError("the receiver is broken")

    a._deliver = broken
    async with running(a, b, c):
        await proved(fabric, b, c)
        await until("a asked", lambda: a.verified(fabric.b.block4).state == "delivered")
        assert a.state == "on"


@pytest.mark.netns
async def test_a_handshake_takes_less_than_five_milliseconds(fabric: Fabric) -> None:
    a, b, c = probers(fabric)
    async with running(a, b, c):
        await proved(fabric, a, b, c)
        taken = []
        for _ in range(30):
            before = time.perf_counter()
            await a.probe(fabric.b.block4)
            taken.append(time.perf_counter() - before)
        assert sorted(taken)[len(taken) // 2] < 0.005


async def _hear(made: socket.socket, where: str) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(made, (where, PORT))
    return await loop.sock_recv(made, 100)


@given(st.integers(0, 32), st.integers(0, 1 << 40))
def test_every_chosen_address_lies_in_its_prefix_and_is_an_inner_one(length: int, turn: int) -> None:
    prefix = Prefix(bytes(4) + bytes((length,)))
    chosen = address_in(prefix, turn)
    assert covers(prefix, host(chosen))
    if length < 31:
        assert chosen != address_of(prefix)
        assert chosen != Address(((1 << 32 - length) - 1).to_bytes(4, "big"))


def test_the_turns_visit_every_inner_address() -> None:
    prefix = parse_prefix("192.168.1.64/26")
    assert len({address_in(prefix, turn) for turn in range(62)}) == 62


def test_addresses_in_use_or_borrowed_by_another_node_are_not_used_as_a_source() -> None:
    prober = Prober("node-a", PORT, lambda _: None, in_use=lambda address: address[3] % 2 == 0)
    borrowed = parse_address("192.168.1.1")
    prober.learned(host(borrowed), None)
    for _ in range(100):
        chosen = prober._address(parse_prefix("192.168.1.0/29"), avoid_used=True)
        assert chosen in {parse_address("192.168.1.3"), parse_address("192.168.1.5")}
    assert prober._address(parse_prefix("192.168.1.4/32"), avoid_used=True) == parse_address("192.168.1.4")
