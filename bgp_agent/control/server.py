"""The agent's end of the control socket.

Who may speak is decided by the kernel's word on the caller (``SO_PEERCRED``, unix(7)), not by what the caller says; the
file's mode 0600 is the first fence. A caller that goes away leaves what it asked for under way: the same as a terminal
that closes, and ``undrain`` takes it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, Protocol

from bgp_agent.control.messages import (
    LINE,
    MessageError,
    Outcome,
    Progress,
    Request,
    decode_request,
    encode_answer,
)

CALLERS: Final = 8
"""At most so many callers at a time."""
ASK_TIMEOUT: Final = 5.0
"""Seconds a caller has to say what it wants."""
_LOG: Final = logging.getLogger(__name__)
_CREDENTIALS: Final = struct.Struct("iII")  # pid, uid, gid: struct ucred


class Actions(Protocol):
    """What the agent does when it is asked. ``progress`` takes one sentence a step, and may be called at any time."""

    async def drain(self, *, force: bool, progress: Callable[[str], None]) -> Outcome:
        """Withdraw every block on every peer, as docs/reference/cli.md says; cancelled when its time is up."""

    async def undrain(self, *, progress: Callable[[str], None]) -> Outcome:
        """Take a drain back."""

    async def stop(self, *, everything: bool, progress: Callable[[str], None]) -> Outcome:
        """End the agent, with ``everything`` the speaker first. Return before the agent ends, so that it is told."""


def caller(connection: socket.socket) -> tuple[int, int]:
    """Process and user id at the other end of a Unix socket, by the kernel's word."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid


class ControlServer:
    """Listens at ``path`` while :meth:`serving`; each caller asks for one action."""

    def __init__(self, path: Path, actions: Actions) -> None:
        self._path = path
        self._actions = actions
        self._callers = 0
        self._server: asyncio.Server | None = None
        self._made: tuple[int, int, int] | None = None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve while inside. The caller holds the lock of the state directory: a socket found here is a leftover."""
        await self.listen()
        try:
            yield
        finally:
            self._close()

    async def listen(self) -> None:
        """Begin to listen, or do so anew where the socket was removed. Raises ``OSError``."""
        self._close()
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._accept, self._path, limit=LINE)
        finally:
            os.umask(before)
        self._made = self._there()

    def stands(self) -> bool:
        """Is what has the socket's name still the socket."""
        return self._made is not None and self._there() == self._made

    def _there(self) -> tuple[int, int, int] | None:
        """Which file has the name; the time is there because a number may be given again."""
        try:
            found = self._path.lstat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_ctime_ns

    def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self.stands():  # else it is another agent's
            self._path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._callers += 1
        try:
            _send(writer, await self._serve(reader, writer))
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(ASK_TIMEOUT):
                    await writer.drain()
        finally:
            self._callers -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Outcome:
        pid, uid = caller(writer.get_extra_info("socket"))
        if uid not in {0, os.geteuid()}:
            _LOG.warning("control: refused user %d (process %d)", uid, pid)
            return Outcome(good=False, reason=f"user {uid} may not control this agent: be root or user {os.geteuid()}")
        if self._callers > CALLERS:
            return Outcome(good=False, reason=f"{CALLERS} callers wait already: end one of them")
        try:
            async with asyncio.timeout(ASK_TIMEOUT):
                request = decode_request(await reader.readline())
        except (MessageError, ValueError) as error:  # ValueError: a line longer than LINE
            return Outcome(good=False, reason=f"not understood: {error}")
        except (ConnectionError, TimeoutError):
            return Outcome(good=False, reason=f"nothing was asked within {ASK_TIMEOUT:g} s")
        _LOG.info("control: %s asked for by process %d of user %d", request.action, pid, uid)
        return await self._act(request, lambda text: _send(writer, Progress(text)))

    async def _act(self, request: Request, progress: Callable[[str], None]) -> Outcome:
        try:
            if request.action == "undrain":
                return await self._actions.undrain(progress=progress)
            if request.action == "stop":
                return await self._actions.stop(everything=request.everything, progress=progress)
            return await self._drain(request, progress)
        except Exception as error:  # noqa: BLE001 - the root of a call: the agent goes on
            _LOG.exception("control: %s failed", request.action)
            return Outcome(good=False, reason=f"{request.action} failed: {error}")

    async def _drain(self, request: Request, progress: Callable[[str], None]) -> Outcome:
        try:
            async with asyncio.timeout(request.timeout):
                return await self._actions.drain(force=request.force, progress=progress)
        except TimeoutError:
            reason = f"not done after {request.timeout:g} s; the drain goes on: ask `bgp-agent status`, or `undrain`"
            return Outcome(good=False, reason=reason)


def _send(writer: asyncio.StreamWriter, answer: Progress | Outcome) -> None:
    """Hand a line to the caller if it is still there; one that reads nothing loses what is beyond its buffer."""
    if not writer.is_closing() and writer.transport.get_write_buffer_size() < 16 * LINE:
        writer.write(encode_answer(answer))
