"""`systemctl restart systemd-networkd`: it takes every route out that it does not know, blackholes included.

A real systemd-networkd, in a machine that systemd boots in the node's network namespace. That it may act as on a host
it needs a writable /sys, and udev's word that the links are initialized.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from lab.netns import wait_for
from tests.chaos.kernel.crossroads import LEFT, LEFT6, SIDES, SOON, Crossroads, Side, taken
from tests.packaging.machine import Machine, why_no_machine

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

NETWORKD: Final = Path("/lib/systemd/systemd-networkd")
LIKE_A_HOST: Final = """
mount -o remount,rw /sys
mkdir -p /run/udev/data /run/systemd/network
for index in /sys/class/net/*/ifindex; do echo I:1 >/run/udev/data/n$(cat $index); done
"""


def network_file(side: Side) -> str:
    """The link as networkd is to keep it: the addresses that it has, as they were given."""
    four, six = side.node
    return (
        f"[Match]\nName={side.link}\n[Network]\nIPv6AcceptRA=no\n"
        f"[Address]\nAddress={four}/24\nBroadcast=no\n[Address]\nAddress={six}/64\n"
    )


@pytest.fixture
def machine(roads: Crossroads) -> Iterator[Machine]:
    """The node as a host whose links are kept by networkd."""
    if reason := why_no_machine() or (None if NETWORKD.exists() else f"{NETWORKD} is not installed"):
        pytest.skip(reason)
    folder = roads.folder / "machine"
    folder.mkdir()
    with Machine(roads.inside, folder) as made:
        made.run(LIKE_A_HOST)
        for side in SIDES.values():
            made.run(f"printf '%s' '{network_file(side)}' >/run/systemd/network/{side.link}.network")
        made.run("systemctl start systemd-networkd")
        roads.wait()
        yield made


def rules(roads: Crossroads) -> list[str]:
    """The node's policy routing, and what the probe's table holds."""
    shown = (roads.inside.ip(f"-{v} {what}") for v in "46" for what in ("rule show", "route show table 61179"))
    return sorted(line for lines in shown for line in lines.splitlines())


def test_a_restarted_networkd_takes_our_routes_and_they_are_back_within_a_second_and_counted(
    roads: Crossroads, machine: Machine
) -> None:
    before, ruled = roads.node.status(), rules(roads)
    with roads.events() as events, roads.traffic(LEFT, LEFT6, rate=200) as traffic:
        machine.run("systemctl restart systemd-networkd")
        wait_for("networkd has taken all of them", lambda: taken(events) == roads.standard().keys())
        roads.wait_for_routes("everything is back", {}, SOON)
        traffic.run_for(1.0)
        assert max(count.silence for count in traffic.finish()) < SOON
        roads.wait_for_routes("and stays", {}, 0)
    after = roads.node.status()
    assert after["kernel"]["repaired"] >= before["kernel"]["repaired"] + len(roads.standard())
    assert [peer["since"] for peer in after["peers"]] == [peer["since"] for peer in before["peers"]]
    assert rules(roads) == ruled
