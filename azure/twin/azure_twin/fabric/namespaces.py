"""Network namespaces through iproute2: made, asked, taken away. Only names that this twin made are ever deleted."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

NETNS: Final = Path("/run/netns")
CLONE_NEWNET: Final = 0x40000000
MS_BIND: Final = ctypes.c_ulong(4096)
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


class FabricError(RuntimeError):
    """A command of the fabric failed; the message has the command and what it said."""


async def run(*argv: str, stdin: str | None = None, check: bool = True) -> str:
    """Run a command to its end; raises :class:`FabricError` with what it printed."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, error = await process.communicate(stdin.encode() if stdin is not None else None)
    if check and process.returncode:
        said = error.decode("utf-8", "replace").strip()[-1000:]
        raise FabricError(f"`{' '.join(argv)}` exited {process.returncode}: {said}")
    return out.decode("utf-8", "replace")


class Namespace:
    """One namespace by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = NETNS / name

    def command(self, *argv: str) -> list[str]:
        """The argument list that runs ``argv`` inside; it ends when the twin does."""
        return ["setpriv", "--pdeathsig", "KILL", "--", "nsenter", f"--net={self.path}", "--", *argv]

    async def run(self, *argv: str, stdin: str | None = None, check: bool = True) -> str:
        """Run a command inside."""
        return await run("nsenter", f"--net={self.path}", "--", *argv, stdin=stdin, check=check)

    async def batch(self, lines: list[str], *, force: bool = False) -> None:
        """Many ``ip`` commands in one process."""
        if lines:
            options = ["-force"] if force else []
            await self.run("ip", *options, "-batch", "-", stdin="\n".join(lines) + "\n", check=not force)

    async def make(self) -> None:
        """Make it, with loopback up; an old one of the same name goes first.

        It forwards nothing, as a new VM does not: the kernel would take that from the host.
        """
        await run("ip", "netns", "delete", self.name, check=False)
        await run("ip", "netns", "add", self.name)
        await self.run("ip", "link", "set", "lo", "up")
        await self.run("sysctl", "-qw", "net.ipv4.ip_forward=0")

    async def adopt(self, file: int) -> None:
        """Give this name to a namespace that somebody else made (an open file of it); an old one of the name goes."""
        await self.delete()
        self.path.touch()
        if _LIBC.mount(f"/proc/self/fd/{file}".encode(), str(self.path).encode(), b"none", MS_BIND, None):
            code = ctypes.get_errno()
            self.path.unlink()
            raise FabricError(f"{self.name}: not a namespace that can be used: {os.strerror(code)}")
        await self.run("ip", "link", "set", "lo", "up")

    async def links(self) -> list[str]:
        """The links that are up in it, loopback apart."""
        shown = await self.run("ip", "-o", "link", "show", "up")
        names = [line.split(": ", 2)[1].partition("@")[0] for line in shown.splitlines()]
        return [each for each in names if each != "lo"]

    async def delete(self) -> None:
        """Take it away, with every link in it."""
        await run("ip", "netns", "delete", self.name, check=False)

    def _enter(self) -> None:
        """Put the calling thread into the namespace."""
        with self.path.open("rb") as target:
            if _LIBC.setns(target.fileno(), CLONE_NEWNET):
                code = ctypes.get_errno()
                raise OSError(code, f"setns {self.name}: {os.strerror(code)}")

    def inside(self, make: Callable[[], T]) -> T:
        """Call ``make`` in a thread that is in the namespace: a socket made there belongs to it for ever."""
        box: list[T] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                self._enter()
                box.append(make())
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return box[0]


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound, listening IPv4 socket; for :meth:`Namespace.inside`."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, port))
    made.listen(1024)
    made.setblocking(False)  # noqa: FBT003  # the standard library's own name
    return made
