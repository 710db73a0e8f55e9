"""run and speaker: what they load, and what stops them from starting."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgp_agent.control.client import listener
from lab.netns import wait_for
from tests.unit.cli.conftest import Command

SANDBOXED = pytest.mark.skipif(
    not os.environ.get("LAB_SANDBOX"), reason="runs an agent or a speaker: only in lab/sandbox"
)
CONFIG = """
pools: [192.168.0.0/16]
bgp: {{asn: 64512, peers: [{{address: 127.0.0.1, asn: 65515}}]}}
speaker: {{spawn: false}}
http: {{listen: "{listen}"}}
state_dir: {state}
"""


@contextlib.contextmanager
def started(*words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that ends with the test."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BGP_AGENT_")}
    argv = [sys.executable, "-m", "bgp_agent", *map(str, words)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, env=clean) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def resident(pid: int) -> float:
    """Resident memory in MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:")) / 1024


def write_config(tmp_path: Path, listen: str = "127.0.0.1:9179") -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(state=tmp_path / "state", listen=listen))
    return path


@SANDBOXED
@pytest.mark.parametrize("by", ["config", "option"])
def test_the_speaker_stays_small_however_it_is_told_its_settings(tmp_path: Path, by: str) -> None:
    state = tmp_path / "state"
    words = ("-c", write_config(tmp_path)) if by == "config" else ("--state-dir", state)
    with started("speaker", *words) as process:
        wait_for("the speaker listens", lambda: listener(state / "speaker.sock") == process.pid)
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        used = resident(process.pid)
    for heavy in ("pydantic", "msgspec", "aiohttp", "yaml"):
        assert heavy not in maps
    assert used < 40  # the target is measured by the benchmark; this finds a library that slipped in


@SANDBOXED
def test_a_broken_config_does_not_stop_a_speaker_that_needs_none(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("bgp: {")
    with started("speaker", "-c", tmp_path / "config.yaml", "--state-dir", tmp_path / "state") as process:
        wait_for("the speaker listens", lambda: listener(tmp_path / "state" / "speaker.sock") == process.pid)


@SANDBOXED
def test_stop_all_ends_a_real_speaker(tmp_path: Path, bgp_agent: Command) -> None:
    state = tmp_path / "state"
    with started("speaker", "--state-dir", state) as process:
        wait_for("the speaker listens", lambda: listener(state / "speaker.sock") == process.pid)
        refused = bgp_agent("cleanup", "-c", write_config(tmp_path))
        assert refused.code == 1
        assert f"a speaker runs with state_dir {state} (process {process.pid})" in refused.err
        done = bgp_agent("stop", "--all", "--state-dir", state)
        assert done.code == 0, done.err
        assert process.wait(5) == 0


@contextlib.contextmanager
def agent(tmp_path: Path, listen: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A real agent, without a speaker."""
    (tmp_path / "blocks.yaml").write_text("blocks: []\n")
    config = write_config(tmp_path, listen)
    with started("run", "-c", config) as process:
        wait_for("the agent answers", lambda: listener(tmp_path / "state" / "agent.sock") == process.pid)
        yield process, config


@pytest.fixture
def listen() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.netns
@SANDBOXED
def test_a_real_agent_answers_the_command_line_and_stops_when_told(
    tmp_path: Path, bgp_agent: Command, listen: str
) -> None:
    with agent(tmp_path, listen) as (process, config):
        wait_for("HTTP answers", lambda: "source    file, synced" in bgp_agent("status", "-c", config).out)
        explained = bgp_agent("explain", "192.168.2.7", "-c", config)
        assert explained.code == 0, explained.err
        assert explained.out.startswith("192.168.2.7: ")
        assert bgp_agent("routes", "-c", config).out == "no routes\n"
        assert bgp_agent("drain", "-c", config).code == 1
        assert bgp_agent("cleanup", "-c", config).code == 1
        done = bgp_agent("stop", "-c", config)
        assert done.code == 0, done.err
        assert process.wait(2) == 0


@pytest.mark.netns
@SANDBOXED
def test_a_second_agent_and_a_taken_port_are_said_and_the_first_goes_on(
    tmp_path: Path, bgp_agent: Command, listen: str
) -> None:
    with agent(tmp_path, listen) as (process, config):
        second = bgp_agent("run", "-c", config)
        assert second.code == 1
        assert f"bgp-agent: process {process.pid} holds {tmp_path}/state/agent.lock" in second.err
        other = {"BGP_AGENT_STATE_DIR": str(tmp_path / "other")}
        elsewhere = bgp_agent("run", "-c", config, env=other)
        assert elsewhere.code == 1
        assert f"bgp-agent: another agent (process {process.pid}) of this node keeps the routes of " in elsewhere.err
        for_itself = bgp_agent("run", "-c", config, env={**other, "BGP_AGENT_KERNEL__METRIC": "4097"})
        assert for_itself.code == 1
        assert f"bgp-agent: http.listen: {listen} is taken by another process" in for_itself.err
        assert process.poll() is None


def test_a_state_directory_that_cannot_be_made_is_said(tmp_path: Path, bgp_agent: Command) -> None:
    (tmp_path / "state").write_text("a file")
    done = bgp_agent("run", "-c", write_config(tmp_path))
    assert done.code == 1
    assert f"{tmp_path}/state" in done.err
    assert "state_dir" in done.err
