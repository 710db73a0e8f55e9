"""The speaker's host and client with real ExaBGP, against real BIRD on the other end of a wire."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgp_agent.core.prefix import parse_prefix
from bgp_agent.core.values import Announcement, AnnouncementsChanged, SessionDown, SessionUp, Update
from bgp_agent.speaker.spawn import spawner
from tests.interop.speaker_rig import (
    NODE,
    NODE6,
    ROUTER,
    ROUTER6,
    Agent,
    Rig,
    children,
    definition,
    definition6,
    exists,
    host_command,
    on_a_wire,
    until,
)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(90)]
OWN = parse_prefix("192.168.1.0/26")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with on_a_wire(tmp_path) as made:
        yield made


async def announced(agent: Agent) -> None:
    """Wait until the own block is announced, and the wanted set is whole."""
    agent.speaker.announce(ROUTER, {OWN: Announcement()})
    agent.speaker.complete(ROUTER)
    await until("the own block is acknowledged", lambda: agent.of(AnnouncementsChanged))


async def test_session_is_up_and_routes_flow_both_ways_within_5_s_of_the_start(rig: Rig) -> None:
    bird = rig.bird(routes="route 192.168.7.0/24 blackhole;")
    started = time.monotonic()
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await announced(agent)
        await until("BIRD learned the block", lambda: "192.168.1.0/26" in bird.routes())
        assert time.monotonic() - started < 5
        await until("BIRD's route is learned", lambda: agent.learned() == {"192.168.7.0/24"})
        assert agent.of(SessionUp)[0].adopted is False


async def test_agent_that_comes_and_goes_is_invisible_to_the_peer(rig: Rig) -> None:
    bird = rig.bird(routes="route 192.168.7.0/24 blackhole;")
    rig.start_host()
    await one_agent_life(rig, adopted=False)
    await until("BIRD learned the block", bird.routes)
    before, running = bird.received(), rig.exabgps
    for _ in range(2):
        await one_agent_life(rig, adopted=True)
    assert bird.received() == before
    assert rig.exabgps == running


async def one_agent_life(rig: Rig, *, adopted: bool) -> None:
    """An agent attaches, announces, learns, and is gone."""
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await announced(agent)
        assert agent.of(SessionUp)[0].adopted is adopted
        await until("the peer's route is learned", lambda: "192.168.7.0/24" in agent.learned())


async def test_agent_killed_in_the_middle_of_an_answer_leaves_the_next_one_in_step(rig: Rig) -> None:
    bird = rig.bird()
    rig.start_host()
    blocks = {parse_prefix(f"192.168.{i}.0/26"): Announcement(med=i) for i in range(200)}
    first = Agent(rig.state)
    first.speaker.set_peers({ROUTER: definition()})
    async with first.running():
        await until("the session is up", first.established)
        first.speaker.announce(ROUTER, blocks)
        await until("something is acknowledged", lambda: first.of(AnnouncementsChanged))
    second = Agent(rig.state)
    second.speaker.set_peers({ROUTER: definition()})
    second.speaker.announce(ROUTER, blocks)
    second.speaker.complete(ROUTER)
    async with second.running():
        await until("BIRD has all of them", lambda: len(bird.routes()) == 200)
        await until(
            "all are acknowledged", lambda: sum(len(e.announced) for e in second.of(AnnouncementsChanged)) == 200
        )


async def test_peers_are_added_changed_and_removed_without_touching_the_others(rig: Rig) -> None:
    bird = rig.bird()
    bird6 = rig.bird("bird6", local=ROUTER6, neighbor=NODE6)
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await until("the session is up", agent.established)
        stays = rig.exabgps
        agent.speaker.set_peers({ROUTER: definition(), ROUTER6: definition6()})
        await until("the IPv6 session is up", lambda: agent.established(ROUTER6))
        agent.speaker.set_peers({ROUTER: definition(), ROUTER6: definition6(hold_time=9)})
        await until("the changed session went down", lambda: agent.of(SessionDown, ROUTER6))
        await until("the changed session is up again", lambda: agent.established(ROUTER6))
        assert "Hold timer" in bird6.ask("show", "protocols", "all", "node")
        agent.speaker.set_peers({ROUTER: definition()})
        await until("only the first ExaBGP runs", lambda: rig.exabgps == stays)
        assert bird.established
        assert not agent.of(SessionDown, ROUTER)


async def test_changed_definition_keeps_what_was_announced(rig: Rig) -> None:
    bird = rig.bird()
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await announced(agent)
        agent.speaker.set_peers({ROUTER: definition(hold_time=12)})
        await until("the session went down", lambda: agent.of(SessionDown))
        await until("the block is announced again", lambda: agent.established() and bird.routes() == {"192.168.1.0/26"})


async def test_host_starts_its_peers_without_an_agent(rig: Rig) -> None:
    bird = rig.bird()
    host = rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await until("the session is up", agent.established)
    host.terminate()
    host.wait()
    assert not rig.exabgps
    rig.start_host()
    await until("the session is up without an agent", lambda: bird.established)


async def test_host_killed_leaves_no_exabgp_and_the_next_one_starts_clean(rig: Rig) -> None:
    bird = rig.bird()
    host = rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await announced(agent)
        host.kill()
        host.wait()
        await until("no ExaBGP is left", lambda: not rig.exabgps, 2)
        assert agent.established(), "losing the host is no evidence about the peer"
        await until("the loss of the host is noticed", lambda: not agent.speaker.attached)
        rig.start_host()
        await until("the old session is known to be over", lambda: agent.of(SessionDown))
        await until("announced again by the new host", lambda: agent.established() and bird.routes())
        assert len(rig.exabgps) == 1


async def test_host_ends_an_exabgp_that_outlived_another_host(rig: Rig) -> None:
    bird = rig.bird()
    host = rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await until("the session is up", agent.established)
    config = rig.state / "exabgp" / f"{ROUTER}.conf"
    host.kill()
    host.wait()
    await until("no ExaBGP is left", lambda: not rig.exabgps)
    code = "import time; time.sleep(1000)"
    stray = rig.network.start(rig.node, "python3", "-c", code, "/somewhere/exabgp", config)
    await until("the stray process is seen", lambda: rig.exabgps)
    rig.start_host()
    await until("the stray process has ended", lambda: stray.poll() is not None)
    await until("one session", lambda: bird.established and len(rig.exabgps) == 1)


async def test_second_host_is_refused(rig: Rig) -> None:
    rig.start_host()
    second = rig.network.start(rig.node, *host_command(rig.state), log=rig.folder / "second.log")
    assert second.wait(10) == 1
    assert "another speaker" in (rig.folder / "second.log").read_text()


@pytest.mark.parametrize("graceful", ["on", "off"])
async def test_planned_stop_sends_a_cease_only_where_no_graceful_restart_was_negotiated(
    rig: Rig, graceful: str
) -> None:
    bird = rig.bird(graceful=graceful)
    host = rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await announced(agent)
        await until("BIRD learned the block", bird.routes)
        host.terminate()
        assert await asyncio.to_thread(host.wait, 10) == 0
        await until("the agent knows that the session is over", lambda: not agent.established())
    assert not rig.exabgps
    assert ("Administrative shutdown" in bird.log) is (graceful == "off")
    assert bool(bird.routes()) is (graceful == "on")


async def test_planned_stop_ends_every_session_and_starts_none_again(rig: Rig) -> None:
    rig.bird(graceful="on")
    rig.bird("bird6", local=ROUTER6, neighbor=NODE6)
    host = rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition(), ROUTER6: definition6()})
    async with agent.running():
        await until("both are up", lambda: agent.established() and agent.established(ROUTER6))
        host.terminate()
        assert await asyncio.to_thread(host.wait, 10) == 0
        await until("both are down", lambda: not agent.established() and not agent.established(ROUTER6))
    assert not rig.exabgps


async def test_removed_peer_loses_the_routes_also_with_graceful_restart(rig: Rig) -> None:
    bird = rig.bird(graceful="on")
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await announced(agent)
        await until("BIRD learned the block", bird.routes)
        agent.speaker.set_peers({})
        await until("the ExaBGP has ended", lambda: not rig.exabgps)
    assert not bird.routes()


async def test_planned_stop_waits_for_the_agent_to_move_the_traffic(rig: Rig) -> None:
    rig.bird()
    host = rig.start_host("--stop-timeout", "30")
    moved = asyncio.Event()
    asked: list[float] = []

    async def maintenance(seconds: float) -> None:
        asked.append(seconds)
        await moved.wait()

    agent = Agent(rig.state, maintenance=maintenance)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await until("the session is up", agent.established)
        host.terminate()
        await until("the agent was asked", lambda: asked == [30.0])
        await asyncio.sleep(3)  # longer than an agent that does not answer gets
        assert agent.established()
        assert host.poll() is None
        moved.set()
        assert await asyncio.to_thread(host.wait, 10) == 0


async def test_frozen_exabgp_is_replaced(rig: Rig) -> None:
    rig.bird()
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await announced(agent)
        (frozen,) = rig.exabgps
        os.kill(frozen, signal.SIGSTOP)
        await until("another ExaBGP runs", lambda: rig.exabgps and rig.exabgps != [frozen], 30)
        await until("the session is up again", lambda: agent.established() and agent.of(SessionDown))
    assert "frozen" in rig.host_log or "has not answered" in rig.host_log


async def test_healthy_exabgp_is_left_alone_when_the_host_itself_was_stopped(rig: Rig) -> None:
    bird = rig.bird()
    host = rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await until("the session is up", agent.established)
    before = rig.exabgps
    os.kill(host.pid, signal.SIGSTOP)
    os.killpg(host.pid, signal.SIGSTOP)
    await asyncio.sleep(13)
    os.killpg(host.pid, signal.SIGCONT)
    await asyncio.sleep(3)
    assert rig.exabgps == before
    assert bird.established


async def test_killed_exabgp_is_started_again_at_once_and_its_routes_return(rig: Rig) -> None:
    bird = rig.bird()
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await announced(agent)
        await until("BIRD learned the block", bird.routes)
        os.kill(rig.exabgps[0], signal.SIGKILL)
        await until("down", lambda: agent.of(SessionDown))
        took = await until("announced again", lambda: agent.established() and bird.routes() and not agent.problem())
        assert took < 5


async def test_killed_helper_is_replaced_by_exabgp_and_the_session_stays(rig: Rig) -> None:
    bird = rig.bird()
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await announced(agent)
        (exabgp,) = rig.exabgps
        (helper,) = children(exabgp)
        os.kill(helper, signal.SIGKILL)
        await until("another helper", lambda: children(exabgp) not in ([], [helper]))
        other = parse_prefix("192.168.2.0/26")
        agent.speaker.announce(ROUTER, {other: Announcement()})
        await until("commands arrive by the new pipes", lambda: "192.168.2.0/26" in bird.routes())
        assert rig.exabgps == [exabgp]


@pytest.mark.parametrize("password", [None, "s3cret"])
async def test_peer_that_knocks_is_back_within_a_second(rig: Rig, password: str | None) -> None:
    bird = rig.bird(extra="passive on;" + (f'password "{password}";' if password else ""))
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition(password=password)})
    async with agent.running():
        await until("the session is up", agent.established)
        bird.kill()
        await until("down", lambda: not agent.established())
        await asyncio.sleep(12)  # ExaBGP's own pause grows meanwhile
        bird.start()
        rig.knock(password)
        assert await until("the session is back", agent.established) < 1
        rig.knock(password)  # and one that comes while the session stands disturbs nothing
        await asyncio.sleep(1)
        assert agent.established()


async def test_peer_whose_packets_were_lost_is_back_within_5_s(rig: Rig) -> None:
    bird = rig.bird(extra="passive on;")
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition(hold_time=6)})
    async with agent.running():
        await until("the session is up", agent.established)
        rig.router.ip(f"route add blackhole {NODE}/32")  # the router hears us and cannot answer
        await until("down", lambda: not agent.established(), 15)
        await asyncio.sleep(22)  # by now the kernel leaves 16 s between two SYNs of one connection
        rig.router.ip(f"route del blackhole {NODE}/32")
        took = await until("the session is back", agent.established, 15)
        assert took < 5
        assert bird.established


@pytest.mark.parametrize(("password", "up"), [("s3cret; {x}", True), ("wrong", False), (None, False)])
async def test_md5_password_must_match(rig: Rig, password: str | None, up: bool) -> None:
    bird = rig.bird(extra='password "s3cret; {x}";')
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition(password=password)})
    async with agent.running():
        if up:
            await until("the session is up", agent.established)
        else:
            await asyncio.sleep(4)
            assert not bird.established
    assert password is None or password not in rig.host_log
    assert (rig.state / "peers.json").stat().st_mode & 0o777 == 0o600


async def test_peer_without_its_password_stays_down_and_says_why(rig: Rig) -> None:
    rig.bird()
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition(problem="password_file /etc/x: No such file or directory")})
    async with agent.running():
        await until("the problem is told", lambda: "/etc/x" in agent.problem())
        assert not rig.exabgps
        agent.speaker.set_peers({ROUTER: definition()})
        await until("the session is up", agent.established)
        assert not agent.problem()


@pytest.mark.parametrize("hops", [1, None])
async def test_ttl_security(rig: Rig, hops: int | None) -> None:
    bird = rig.bird(extra="direct; ttl security on;")
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition(ttl_security=hops)})
    async with agent.running():
        if hops:
            await until("the session is up", agent.established)
        else:
            await asyncio.sleep(4)
            assert not bird.established


async def test_passive_peer_waits_for_the_other_side(rig: Rig) -> None:
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition(passive=True)})
    async with agent.running():
        await until("ExaBGP runs", lambda: rig.exabgps)
        bird = rig.bird()
        await until("the session is up", agent.established)
        bird.kill()
        await until("down", lambda: not agent.established())
        bird.start()
        await until("the session is back", agent.established)


async def test_second_passive_peer_on_one_address_says_why_it_cannot(rig: Rig) -> None:
    rig.start_host()
    agent = Agent(rig.state)
    other = "10.99.1.3"
    agent.speaker.set_peers({ROUTER: definition(passive=True), other: definition(address=other, passive=True)})
    async with agent.running():
        await until(
            "one of the two says why", lambda: "already listens" in agent.problem(ROUTER) + agent.problem(other)
        )
        blocked = other if agent.problem(other) else ROUTER
        agent.speaker.set_peers({blocked: definition(address=blocked, passive=True)})
        await until("the problem is over when the other is gone", lambda: not agent.problem(blocked))
        await until("its ExaBGP runs", lambda: len(rig.exabgps) == 1)


async def test_taken_port_is_named_and_the_rest_goes_on(rig: Rig) -> None:
    rig.network.start(
        rig.node, "python3", "-c",
        "import socket,time; s=socket.create_server(('10.99.1.1',179)); time.sleep(1000)",
    )  # fmt: skip
    await until("the port is taken", lambda: "179" in rig.node.run("ss", "-ltn"))
    rig.bird()
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await until("the session is up", agent.established)
        await until("the port is named", lambda: "another program listens there" in rig.host_log)


async def test_wrong_asn_keeps_the_session_down_and_nothing_else_breaks(rig: Rig) -> None:
    rig.bird()
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition(asn=65000)})
    async with agent.running():
        await until("the attempt failed with a reason", lambda: agent.of(SessionDown), 15)
        assert not agent.established()
        assert len(rig.exabgps) == 1


async def test_ipv6_session(rig: Rig) -> None:
    bird = rig.bird(local=ROUTER6, neighbor=NODE6, routes="route fd77::/64 blackhole;")
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER6: definition6()})
    agent.speaker.announce(ROUTER6, {parse_prefix("fd99:7:1::/64"): Announcement()})
    agent.speaker.complete(ROUTER6)
    async with agent.running():
        await until("BIRD learned the block", lambda: bird.routes() == {"fd99:7:1::/64"})
        await until("BIRD's route is learned", lambda: agent.learned(ROUTER6) == {"fd77::/64"})


async def test_exabgp_that_is_not_installed_is_a_problem_with_the_remedy(rig: Rig) -> None:
    rig.start_host(python=f"{sys.base_prefix}/bin/python3")  # an interpreter without our packages
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await until("the problem is told", lambda: "pip install exabgp" in agent.problem())
        assert agent.speaker.attached


async def test_exabgp_that_keeps_crashing_is_named_and_tried_more_and_more_slowly(rig: Rig) -> None:
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        for _ in range(3):
            await until("an ExaBGP runs", lambda: rig.exabgps)
            for pid in rig.exabgps:
                os.kill(pid, signal.SIGKILL)
            await until("it has ended", lambda: not rig.exabgps)
        await until("the loop is named", lambda: "keeps ending" in agent.problem())
        assert "signal 9" in agent.problem()


async def test_client_starts_a_host_that_outlives_it(rig: Rig) -> None:
    agent = Agent(rig.state, spawn=spawner(rig.state, stop_timeout=1))
    agent.speaker.set_peers({})
    async with agent.running():
        await until("attached to a host of its own", lambda: agent.speaker.attached)
        pid = agent.speaker.host_pid
        assert pid is not None
    second = Agent(rig.state)
    async with second.running():
        await until("attached to the same host", lambda: second.speaker.host_pid == pid)
        second.speaker.stop_host()
        await until("the host has ended", lambda: not exists(pid))
    assert "speaker started" in (rig.state / "speaker.log").read_text()


async def test_second_agent_is_refused_until_the_first_is_gone(rig: Rig) -> None:
    rig.start_host()
    first, second = Agent(rig.state), Agent(rig.state)
    async with first.running():
        await until("attached", lambda: first.speaker.attached)
        async with second.running():
            await until("refused with the reason", lambda: "another agent" in second.speaker.reason)
            assert not second.speaker.attached
        assert first.speaker.attached
    async with second.running():
        await until("attached now", lambda: second.speaker.attached)


async def test_large_table_is_read_in_batches(rig: Rig) -> None:
    routes = " ".join(f"route 172.{16 + i // 256}.{i % 256}.0/24 blackhole;" for i in range(4000))
    rig.bird(routes=routes)
    rig.start_host()
    agent = Agent(rig.state)
    agent.speaker.set_peers({ROUTER: definition()})
    async with agent.running():
        await until("all are learned", lambda: len(agent.learned()) == 4000, 30)
        assert agent.batches <= len(agent.of(Update)) + 10
