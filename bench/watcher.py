"""When the kernel of a namespace got or lost a route, told by the kernel itself (rtnetlink(7))."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from typing import Final

from bench.loop import Loop
from bgp_agent.core.prefix import Prefix
from lab.netns import Namespace

_RTMGRP_IPV4_ROUTE: Final = 0x40
_SO_ATTACH_FILTER: Final = 26
_SO_RCVBUFFORCE: Final = 33
_NEWROUTE, _DELROUTE = 24, 25
#: After the headers (16 and 12 bytes) the kernel puts RTA_TABLE, then RTA_DST, whose address stands here.
_DESTINATION: Final = 40
_RTA_DST: Final = struct.pack("=HH", 8, 1)
_LENGTH: Final = 17  # rtm_dst_len


class Watcher:
    """``came`` and ``went``: prefix -> the last time that the kernel told of it.

    ``sample``: a power of two; of the prefixes of one length in a row only each so many-th is told, so that 100,000
    routes cost the bench no more than 1,563 messages. The kernel drops the others before they are queued.
    """

    def __init__(self, loop: Loop, inside: Namespace, *, sample: int = 1, length: int = 26) -> None:
        self.came: dict[Prefix, float] = {}
        self.went: dict[Prefix, float] = {}
        self._loop = loop
        with inside.entered():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 128 << 20)
        if sample > 1:
            _attach(self._socket, (sample - 1) << 32 - length)
        self._socket.bind((0, _RTMGRP_IPV4_ROUTE))
        loop.add(self._socket.fileno(), self._read)

    def _read(self, now: float) -> None:
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise RuntimeError("the bench was too slow and lost route messages: this run is void") from error
                raise
            if data[_DESTINATION - 4 : _DESTINATION] != _RTA_DST:
                continue
            prefix = Prefix(data[_DESTINATION : _DESTINATION + 4] + data[_LENGTH : _LENGTH + 1])
            kind = int.from_bytes(data[4:6], "little")
            if kind == _NEWROUTE:
                self.came[prefix] = now
            elif kind == _DELROUTE:
                self.went[prefix] = now

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove(self._socket.fileno())
        self._socket.close()


def _attach(listener: socket.socket, mask: int) -> None:
    """Classic BPF: keep a message when no bit of ``mask`` is set in its destination (socket(7))."""
    code = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, _DESTINATION),  # load the word, in network order
            (0x54, 0, 0, mask),  # and
            (0x15, 0, 1, 0),  # zero: next, else skip one
            (0x06, 0, 0, 0xFFFFFFFF),  # keep
            (0x06, 0, 0, 0),  # drop
        )
    )
    buffer = ctypes.create_string_buffer(code)
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 5, ctypes.addressof(buffer)))
