"""Netlink's framing: messages, attributes, errors (linux/netlink.h, RFC 3549).

Our own, because the writing path is what the program exists for: a batch of 10,000 routes is packed and sent here in
the time that a general library needs for some hundred. Reading checks every length before it trusts it: what is cut off
or does not fit raises :class:`WireError`, never another exception.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port of the sender
ATTRIBUTE: Final = struct.Struct("=HH")  # length with this header, type
U32: Final = struct.Struct("=I")
I32: Final = struct.Struct("=i")
_ERROR: Final = struct.Struct("=iIHHII")  # errno (negative), then the header of the message that it is about

NLMSG_NOOP: Final = 1
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLMSG_OVERRUN: Final = 4

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_CAPPED: Final = 0x100
NLM_F_ACK_TLVS: Final = 0x200
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400

_NLMSGERR_ATTR_MSG: Final = 1
_TYPE: Final = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


class WireError(ValueError):
    """Bytes from a netlink socket that are no netlink; the message says what does not fit."""


class Message(NamedTuple):
    """One netlink message; ``body`` is what follows the header."""

    kind: int
    flags: int
    sequence: int
    port: int
    body: bytes


class Refusal(NamedTuple):
    """An NLMSG_ERROR: ``errno`` positive, 0 for an acknowledgement; ``text``: the kernel's own words, or empty."""

    errno: int
    sequence: int
    text: str


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one read. Raises :class:`WireError` where the bytes stop making sense."""
    position, size = 0, len(data)
    unpack = HEADER.unpack_from
    while position < size:
        if size - position < 16:
            raise WireError(f"{size - position} bytes are left, less than a netlink header")
        length, kind, flags, sequence, port = unpack(data, position)
        if length < 16 or length > size - position:
            raise WireError(f"a netlink message of {length} bytes where {size - position} are left")
        yield Message(kind, flags, sequence, port, data[position + 16 : position + length])
        position += (length + 3) & ~3


def attributes(body: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    """(type, value) from ``start`` on. Raises :class:`WireError`."""
    position, size = start, len(body)
    unpack = ATTRIBUTE.unpack_from
    while size - position >= 4:
        length, kind = unpack(body, position)
        if length < 4 or length > size - position:
            raise WireError(f"an attribute of {length} bytes where {size - position} are left")
        yield kind & _TYPE, body[position + 4 : position + length]
        position += (length + 3) & ~3
    if position < size:
        raise WireError(f"{size - position} bytes are left, less than the header of an attribute")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return ATTRIBUTE.pack(len(value) + 4, kind) + value + bytes(-len(value) % 4)


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """One message to the kernel."""
    return HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def u32(value: bytes) -> int:
    """An unsigned 32-bit attribute, host order."""
    if len(value) != 4:
        raise WireError(f"{len(value)} bytes where a 32-bit number belongs")
    return int(U32.unpack(value)[0])


def refusal(received: Message) -> Refusal:
    """Read an NLMSG_ERROR, or the errno that an NLMSG_DONE carries."""
    if received.kind == NLMSG_DONE or len(received.body) < _ERROR.size:
        if len(received.body) < 4:
            raise WireError(f"an error message of {len(received.body)} bytes")
        return Refusal(-I32.unpack_from(received.body)[0], received.sequence, "")
    code, length, _kind, _flags, sequence, _port = _ERROR.unpack_from(received.body)
    text = ""
    if received.flags & NLM_F_ACK_TLVS:
        start = _ERROR.size if received.flags & NLM_F_CAPPED else 4 + ((length + 3) & ~3)
        for kind, value in attributes(received.body, start):
            if kind == _NLMSGERR_ATTR_MSG:
                text = value.rstrip(b"\0").decode("utf-8", "replace")
    return Refusal(-code, sequence, text)
