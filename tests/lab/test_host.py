"""The life of an installation on a real host, walked as the how-to pages say: systemd, two users, two capabilities.

node-a of the lab is a machine that systemd boots; the commands are those of the pages, read from them.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bgp_agent import __version__
from bgp_agent.doctor.machine import CAP_NET_ADMIN, CAP_NET_BIND_SERVICE
from lab import proofs
from lab.bird import protocol_name
from lab.netns import Network, wait_for
from lab.topology import ROUTE_SERVERS, Lab, short_folder
from tests.lab.host import AGENT, PAGES, SPEAKER, Host, Watch, commands
from tests.packaging.machine import Machine, why_no_machine

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]
NEW = f"{__version__}.post1"
EDIT = "${EDITOR:-vi} /etc/bgp-agent/config.yaml /etc/bgp-agent/blocks.yaml"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host that was installed as docs/how-to/install.md says, in a lab that is converged."""
    if reason := why_no_machine():
        pytest.skip(reason)
    with Network() as network:
        folder = short_folder(network.tag)
        lab = Lab(network, folder)
        (folder / "machine").mkdir()
        with Machine(lab.nodes["node-a"].inside, folder / "machine") as machine:
            made = Host(lab, machine)
            start(lab)
            install(made)
            made.converge()
            yield made
    shutil.rmtree(folder)


def start(lab: Lab) -> None:
    for name in ROUTE_SERVERS:
        lab.fabric.start_route_server(name)
    for name in ("node-b", "node-c"):
        lab.nodes[name].start_speaker()
        lab.nodes[name].start_agent()


def install(host: Host) -> None:
    host.machine.run("touch .venv/.done")  # this environment is the one that is tried; there is no network for another
    host.follow("install.md", "1. Build", {commands("install.md", "1. Build")[0]: "true"})
    host.provide(__version__)
    host.follow("install.md", "2. Install")
    host.configure()
    host.follow("install.md", "3. Configure", {EDIT: "true", "bgp-agent doctor": "bgp-agent doctor || true",
                "cp /etc/bgp-agent/config.yaml.example /etc/bgp-agent/config.yaml": "true"})  # fmt: skip
    host.follow("install.md", "4. Start", {"bgp-agent status": "bgp-agent status || true"})


def release(host: Host, version: str) -> None:
    """Another release, checked out in the machine."""
    first, build = commands("upgrade.md", "1. Build")
    checkout = f"sed -i 's/^__version__ = .*/__version__ = \"{version}\"/' bgp_agent/__init__.py"
    host.follow("upgrade.md", "1. Build", {first: checkout, build: build})
    host.provide(version)


def drop_in(host: Host, text: str | None) -> None:
    """Change a setting of the agent's unit, or take the change back."""
    folder = "/run/systemd/system/bgp-agent.service.d"
    host.machine.run(f"rm -rf {folder}" if text is None else f"mkdir -p {folder}; printf '{text}' >{folder}/test.conf")
    host.machine.run(f"systemctl daemon-reload; systemctl restart {AGENT}")
    host.converge()


@contextlib.contextmanager
def route_servers(host: Host, change: Callable[[str], str]) -> Iterator[None]:
    """Both route servers with another configuration meanwhile; the sessions that it concerns start anew."""
    fabric = host.lab.fabric
    try:
        for name, bird in fabric.birds.items():
            bird.configure(change(fabric.route_server(name).config(bird.mrt)))
        yield
    finally:
        for name, bird in fabric.birds.items():
            bird.configure(fabric.route_server(name).config(bird.mrt))


@contextlib.contextmanager
def config(host: Host, command: str) -> Iterator[None]:
    """The config changed by a shell command meanwhile."""
    host.machine.run("cp /etc/bgp-agent/config.yaml /tmp/good")
    try:
        host.machine.run(f"{command} /etc/bgp-agent/config.yaml")
        yield
    finally:
        host.machine.run("cat /tmp/good >/etc/bgp-agent/config.yaml")


def test_the_whole_job_works_for_two_users_with_one_capability_each(host: Host) -> None:
    assert [ping for ping in proofs.ping_all(host.lab) if ping.milliseconds is None] == []
    agent, speaker = host.process(host.pid(AGENT)), host.process(host.pid(SPEAKER))
    assert agent.capabilities == (CAP_NET_ADMIN,)
    assert speaker.capabilities == (CAP_NET_BIND_SERVICE,)
    assert agent.user == AGENT
    assert speaker.user == SPEAKER
    exabgps = [host.process(pid) for pid in host.exabgps()]
    assert len(exabgps) == len(ROUTE_SERVERS)
    for process in (agent, speaker, *exabgps):
        assert process.confined
    assert set(exabgps) == {speaker}


def test_a_stranger_reaches_neither_socket_and_neither_service_the_others_files(host: Host) -> None:
    def tried(user: str, group: str, command: str) -> str:
        done = host.machine.ask(f"setpriv --reuid={user} --regid={group} --clear-groups {command}")
        return done.stderr if done.returncode else "done"

    attach = "python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('/run/bgp-agent/speaker.sock')\""
    assert "PermissionError" in tried("nobody", "nogroup", attach)
    assert "no right to use /run/bgp-agent/agent.sock" in tried("nobody", "nogroup", "bgp-agent drain --force")
    assert tried(AGENT, AGENT, attach) == "done"
    assert "Permission denied" in tried(AGENT, AGENT, "cat /run/bgp-agent/peers.json")
    assert "Operation not permitted" in tried(AGENT, AGENT, "rm -f /run/bgp-agent/peers.json")
    assert "Operation not permitted" in tried(SPEAKER, AGENT, "rm -f /run/bgp-agent/agent.sock")


def test_an_upgrade_of_the_agent_is_noticed_by_nobody(host: Host) -> None:
    """No UPDATE at any peer, no kernel route event on any node, no packet lost on 4 streams of 200 packets/s each."""
    release(host, NEW)
    before = host.pid(AGENT), host.pid(SPEAKER), host.exabgps()
    with Watch(host) as watch:
        host.follow("upgrade.md", "2. The agent", {"bgp-agent status": "bgp-agent status || true"})
        host.converge()
        watch.nobody_noticed()
    assert host.node.status()["node"]["version"] == NEW
    assert host.pid(AGENT) != before[0]
    assert (host.pid(SPEAKER), host.exabgps()) == before[1:]


def test_an_upgrade_of_the_speaker_loses_no_packet_where_the_peers_restart_gracefully(host: Host) -> None:
    with route_servers(host, lambda text: text.replace("graceful restart off", "graceful restart on")):
        host.converge()
        before = host.exabgps()
        with Watch(host) as watch:
            host.follow("upgrade.md", "The speaker")
            host.converge()
            assert [count for count in watch.finish() if count.lost] == []
        assert not set(host.exabgps()) & set(before)
    host.converge()


def test_an_upgrade_of_the_speaker_costs_seconds_where_they_do_not(host: Host) -> None:
    """A route server as Azure's: it drops the routes with the session. What the node itself has learned stays."""
    with Watch(host) as watch:
        host.follow("upgrade.md", "The speaker")
        host.converge()
        counts = watch.finish()
    assert [count for count in counts if count.lost and count.name.startswith("pod-a")] == []
    assert max(count.silence for count in counts) < 10
    running, _ = commands("upgrade.md", "Take an old release away")
    current = host.machine.run("readlink /opt/bgp-agent/current").strip()
    assert {line.split("/")[3] for line in host.machine.run(running).splitlines() if "python" in line} == {current}


def test_the_way_back_to_the_release_before_is_noticed_by_nobody(host: Host) -> None:
    with Watch(host) as watch:
        point, _ = commands("upgrade.md", "Back to the release before")
        host.follow("upgrade.md", "Back to the release before", {point: point.replace("0.1.0", __version__)})
        host.converge()
        watch.nobody_noticed()
    assert host.node.status()["node"]["version"] == __version__


@pytest.mark.parametrize("name", ["KILL", "STOP"])
def test_systemd_brings_back_an_agent_that_is_killed_or_frozen_and_nobody_notices(host: Host, name: str) -> None:
    """A frozen one by its watchdog, with less patience than the unit's 30 s."""
    drop_in(host, "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n")
    pid = host.pid(AGENT)
    with Watch(host) as watch:
        host.machine.run(f"systemctl kill --signal={name} {AGENT}")
        wait_for("another agent runs", lambda: host.pid(AGENT) not in {0, pid}, 30)
        host.converge()
        watch.nobody_noticed()
    drop_in(host, None)


def test_systemd_brings_back_a_speaker_that_is_killed(host: Host) -> None:
    pid = host.pid(SPEAKER)
    host.machine.run(f"systemctl kill --kill-who=main --signal=KILL {SPEAKER}")
    wait_for("another speaker runs", lambda: host.pid(SPEAKER) not in {0, pid}, 20)
    host.converge()


def test_a_broken_config_costs_nothing_and_heals_when_it_is_put_right(host: Host) -> None:
    with Watch(host) as watch:
        with config(host, "echo 'no: such key' >>"):
            host.machine.ask(f"systemctl restart {AGENT}")
            wait_for("systemd tries again", lambda: int(host.machine.show(AGENT, "NRestarts")) > 1, 30)
            assert "no: unknown key" in host.machine.run(f"journalctl -u {AGENT} -n 20 -o cat")
        host.converge()
        watch.nobody_noticed()


def test_a_speaker_starts_also_while_the_config_is_broken(host: Host) -> None:
    with config(host, "echo 'no: such key' >>"):
        host.machine.run(f"systemctl restart {SPEAKER}")
        birds = host.lab.fabric.birds.values()
        wait_for("both sessions are back", lambda: all(bird.established("node-a") for bird in birds), 20)
    host.converge()


def test_a_key_that_the_agents_group_alone_may_read_is_enough(host: Host) -> None:
    key = "install -m 640 -g bgp-agent /dev/null /etc/bgp-agent/rs-0.key"
    assert key in commands("install.md", "3. Configure")
    host.machine.run(f"{key}; echo sesame >/etc/bgp-agent/rs-0.key")
    neighbor = "neighbor 10.42.1.4 as 64512;"
    with_key = "sed -i 's|multihop: 8|&\\n    password_file: /etc/bgp-agent/rs-0.key|'"
    with route_servers(host, lambda text: text.replace(neighbor, f'{neighbor} password "sesame";')):
        wait_for("node-a is shut out", lambda: host.node.status()["mode"] == "off", 20)
        with config(host, with_key):
            host.converge()
    host.converge()


def test_a_stopping_speaker_keeps_its_sessions_while_it_waits_for_the_agent(host: Host) -> None:
    """TERM is for the host alone: an ExaBGP that heard it too would end before the traffic has moved."""
    with Watch(host) as watch:
        host.machine.run(f"systemctl kill --signal=STOP {AGENT}; systemctl stop --no-block {SPEAKER}")
        wait_for("the speaker is asked to stop", lambda: host.machine.show(SPEAKER, "ActiveState") == "deactivating")
        assert [count for count in watch.finish() if count.lost] == []
    host.machine.run(f"systemctl kill --signal=CONT {AGENT}; systemctl start {SPEAKER}")
    host.converge()


def test_a_shutdown_stops_the_speaker_while_the_agent_is_still_there_to_move_the_traffic(host: Host) -> None:
    down = "[Unit]\\nRequires=basic.target\\nAfter=basic.target\\nAllowIsolate=yes\\n"
    host.machine.run(f"printf '{down}' >/run/systemd/system/down.target; systemctl daemon-reload")
    host.machine.run("systemctl isolate down.target")
    wait_for("the agent has stopped", lambda: host.machine.show(AGENT, "ActiveState") == "inactive", 20)
    said = host.machine.run("journalctl --no-pager -o cat")
    steps = ("s for the agent", "speaker stopped", "stopped; sessions and routes stay")
    assert sorted(steps, key=said.rindex) == list(steps)
    host.machine.run(f"systemctl start {AGENT} {SPEAKER}")
    host.converge()


def test_a_host_that_boots_again_comes_back_by_itself(host: Host) -> None:
    host.node.inside.ip("route flush table all proto 179")
    host.machine.boot_again()
    host.converge()


def test_a_state_directory_that_is_gone_is_named_and_comes_back_as_the_page_says(host: Host) -> None:
    page = (PAGES / "debug.md").read_text()
    complaint = "Failed to set up mount namespacing: /run/bgp-agent"
    remedy = "systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/bgp-agent.conf"
    assert f"`{complaint}`" in page
    assert f"`{remedy}`" in page
    host.machine.run(f"systemctl stop {SPEAKER} {AGENT}; bgp-agent cleanup")
    host.machine.ask(f"systemctl start {AGENT}")
    assert complaint in host.machine.run("journalctl -n 40 -o cat --no-pager").replace("/run/systemd/unit-root", "")
    host.machine.run(f"{remedy}; systemctl restart {AGENT} {SPEAKER}")
    host.converge()


def test_the_commands_for_the_night_can_be_run(host: Host) -> None:
    said = host.follow("debug.md")
    assert "agent           ready" in said["bgp-agent doctor || true"]


def test_a_drain_is_refused_then_forced_survives_a_restart_and_is_taken_back(host: Host) -> None:
    birds = host.lab.fabric.birds.values()
    host.follow("drain.md", "Drain")
    assert not any(bird.table().get(protocol_name("node-a")) for bird in birds)
    host.machine.run(f"systemctl restart {AGENT}")
    wait_for("the agent has attached", lambda: "2 of 2 peers" in host.node.status()["reason"], 20)
    assert not any(bird.table().get(protocol_name("node-a")) for bird in birds)
    assert "drained" in "".join(host.follow("drain.md", "What it looks like").values())
    host.follow("drain.md", "Take it back")
    host.converge()


def test_cleanup_leaves_no_route_rule_process_or_file(host: Host) -> None:
    host.follow("uninstall.md", "1. Withdraw")
    tables = [bird.table() for bird in host.lab.fabric.birds.values()]
    assert not [table for table in tables if table.get(protocol_name("node-a"))]
    for section in ("2. Stop", "3. Take out routes, rules and state", "4. Remove the program"):
        host.follow("uninstall.md", section)
    assert set(host.follow("uninstall.md", "Is anything left?").values()) == {""}
    assert host.machine.run("ps -e -o comm=").split() == ["systemd", "systemd-journal", "ps"]
    assert host.machine.files() == host.files_before
    for name in ("passwd", "group", "shadow", "gshadow"):
        assert host.machine.run(f"cat /etc/{name}") == Path("/etc", name).read_text()
