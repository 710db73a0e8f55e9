"""What agent and host say to each other over the Unix socket.

A stream of frames, each way: length (4 bytes, network order, of what follows), kind (1 byte), body. A body is a JSON
object, but for the two kinds on the hot path, which carry ExaBGP's lines as they are behind a short head:

======== ================== =============================================================
kind     direction          body
======== ================== =============================================================
HELLO    both, first        ``protocol``, ``version``; from the host ``boot`` and ``pid``
REFUSED  host to agent      ``reason``; the host closes after it
STATE    host to agent      ``peer``, ``fingerprint`` and a :class:`Snapshot`
GONE     host to agent      ``peer``: no longer defined
READY    host to agent      every peer's STATE has been sent
LINES    host to agent      peer, epoch, whole lines of ExaBGP's output
LOG      host to agent      ``peer``, ``level``, ``line``: what ExaBGP logged
STOPPING host to agent      ``timeout``: a planned stop; answer with PREPARED
DEFINE   agent to host      ``definition``, ``fingerprint``: STATE names the definition by it
REMOVE   agent to host      ``peer``
COMMANDS agent to host      peer, epoch, whole command lines for that ExaBGP
RESTART  agent to host      ``peer``, ``reason``
PREPARED agent to host      ``wait``: seconds the host shall still wait, 0 to go on
STOP     agent to host      nothing; the same as SIGTERM
PING     agent to host      nothing; the host answers with PONG at once, whatever it is doing
PONG     host to agent      nothing
======== ================== =============================================================

HELLO and REFUSED keep their form in every version, so that two versions can always tell each other that they differ.
An *epoch* counts the starts of one peer's ExaBGP: commands meant for an earlier one are dropped, not fed to its
successor, whose answers nobody would expect.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

VERSION: Final = 1
#: Bytes of one frame's body. ExaBGP's longest line seen is 217,700 bytes; the host cuts its reads at 256 KiB.
MAX_FRAME: Final = 8 * 1024 * 1024
_HEAD: Final = 5


class ProtocolError(Exception):
    """The other end sent what no version of this protocol says; the connection cannot be used any more."""


class Kind(IntEnum):
    """The kinds of frames; see the table above."""

    HELLO = 1
    REFUSED = 2
    STATE = 3
    GONE = 4
    READY = 5
    LINES = 6
    LOG = 7
    STOPPING = 8
    DEFINE = 9
    REMOVE = 10
    COMMANDS = 11
    RESTART = 12
    PREPARED = 13
    STOP = 14
    PING = 15
    PONG = 16


_BINARY: Final = frozenset({Kind.LINES, Kind.COMMANDS})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of one peer's ExaBGP as the host knows it, at the moment an agent attaches and at each change.

    ``process``: "running" (its pipes are in hand), "starting" or "stopped". ``since``: seconds since the epoch of the
    last change of ``established``. ``open_line``: the last OPEN received from the peer, as ExaBGP printed it, from
    which follows what was negotiated; None before the first one. ``unacked``: answers (``done``, ``error``) still to
    come for commands of an earlier agent. ``problem``: why there is no session that ExaBGP does not tell.
    ``epoch``: which start of this peer's ExaBGP this is about; another epoch has forgotten everything announced.
    """

    process: str
    established: bool
    since: float
    open_line: bytes | None = None
    unacked: int = 0
    problem: str | None = None
    epoch: int = 0

    def to_json(self) -> dict[str, object]:
        """As STATE carries it."""
        return {
            "process": self.process,
            "established": self.established,
            "since": self.since,
            "open": None if self.open_line is None else self.open_line.decode("utf-8", "surrogateescape"),
            "unacked": self.unacked,
            "problem": self.problem,
            "epoch": self.epoch,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, object]) -> Snapshot:
        """Read what :meth:`to_json` made. Raises :class:`ProtocolError`."""
        match raw:
            case {
                "process": "running" | "starting" | "stopped" as process,
                "established": bool(established),
                "since": float() | int() as since,
                "open": (str() | None) as opened,
                "unacked": int(unacked),
                "problem": (str() | None) as problem,
                "epoch": int(epoch),
            }:
                line = None if opened is None else opened.encode("utf-8", "surrogateescape")
                return cls(str(process), established, float(since), line, unacked, problem, epoch)
        raise ProtocolError("a STATE that cannot be read")


@dataclass(frozen=True, slots=True)
class Message:
    """A frame with a JSON body."""

    kind: Kind
    body: Mapping[str, object]

    def text(self, key: str) -> str:
        """The text under ``key``. Raises :class:`ProtocolError`."""
        value = self.body.get(key)
        if not isinstance(value, str):
            raise ProtocolError(f"{self.kind.name} without a text {key!r}")
        return value

    def number(self, key: str) -> float:
        """The number under ``key``. Raises :class:`ProtocolError`."""
        value = self.body.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ProtocolError(f"{self.kind.name} without a number {key!r}")
        return value


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines from (LINES) or for (COMMANDS) one epoch of a peer's ExaBGP; ``data`` ends with a newline."""

    kind: Kind
    peer: str
    epoch: int
    data: bytes


def message(kind: Kind, **body: object) -> bytes:
    """A frame with a JSON body."""
    return _frame(kind, json.dumps(body, separators=(",", ":")).encode("utf-8", "surrogateescape"))


def lines(kind: Kind, peer: str, epoch: int, data: bytes) -> bytes:
    """A frame of LINES or COMMANDS: epoch (4 bytes), length of the peer's address (1 byte), address, lines."""
    name = peer.encode("ascii")
    return _frame(kind, b"".join((epoch.to_bytes(4, "big"), bytes((len(name),)), name, data)))


def _frame(kind: Kind, body: bytes) -> bytes:
    return b"".join(((len(body) + 1).to_bytes(4, "big"), bytes((kind,)), body))


class FrameReader:
    """Cuts a stream into frames. Raises :class:`ProtocolError`; after that it must not be fed again."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message | Lines]:
        """The frames that ``data`` completes; iterate to the end before feeding more."""
        self._buffer += data
        start = 0
        try:
            while (body := self._next(start)) is not None:
                kind, payload, start = body
                yield _read(kind, payload)
        finally:
            del self._buffer[:start]

    def _next(self, start: int) -> tuple[int, bytes, int] | None:
        buffer = self._buffer
        if len(buffer) - start < 4:
            return None
        size = int.from_bytes(buffer[start : start + 4], "big")
        if not 1 <= size <= MAX_FRAME:
            raise ProtocolError(f"a frame of {size} bytes; the most is {MAX_FRAME}")
        end = start + 4 + size
        if len(buffer) < end:
            return None
        return buffer[start + 4], bytes(buffer[start + _HEAD : end]), end


def _read(number: int, body: bytes) -> Message | Lines:
    try:
        kind = Kind(number)
    except ValueError:
        raise ProtocolError(f"a frame of the unknown kind {number}") from None
    if kind in _BINARY:
        return _read_lines(kind, body)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise ProtocolError(f"{kind.name} with a body that is no JSON") from None
    if not isinstance(value, dict):
        raise ProtocolError(f"{kind.name} with a body that is no JSON object")
    return Message(kind, value)


def _read_lines(kind: Kind, body: bytes) -> Lines:
    head = 5 + (body[4] if len(body) > 4 else 0)
    name = body[5:head]
    if len(body) <= head or not name or not name.isascii() or not body.endswith(b"\n"):
        raise ProtocolError(f"{kind.name} that cannot be read")
    return Lines(kind, name.decode("ascii"), int.from_bytes(body[:4], "big"), body[head:])
