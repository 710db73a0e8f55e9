"""An ExaBGP that reads nothing while thousands of changes wait for it, and what /status and /metrics say meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from lab.bird import ROUTE_SERVER_ASN
from lab.netns import wait_for
from lab.topology import ROUTE_SERVERS, Lab, Node
from tests.chaos.conftest import configure
from tests.interop.speaker_rig import exabgps

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

MANY: Final = [f"192.168.{64 + n // 64}.{n % 64 * 4}/30" for n in range(10_000)]
#: Seconds within which every answer comes; a loop that hangs takes for ever.
PROMPT: Final = 2.0


@pytest.fixture
def roomy(lab: Lab) -> Iterator[Lab]:
    """Every node takes that many prefixes. Afterwards the owner boots: giving up a block takes a minute."""
    peers = [{"address": a, "asn": ROUTE_SERVER_ASN, "multihop": 8, "max_prefixes": 20_000}
             for a in ROUTE_SERVERS.values()]  # fmt: skip
    for node in lab.nodes.values():
        configure(node, peers=peers)
    yield lab
    owner = lab.nodes["node-a"]
    owner.own(owner.plan.blocks)
    owner.end_agent(signal.SIGKILL)
    assert owner.speaker is not None
    owner.speaker.kill()
    owner.speaker.wait()
    owner.inside.ip("route flush table all proto 179")
    owner.start_speaker()
    owner.start_agent()
    wait_for("nobody has them", lambda: all(len(node.routes()) < 100 for node in lab.nodes.values()), 60)


@contextlib.contextmanager
def reading_nothing(node: Node, route_server: str) -> Iterator[None]:
    (stuck,) = (pid for pid in exabgps(node.state_dir) if towards(pid) == ROUTE_SERVERS[route_server])
    os.kill(stuck, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # replaced meanwhile
            os.kill(stuck, signal.SIGCONT)


def towards(pid: int) -> str:
    """The peer of an ExaBGP, from the name of its configuration."""
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").rpartition("/")[2].removesuffix(".conf")


def slowest(node: Node) -> float:
    """The longest that a question to this node takes, in seconds."""
    took = []
    for path in ("/status", "/metrics", "/healthz", "/readyz", "/routes?limit=1000", "/explain?for=192.168.64.1"):
        start = time.monotonic()
        node.get(path)
        took.append(time.monotonic() - start)
    return max(took)


def test_ten_thousand_changes_wait_for_an_exabgp_that_reads_nothing_and_hold_up_nobody(roomy: Lab) -> None:
    node, other = roomy.nodes["node-a"], roomy.nodes["node-b"]
    stuck, fluent = roomy.fabric.birds["rs-0"], roomy.fabric.birds["rs-1"]
    everything = {*node.plan.blocks, *MANY}
    with reading_nothing(node, "rs-0"):
        node.own([*node.plan.blocks, *MANY])
        wait_for("the other route server has them all", lambda: fluent.prefixes(node.name) == everything, 60)
        wait_for("and so has the other node", lambda: len(other.routes()) > len(MANY), 30)
        assert max(slowest(node), slowest(other)) < PROMPT
        assert len(stuck.prefixes(node.name)) < len(everything)
        assert node.speaker is not None
        assert node.speaker.poll() is None
    wait_for("everything arrives", lambda: stuck.prefixes(node.name) == everything, 60)
