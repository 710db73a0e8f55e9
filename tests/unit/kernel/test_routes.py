from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bgp_agent.core.fib import Operation, Verb
from bgp_agent.core.prefix import Address, Prefix, host, network, parse_address, parse_prefix
from bgp_agent.core.seen import KernelRoute, Strange
from bgp_agent.core.values import Blackhole, Hop, Target, Unicast
from bgp_agent.kernel.routes import (
    RTA_DST,
    RTA_GATEWAY,
    RTA_METRICS,
    RTA_MULTIPATH,
    RTA_NH_ID,
    RTA_OIF,
    RTA_TABLE,
    RTA_VIA,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    RTMSG,
    Packer,
    Reader,
)
from bgp_agent.kernel.wire import U32, WireError, attribute, attributes, messages

SIZES = st.sampled_from([4, 16])


def addresses(size: int) -> st.SearchStrategy[Address]:
    return st.binary(min_size=size, max_size=size).map(Address)


@st.composite
def written(draw: st.DrawFn) -> Operation:
    size = draw(SIZES)
    prefix = network(draw(addresses(size)), draw(st.integers(0, size * 8)))
    hop = st.builds(Hop, st.integers(1, 2**31 - 1), st.none() | addresses(size), st.booleans())
    hops = draw(st.lists(hop, min_size=1, max_size=8, unique=True))
    hops.sort(key=lambda one: (one.interface, one.gateway or b"", one.onlink))
    target: Target = draw(st.just(Blackhole()) | st.just(Unicast(tuple(hops), draw(st.none() | addresses(size)))))
    kind = 6 if isinstance(target, Blackhole) else 1
    return Operation(
        draw(st.sampled_from([Verb.CREATE, Verb.REPLACE])), prefix, draw(st.integers(1, 2**32 - 1)), kind, target
    )


@given(st.lists(written(), min_size=1, max_size=6))
def test_what_is_written_is_read_back(operations: list[Operation]) -> None:
    packer, reader = Packer(4096, 179), Reader()
    data = b"".join(packer.pack(operations, 0xFFFFFFFE))
    read = list(messages(data))
    assert [one.sequence for one in read] == [(0xFFFFFFFE + at) & 0xFFFFFFFF for at in range(len(operations))]
    for one, operation in zip(read, operations, strict=True):
        assert one.kind == RTM_NEWROUTE
        assert operation.target is not None
        expected = KernelRoute(operation.table, operation.prefix, 4096, 179, operation.target)
        assert reader.read(one.body) == expected
        assert reader.read(one.body) == expected  # and once more, out of what it remembers


def test_the_flags_are_those_that_keep_strangers_safe() -> None:
    prefix, target = parse_prefix("192.168.2.0/26"), Blackhole()
    packed = Packer(4096, 179).pack(
        [Operation(verb, prefix, 254, 6, None if verb is Verb.DELETE else target) for verb in Verb], 1
    )
    create, replace, delete = (next(messages(one)) for one in packed)
    assert (create.kind, create.flags) == (RTM_NEWROUTE, 0x1 | 0x400 | 0x200)  # REQUEST, CREATE, EXCL
    assert (replace.kind, replace.flags) == (RTM_NEWROUTE, 0x1 | 0x100)  # REQUEST, REPLACE; never CREATE
    assert (delete.kind, delete.flags) == (RTM_DELROUTE, 0x1)
    _, _, _, _, _, protocol, scope, kind, _ = RTMSG.unpack_from(delete.body)
    assert (protocol, scope, kind) == (179, 255, 6)
    assert RTA_GATEWAY not in dict(_attributes(delete.body))


def _attributes(body: bytes) -> list[tuple[int, bytes]]:
    return list(attributes(body, RTMSG.size))


def _route(kind: int = 1, tos: int = 0, source: int = 0, flags: int = 0, **more: bytes) -> bytes:
    names = {"oif": RTA_OIF, "gateway": RTA_GATEWAY, "via": RTA_VIA, "metrics": RTA_METRICS, "nhid": RTA_NH_ID,
             "multipath": RTA_MULTIPATH}  # fmt: skip
    body = RTMSG.pack(2, 26, source, tos, 254, 12, 0, kind, flags) + attribute(RTA_TABLE, U32.pack(254))
    body += attribute(RTA_DST, parse_address("192.168.2.0"))
    return body + b"".join(attribute(names[name], value) for name, value in more.items())


OIF = U32.pack(2)


def test_what_is_more_than_we_write_is_not_plain() -> None:
    reader = Reader()
    for body in (_route(oif=OIF, metrics=b""), _route(oif=OIF, nhid=OIF)):
        read = reader.read(body)
        assert read is not None
        assert not read.plain
    weighted = struct.pack("=HBBi", 8, 0, 4, 2) + struct.pack("=HBBi", 8, 1, 0, 3)
    read = reader.read(_route(multipath=weighted))
    assert read is not None
    assert (read.plain, read.dead) == (False, (Hop(3, None),))


def test_what_cannot_be_understood_is_strange_and_what_cannot_meet_ours_is_nothing() -> None:
    reader = Reader()
    for body, expected in (
        (_route(oif=OIF, via=b"\x0a\0" + bytes(16)), Strange(1)),
        (_route(7), Strange(7)),
        (_route(), Strange(1)),
    ):
        read = reader.read(body)
        assert read is not None
        assert read.target == expected
    for body in (_route(tos=8), _route(source=3), _route(flags=0x200), bytes((128,)) + _route()[1:]):
        assert reader.read(body) is None
        assert reader.read(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        _route()[:11],
        bytes((2, 33)) + _route()[2:],
        _route(oif=b"abc"),
        _route(oif=OIF, gateway=b"ab"),
        _route(multipath=struct.pack("=HBBi", 200, 0, 0, 2)),
        _route()[:-6],
    ],
)
def test_what_does_not_fit_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        Reader().read(body)


def test_a_wrong_length_is_refused_also_where_the_rest_is_known() -> None:
    reader = Reader()
    assert reader.read(_route(oif=OIF)) is not None
    with pytest.raises(WireError, match="length of 33"):
        reader.read(bytes((2, 33)) + _route(oif=OIF)[2:])


@given(st.binary(max_size=120))
@example(_route(oif=OIF))
def test_garbage_is_read_or_refused_and_nothing_else_happens(body: bytes) -> None:
    with contextlib.suppress(WireError):
        Reader().read(body)


@given(st.data(), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4))
def test_a_garbled_route_is_read_or_refused(data: st.DataObject, changes: list[tuple[int, int]]) -> None:
    body = bytearray(Packer(4096, 179).pack([data.draw(written())], 1)[0][16:])
    for at, value in changes:
        body[at % len(body)] = value
    with contextlib.suppress(WireError):
        Reader().read(bytes(body))


def test_a_default_route_has_no_destination_on_the_wire() -> None:
    body = RTMSG.pack(2, 0, 0, 0, 254, 12, 0, 1, 0) + attribute(RTA_OIF, OIF)
    assert Reader().read(body) == KernelRoute(254, parse_prefix("0.0.0.0/0"), 0, 12, Unicast((Hop(2, None),)))


def test_what_is_remembered_has_a_bound() -> None:
    packer, reader = Packer(4096, 179), Reader()
    targets = [Unicast((Hop(number, None),)) for number in range(1, 10_000)]
    prefix = host(parse_address("192.0.2.1"))
    for one in packer.pack([Operation(Verb.CREATE, Prefix(prefix), 254, 1, target) for target in targets], 1):
        reader.read(one[16:])
    assert len(packer._parts) <= 4096
    assert len(reader._known) <= 4096
