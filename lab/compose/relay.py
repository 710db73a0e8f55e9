"""Bytes between two streams, both ways."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias

#: Where nodes, pods and the show meet: a volume that all of them have.
MEETING: Final = Path("/run/lab")
CHUNK: Final = 65_536  # bytes

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def window(node: str) -> Path:
    """The socket that leads to the HTTP of a node's agent."""
    return MEETING / f"{node}.http"


def wires(node: str) -> Path:
    """The socket where the pods of a node get their network."""
    return MEETING / f"{node}.pods"


def towards(connect: Callable[[], Awaitable[Streams]]) -> Callable[..., Awaitable[None]]:
    """What a server does with a connection: it joins it to a new one that ``connect`` makes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await connect()
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    return serve


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
