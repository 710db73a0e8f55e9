"""The story of docker-compose.yml, as docs/tutorial/compose.md tells it."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from lab.compose.engine import CGROUPS, Engine
from lab.traffic import Traffic
from tests.compose.stack import BLOCKS, INSTANCES, NODES, PODS, Diary, Stack, peers

pytestmark = [pytest.mark.netns, pytest.mark.timeout(400)]

ALL: Final = dict.fromkeys(INSTANCES.values(), "established")
NET_BIND_SERVICE: Final = 1 << 10  # linux/capability.h
NET_ADMIN: Final = 1 << 12
AFTER: Final = 1.0  # fallback.after of lab/compose/config/config.yaml, seconds
SETTLE: Final = 3.0  # azure.settle


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    data = os.environ.get("COMPOSE_DATA")
    if not data:
        pytest.skip("COMPOSE_DATA is not set: `make compose-test` builds the images and runs these")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the containers are ended first
    with Engine(Path(data), Path("/run/docker")) as engine:  # the sandbox's own /run
        made = Stack(engine)
        made.down()  # what a killed run left in the data directory
        try:
            made.up()
            yield made
        finally:
            made.down()


def test_every_node_has_both_sessions_and_has_learned_what_the_others_announce(stack: Stack) -> None:
    stack.until("BGP alone attracts", stack.by_bgp_alone, 90)  # until the sessions stood, the table did
    for node, address in NODES.items():
        own = {block for block, owner in BLOCKS.items() if owner == address}
        others = len(BLOCKS) - len(own)
        stack.until(f"{node} has learned all", partial(stack.has_learned, node, others))
        status = stack.status(node)
        assert status["ready"]
        assert peers(status) == ALL
        assert {each["cidr"]: (each["state"], sorted(each["peers"])) for each in status["blocks"]} == {
            block: ("announced", sorted(ALL)) for block in own
        }


def test_pods_ping_each_other(stack: Stack) -> None:
    for pod, other in itertools.permutations(PODS, 2):
        done = stack.execute(pod, "ping", "-c", "1", "-W", "2", PODS[other])
        assert done.returncode == 0, (pod, other, done.stdout, done.stderr)


@pytest.mark.parametrize(("part", "capability"), [("agent", NET_ADMIN), ("speaker", NET_BIND_SERVICE)])
def test_agent_and_speaker_have_one_right_each_and_nothing_to_write_but_their_state(
    stack: Stack, part: str, capability: int
) -> None:
    for letter in "abc":
        service = f"{part}-{letter}"
        container = stack.container(service)
        assert container["HostConfig"]["ReadonlyRootfs"]
        assert container["HostConfig"]["CapDrop"] == ["ALL"]
        assert not container["HostConfig"]["Privileged"]
        assert [each["Destination"] for each in container["Mounts"] if each["RW"]] == ["/run/bgp-agent"]
        status = dict(
            line.split(":\t") for line in Path(f"/proc/{container['State']['Pid']}/status").read_text().splitlines()
        )
        assert [int(status[each], 16) for each in ("CapPrm", "CapEff", "CapBnd")] == [capability] * 3
        assert status["NoNewPrivs"] == "1"
        assert "Read-only file system" in stack.execute(service, "touch", "/opt/bgp-agent/x").stderr


def test_an_instance_stops_then_the_other_then_both_return_and_no_packet_is_lost(stack: Stack) -> None:
    stack.until("BGP alone attracts", stack.by_bgp_alone, 90)
    diary = Diary(stack)
    assert diary.look() == {}
    traffic = Traffic(rate=100)
    for pod, other in itertools.permutations(PODS, 2):
        traffic.stream(f"{pod} to {other}", stack.inside(pod), stack.inside(other), PODS[other])
    with traffic:
        traffic.run_for(1)
        with ThreadPoolExecutor() as pool:
            stopping = pool.submit(stack.compose, "stop", "--timeout", "5", "rs1")
            stack.until("routes for all blocks are in the table", lambda: diary.look() == BLOCKS)
            stopping.result()
        assert diary.gone is not None
        assert diary.entries[1][0] - diary.gone > AFTER - 0.3, "not before `fallback.after`"
        stack.until("all say fallback", lambda: stack.modes() == {"fallback"})
        assert stack.sessions() == {(node, INSTANCES["rs0"]) for node in NODES}
        traffic.run_for(2)

        stack.compose("stop", "--timeout", "5", "rs0")
        stack.until(
            "no node has a session", lambda: all("established" not in peers(stack.status(n)).values() for n in NODES)
        )
        traffic.run_for(3)
        assert stack.modes() == {"fallback"}
        assert stack.table() == BLOCKS

        stack.compose("start", "rs0", "rs1")
        stack.until("the table is empty again", lambda: diary.look() == {}, 90)
        stack.until("BGP alone attracts", stack.by_bgp_alone)
        assert all(peers(stack.status(node)) == ALL for node in NODES)
        traffic.run_for(2)
        counts = traffic.finish()
    assert {count.name: count.lost for count in counts} == {count.name: () for count in counts}
    held = diary.of({block for block, owner in BLOCKS.items() if owner == NODES["node-a"]})
    back = held[[number for _, number in held].index(2) :]
    assert [number for _, number in back] == [2, 1, 0], "one route first, then the others"
    assert back[2][0] - back[1][0] > SETTLE - 0.5


def test_down_leaves_nothing(stack: Stack) -> None:
    stack.down()
    assert stack.engine.docker("ps", "--all", "--quiet") == ""
    assert stack.engine.docker("volume", "ls", "--quiet") == ""
    assert "lab" not in stack.engine.docker("network", "ls", "--format", "{{.Name}}")
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "0\n"
    assert not list(CGROUPS.glob("*/bgp-agent-compose/*/"))
