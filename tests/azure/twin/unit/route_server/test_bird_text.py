"""What BIRD is told and what it says."""

from __future__ import annotations

import struct

from azure_twin.core.learned import Learned
from azure_twin.route_server.bird_text import Peer, configuration, routes, states
from azure_twin.route_server.mrt import MrtReader, State, Update
from hypothesis import given, settings
from hypothesis import strategies as st

SHOWN = """Table master4:
10.42.0.0/16         blackhole [vnet 15:19:35.125] * (200)
\tType: static univ
192.168.1.0/26       unicast [p10_42_1_4 15:19:35.027 from 10.42.1.4] * (100/?) [AS64512i]
\tvia 10.42.0.1 on eth0
\tType: BGP univ
\tBGP.as_path: 64512 {64600 64601}
\tBGP.next_hop: 10.42.1.9
\tBGP.community: (64512,7) (65535,65282)
                     unreachable [p10_42_1_5 15:19:35.027 from 10.42.1.5] (100/-) [AS64513i]
\tBGP.as_path: 64513 64513
\tBGP.next_hop: 10.42.1.5 10.42.1.6
""".splitlines()


def test_routes_are_read_with_path_next_hop_and_communities() -> None:
    assert routes(SHOWN) == [
        Learned(
            "192.168.1.0/26", "10.42.1.4", "10.42.1.9", (64512, 64600, 64601), ((64512, 7), (65535, 65282)), best=True
        ),
        Learned("192.168.1.0/26", "10.42.1.5", "10.42.1.5", (64513, 64513), (), best=False),
    ]


def test_states_are_read() -> None:
    lines = [
        "Name       Proto      Table      State  Since         Info",
        "vnet  Static  master4  up  15:19:34.800",
        "p1  BGP  ---  up  15:19:35.122  Established",
        "p2  BGP  ---  start  15:19:35  Active  Socket: Connection refused",
    ]
    assert states(lines) == {"p1": "Established", "p2": "Active"}


def test_a_blocked_peer_is_configured_to_lose_its_session() -> None:
    peers = [Peer("10.42.1.4", 64512), Peer("10.42.1.5", 64513, blocked=True)]
    text = configuration("10.42.0.4", "10.42.0.1", peers, ["10.42.0.0/16"], mrt="/m", log="/l")
    assert text.count("import limit 0 action disable") == 1
    assert "protocol bgp p10_42_1_5" in text
    assert "route 10.42.0.0/16 blackhole;" in text


def test_what_is_to_be_lacked_is_refused_by_exact_prefix() -> None:
    text = configuration("10.42.0.4", "10.42.0.1", [], [], ["192.168.1.0/26", "192.168.2.0/26"], mrt="/m", log="/l")
    assert "if net ~ [ 192.168.1.0/26, 192.168.2.0/26 ] then reject;" in text
    assert "reject" not in configuration("10.42.0.4", "10.42.0.1", [], [], mrt="/m", log="/l").split("reflect")[0]


def test_each_peer_has_azures_timers_and_no_graceful_restart_bfd_or_password() -> None:
    text = configuration("10.42.0.4", "10.42.0.1", [Peer("10.42.1.4", 64512)], [], mrt="/m", log="/l")
    assert "hold time 180; keepalive time 60;" in text
    assert "graceful restart off; long lived graceful restart off;" in text
    assert "bfd" not in text
    assert "password" not in text


@settings(deadline=None)
@given(st.lists(st.text(max_size=60), max_size=20))
def test_no_output_of_bird_brings_the_reader_down(lines: list[str]) -> None:
    routes(lines)
    states(lines)


def record(peer: str, message: bytes, subtype: int = 4) -> bytes:
    address = bytes(int(each) for each in peer.split("."))
    body = struct.pack("!IIHH", 64512, 65515, 0, 1) + address + b"\x0a\x2a\0\4" + message
    return struct.pack("!IHHI", 0, 16, subtype, len(body)) + body


def update(withdrawn: bytes, attributes: bytes, nlri: bytes) -> bytes:
    body = struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(attributes)) + attributes + nlri
    return b"\xff" * 16 + struct.pack("!HB", 19 + len(body), 2) + body


BLOCK = b"\x1a\xc0\xa8\x01\x00"  # 192.168.1.0/26


def test_updates_and_states_are_read_however_the_bytes_are_cut() -> None:
    reach = b"\x80\x0e" + bytes([9 + 5 + 0]) + b"\0\1\1\4\x0a\x2a\1\4\0" + BLOCK
    data = b"".join(
        [
            record("10.42.1.4", struct.pack("!HH", 5, 6), subtype=5),
            record("10.42.1.4", update(b"\x00", b"", BLOCK)),
            record("10.42.1.5", update(b"", reach, b"")),
            record("10.42.1.4", struct.pack("!HH", 6, 1), subtype=5),
        ]
    )
    wanted = [
        State("10.42.1.4", established=True),
        Update("10.42.1.4", ("192.168.1.0/26",), ("0.0.0.0/0",)),
        Update("10.42.1.5", ("192.168.1.0/26",), ()),
        State("10.42.1.4", established=False),
    ]
    assert list(MrtReader().feed(data)) == wanted
    reader = MrtReader()
    assert [event for byte in data for event in reader.feed(bytes([byte]))] == wanted


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_record_brings_the_reader_down(noise: bytes) -> None:
    reader = MrtReader()
    list(reader.feed(record("10.42.1.4", b"\xff" * 18 + b"\x02" + noise)))
    assert list(reader.feed(record("10.42.1.4", update(b"", b"", BLOCK)))) == [
        Update("10.42.1.4", ("192.168.1.0/26",), ())
    ]
    list(MrtReader().feed(noise))
