"""Route changes without a process for each: one ``ip -batch`` stays in the namespace and is fed line by line.

After each lot a harmless query is asked: its answer says that everything before it was carried out (``ip`` flushes
after each command). What else it prints is an error, since route changes print nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from azure_twin.fabric.namespaces import FabricError, Namespace

QUESTION: Final = b"link show dev lo\n"
ANSWER: Final = (b"1: lo:", b"    link/loopback")
TIMEOUT: Final = 30.0  # seconds for one lot


class IpBatch:
    """A running ``ip -force -batch -``; started when needed, again after a failure."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._process: asyncio.subprocess.Process | None = None

    async def run(self, lines: Sequence[str]) -> None:
        """Carry out ``ip`` commands that print nothing; raises :class:`FabricError` with what was said."""
        if not lines:
            return
        try:
            async with asyncio.timeout(TIMEOUT):
                said = await self._ask(lines)
        except (TimeoutError, OSError) as error:
            self.close()
            raise FabricError(f"ip -batch in {self._namespace.name}: {type(error).__name__} {error}") from error
        if said:
            raise FabricError(f"ip -batch in {self._namespace.name}: {'; '.join(said[:10])}")

    def close(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        self._process = None

    async def _ask(self, lines: Sequence[str]) -> list[str]:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *self._namespace.command("ip", "-force", "-batch", "-"),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
        writer, reader = self._process.stdin, self._process.stdout
        if writer is None or reader is None:
            raise OSError("no pipe")
        writer.write("\n".join(lines).encode() + b"\n" + QUESTION)
        await writer.drain()
        said: list[str] = []
        while line := await reader.readline():
            if line.startswith(ANSWER[1]):
                return said
            if not line.startswith(ANSWER[0]):
                said.append(line.decode("utf-8", "replace").strip())
        raise OSError("it ended")
