"""BIRD as a process, here or in a container of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol


class Process(Protocol):
    """What an instance asks of the process that it is."""

    @property
    def returncode(self) -> int | None:
        """Its exit status once it has ended."""

    def signal(self, number: int) -> None:
        """Send it a signal; one that has ended is left alone."""

    async def wait(self) -> None:
        """Until it has ended."""

    async def last_words(self) -> str:
        """What it wrote to its standard error; only after its end."""


#: Start a program with these arguments; raises :class:`OSError`.
Launch = Callable[[list[str]], Awaitable[Process]]


class LocalProcess:
    """A child of the twin."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def returncode(self) -> int | None:
        """Its exit status once it has ended."""
        return self._process.returncode

    def signal(self, number: int) -> None:
        """Send it a signal; one that has ended is left alone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def wait(self) -> None:
        """Until it has ended."""
        await self._process.wait()

    async def last_words(self) -> str:
        """What it wrote to its standard error."""
        said = await self._process.stderr.read() if self._process.stderr else b""
        return said.decode("utf-8", "replace")


def as_child(prefix: Sequence[str]) -> Launch:
    """Start programs as children of the twin, behind a prefix that enters a namespace."""

    async def launch(argv: list[str]) -> Process:
        process = await asyncio.create_subprocess_exec(
            *prefix, *argv,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        return LocalProcess(process)

    return launch
