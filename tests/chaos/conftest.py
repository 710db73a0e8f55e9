"""One lab for all disasters: real agents, speakers, ExaBGPs and BIRDs, with timers short enough to wait for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from lab.bird import ROUTE_SERVER_ASN
from lab.netns import Network
from lab.topology import ASN, ROUTE_SERVERS, Lab, Node, StatusError, short_folder


def configure(node: Node, **bgp: object) -> None:
    """Hold time 9 s, stale time 10 s, both route servers; ``bgp`` replaces keys of that section."""
    peers = [{"address": a, "asn": ROUTE_SERVER_ASN, "multihop": 8} for a in ROUTE_SERVERS.values()]
    node.configure(bgp={"asn": ASN, "hold_time": "9s", "stale_time": "10s", "peers": peers, **bgp})


def answers(node: Node) -> bool:
    """Has a freshly started agent opened its HTTP port."""
    try:
        node.get()
    except StatusError:
        return False
    return True


@pytest.fixture(scope="session")
def running_lab() -> Iterator[Lab]:
    with Network() as network:
        folder = short_folder(network.tag)
        lab = Lab(network, folder)
        for node in lab.nodes.values():
            configure(node)
        lab.start()
        lab.wait(90)
        yield lab
    shutil.rmtree(folder)


@pytest.fixture
def lab(running_lab: Lab) -> Iterator[Lab]:
    """The converged lab; a test leaves it as it found it, and the next one waits until that shows."""
    running_lab.wait(90)
    yield running_lab
    for node in running_lab.nodes.values():
        configure(node)
        node.own(node.plan.blocks)
