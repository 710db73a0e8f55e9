"""A BGP speaker that says whatever a test wants, well-formed or not.

Plain sockets and bytes (RFC 4271 section 4): it opens a session as a router would and then sends what no router sends.
It listens on its address, since the node connects; a thread takes the node's messages and answers keepalives, so that
a test reads like a list of what is sent.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from lab.netns import Namespace, wait_for

OPEN, UPDATE, NOTIFICATION, KEEPALIVE, REFRESH = 1, 2, 3, 4, 5
MARKER: Final = b"\xff" * 16
WELL_KNOWN, OPTIONAL, EXTENDED, PARTIAL = 0x40, 0xC0, 0x10, 0x20
#: Capabilities (RFC 5492): IPv4 and IPv6 unicast, refresh, enhanced refresh, 4-byte AS numbers are added by `opening`.
IPV4, IPV6 = b"\0\1\0\1", b"\0\2\0\1"
REFRESH_ASKED, REFRESH_BEGIN, REFRESH_END = 0, 1, 2


def message(kind: int, body: bytes = b"", *, length: int | None = None, marker: bytes = MARKER) -> bytes:
    """One message; ``length`` lies about its size."""
    return marker + struct.pack("!HB", len(body) + 19 if length is None else length, kind) + body


def opening(
    asn: int, *, version: int = 4, hold_time: int = 30, router_id: str = "10.99.1.3", more: bytes = b""
) -> bytes:  # fmt: skip
    """An OPEN. ``more``: further capabilities, raw."""
    capabilities = b"".join((
        b"\x01\x04" + IPV4, b"\x01\x04" + IPV6, b"\x02\x00", b"\x46\x00", b"\x41\x04" + struct.pack("!I", asn), more,
    ))  # fmt: skip
    options = b"\x02" + bytes((len(capabilities),)) + capabilities
    fixed = struct.pack("!BHH", version, asn if asn < 65536 else 23456, hold_time) + socket.inet_aton(router_id)
    return message(OPEN, fixed + bytes((len(options),)) + options)


def attribute(code: int, value: bytes, flags: int = WELL_KNOWN) -> bytes:
    """One path attribute, its length in as many bytes as it needs."""
    if len(value) > 255:
        return bytes((flags | EXTENDED, code)) + struct.pack("!H", len(value)) + value
    return bytes((flags, code, len(value))) + value


def path(*asns: int) -> bytes:
    """AS_PATH of one sequence, 4 bytes a number (RFC 6793)."""
    return attribute(2, bytes((2, len(asns))) + struct.pack(f"!{len(asns)}I", *asns) if asns else b"")


def origin(value: int = 0) -> bytes:
    """ORIGIN."""
    return attribute(1, bytes((value,)))


def next_hop(address: str) -> bytes:
    """NEXT_HOP."""
    return attribute(3, socket.inet_aton(address))


def nlri(prefix: str) -> bytes:
    """A prefix on the wire, host bits and all: ``10.0.0.1/8`` goes out as it is written, in as few bytes as it may."""
    head, _, length = prefix.partition("/")
    packed = ipaddress.ip_address(head).packed
    return bytes((int(length),)) + packed[: (int(length) + 7) // 8]


def update(attributes: bytes = b"", announced: bytes = b"", withdrawn: bytes = b"") -> bytes:
    """An UPDATE from its three parts."""
    sized = (struct.pack("!H", len(part)) + part for part in (withdrawn, attributes))
    return message(UPDATE, b"".join((*sized, announced)))


def withdrawal(*prefixes: str) -> bytes:
    """An UPDATE that withdraws."""
    return update(withdrawn=b"".join(map(nlri, prefixes)))


def refresh(subtype: int, family: bytes = IPV4) -> bytes:
    """A ROUTE-REFRESH (RFC 2918, RFC 7313)."""
    return message(REFRESH, family[:2] + bytes((subtype,)) + family[3:])


@dataclass
class Hostile:
    """One address that the node peers with. ``accepted`` counts the node's connections."""

    address: str
    asn: int
    inside: Namespace
    open_with: bytes | None = None  # what is sent for an OPEN; None: a good one; empty: nothing at all
    keepalives: bool = True
    accepted: int = 0
    heard: list[int] = field(default_factory=list)  # the kinds of messages on the connection that stands
    refused: list[tuple[int, int]] = field(default_factory=list)  # code and subcode of each NOTIFICATION so far
    _socket: socket.socket | None = None

    def good(self, *prefixes: str, asns: Iterable[int] = (), hop: str = "", more: bytes = b"") -> bytes:
        """An UPDATE that is right; ``more``: further attributes."""
        attributes = origin() + path(*(asns or (self.asn,))) + next_hop(hop or self.address) + more
        return update(attributes, b"".join(map(nlri, prefixes)))

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the node's connections while the block runs."""
        with self.inside.entered():
            server = socket.create_server((self.address, 179))
        server.settimeout(0.1)
        ended = threading.Event()
        thread = threading.Thread(target=self._serve, args=(server, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            self.hang_up()
            thread.join(5)
            server.close()

    def _serve(self, server: socket.socket, ended: threading.Event) -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = server.accept()
                self.accepted += 1
                self.heard = []
                self._socket = connection
                threading.Thread(target=self._talk, args=(connection, ended), daemon=True).start()

    def _talk(self, connection: socket.socket, ended: threading.Event) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(0.1)
            connection.sendall(opening(self.asn) if self.open_with is None else self.open_with)
            pending = b""
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    data = connection.recv(65536)
                    if not data:
                        break
                    pending = self._read(connection, pending + data)

    def _read(self, connection: socket.socket, data: bytes) -> bytes:
        while len(data) >= 19 and len(data) >= (length := struct.unpack_from("!H", data, 16)[0]):
            kind = data[18]
            if kind in {OPEN, KEEPALIVE} and self.keepalives:
                connection.sendall(message(KEEPALIVE))
            if kind == NOTIFICATION:
                self.refused.append((data[19], data[20]))
            self.heard.append(kind)
            data = data[length:]
        return data

    @property
    def established(self) -> bool:
        """Has the node sent its first KEEPALIVE on the connection that stands."""
        return KEEPALIVE in self.heard and NOTIFICATION not in self.heard and self._socket is not None

    def say(self, *messages: bytes) -> None:
        """Send; waits for a session first."""
        wait_for(f"{self.address} has a session", lambda: self.established, 20)
        self.blurt(*messages)

    def blurt(self, *messages: bytes) -> None:
        """Send, session or not; a connection that has ended is no error."""
        connection = self._socket
        with contextlib.suppress(OSError):  # the node may have ended it, or be about to
            if connection is not None:
                connection.settimeout(20)
                connection.sendall(b"".join(messages))

    def trickle(self, data: bytes, pause: float) -> None:
        """Send byte by byte."""
        assert self._socket is not None
        for byte in data:
            self._socket.sendall(bytes((byte,)))
            time.sleep(pause)

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the connection; ``reset``: by RST."""
        connection, self._socket = self._socket, None
        self.heard = []
        if connection is not None:
            with contextlib.suppress(OSError):
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()


def good_end() -> bytes:
    """An End-of-RIB for IPv4 (RFC 4724 section 2)."""
    return update()
