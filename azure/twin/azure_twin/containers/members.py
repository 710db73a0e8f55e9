"""The twin's side: containers come, bring their network namespace, and go; the fabric follows.

A container is here for as long as its connection is: when it is stopped or killed, the kernel closes the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from azure_twin.containers.channel import Channel, Message, close_all
from azure_twin.fabric.namespaces import FabricError, Namespace
from azure_twin.route_server.process import Process

log = logging.getLogger("azure_twin.containers")
SOCKET: Final = "fabric.sock"
UNWIRED: Final = 3.0  # seconds for the links of a twin that ended to vanish; the kernel does that in the background
#: How an instance of the Route Server calls itself; a VM says its name.
INSTANCE: Final = "instance "


class Member:
    """One container that is here."""

    def __init__(self, name: str, namespace: Namespace, channel: Channel, generation: int) -> None:
        self.name = name
        self.namespace = namespace
        self.channel = channel
        self.generation = generation
        self.process: RemoteProcess | None = None


class RemoteProcess:
    """A process in another container, started and told by messages: a ``route_server.process.Process``."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._over = asyncio.Event()
        self._said = ""
        self.returncode: int | None = None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        with contextlib.suppress(OSError):
            self._channel.send(Message(signal=number))

    async def wait(self) -> None:
        """Until it has ended."""
        await self._over.wait()

    async def last_words(self) -> str:
        """What it wrote to its standard error."""
        return self._said

    def ended(self, status: int, said: str = "") -> None:
        """It ended, or its container is gone."""
        if self.returncode is None:
            self.returncode, self._said = status, said
            self._over.set()


class Members:
    """The socket that containers come to, and who is here.

    ``expected`` are the names that may come; ``changed`` is called when one came or went.
    """

    def __init__(self, directory: Path, tag: str, expected: set[str], changed: Callable[[], None]) -> None:
        self._path = directory / SOCKET
        self._tag = tag
        self._expected = expected
        self._changed = changed
        self._generation = 0
        self._leaving: dict[str, asyncio.Event] = {}
        self.here: dict[str, Member] = {}

    def listening(self) -> socket.socket:
        """The socket, bound; an old file of that name goes first."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.bind(str(self._path))
        self._path.chmod(0o600)
        made.listen(64)
        made.setblocking(False)  # noqa: FBT003  # the standard library's own name
        return made

    async def run(self, listening: socket.socket) -> None:
        """Take in who comes, for ever."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    connection, _ = await asyncio.get_running_loop().sock_accept(listening)
                    tasks.create_task(self._serve(Channel(connection)))
        finally:
            listening.close()
            self._path.unlink(missing_ok=True)

    async def launch(self, index: int, argv: list[str]) -> Process:
        """Start a program in an instance's container; raises :class:`OSError` when it is not here."""
        member = self.here.get(f"{INSTANCE}{index}")
        if member is None:
            raise OSError(f"the container of instance {index} is not here")
        member.process = RemoteProcess(member.channel)
        member.channel.send(Message(start=argv))
        return member.process

    async def _serve(self, channel: Channel) -> None:
        member: Member | None = None
        try:
            member = await self._join(channel)
            while member and (received := await channel.receive()) is not None:
                message, files = received
                close_all(files)
                if message.ended is not None and member.process is not None:
                    member.process.ended(message.ended, message.said)
        except (OSError, ValueError, FabricError) as error:
            log.warning("a container is sent away: %s", error)
            with contextlib.suppress(OSError):
                channel.send(Message(refused=str(error)[:1000]))
        finally:
            channel.close()
            if member is not None:
                await self._leave(member)

    async def _join(self, channel: Channel) -> Member | None:
        received = await channel.receive()
        if received is None:
            return None
        message, files = received
        try:
            if (leaving := self._leaving.get(message.join)) is not None:
                await leaving.wait()
            if message.join not in self._expected:
                raise ValueError(f"{message.join[:100]!r} is none of {', '.join(sorted(self._expected))}")
            if message.join in self.here:
                raise ValueError(f"{message.join} is here already")
            if len(files) != 1:
                raise ValueError(f"{message.join} must bring its network namespace, and nothing else")
            self._generation += 1
            namespace = Namespace(f"{self._tag}-{message.join.replace(INSTANCE, 'rs')}")
            member = self.here[message.join] = Member(message.join, namespace, channel, self._generation)
            try:
                await namespace.adopt(files[0])
                await _unwired(namespace)
                channel.send(Message(joined=True))
            except BaseException:
                await self._leave(member)
                raise
        finally:
            close_all(files)
        log.info("%s is here", member.name)
        self._changed()
        return member

    async def _leave(self, member: Member) -> None:
        if self.here.pop(member.name, None) is None:
            return
        gone = self._leaving[member.name] = asyncio.Event()
        try:
            self._changed()  # nobody waits for its BIRD or its link from here on
            if member.process is not None:
                member.process.ended(-signal.SIGKILL)
            await member.namespace.delete()
        finally:
            del self._leaving[member.name]
            gone.set()
        log.info("%s is gone", member.name)


async def _unwired(namespace: Namespace) -> None:
    """The fabric is a VM's only network: a container on a bridge, or on the host's network, is not touched."""
    deadline = asyncio.get_running_loop().time() + UNWIRED
    while found := await namespace.links():
        if asyncio.get_running_loop().time() > deadline:
            raise ValueError(f"its network has links already ({', '.join(found)}): it needs network_mode: none")
        await asyncio.sleep(0.05)


def own_namespace() -> int:
    """The network namespace of this process, as an open file."""
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
