"""Messages and open files over a Unix socket: how a container hands its network namespace to the fabric.

One JSON object is one packet (``SOCK_SEQPACKET``), with the open files in its ancillary data (unix(7), SCM_RIGHTS).
Nobody needs the container engine's socket, or to see other containers' processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Final, Self

import msgspec

PACKET: Final = 65_536  # bytes
FILES: Final = 4  # in one packet, at most


class Message(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What either side says; one field of it at a time.

    A container: ``join`` (its name, with its network namespace as open file), ``ended`` (the exit status of what it was
    asked to start) with ``said``. The twin: ``joined``, ``refused`` (why), ``start`` (an argument list), ``signal``.
    """

    join: str = ""
    joined: bool = False
    refused: str = ""
    start: list[str] = []
    signal: int = 0
    ended: int | None = None
    said: str = ""


class Channel:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)  # noqa: FBT003  # the standard library's own name
        self._socket = connection

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Connect; raises :class:`OSError` when nobody listens."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            made.connect(str(path))
        except OSError:
            made.close()
            raise
        return cls(made)

    def send(self, message: Message, files: tuple[int, ...] = ()) -> None:
        """Say something; raises :class:`OSError` when the other side is gone."""
        socket.send_fds(self._socket, [msgspec.json.encode(message)], files)

    async def receive(self) -> tuple[Message, tuple[int, ...]] | None:
        """The next message and its open files (now the caller's), or ``None`` at the end.

        Raises :class:`ValueError` for anything else than a message.
        """
        while True:
            try:
                data, files, _, _ = socket.recv_fds(self._socket, PACKET, FILES, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await self._readable()
                continue
            except ConnectionError:
                return None
            if not data:
                return None
            try:
                return msgspec.json.decode(data, type=Message), tuple(files)
            except msgspec.DecodeError as error:
                close_all(tuple(files))
                raise ValueError(f"not a message of the fabric's socket: {error}") from None

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        seen = asyncio.Event()
        loop.add_reader(self._socket, seen.set)
        try:
            await seen.wait()
        finally:
            if self._socket.fileno() >= 0:
                loop.remove_reader(self._socket)


def close_all(files: tuple[int, ...]) -> None:
    """Close open files."""
    for each in files:
        with contextlib.suppress(OSError):
            os.close(each)
