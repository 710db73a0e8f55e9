"""The life of an installation on a real host, walked as the how-to pages say: systemd, two users, two capabilities.

node-a of the lab is a machine that systemd boots; the commands are those of the pages, read from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgp_agent import __version__
from lab import proofs
from lab.evidence import Messages, RouteEvents
from lab.netns import Network, wait_for
from lab.topology import ROUTE_SERVERS, Lab, short_folder
from tests.lab.host import AGENT, SPEAKER, Host, commands
from tests.packaging.machine import Machine, why_no_machine

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]
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
    host.follow("install.md", "1. Build", {commands("install.md", "1. Build")[0]: "true"})
    host.provide(__version__)
    host.follow("install.md", "2. Install")
    host.configure()
    host.follow("install.md", "3. Configure", {EDIT: "true", "bgp-agent doctor": "bgp-agent doctor || true",
                "cp /etc/bgp-agent/config.yaml.example /etc/bgp-agent/config.yaml": "true"})  # fmt: skip
    host.follow("install.md", "4. Start", {"bgp-agent status": "bgp-agent status || true"})


def test_the_whole_job_works_for_two_users_with_one_capability_each(host: Host) -> None:
    print(host.machine.run("bgp-agent status; bgp-agent doctor; ls -la /run/bgp-agent; ps axo user:20,pid,args"))
    print(
        host.machine.run(
            "for p in $(pgrep -f bgp-agent; pgrep -x exabgp); do grep -E 'Cap|Seccomp|NoNew|Uid|Groups' /proc/$p/status; done"
        )
    )
    print(host.machine.run("journalctl --no-pager -o cat"))
    assert [ping for ping in proofs.ping_all(host.lab) if ping.milliseconds is None] == []
    assert 0
