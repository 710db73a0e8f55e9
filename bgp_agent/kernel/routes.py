"""Routes on the wire: RTM_NEWROUTE and RTM_DELROUTE, both ways (rtnetlink(7), linux/rtnetlink.h).

Both ways are made for 100,000 routes with few distinct targets: everything of a message but its destination is made, or
read, once for each target and kept.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from bgp_agent.core.fib import Operation, Verb
from bgp_agent.core.prefix import Address, Prefix
from bgp_agent.core.seen import KernelRoute, Strange
from bgp_agent.core.values import Blackhole, Hop, Target, Unicast
from bgp_agent.kernel.wire import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    U32,
    WireError,
    attribute,
    attributes,
    u32,
)

RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26

RTA_DST: Final = 1
RTA_IIF: Final = 3
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_PREFSRC: Final = 7
RTA_METRICS: Final = 8
RTA_MULTIPATH: Final = 9
RTA_FLOW: Final = 11
RTA_TABLE: Final = 15
RTA_MARK: Final = 16
RTA_VIA: Final = 18
RTA_ENCAP: Final = 22
RTA_NH_ID: Final = 30

RTNH_F_DEAD: Final = 0x1
RTNH_F_ONLINK: Final = 0x4

UNIVERSE: Final = 0
LINK: Final = 253
NOWHERE: Final = 255  # in a DELETE: whatever the scope
UNICAST: Final = 1
BLACKHOLE: Final = 6

RTMSG: Final = struct.Struct("=8BI")  # family, lengths of dst and src, tos, table, protocol, scope, type, flags
_NEXT_HOP: Final = struct.Struct("=HBBi")  # length, flags, hops (weight - 1), interface
_FLAGS: Final = {
    Verb.CREATE: NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL,
    Verb.REPLACE: NLM_F_REQUEST | NLM_F_REPLACE,
    Verb.DELETE: NLM_F_REQUEST,
}
_SIZE: Final = {2: 4, 10: 16}
_LENGTH: Final = [bytes((length,)) for length in range(129)]
_NOT_PLAIN: Final = frozenset({RTA_METRICS, RTA_FLOW, RTA_MARK, RTA_VIA, RTA_ENCAP, RTA_NH_ID})
_REMEMBERED: Final = 4096


# --- writing ---------------------------------------------------------------------------------------------------------
#: Header, rtmsg and RTA_DST of a message; the family decides the size of the address. What is packed from a prefix is
#: the prefix itself: "4s" and "16s" cut off its last byte, the length.
_HEADS: Final = {5: struct.Struct("=IHHIIBB10sHH4s"), 17: struct.Struct("=IHHIIBB10sHH16s")}


_Part = tuple[Target | None, int, int, int, bytes, bytes]
_NO_PART: Final[_Part] = (None, 0, 0, 0, b"", b"")


class Packer:
    """Makes the messages of a batch. ``metric`` and ``protocol`` are ours and in every one of them."""

    def __init__(self, metric: int, protocol: int) -> None:
        self._metric = metric
        self._protocol = protocol
        self._parts: dict[tuple[Verb, int, int, int, int], _Part] = {}

    def pack(self, operations: Sequence[Operation], sequence: int) -> list[bytes]:
        """One message for each operation; the first has this sequence number, and each next one the next."""
        packed = []
        parts = self._parts
        before: tuple[object, ...] = ()
        part, head, family = _NO_PART, _HEADS[5].pack, _FAMILY[5]
        for verb, prefix, table, kind, target in operations:
            size = len(prefix)
            key = (verb, table, kind, size, id(target))
            if key != before:
                part = parts.get(key, _NO_PART)
                if part is _NO_PART or part[0] is not target:
                    if len(parts) >= _REMEMBERED:
                        parts.clear()
                    parts[key] = part = self._part(verb, size, table, kind, target)
                head, family, before = _HEADS[size].pack, _FAMILY[size], key
            _, length, message, flags, rest, tail = part
            packed.append(
                head(length, message, flags, sequence, 0, family, prefix[-1], rest, size + 3, RTA_DST, prefix) + tail
            )
            sequence = (sequence + 1) & 0xFFFFFFFF
        return packed

    def _part(self, verb: Verb, size: int, table: int, kind: int, target: Target | None) -> _Part:
        """(target, length, message type, flags, rtmsg after the lengths, attributes after RTA_DST)."""
        tail = attribute(RTA_PRIORITY, U32.pack(self._metric)) + attribute(RTA_TABLE, U32.pack(table))
        scope, message, flags = NOWHERE, RTM_DELROUTE, 0
        if target is not None:
            message, scope = RTM_NEWROUTE, UNIVERSE
            if isinstance(target, Unicast):
                tail += _pack_unicast(target)
                if target.hops and all(hop.gateway is None for hop in target.hops):
                    scope = LINK
                if len(target.hops) == 1 and target.hops[0].onlink:
                    flags = RTNH_F_ONLINK
        rest = struct.pack("=6BI", 0, 0, table if table < 256 else 0, self._protocol, scope, kind, flags)
        length = _HEADS[size].size + len(tail)
        return target, length, message, _FLAGS[verb], rest, tail


def _pack_unicast(target: Unicast) -> bytes:
    source = attribute(RTA_PREFSRC, target.source) if target.source is not None else b""
    if len(target.hops) == 1:
        hop = target.hops[0]
        gateway = attribute(RTA_GATEWAY, hop.gateway) if hop.gateway is not None else b""
        return gateway + attribute(RTA_OIF, U32.pack(hop.interface)) + source
    hops = []
    for hop in target.hops:
        gateway = attribute(RTA_GATEWAY, hop.gateway) if hop.gateway is not None else b""
        flags = RTNH_F_ONLINK if hop.onlink else 0
        hops.append(_NEXT_HOP.pack(_NEXT_HOP.size + len(gateway), flags, 0, hop.interface) + gateway)
    return attribute(RTA_MULTIPATH, b"".join(hops)) + source


# --- reading ---------------------------------------------------------------------------------------------------------
class Reader:
    """Reads route messages, and keeps what equal ones have in common: everything but the destination."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bytes, bytes], KernelRoute | None] = {}

    def read(self, body: bytes) -> KernelRoute | None:
        """The route, or None for one that cannot meet ours: another family, cloned, with a TOS or a source prefix.

        Raises :class:`WireError`.
        """
        if len(body) < RTMSG.size:
            raise WireError(f"a route message of {len(body)} bytes")
        size = _SIZE.get(body[0])
        if size is None:
            return None
        # The kernel puts RTA_TABLE and RTA_DST first. Where it does not, only speed is lost.
        if body[20:24] != _DST[size] or len(body) < 24 + size:
            return self._read(body, size)
        key = (size, body[2:20], body[24 + size :])
        known = self._known.get(key, _UNKNOWN)
        if known is _UNKNOWN:
            known = self._read(body, size)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = known
            return known
        if known is None:
            return None
        if body[1] > size * 8:
            raise WireError(f"a prefix length of {body[1]}")
        table, _, metric, protocol, target, plain, dead = known
        return KernelRoute(
            table, Prefix(body[24 : 24 + size] + _LENGTH[body[1]]), metric, protocol, target, plain, dead
        )

    def _read(self, body: bytes, size: int) -> KernelRoute | None:
        _, length, source_length, tos, table, protocol, _, kind, flags = RTMSG.unpack_from(body)
        if length > size * 8:
            raise WireError(f"a prefix length of {length}")
        found = dict(attributes(body, RTMSG.size))
        if tos or source_length or flags & _CLONED:
            return None
        destination = _sized(found.get(RTA_DST, bytes(size)), size)
        metric = u32(found[RTA_PRIORITY]) if RTA_PRIORITY in found else 0
        if RTA_TABLE in found:
            table = u32(found[RTA_TABLE])
        target, plain, dead = _target(kind, flags, found, size)
        prefix = Prefix(destination + _LENGTH[length])
        return KernelRoute(table, prefix, metric, protocol, target, plain, dead)


_UNKNOWN: Final = KernelRoute(-1, Prefix(b""), 0, 0, Blackhole())
_CLONED: Final = 0x200
_DST: Final = {size: struct.pack("=HH", size + 4, RTA_DST) for size in (4, 16)}
_FAMILY: Final = {5: 2, 17: 10}


def _sized(value: bytes, size: int) -> Address:
    if len(value) != size:
        raise WireError(f"an address of {len(value)} bytes where {size} belong")
    return Address(value)


def _target(
    kind: int, flags: int, found: dict[int, bytes], size: int
) -> tuple[Unicast | Blackhole | Strange, bool, tuple[Hop, ...]]:
    """(target, plain, dead hops); see :class:`KernelRoute`."""
    plain = _NOT_PLAIN.isdisjoint(found)
    if kind == BLACKHOLE:
        return Blackhole(), plain, ()
    if kind != UNICAST or RTA_VIA in found:
        return Strange(kind), plain, ()
    source = _sized(found[RTA_PREFSRC], size) if RTA_PREFSRC in found else None
    hops, dead = [], []
    if RTA_MULTIPATH in found:
        for hop, hop_flags, even in _multipath(found[RTA_MULTIPATH], size):
            hops.append(hop)
            plain = plain and even
            if hop_flags & RTNH_F_DEAD:
                dead.append(hop)
    elif RTA_OIF in found:
        gateway = _sized(found[RTA_GATEWAY], size) if RTA_GATEWAY in found else None
        hops.append(Hop(u32(found[RTA_OIF]), gateway, bool(flags & RTNH_F_ONLINK)))
        if flags & RTNH_F_DEAD:
            dead.append(hops[0])
    if not hops:
        return Strange(kind), plain, ()
    return Unicast(tuple(sorted(hops, key=_order)), source), plain, tuple(dead)


def _order(hop: Hop) -> tuple[int, bytes, bool]:
    return hop.interface, hop.gateway or b"", hop.onlink


def _multipath(value: bytes, size: int) -> list[tuple[Hop, int, bool]]:
    """(hop, flags, is it one that we would write) for each next hop of RTA_MULTIPATH."""
    hops, position = [], 0
    while len(value) - position >= _NEXT_HOP.size:
        length, flags, weight, interface = _NEXT_HOP.unpack_from(value, position)
        if length < _NEXT_HOP.size or length > len(value) - position:
            raise WireError(f"a next hop of {length} bytes where {len(value) - position} are left")
        found = dict(attributes(value[position : position + length], _NEXT_HOP.size))
        gateway = _sized(found[RTA_GATEWAY], size) if RTA_GATEWAY in found else None
        even = weight == 0 and _NOT_PLAIN.isdisjoint(found)
        hops.append((Hop(interface, gateway, bool(flags & RTNH_F_ONLINK)), flags, even))
        position += (length + 3) & ~3
    return hops
