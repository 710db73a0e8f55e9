"""The host's end of one agent's connection: who it is, which version it speaks, and a bound on what waits for it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import Final, Protocol

import bgp_agent
from bgp_agent.speaker.protocol import VERSION, FrameReader, Kind, Lines, Message, ProtocolError, message

#: Bytes that may wait for an agent that does not read; above it the connection is cut, and the agent learns anew.
MAX_WAITING: Final = 32 * 1024 * 1024
#: linux/socket.h, struct ucred: pid, uid, gid
_UCRED: Final = struct.Struct("=iII")


class Desk(Protocol):
    """Who serves agents."""

    boot: str

    def attach(self, link: AgentLink) -> str | None:
        """An agent that speaks our version is there; why it cannot be served, None when it can."""

    def receive(self, link: AgentLink, frame: Message | Lines) -> None:
        """What the attached agent said. Raises :class:`ProtocolError`."""

    def detach(self, link: AgentLink, reason: str) -> None:
        """The connection is gone (also of one that was never attached)."""


class AgentLink(asyncio.Protocol):
    """One connection on the speaker's socket. ``anyone``: the socket's mode decides who may come (a group is set)."""

    def __init__(self, desk: Desk, *, anyone: bool) -> None:
        self.pid = 0
        self._desk = desk
        self._anyone = anyone
        self._reader = FrameReader()
        self._greeted = False
        self._reason = "the agent closed the connection"
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look who is there, and say who we are."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a Unix server makes
        self._transport = transport
        peer: socket.socket = transport.get_extra_info("socket")
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        self.pid, uid, _ = _UCRED.unpack(raw)
        self.send(
            message(Kind.HELLO, protocol=VERSION, version=bgp_agent.__version__, boot=self._desk.boot, pid=os.getpid())
        )
        if not self._anyone and uid not in {0, os.geteuid()}:
            self._refuse(f"the speaker serves user id {os.geteuid()} and root only; the caller is {uid}")

    def data_received(self, data: bytes) -> None:
        """Read frames; what is no frame of ours ends the connection."""
        try:
            for frame in self._reader.feed(data):
                if self._transport is None or self._transport.is_closing():
                    return
                if self._greeted:
                    self._desk.receive(self, frame)
                else:
                    self._greet(frame)
        except ProtocolError as error:
            self._refuse(str(error))

    def _greet(self, frame: Message | Lines) -> None:
        if not isinstance(frame, Message) or frame.kind is not Kind.HELLO:
            raise ProtocolError("the first frame must be HELLO")
        if frame.number("protocol") != VERSION:
            self._refuse(
                f"the agent speaks version {frame.number('protocol'):g} of the protocol and the speaker {VERSION}: "
                "run the same release of both; no session is touched meanwhile"
            )
            return
        self._greeted = True
        if (refusal := self._desk.attach(self)) is not None:
            self._refuse(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the desk."""
        self._desk.detach(self, str(exc) if exc else self._reason)
        self._transport = None

    def send(self, frame: bytes) -> None:
        """Send a frame; an agent that does not read loses its connection."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(frame)
        if transport.get_write_buffer_size() > MAX_WAITING:
            self._reason = f"the agent does not read: {MAX_WAITING} bytes were waiting; it may attach again"
            transport.abort()

    def close(self) -> None:
        """Send what waits, then close."""
        if self._transport is not None:
            self._transport.close()

    def _refuse(self, reason: str) -> None:
        self._reason = reason
        self.send(message(Kind.REFUSED, reason=reason))
        if self._transport is not None:
            self._transport.close()
