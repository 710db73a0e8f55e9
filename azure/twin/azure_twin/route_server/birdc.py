"""BIRD's control socket, without a process for each question."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

_CODED: Final = re.compile(r"^(\d{4})([ -])(.*)$")
LIMIT: Final = 1 << 20


class BirdError(RuntimeError):
    """BIRD refused, or is not there; the message says which."""


class Birdc:
    """One connection, one question at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    async def ask(self, command: str, timeout: float = 10.0) -> list[str]:
        """The lines of the answer; raises :class:`BirdError`."""
        async with self._turn:
            try:
                async with asyncio.timeout(timeout):
                    return await self._ask(command)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                self.close()
                raise BirdError(f"{self.path}: `{command}`: {type(error).__name__} {error}") from error

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _ask(self, command: str) -> list[str]:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(self.path, limit=LIMIT)
            await self._read(self._streams[0])
        reader, writer = self._streams
        writer.write(command.encode() + b"\n")
        await writer.drain()
        lines, code = await self._read(reader)
        if code.startswith(("8", "9")):
            raise BirdError(f"`{command}`: {' '.join(lines)}")
        return lines

    async def _read(self, reader: asyncio.StreamReader) -> tuple[list[str], str]:
        """Until the line whose code ends in a space; lines without a code carry on the one before."""
        lines = []
        while True:
            raw = (await reader.readuntil(b"\n")).decode("utf-8", "replace").rstrip("\n")
            found = _CODED.match(raw)
            if found is None:
                lines.append(raw.removeprefix(" "))
                continue
            if found[3]:
                lines.append(found[3])
            if found[2] == " ":
                return lines, found[1]
