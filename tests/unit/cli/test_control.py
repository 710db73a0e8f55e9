"""drain, undrain, stop and cleanup, against a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bgp_agent.control.messages import Outcome
from bgp_agent.control.server import ControlServer
from bgp_agent.lock import locked
from tests.unit.cli.conftest import Command


class Refusing:
    """An agent without a route table."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def drain(self, *, force: bool, progress: Callable[[str], None]) -> Outcome:
        self.asked.append(f"drain {force}")
        if not force:
            return Outcome(good=False, reason="no user-defined route takes over: pods would be cut; --force does it")
        progress("withdrawing 1 block on 2 peers")
        return Outcome(good=True, reason="2 of 2 peers have acknowledged")

    async def undrain(self, *, progress: Callable[[str], None]) -> Outcome:
        progress("announcing")
        return Outcome(good=True, reason="announcing again")

    async def stop(self, *, everything: bool, progress: Callable[[str], None]) -> Outcome:
        progress(f"stopping{' all' if everything else ''}")
        return Outcome(good=False, reason="this one never ends")


async def test_a_drain_that_would_cut_pods_is_refused_unless_forced(bgp_agent: Command, tmp_path: Path) -> None:
    async with ControlServer(tmp_path / "agent.sock", Refusing()).serving():
        refused = await asyncio.to_thread(bgp_agent, "drain", "--state-dir", tmp_path)
        forced = await asyncio.to_thread(bgp_agent, "drain", "--force", "--state-dir", tmp_path)
        undrained = await asyncio.to_thread(bgp_agent, "undrain", "--json", "--state-dir", tmp_path)
        stopped = await asyncio.to_thread(bgp_agent, "stop", "--state-dir", tmp_path)
    assert (refused.code, refused.out) == (1, "")
    assert "pods would be cut" in refused.err
    assert forced.code == 0
    assert forced.out == "2 of 2 peers have acknowledged\n"
    assert "withdrawing 1 block" in forced.err
    assert json.loads(undrained.out) == {"good": True, "reason": "announcing again"}
    assert stopped.code == 1
    assert "never ends" in stopped.err


def test_without_an_agent_the_socket_and_the_remedy_are_named(bgp_agent: Command, tmp_path: Path) -> None:
    for command in ("drain", "undrain", "stop"):
        done = bgp_agent(command, "--state-dir", tmp_path)
        assert done.code == 1
        assert f"{tmp_path}/agent.sock" in done.err
        assert "`bgp-agent run`" in done.err


def test_the_state_directory_comes_from_the_environment_without_a_config(bgp_agent: Command, tmp_path: Path) -> None:
    if Path("/etc/bgp-agent/config.yaml").exists():
        pytest.skip("this machine has a config of its own")
    done = bgp_agent("drain", env={"BGP_AGENT_STATE_DIR": str(tmp_path / "x")})
    assert f"{tmp_path}/x/agent.sock" in done.err


def test_stop_all_without_anything_is_good(bgp_agent: Command, tmp_path: Path) -> None:
    done = bgp_agent("stop", "--all", "--state-dir", tmp_path)
    assert done.code == 0
    assert done.out == "no speaker runs\n"


SPEAKER = """
import signal, socket, sys
listening = socket.socket(socket.AF_UNIX); listening.bind(sys.argv[1]); listening.listen()
print("up", flush=True)
signal.pause()
"""


def test_stop_all_ends_a_speaker_that_lost_its_agent(bgp_agent: Command, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", SPEAKER, str(tmp_path / "speaker.sock")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        done = bgp_agent("stop", "--all", "--state-dir", tmp_path)
        assert process.wait(5) == -signal.SIGTERM
    assert done.code == 0
    assert f"process {process.pid}) has ended" in done.out


CONFIG = (
    "pools: [192.168.0.0/16]\nbgp: {{asn: 64512, peers: [{{address: 10.42.0.4, asn: 65515}}]}}\nstate_dir: {state}\n"
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(state=tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return path


def test_cleanup_is_refused_while_an_agent_runs(bgp_agent: Command, config: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "state"):
        done = bgp_agent("cleanup", "-c", config)
    assert done.code == 1
    assert f"an agent runs with state_dir {tmp_path}/state" in done.err
    assert "bgp-agent stop --all" in done.err
    assert (tmp_path / "state" / "agent.lock").exists()


@pytest.mark.netns
@pytest.mark.skipif(not os.environ.get("LAB_SANDBOX"), reason="takes routes out: only in lab/sandbox")
def test_cleanup_takes_our_routes_and_files_and_leaves_the_others(
    bgp_agent: Command, config: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    for name in ("agent.lock", "peers.json", "drained", "somebody-elses"):
        (state / name).write_text("")
    (state / "exabgp").mkdir()
    (state / "exabgp" / "10.42.0.4.conf").write_text("")
    routes = "192.168.1.0/26 proto 179 metric 4096", "192.168.1.0/26 proto 12 metric 32", "192.168.9.0/26 proto 179"
    for one in routes:
        subprocess.run(["ip", "route", "add", "blackhole", *one.split()], check=True)
    try:
        done = bgp_agent("cleanup", "-c", config)
        left = subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout
    finally:
        subprocess.run(["ip", "route", "flush", "type", "blackhole"], check=True)
    assert done.code == 0, done.err
    assert "1 taken out" in done.out
    assert "metric 4096" not in left
    assert left.count("blackhole") == 2
    assert [one.name for one in state.iterdir()] == ["somebody-elses"]
    assert "it holds somebody-elses" in done.out
    again = bgp_agent("cleanup", "-c", config)
    assert again.code == 0
