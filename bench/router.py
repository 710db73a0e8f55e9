"""The router at the other end: a BGP speaker that costs almost nothing while others are measured.

It says what was packed before (RFC 4271), and notes when it hears of a prefix. Everything is IPv4 unicast. It accepts
sessions and opens none, but for :meth:`Router.knock`. Like Azure Route Server it offers multiprotocol, route refresh
and four-byte AS numbers, and no graceful restart.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from bench.loop import Loop
from bgp_agent.core.prefix import Address, Prefix, parse_address
from lab.netns import Namespace

PORT: Final = 179
HOLD: Final = 90  # seconds
_MARKER: Final = b"\xff" * 16
_OPEN, _UPDATE, _NOTIFICATION, _KEEPALIVE = 1, 2, 3, 4
_LARGEST: Final = 4096  # RFC 4271 section 4.1
_READ: Final = 1 << 20


def message(kind: int, body: bytes = b"") -> bytes:
    """A BGP message (RFC 4271 section 4.1)."""
    return _MARKER + struct.pack("!HB", 19 + len(body), kind) + body


def nlri(prefix: Prefix) -> bytes:
    """A prefix as UPDATE carries it: its length, and as many bytes as that takes."""
    return bytes((prefix[-1],)) + prefix[: (prefix[-1] + 7) // 8]


def updates(prefixes: Iterable[Prefix], next_hop: Address, as_path: Sequence[int]) -> bytes:
    """UPDATEs that announce the prefixes with the same attributes, as full as they can be."""
    path = struct.pack(f"!BB{len(as_path)}I", 2, len(as_path), *as_path)
    attributes = b"\x40\x01\x01\x00" + bytes((0x40, 2, len(path))) + path + b"\x40\x03\x04" + next_hop
    room = _LARGEST - 19 - 4 - len(attributes)
    made: list[bytes] = []
    body = b""
    for packed in map(nlri, prefixes):
        if len(body) + len(packed) > room:
            made.append(message(_UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes + body))
            body = b""
        body += packed
    made.append(message(_UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes + body))
    return b"".join(made)


def end_of_rib() -> bytes:
    """End-of-RIB for IPv4 unicast (RFC 4724 section 2): an empty UPDATE."""
    return message(_UPDATE, bytes(4))


class Router:
    """One router, at ``address`` in the namespace ``inside``. ``heard``: prefix -> when it was announced to us last."""

    def __init__(self, loop: Loop, inside: Namespace, address: str, asn: int) -> None:
        self.address = address
        self.asn = asn
        self.heard: dict[bytes, float] = {}
        self.established_at: float | None = None
        self._loop = loop
        self._inside = inside
        self._listener: socket.socket | None = None
        self._lines: list[_Line] = []
        self._session: _Line | None = None
        loop.every.append(self._keep_alive)

    def listen(self) -> None:
        """Be there: accept a session."""
        with self._inside.entered():
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.address, PORT))
        listener.listen(8)
        self._listener = listener
        self._loop.add(listener.fileno(), self._accept)

    def leave(self) -> None:
        """Be away, without a word: connections are refused."""
        for line in list(self._lines):
            line.close()
        if self._listener is not None:
            self._loop.remove(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def knock(self, target: str) -> None:
        """Connect to the other end's port 179."""
        with self._inside.entered():
            line = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        line.bind((self.address, 0))
        with contextlib.suppress(BlockingIOError):
            line.connect((target, PORT))
        self._lines.append(_Line(self, self._loop, line))

    @property
    def established(self) -> bool:
        """Does a session stand."""
        return self._session is not None

    def send(self, data: bytes) -> None:
        """Say it on the session, as fast as the other end takes it."""
        assert self._session is not None, f"{self.address} has no session to speak on"
        self._session.send(data)

    def close(self) -> None:
        """Leave for good."""
        self.leave()
        self._loop.every.remove(self._keep_alive)

    def _accept(self, _now: float) -> None:
        assert self._listener is not None
        with contextlib.suppress(BlockingIOError):
            line, _ = self._listener.accept()
            line.settimeout(0)
            self._lines.append(_Line(self, self._loop, line))

    def _keep_alive(self, now: float) -> None:
        if self._session is not None and now - self._session.spoke > HOLD / 3:
            self._session.spoke = now
            self._session.send(message(_KEEPALIVE))

    # --- for a line --------------------------------------------------------------------------------------------------
    def up(self, line: _Line, now: float) -> None:
        """A line's session stands; there can be only one."""
        if self._session is not None and self._session is not line:
            line.close()
            return
        self._session, self.established_at = line, now

    def lost(self, line: _Line) -> None:
        """A line is gone."""
        self._lines.remove(line)
        if self._session is line:
            self._session = None


class _Line:
    """One connection and the little state that a session needs."""

    def __init__(self, router: Router, loop: Loop, line: socket.socket) -> None:
        self.spoke = 0.0
        self._router = router
        self._loop = loop
        self._socket = line
        self._tail = b""
        self._pending = memoryview(b"")
        self._opened = False
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(self._open())

    def _open(self) -> bytes:
        asn = self._router.asn
        capabilities = b"\x01\x04\x00\x01\x00\x01" + b"\x02\x00" + b"\x41\x04" + struct.pack("!I", asn)
        options = bytes((2, len(capabilities))) + capabilities
        fixed = struct.pack("!BHH4sB", 4, asn, HOLD, parse_address(self._router.address), len(options))
        return message(_OPEN, fixed + options)

    def send(self, data: bytes) -> None:
        self._pending = memoryview(bytes(self._pending) + data)
        self._loop.add(self._socket.fileno(), self._ready, write=True)

    def _ready(self, now: float) -> None:
        if self._pending:
            self._write()
        if self._socket.fileno() >= 0:
            self._read(now)

    def _write(self) -> None:
        try:
            while self._pending:
                self._pending = self._pending[self._socket.send(self._pending) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._loop.add(self._socket.fileno(), self._ready)

    def _read(self, now: float) -> None:
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        data, at = self._tail + data, 0
        while len(data) - at >= 19 and len(data) - at >= (size := int.from_bytes(data[at + 16 : at + 18], "big")):
            self._take(data[at + 18], data[at + 19 : at + size], now)
            at += size
        self._tail = data[at:]

    def _take(self, kind: int, body: bytes, now: float) -> None:
        if kind == _OPEN:
            self._opened = True
            self.spoke = now
            self.send(message(_KEEPALIVE))
        elif kind == _KEEPALIVE and self._opened:
            self._opened = False
            self._router.up(self, now)
        elif kind == _UPDATE:
            self._update(body, now)
        elif kind == _NOTIFICATION:
            self.close()

    def _update(self, body: bytes, now: float) -> None:
        at = 2 + int.from_bytes(body[:2], "big")
        at += 2 + int.from_bytes(body[at : at + 2], "big")
        heard = self._router.heard
        while at < len(body):
            size = (body[at] + 7) // 8
            heard[body[at + 1 : at + 1 + size].ljust(4, b"\0") + body[at : at + 1]] = now
            at += 1 + size

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove(self._socket.fileno())
            self._socket.close()
            self._router.lost(self)
