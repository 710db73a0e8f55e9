"""The netlink sockets: one that writes, one that dumps, one that listens.

Writing does not wait for acknowledgements. The kernel works a batch off inside of ``send``, so when that returns every
refusal is in the receive buffer already, and what is not refused is done: no answer has to be awaited and the result of
a write is exact. The listening socket does not hear what the writing one did (a classic BPF filter drops it in the
kernel), so a burst of our own cannot overrun it.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from bgp_agent.core.fib import Operation
from bgp_agent.kernel.routes import Packer
from bgp_agent.kernel.wire import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    Refusal,
    WireError,
    message,
    messages,
    refusal,
)

Opener = Callable[[], socket.socket]
"""Makes an unbound NETLINK_ROUTE socket; a test makes it inside of a namespace."""

_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NETLINK_CAP_ACK: Final = 10  # a refusal holds only the header of what it refuses
_NETLINK_EXT_ACK: Final = 11  # and says why in words
_NETLINK_GET_STRICT_CHK: Final = 12  # a dump's header filters
_SO_ATTACH_FILTER: Final = 26
_SO_RCVBUFFORCE: Final = 33

BUFFER: Final = 8 << 20  # bytes; the kernel takes it from nobody until it is used
READ: Final = 128 << 10  # bytes of one read; the kernel's dumps come in at most 32 KiB
BATCH: Final = 64 << 10  # bytes of one write, well below SO_SNDBUF
_PATIENCE: Final = 10.0  # seconds for the next piece of a dump; the kernel answers in microseconds
_BATCH_MESSAGES: Final = 512  # refusals of one batch must fit the receive buffer: 1 KiB each


def open_socket() -> socket.socket:
    """The ordinary :data:`Opener`."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


def prepare(opener: Opener, groups: Sequence[int] = (), buffer: int = BUFFER) -> socket.socket:
    """A bound, non-blocking socket that is a member of ``groups``. Raises OSError."""
    made = opener()
    try:
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            made.setsockopt(_SOL_NETLINK, option, 1)
        try:
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer)
        except PermissionError:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        made.bind((0, 0))
        for group in groups:
            made.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        made.settimeout(0)
    except BaseException:
        made.close()
        raise
    return made


def port_of(bound: socket.socket) -> int:
    """The netlink port of a bound socket."""
    return int(bound.getsockname()[0])


def drop_from(listener: socket.socket, port: int) -> None:
    """Let the kernel drop what ``port`` caused before it reaches this socket (socket(7), SO_ATTACH_FILTER)."""
    # nlmsg_pid is at offset 12; BPF loads in network order, the header is in the host's.
    swapped = socket.htonl(port)
    code = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 12),  # load the word at 12
            (0x15, 0, 1, swapped),  # equal: next, else skip one
            (0x06, 0, 0, 0),  # drop
            (0x06, 0, 0, 0xFFFFFFFF),  # keep
        )
    )
    buffer = ctypes.create_string_buffer(code)
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 4, ctypes.addressof(buffer)))


class Inbox:
    """Where a socket is read into: refusals and events come one a read, and 128 KiB anew for each would cost more."""

    def __init__(self) -> None:
        self.space = bytearray(READ)
        self._view = memoryview(self.space)

    def read(self, source: socket.socket) -> bytes:
        """What is there now. Raises BlockingIOError when nothing is."""
        return self.taken(source.recv_into(self.space))

    def taken(self, size: int) -> bytes:
        """The first ``size`` bytes, of their own."""
        return bytes(self._view[:size])


class Writer:
    """Sends batches of operations and tells which were refused."""

    def __init__(self, opener: Opener, packer: Packer, *, buffer: int = BUFFER) -> None:
        self._packer = packer
        self._inbox = Inbox()
        self._socket = prepare(opener, buffer=buffer)
        self._sequence = 1
        self.port = port_of(self._socket)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def write(self, operations: Sequence[Operation]) -> tuple[dict[int, Refusal], bool]:
        """Send all; returns the refusals by position, and whether some were lost (then only a dump tells).

        Does not wait. Raises OSError when the socket itself is of no use any more.
        """
        packed = self._packer.pack(operations, self._sequence)
        first, self._sequence = self._sequence, (self._sequence + len(packed)) & 0xFFFFFFFF or 1
        refusals: dict[int, Refusal] = {}
        lost = False
        position = 0
        while position < len(packed):
            end, size = position, 0
            while end < len(packed) and end - position < _BATCH_MESSAGES and size + len(packed[end]) <= BATCH:
                size += len(packed[end])
                end += 1
            end = max(end, position + 1)
            self._socket.send(b"".join(packed[position:end]))
            position = end
            lost |= self._collect(first, len(packed), refusals)
        return refusals, lost

    def _collect(self, first: int, count: int, refusals: dict[int, Refusal]) -> bool:
        while True:
            try:
                data = self._inbox.read(self._socket)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    return True
                raise
            try:
                for received in messages(data):
                    if received.kind == NLMSG_ERROR:
                        said = refusal(received)
                        position = (said.sequence - first) & 0xFFFFFFFF
                        if said.errno and position < count:
                            refusals[position] = said
            except WireError:
                return True


class Asker:
    """Sends one question at a time: dumps, and single requests."""

    def __init__(self, opener: Opener) -> None:
        self._socket = prepare(opener)
        self._sequence = 0
        self._inbox = Inbox()
        self.interrupted = False

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    async def dump(self, kind: int, body: bytes) -> AsyncIterator[list[Message]]:
        """The rows of a dump, in pieces, giving way to others between them.

        Raises OSError (the kernel refused, or lost rows) and :class:`WireError`. ``interrupted`` tells afterwards
        whether the kernel's lists changed meanwhile, so that a row may be missing.
        """
        loop = asyncio.get_running_loop()
        self.interrupted = False
        sequence = self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)
        while True:
            async with asyncio.timeout(_PATIENCE):
                data = self._inbox.taken(await loop.sock_recv_into(self._socket, self._inbox.space))
            piece, done = [], False
            for received in messages(data):
                if received.sequence != sequence:
                    continue  # the rest of a dump that was given up
                self.interrupted |= bool(received.flags & NLM_F_DUMP_INTR)
                if received.kind in (NLMSG_DONE, NLMSG_ERROR):
                    code = refusal(received).errno
                    if code > 0:
                        raise OSError(code, f"the kernel refused a dump: {os.strerror(code)}")
                    done = True
                    break
                piece.append(received)
            if piece:
                yield piece
            if done:
                return
            await asyncio.sleep(0)

    def ask(self, kind: int, flags: int, body: bytes) -> list[Message]:
        """One request and its answer, at once. Raises OSError with the kernel's words when it refuses."""
        sequence = self._send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body)
        answers = []
        while True:
            for received in messages(self._inbox.read(self._socket)):
                if received.sequence != sequence:
                    continue
                if received.kind != NLMSG_ERROR:
                    answers.append(received)
                    continue
                said = refusal(received)
                if said.errno:
                    raise OSError(said.errno, said.text or os.strerror(said.errno))
                return answers

    def _send(self, kind: int, flags: int, body: bytes) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        self._socket.send(message(kind, flags, self._sequence, body))
        return self._sequence
