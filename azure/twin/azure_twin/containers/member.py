"""A container's side: ``azure-twin attach VM`` and ``azure-twin instance N``.

Hands the container's network namespace to the fabric and stays, since the link lasts as long as the connection.
Another container joins the namespace (``network_mode: service:NAME``) and is the appliance. An instance also runs BIRD,
when the twin says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import Final

from azure_twin.containers.channel import Channel, Message, close_all
from azure_twin.containers.members import SOCKET, own_namespace

log = logging.getLogger("azure_twin.containers")
PAUSE: Final = 0.5  # seconds between attempts to reach the twin
SAID: Final = 2000  # the last bytes of a program's standard error


class RefusedError(RuntimeError):
    """The twin does not want this container; the message says why."""


async def stay(name: str, directory: Path, *, programs: bool) -> None:
    """Be a link of the fabric until cancelled, also over restarts of the twin; ``programs``: start what it says.

    Raises :class:`RefusedError`.
    """
    waiting = False
    while True:
        try:
            channel = await Channel.open(directory / SOCKET)
        except OSError as error:
            if not waiting:
                log.info("waiting for the twin at %s: %s", directory / SOCKET, error.strerror)
            waiting = True
            await asyncio.sleep(PAUSE)
            continue
        waiting = False
        child = Child(channel if programs else None)
        try:
            await _one_connection(name, channel, child)
        finally:
            channel.close()
            await child.end()
        log.info("the twin is gone")


async def _one_connection(name: str, channel: Channel, child: Child) -> None:
    namespace = own_namespace()
    try:
        channel.send(Message(join=name), (namespace,))
    except OSError:
        return
    finally:
        os.close(namespace)
    while (received := await channel.receive()) is not None:
        message, files = received
        close_all(files)
        if message.refused:
            raise RefusedError(message.refused)
        if message.joined:
            log.info("%s is a link of the fabric", name)
        if message.start:
            await child.start(message.start)
        if message.signal:
            child.signal(message.signal)


class Child:
    """The program that the twin wants to run here: one at a time."""

    def __init__(self, channel: Channel | None) -> None:
        self._channel = channel
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self, argv: list[str]) -> None:
        """Start it in place of the one before."""
        if self._channel is None:
            return
        await self.end()
        try:
            self._process = await asyncio.create_subprocess_exec(
                "setpriv", "--pdeathsig", "KILL", "--", *argv,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            self._tell(127, str(error))
            return
        self._watch = asyncio.ensure_future(self._until_it_ends(self._process))

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, ValueError):
                self._process.send_signal(number)

    async def end(self) -> None:
        """End it and wait for that."""
        self.signal(signal.SIGKILL)
        if self._watch is not None:
            await self._watch
        self._watch = self._process = None

    async def _until_it_ends(self, process: asyncio.subprocess.Process) -> None:
        said = await process.stderr.read() if process.stderr else b""
        self._tell(await process.wait(), said[-SAID:].decode("utf-8", "replace"))

    def _tell(self, status: int, said: str) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.send(Message(ended=status, said=said))
