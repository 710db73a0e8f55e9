"""The units as systemd reads them: no mistake in them, and how much of the host is left open.

What they do on a host that runs is judged by tests/lab/test_host.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from bgp_agent.config import load

ROOT: Final = Path(__file__).resolve().parents[2]
UNITS: Final = ROOT / "deploy/systemd"
SERVICES: Final = ("bgp-agent.service", "bgp-agent-speaker.service")

#: Tenths of systemd's points, from 0 (nothing is open) to 100. systemd 252 gives the agent 15 and the speaker 16, all
#: for what the job is: the host's network (5), its kinds of sockets (3 and 1 each), the one capability (1 or 2, and 1
#: for being ambient), no list of the addresses that peers may have (2), the users and root (2 and 1: a capability over
#: the network of the host cannot be had in a user namespace), and chown for the speaker (2: it gives its socket to the
#: group). A protection that is taken out of a unit costs 1 to 3, so there is room for one point and no more.
EXPOSURE: Final = 17

needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs the Debian package systemd")


def settings(service: str) -> dict[str, list[str]]:
    """A unit's settings: every value of each key."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / service).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@needs_analyze
def test_systemd_finds_no_mistake_in_the_units(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.symlink_to("/bin/true")
    for service in SERVICES:
        text = (UNITS / service).read_text()
        (tmp_path / service).write_text(text.replace("/opt/bgp-agent/current/bin/bgp-agent", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / service for service in SERVICES)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if "bgp-agent" in line]
    assert (done.returncode, complaints) == (0, [])


@needs_analyze
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_open_to_the_host_no_further_than_its_job_needs(service: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={EXPOSURE}", UNITS / service],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("service", "capability"), [(SERVICES[0], "CAP_NET_ADMIN"), (SERVICES[1], "CAP_NET_BIND_SERVICE")]
)
def test_a_service_has_one_capability_and_cannot_get_another(service: str, capability: str) -> None:
    found = settings(service)
    assert found["AmbientCapabilities"] == found["CapabilityBoundingSet"] == [capability]
    assert found["NoNewPrivileges"] == ["yes"]
    assert found["User"] != ["root"]


def test_nothing_that_happens_to_the_agent_stops_or_restarts_the_speaker() -> None:
    ties = {
        "Requires",
        "Requisite",
        "BindsTo",
        "PartOf",
        "Upholds",
        "Conflicts",
        "PropagatesStopTo",
        "StopPropagatedFrom",
    }
    for service in SERVICES:
        assert not ties & settings(service).keys()
        assert not any(key.startswith("RuntimeDirectory") for key in settings(service))  # it would go with one of them


def test_the_speaker_has_time_to_move_the_traffic_before_it_is_killed() -> None:
    found = settings("bgp-agent-speaker.service")
    (command,), (patience,) = found["ExecStart"], found["TimeoutStopSec"]
    asked = re.search(r"--stop-timeout (\d+)s", command)
    assert asked
    assert int(patience.removesuffix("s")) >= int(asked[1]) + 20
    assert found["KillMode"] == ["mixed"]  # TERM for the host alone: it ends each ExaBGP as its peer needs it


def test_an_agent_that_stands_still_or_dies_is_started_again_for_ever() -> None:
    found = settings("bgp-agent.service")
    assert found["Type"] == ["notify"]
    assert found["WatchdogSec"] == ["30s"]
    for service in SERVICES:
        assert settings(service)["Restart"] == ["on-failure"]  # an end that was asked for is one
        assert settings(service)["StartLimitIntervalSec"] == ["0"]


def test_the_config_that_is_installed_as_an_example_can_be_used() -> None:
    loaded = load(UNITS / "config.yaml", {})
    assert loaded.warnings == ()
    assert loaded.config.speaker.spawn is False
    (folder,) = {settings(service)["ReadWritePaths"][0] for service in SERVICES}
    assert loaded.config.state_dir == folder
    assert f"d {folder} 1770 root bgp-agent -" in (UNITS / "bgp-agent.tmpfiles.conf").read_text().splitlines()
