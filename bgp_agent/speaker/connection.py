"""The agent's end of the connection to the host: bytes to frames, one call for each read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bgp_agent.speaker.protocol import FrameReader, Lines, Message, ProtocolError


class Connection(asyncio.Protocol):
    """One connection. ``receive`` gets the frames of one read together; ``ended`` is why it is over."""

    def __init__(self, receive: Callable[[list[Message | Lines]], None]) -> None:
        self.host_pid: int | None = None
        self.reads = 0  # how often the host was heard
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._receive = receive
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a Unix connection has
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass on whole frames; what cannot be read ends the connection."""
        self.reads += 1
        if self.ended.done():
            return
        try:
            frames = list(self._reader.feed(data))
            if frames:
                self._receive(frames)
        except ProtocolError as error:
            self.end(f"the speaker said something unexpected: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """The host closed it, or is gone."""
        self.end(f"the connection broke: {exc}" if exc else "the speaker closed the connection")

    def end(self, reason: str) -> None:
        """It is over; the first reason counts."""
        if not self.ended.done():
            self.ended.set_result(reason)

    def send(self, frame: bytes) -> None:
        """Write, unless it is over."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def close(self) -> None:
        """Write what waits, then close."""
        if self._transport is not None:
            self._transport.close()
