"""Strangers' appliances, with the configurations that docs/test-your-nva.md gives.

FRR, GoBGP, ExaBGP (BIRD is in every test).
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.azure.twin.lab.cloud import Cloud

pytestmark = [pytest.mark.netns, pytest.mark.xdist_group("azure-twin"), pytest.mark.timeout(120)]

GUIDE = Path(__file__).parents[4] / "azure" / "twin" / "docs" / "test-your-nva.md"
BLOCK = "192.168.1.0/26"


def given(name: str) -> str:
    """A configuration from the guide: the fenced block after the line that names the file."""
    text = GUIDE.read_text()
    after = text.split(f"`{name}`", 1)[1]
    return after.split("```", 2)[1].split("\n", 1)[1]


def held_by_both(cloud: Cloud) -> None:
    cloud.until(
        "both instances hold the block", lambda: all((BLOCK, "10.42.1.4") in cloud.holds(at) for at in (0, 1)), 40
    )


@contextlib.contextmanager
def running(cloud: Cloud, log: Path, *argv: str | Path) -> Iterator[None]:
    """A daemon on VM ``a`` while the test runs."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *cloud.vm("a").command(*argv)], stdout=out, stderr=out
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_frr(cloud: Cloud, tmp_path: Path) -> None:
    if not Path("/usr/lib/frr/bgpd").exists():
        pytest.skip("FRR is not installed (apt-get install frr)")
    socket_folder = Path("/run/frr")
    socket_folder.mkdir(exist_ok=True)
    shutil.chown(socket_folder, "frr", "frr")
    config = socket_folder / "frr.conf"  # FRR runs as a user of its own
    config.write_text(given("frr.conf"))
    common = (
        "--vty_socket",
        socket_folder,
        "-z",
        socket_folder / "zserv.api",
        "-u",
        "frr",
        "-g",
        "frr",
        "--log",
        "stdout",
    )
    zebra = ("/usr/lib/frr/zebra", "-i", socket_folder / "zebra.pid", *common)
    bgpd = ("/usr/lib/frr/bgpd", "-f", config, "-i", socket_folder / "bgpd.pid", *common)
    with running(cloud, tmp_path / "zebra.log", *zebra), running(cloud, tmp_path / "bgpd.log", *bgpd):
        held_by_both(cloud)


def test_gobgp(cloud: Cloud, tmp_path: Path) -> None:
    if shutil.which("gobgpd") is None:
        pytest.skip("GoBGP is not installed (apt-get install gobgpd)")
    config = tmp_path / "gobgpd.toml"
    config.write_text(given("gobgpd.toml"))
    with running(cloud, tmp_path / "gobgpd.log", "gobgpd", "-f", config):
        cloud.established("a")
        cloud.vm("a").run("gobgp", "global", "rib", "add", BLOCK, "nexthop", "10.42.1.4")
        held_by_both(cloud)
        assert "10.42.0.0/16" in cloud.vm("a").run("gobgp", "global", "rib")


def test_exabgp(cloud: Cloud, tmp_path: Path) -> None:
    config = tmp_path / "exabgp.conf"
    config.write_text(given("exabgp.conf"))
    exabgp = Path(sys.executable).with_name("exabgp")
    settings = ("env", "exabgp.daemon.user=root", "exabgp.api.cli=false")
    with running(cloud, tmp_path / "exabgp.log", *settings, exabgp, "server", config):
        held_by_both(cloud)


def test_the_bird_configuration_of_the_guide(cloud: Cloud, tmp_path: Path) -> None:
    config = tmp_path / "bird.conf"
    config.write_text(given("bird.conf"))
    with running(cloud, tmp_path / "bird.log", "bird", "-f", "-c", config, "-s", tmp_path / "bird.ctl"):
        held_by_both(cloud)


def test_the_guides_file_brings_the_twin_up(build: Callable[..., Cloud]) -> None:
    cloud = build(given("twin.yaml"))
    assert cloud.status()["settled"]
