"""What the launcher changes of ExaBGP: long UPDATEs are told in one go, and told the same."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest
from exabgp.bgp.message import Notify, Update
from exabgp.bgp.message.direction import Direction
from exabgp.bgp.neighbor import Neighbor
from exabgp.configuration.configuration import Configuration
from exabgp.environment import getenv
from exabgp.logger import log
from exabgp.protocol.family import AFI, SAFI
from exabgp.protocol.ip import IP
from exabgp.reactor.api.response.json import JSON
from exabgp.rib.change import Change
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.speaker.exabgp_config import assets

NEGOTIATED = SimpleNamespace(
    addpath=SimpleNamespace(receive=lambda *_: False, send=lambda *_: False),
    asn4=True, families=[(AFI.ipv6, SAFI.unicast)], nexthop=[], cached_attributes=None, cached_wire=None, aigp=False,
)  # fmt: skip
ATTRIBUTES = bytes.fromhex("40010100 40020602010000fde9 4003040a000002")
#: Nothing; AGGREGATOR of a wrong length (RFC 7606: discarded); communities of a wrong length (treated as a withdrawal);
#: MP_UNREACH_NLRI without a prefix, which alone would be an End-of-RIB; an attribute nobody knows.
MORE = tuple(map(bytes.fromhex, ("", "c0070100", "c008030102 03", "800f03000201", "c0fe020102")))


@pytest.fixture(scope="module")
def launch() -> ModuleType:
    spec = importlib.util.spec_from_file_location("launch", assets() / "launch.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    log.init(getenv())
    return module


@st.composite
def nlri(draw: st.DrawFn) -> bytes:
    """NLRI as a peer may send them: lengths of 0 to 32, host bits set, and sometimes a byte that spoils the rest."""
    items = draw(st.lists(st.tuples(st.integers(0, 32), st.binary(min_size=4, max_size=4)), min_size=20, max_size=60))
    data = bytearray(b"".join(bytes((length,)) + address[: (length + 7) // 8] for length, address in items))
    if draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


def told(read: object, data: bytes, *, compact: bool) -> object:
    """What the API would be told of an UPDATE, or the NOTIFICATION that it ends the session with."""
    encoder = JSON("5.0.0")
    encoder.compact = compact
    try:
        update = read(data, Direction.IN, NEGOTIATED)  # type: ignore[operator]
        return type(update).__name__, str(encoder._update(update)["message"])
    except Notify as refusal:
        return refusal.code, refusal.subcode


def body(withdrawn: bytes, attributes: bytes, announced: bytes) -> bytes:
    """RFC 4271 section 4.3."""
    return struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(attributes)) + attributes + announced


@given(
    withdrawn=nlri() | st.just(b""), announced=nlri() | st.just(b""), more=st.sampled_from(MORE), compact=st.booleans()
)
def test_a_long_update_is_told_as_exabgp_itself_tells_it(
    launch: ModuleType, withdrawn: bytes, announced: bytes, more: bytes, *, compact: bool
) -> None:
    data = body(withdrawn, (ATTRIBUTES if announced else b"") + more, announced)
    assert told(launch._read_update, data, compact=compact) == told(Update.unpack_message, data, compact=compact)


def test_announced_prefixes_without_a_next_hop_are_told_so(launch: ModuleType) -> None:
    data = body(b"", ATTRIBUTES[:-7], bytes.fromhex("1a0a800000") * 20)
    assert "no-nexthop" in str(told(launch._read_update, data, compact=True))
    assert told(launch._read_update, data, compact=True) == told(Update.unpack_message, data, compact=True)


@pytest.mark.parametrize(
    "command",
    [
        "attributes next-hop self med 5 community [ 65000:1 65535:65281 ] nlri 10.0.0.0/26 10.0.1.0/26 10.0.2.0/26",
        "attributes next-hop 10.0.0.9 as-path [ 64512 64512 ] nlri 10.0.0.0/26 10.0.1.0/26",
        "attributes next-hop self nlri 2001:db8:1::/64 2001:db8:2::/64",
    ],
)
def test_a_command_s_routes_are_what_they_are_as_shipped(launch: ModuleType, command: str) -> None:
    neighbor = Neighbor()
    neighbor["local-address"] = IP.create("2001:db8::1" if "2001" in command else "10.0.0.1")
    neighbor["router-id"] = IP.create("10.0.0.1")

    def seen(take: Callable[[Neighbor, Change], Change]) -> list[tuple[str, bytes, bytes, str, str]]:
        configuration = Configuration([])
        assert configuration.partial("static", command)
        configuration.scope.to_context()
        made = [take(neighbor, change) for change in configuration.scope.pop_routes()]
        return [
            (c.extensive(), c.index(), c.attributes.index(), str(c.nlri.nexthop), repr(dict(c.attributes)))
            for c in made
        ]

    assert len(seen(Neighbor.remove_self)) > 1
    assert seen(launch._with_our_next_hop) == seen(Neighbor.remove_self)


def test_a_short_update_is_read_as_shipped(launch: ModuleType) -> None:
    read = launch._read_update(body(b"", ATTRIBUTES, bytes.fromhex("1a0a800000")), Direction.IN, NEGOTIATED)
    assert [type(entry).__name__ for entry in read.nlris] == ["INET"]
