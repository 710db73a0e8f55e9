"""BIRD's live MRT dump (RFC 6396): every UPDATE received, with its peer, and every change of a session's state.

Only BGP4MP with 4-byte AS numbers and IPv4 peers; anything else is passed over. Bytes come in as they were written,
cut anywhere.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct("!IHHI")
_BGP4MP: Final = 16
_STATE_AS4: Final = 5
_MESSAGE_AS4: Final = 4
_UPDATE: Final = 2
_ESTABLISHED: Final = 6
_MP_REACH: Final = 14
_MP_UNREACH: Final = 15
MAX_RECORD: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class Update:
    """The prefixes of one UPDATE from a peer."""

    peer: str
    announced: tuple[str, ...]
    withdrawn: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class State:
    """A session came up or went down."""

    peer: str
    established: bool


class MrtReader:
    """Bytes in, events out."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Update | State]:
        """Take bytes; give what is complete."""
        self._data += data
        while len(self._data) >= _HEADER.size:
            _, kind, subtype, length = _HEADER.unpack_from(self._data)
            if length > MAX_RECORD:
                self._data.clear()
                return
            if len(self._data) < _HEADER.size + length:
                return
            body = bytes(self._data[_HEADER.size : _HEADER.size + length])
            del self._data[: _HEADER.size + length]
            if kind == _BGP4MP and (event := _event(subtype, body)) is not None:
                yield event


def _event(subtype: int, body: bytes) -> Update | State | None:
    try:
        if subtype not in {_STATE_AS4, _MESSAGE_AS4} or int.from_bytes(body[10:12], "big") != 1:
            return None
        peer = str(ipaddress.IPv4Address(body[12:16]))
        rest = body[20:]
        if subtype == _STATE_AS4:
            old, new = struct.unpack("!HH", rest[:4])
            return State(peer, new == _ESTABLISHED) if _ESTABLISHED in {old, new} else None
        if rest[18] != _UPDATE:
            return None
        return _update(peer, rest[19:])
    except (IndexError, ValueError, struct.error):
        return None


def _update(peer: str, body: bytes) -> Update:
    """RFC 4271 section 4.3, and MP_REACH / MP_UNREACH of IPv4 unicast (RFC 4760)."""
    withdrawn_length = int.from_bytes(body[:2], "big")
    withdrawn = list(_prefixes(body[2 : 2 + withdrawn_length]))
    at = 2 + withdrawn_length
    end = at + 2 + int.from_bytes(body[at : at + 2], "big")
    announced = list(_prefixes(body[end:]))
    at += 2
    while at < end:
        flags, kind = body[at], body[at + 1]
        wide = bool(flags & 0x10)
        size = int.from_bytes(body[at + 2 : at + (4 if wide else 3)], "big")
        at += 4 if wide else 3
        value, at = body[at : at + size], at + size
        if kind == _MP_REACH and value[:3] == b"\0\1\1":
            announced += _prefixes(value[5 + value[3] :])
        elif kind == _MP_UNREACH and value[:3] == b"\0\1\1":
            withdrawn += _prefixes(value[3:])
    return Update(peer, tuple(announced), tuple(withdrawn))


def _prefixes(data: bytes) -> Iterator[str]:
    at = 0
    while at < len(data):
        length = data[at]
        size = (length + 7) // 8
        if length > 32:
            raise ValueError(f"prefix length {length}")
        packed = data[at + 1 : at + 1 + size].ljust(4, b"\0")
        yield f"{ipaddress.IPv4Address(packed)}/{length}"
        at += 1 + size
