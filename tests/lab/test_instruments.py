"""The lab's own instruments: each sees what it shall see, and so its silence means something."""

from __future__ import annotations

import shutil
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bird import Bird, Router
from lab.evidence import Messages, RouteEvents, read_mrt
from lab.netns import Network, wait_for
from lab.topology import short_folder
from lab.traffic import Traffic

PAIR = ("10.0.0.1", "10.0.0.2")


@pytest.fixture
def network() -> Iterator[Network]:
    """Two hosts on one wire."""
    with Network() as network:
        left, right = network.add("left"), network.add("right")
        network.wire(left, "eth0", right, "eth0", left_addresses=["10.0.0.1/24"], right_addresses=["10.0.0.2/24"])
        yield network


@pytest.mark.netns
def test_traffic_counts_exactly_the_packets_that_were_lost(network: Network) -> None:
    left, right = network.namespaces["left"], network.namespaces["right"]
    traffic = Traffic(200)
    traffic.stream("left to right", left, right, "10.0.0.2")
    traffic.stream("right to left", right, left, "10.0.0.1")
    with traffic:
        traffic.run_for(0.2)
        left.ip("route add blackhole 10.0.0.2/32")
        traffic.run_for(0.2)
        left.ip("route delete blackhole 10.0.0.2/32")
        traffic.run_for(0.2)
        there, back = traffic.finish()
    assert 35 <= len(there.lost) <= 60
    assert there.lost == tuple(range(there.lost[0], there.lost[-1] + 1))
    assert there.silence > 0.15
    assert back.lost == ()
    assert back.sent >= 120


@pytest.mark.netns
def test_route_events_show_a_change_on_the_host_where_it_happened(network: Network, tmp_path: Path) -> None:
    with RouteEvents(network, network.namespaces.values(), tmp_path) as events:
        assert events.seen() == []
        network.namespaces["right"].ip("route add 192.0.2.0/24 via 10.0.0.1")
        wait_for("the event is seen", events.seen)
        (event,) = events.seen()
    assert event.startswith(f"right-{network.tag}: 192.0.2.0/24 via 10.0.0.1")


@pytest.mark.netns
def test_messages_count_updates_as_the_peer_received_them(network: Network) -> None:
    folder = short_folder(network.tag)
    folder.mkdir()
    birds = {}
    for name, own, other in (("left", *PAIR), ("right", *reversed(PAIR))):
        bird = Bird(network, network.namespaces[name], name, folder)
        bird.start(Router(own, 65001, other, 65001).config(bird.mrt))
        birds[name] = bird
    wait_for("the session is up", lambda: birds["left"].established("node") and birds["right"].established("node"), 20)
    messages = Messages({"left": birds["left"].mrt})
    assert messages.updates().total() == 0
    birds["right"].configure(Router(PAIR[1], 65001, PAIR[0], 65001, ("192.0.2.0/24",)).config(birds["right"].mrt))
    wait_for("left has the route", lambda: birds["left"].prefixes("node") == {"192.0.2.0/24"})
    wait_for("and has written it down", lambda: messages.updates() == {("left", "10.0.0.2"): 1})
    assert birds["left"].nlri_received(["node"])["node"][0] == 1
    birds["right"].configure(Router(PAIR[1], 65001, PAIR[0], 65001, ("198.51.100.0/25",)).config(birds["right"].mrt))
    wait_for("left has the other route", lambda: birds["left"].prefixes("node") == {"198.51.100.0/25"})
    told = messages.told("left", "10.0.0.2")
    assert Counter(p for update in told for p in update.announced) == {"192.0.2.0/24": 1, "198.51.100.0/25": 1}
    assert Counter(p for update in told for p in update.withdrawn) == {"192.0.2.0/24": 1}
    shutil.rmtree(folder)


def record(peer: str, kind: int) -> bytes:
    """One MRT record as BIRD writes it."""
    header = struct.pack("!IIHH", 64512, 65515, 0, 1) + socket.inet_aton(peer) + socket.inet_aton("10.42.0.4")
    body = header + b"\xff" * 16 + struct.pack("!HB", 19, kind)
    return struct.pack("!IHHI", 0, 16, 4, len(body)) + body


@given(st.lists(st.tuples(st.ip_addresses(v=4).map(str), st.integers(1, 5)), max_size=5), st.integers(0, 70))
def test_a_dump_that_is_still_being_written_is_read_as_far_as_it_goes(wanted: list[tuple[str, int]], cut: int) -> None:
    whole = b"".join(record(peer, kind) for peer, kind in wanted)
    size = len(record("10.0.0.1", 2))
    data = whole[: max(0, len(whole) - cut)]
    assert [(message.peer, message.kind) for message in read_mrt(data)] == wanted[: len(data) // size]
