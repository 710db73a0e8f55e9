"""The few netlink messages that policy rules and local routes need (rtnetlink(7), linux/fib_rules.h).

Written by hand because the agent stays small without a netlink library: five message types, a dozen attributes. What
the kernel answers is read with bounds all the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final, Self

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_EXCL, NLM_F_CREATE = 1, 4, 0x300, 0x200, 0x400
SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12
TIMEOUT: Final = 2.0
"""Seconds to wait for the kernel; it answers at once."""

_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr
_ATTRIBUTE: Final = struct.Struct("=HH")  # rtattr


def attribute(kind: int, value: bytes) -> bytes:
    """One rtattr, padded to four bytes."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Read rtattrs; what does not fit ends the reading."""
    out: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size or at + size > len(data):
            break
        out[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + size]
        at += size + (-size % 4)
    return out


class Netlink:
    """A socket to the kernel's routing tables; blocking, for a handful of messages at a time."""

    def __init__(self, make: Callable[[int, int, int], socket.socket]) -> None:
        self._socket = make(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self._socket.settimeout(TIMEOUT)
        with contextlib.suppress(OSError):  # filters the dump of routes in the kernel; the reader checks again
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes) -> None:
        """Send one request and wait for its acknowledgement. Raises OSError with the kernel's reason."""
        for _ in self._messages(kind, NLM_F_ACK | flags, body):
            pass

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """The payloads of a dump. Raises OSError with the kernel's reason."""
        return self._messages(kind, NLM_F_DUMP, body)

    def _messages(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | flags, self._sequence, 0) + body)
        while True:
            data = self._socket.recv(1 << 16)
            at = 0
            while at + _HEADER.size <= len(data):
                size, answer, _, sequence, _ = _HEADER.unpack_from(data, at)
                if size < _HEADER.size or at + size > len(data):
                    raise OSError("the kernel's netlink answer is cut off")
                if sequence == self._sequence:
                    payload = data[at + _HEADER.size : at + size]
                    if answer in (NLMSG_ERROR, NLMSG_DONE):
                        _check(payload)
                        return
                    yield payload
                at += size + (-size % 4)


def _check(payload: bytes) -> None:
    code = -int.from_bytes(payload[:4], "little" if struct.pack("=H", 1)[0] else "big", signed=True)
    if code > 0:
        raise OSError(code, os.strerror(code))
