"""Each check: what it sees, how bad that is, and that every problem has its remedy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from bgp_agent import __version__
from bgp_agent.cli.answers import Status
from bgp_agent.config import load
from bgp_agent.core.prefix import parse_prefix
from bgp_agent.doctor import checks, network
from bgp_agent.doctor.checks import Context
from bgp_agent.doctor.examination import CHECKS, examine
from bgp_agent.doctor.findings import Finding, Verdict
from bgp_agent.doctor.machine import Machine
from bgp_agent.lock import locked
from bgp_agent.web import encode
from lab.netns import Network
from tests.unit.doctor.test_machine import process, row
from tests.unit.web.memory import example_status

CONFIG = """
pools: [192.168.0.0/16]
bgp: {{asn: 64512, peers: [{peers}]}}
state_dir: {state}
"""
OK, WARN, FAIL, SKIP = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.SKIP


def made(tmp_path: Path, peers: str = "{address: 127.0.0.1, asn: 65515}") -> Context:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(peers=peers, state=tmp_path / "state"))
    return Context(Machine(), load(path, {}))


def answered(**changes: object) -> Status:
    body = encode.status(example_status(), []) | changes
    return msgspec.json.decode(msgspec.json.encode(body), type=Status)


def fake(tmp_path: Path, caps: int = 0, first_port: int = 1024) -> Machine:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "net").mkdir()
    (proc / "sys/net/ipv4").mkdir(parents=True)
    (proc / "self" / "status").write_text(f"Name:\tx\nCapEff:\t{caps:016x}\n")
    (proc / "sys/net/ipv4/ip_unprivileged_port_start").write_text(f"{first_port}\n")
    return Machine(proc)


async def _findings(check: checks.Check, context: Context) -> list[Finding]:
    return list(await check(context))


async def verdicts(check: checks.Check, context: Context) -> list[Verdict]:
    return [one.verdict for one in await check(context)]


async def test_a_config_that_cannot_be_used_fails_and_the_rest_is_still_checked() -> None:
    found: list[Finding] = []
    context = Context(Machine(), None, "config.yaml:1: bgp.asn: is missing")
    assert not await examine(context, found.append)
    by_name = {one.check: one for one in found}
    assert by_name["config"].verdict is FAIL
    assert "bgp.asn" in by_name["config"].seen
    assert by_name["exabgp"].verdict is OK
    assert {by_name[name].verdict for name in ("peers", "mtu", "state_dir")} == {SKIP}


async def test_every_problem_has_a_remedy(tmp_path: Path) -> None:
    found: list[Finding] = []
    await examine(replace(made(tmp_path), machine=fake(tmp_path), status=answered(ready=False)), found.append)
    assert [one for one in found if one.verdict in {WARN, FAIL} and not one.remedy] == []
    assert {one.check.split()[0] for one in found} >= {name.split()[0] for name, _ in CHECKS} - {"peers"}


async def test_a_password_file_that_cannot_be_used_fails(tmp_path: Path) -> None:
    context = made(tmp_path, f"{{address: 10.0.0.9, asn: 65515, password_file: {tmp_path}/key}}")
    [good, lost] = await _findings(checks.config, context)
    assert (good.verdict, lost.verdict) == (Verdict.OK, Verdict.FAIL)
    assert lost.seen.startswith(f"peer 10.0.0.9: password_file {tmp_path}/key is not there")
    assert lost.remedy
    (tmp_path / "key").write_text("secret\n")
    assert await verdicts(checks.config, context) == [Verdict.OK]


async def test_a_check_that_breaks_does_not_hide_the_others(tmp_path: Path) -> None:
    found: list[Finding] = []
    await examine(replace(made(tmp_path), machine=Machine(tmp_path / "no-proc")), found.append)
    broken = [one for one in found if "could not be checked" in one.seen]
    assert {one.check for one in broken} >= {"capabilities", "second agent"}
    assert any(one.check == "exabgp" for one in found)


async def test_capabilities(tmp_path: Path) -> None:
    context = made(tmp_path)
    assert await verdicts(checks.capabilities, replace(context, machine=fake(tmp_path / "a", 1 << 12))) == [OK, WARN]
    assert await verdicts(checks.capabilities, replace(context, machine=fake(tmp_path / "b", 1 << 10))) == [FAIL, OK]
    assert await verdicts(checks.capabilities, replace(context, machine=fake(tmp_path / "c", 1 << 12, 0))) == [OK, OK]
    passive = made(tmp_path, "{address: 10.0.0.1, asn: 65515, passive: true}")
    assert await verdicts(checks.capabilities, replace(passive, machine=fake(tmp_path / "d", 1 << 12))) == [OK, FAIL]


async def test_port_179_of_another_daemon_is_named_with_its_unit(tmp_path: Path) -> None:
    machine = fake(tmp_path)
    context = replace(made(tmp_path), machine=machine)
    assert await verdicts(checks.port, context) == [OK]
    (tmp_path / "proc/net/tcp").write_text("head\n" + row(179, "0A", 11))
    process(tmp_path / "proc", 7, "/usr/sbin/bird", sockets=(11,))
    (found,) = await checks.port(context)
    assert found.verdict is WARN
    assert "bird (process 7)" in found.seen
    assert "systemctl disable --now bird" in found.remedy
    passive = replace(made(tmp_path, "{address: 10.0.0.1, asn: 65515, passive: true}"), machine=machine)
    assert await verdicts(checks.port, passive) == [FAIL]


async def test_port_179_of_our_own_speaker_is_fine(tmp_path: Path) -> None:
    machine = fake(tmp_path)
    (tmp_path / "proc/net/tcp").write_text("head\n" + row(179, "0A", 11))
    process(tmp_path / "proc", 7, "python3", "/usr/bin/bgp-agent", "speaker", sockets=(11,))
    (found,) = await checks.port(replace(made(tmp_path), machine=machine))
    assert found.verdict is OK


async def test_the_state_directory(tmp_path: Path) -> None:
    context = made(tmp_path)
    (found,) = await checks.state_dir(context)
    assert found.verdict is OK
    assert "will be made" in found.seen
    (tmp_path / "state").write_text("a file")
    assert await verdicts(checks.state_dir, context) == [FAIL]


async def test_the_running_agent_is_judged(tmp_path: Path) -> None:
    context = made(tmp_path)
    assert await verdicts(checks.agent, context) == [SKIP]
    assert await verdicts(checks.agent, replace(context, status=answered(ready=False))) == [FAIL]
    same = answered(node=encode.node(replace(example_status().node, version=__version__)))
    assert await verdicts(checks.agent, replace(context, status=same)) == [OK]
    other = answered(node=encode.node(replace(example_status().node, version="0.0.1")))
    assert await verdicts(checks.agent, replace(context, status=other)) == [OK, WARN]


async def test_an_agent_that_holds_the_lock_and_is_silent_is_seen(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    context = replace(made(tmp_path), machine=fake(tmp_path))  # other tests may run agents at this moment
    with locked(tmp_path / "state"):
        assert await verdicts(checks.second_agent, context) == [WARN]
    assert await verdicts(checks.second_agent, context) == [OK]


def test_two_agents_in_one_network_are_a_failure(tmp_path: Path) -> None:
    code = "import signal; print(1, flush=True); signal.pause()"
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            argv = ["bgp-agent", "-c", code, "run"]
            one = stack.enter_context(subprocess.Popen(argv, executable=sys.executable, stdout=subprocess.PIPE))
            stack.callback(one.kill)
            assert one.stdout
            one.stdout.readline()
        (found,) = asyncio.run(_findings(checks.second_agent, made(tmp_path)))
    assert found.verdict is FAIL
    assert "all write to this kernel" in found.seen


# --- peers -----------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def peer_at(*, listening: bool) -> Iterator[int]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        if listening:
            one.listen()
        yield one.getsockname()[1]


async def peer_finding(tmp_path: Path, words: str, status: Status | None = None) -> Finding:
    (found,) = await network.peers(replace(made(tmp_path, words), status=status))
    return found


async def test_a_peer_that_takes_connections_is_good_and_one_that_refuses_is_not(tmp_path: Path) -> None:
    with peer_at(listening=True) as port:
        found = await peer_finding(tmp_path, f"{{address: 127.0.0.1, asn: 65515, port: {port}}}")
        assert found.verdict is OK
    with peer_at(listening=False) as port:
        found = await peer_finding(tmp_path, f"{{address: 127.0.0.1, asn: 65515, port: {port}}}")
        assert (found.verdict, found.check) == (FAIL, "peer 127.0.0.1")
        assert "refuses" in found.seen


async def test_an_established_or_passive_peer_is_left_alone(tmp_path: Path) -> None:
    with peer_at(listening=True) as port:
        peers = [one | {"address": "127.0.0.1"} for one in json.loads(msgspec.json.encode(answered()))["peers"]]
        words = f"{{address: 127.0.0.1, asn: 65515, port: {port}}}"
        assert (await peer_finding(tmp_path, words, answered(peers=peers))).seen == "the session is established"
    found = await peer_finding(tmp_path, "{address: 192.0.2.1, asn: 65515, passive: true}")
    assert found.verdict is SKIP


async def test_silence_of_a_peer_with_a_password_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(network, "CONNECT", 0.02)
    monkeypatch.setattr(asyncio, "open_connection", never)
    (tmp_path / "key").write_text("x")
    plain = await peer_finding(tmp_path, "{address: 127.0.0.1, asn: 65515}")
    secret = await peer_finding(tmp_path, "{address: 127.0.0.1, asn: 65515, password_file: key}")
    assert (plain.verdict, secret.verdict) == (FAIL, WARN)


# --- a real kernel ---------------------------------------------------------------------------------------------------
async def inside(net: Network, context: Context) -> Context:
    """The context with one reading of the namespace's kernel."""
    with net.namespaces["node"].entered():
        assert context.config
        kernel = await context.machine.kernel(254, 179, 4096, [parse_prefix("192.168.0.0/16")])
    return replace(context, kernel=kernel)


@pytest.fixture
def net() -> Iterator[Network]:
    with Network() as network_:
        node, router = network_.add("node", forwarding=True), network_.add("router")
        network_.wire(node, "eth0", router, "eth0", left_addresses=["10.42.1.4/24"], right_addresses=["10.42.1.1/24"])
        node.ip("route add 10.42.0.0/24 via 10.42.1.1")
        yield network_


@pytest.mark.netns
async def test_a_fit_node_is_good(net: Network, tmp_path: Path) -> None:
    context = await inside(net, made(tmp_path, "{address: 10.42.0.4, asn: 65515}"))
    assert await verdicts(checks.sysctls, context) == [OK]
    (mtu,) = await network.mtu(context)
    assert (mtu.verdict, mtu.seen) == (OK, "eth0 1500")
    assert await verdicts(network.strangers, context) == [OK]


@pytest.mark.netns
async def test_forwarding_off_is_a_failure_with_the_command(net: Network, tmp_path: Path) -> None:
    net.namespaces["node"].sysctl("net.ipv4.ip_forward", 0)
    (found,) = await checks.sysctls(await inside(net, made(tmp_path)))
    assert found.verdict is FAIL
    assert found.remedy == "sysctl -w net.ipv4.ip_forward=1"


@pytest.mark.netns
async def test_a_pod_link_that_sends_larger_packets_than_the_uplink_is_seen(net: Network, tmp_path: Path) -> None:
    net.namespaces["node"].ip("link set eth0 mtu 1400")
    net.namespaces["node"].ip("link add cali1 type veth peer name pod1")
    net.namespaces["node"].ip("link set cali1 up")
    (found,) = await network.mtu(await inside(net, made(tmp_path, "{address: 10.42.0.4, asn: 65515}")))
    assert found.verdict is WARN
    assert "eth0 1400, but cali1 1500" in found.seen
    assert "1400" in found.remedy


@pytest.mark.netns
async def test_routes_of_other_daemons_in_the_pools_are_named(net: Network, tmp_path: Path) -> None:
    node = net.namespaces["node"]
    node.ip("route add 192.168.2.0/26 via 10.42.1.1 proto 12 metric 32")
    node.ip("route add 192.168.3.0/26 via 10.42.1.1 proto 80 metric 9000")
    node.ip("route add 192.168.1.7/32 dev eth0 proto 80")  # a local pod
    node.ip("route add 192.168.4.0/26 via 10.42.1.1 proto 179 metric 4096")  # ours
    node.ip("route add 172.16.0.0/12 via 10.42.1.1 proto 12")  # outside of the pools
    bird, felix = await network.strangers(await inside(net, made(tmp_path)))
    assert "bird (protocol 12) has 1 routes inside the pools, such as 192.168.2.0/26" in bird.seen
    assert "1 have a metric that wins" in bird.seen
    assert "Felix (protocol 80) has 1 routes" in felix.seen
    assert "ours win" in felix.seen


# --- the command -----------------------------------------------------------------------------------------------------
def test_the_command_prints_each_finding_with_its_remedy_and_fails(tmp_path: Path) -> None:
    made(tmp_path)
    argv = [sys.executable, "-m", "bgp_agent", "doctor", "-c", str(tmp_path / "config.yaml")]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BGP_AGENT_")}
    with peer_at(listening=False) as port:
        made(tmp_path, f"{{address: 127.0.0.1, asn: 65515, port: {port}}}")
        text = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, env=environ)
        shown = subprocess.run([*argv, "--json"], capture_output=True, text=True, timeout=30, check=False, env=environ)
    assert text.returncode == shown.returncode == 1
    assert "-> start BGP there" in text.stdout
    assert text.stderr == ""
    found = json.loads(shown.stdout)
    assert {"check", "verdict", "seen", "remedy"} == set(found[0])
    assert {one["verdict"] for one in found} <= {"ok", "warn", "fail", "skip"}
