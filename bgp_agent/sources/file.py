"""The block source that reads a file.

Losing the file is not evidence: only a file that is right in every entry may withdraw a block. Until it is right again,
what was read last stays, good new entries are added, and the source is ``stale`` with the reason.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from bgp_agent.core.prefix import Prefix, PrefixSet
from bgp_agent.core.values import Blocks, SourceState
from bgp_agent.sources.blockfile import MAX_BYTES, BlockFile, parse
from bgp_agent.sources.watch import Watch

INLINE: Final = 8 * 1024
"""Bytes up to which a file is parsed in the loop (5 ms for 300 blocks); a larger one is parsed in a thread."""


class FileSource:
    """Delivers what the file at ``path`` says, at the start and at each change.

    ``deliver`` is called from the running loop. A SYNCED value holds the file's blocks; a STALE one the blocks of the
    last good file and the good ones of the present one; a WAITING one none, because no file could be read yet.
    """

    def __init__(self, path: str | Path, pools: Iterable[Prefix], deliver: Callable[[Blocks], None]) -> None:
        self._path = Path(path)
        self._pools = PrefixSet(pools)
        self._deliver = deliver
        self._kept: frozenset[Prefix] = frozenset()
        self._read_once = False
        self._delivered: Blocks | None = None
        self._wake = asyncio.Event()
        self._watch = Watch([self._path], lambda _: self._wake.set())

    @property
    def late(self) -> str | None:
        """Why changes are seen late, None while they are seen at once."""
        return self._watch.reason

    def reread(self) -> None:
        """Read the file soon, whether it seems changed or not."""
        self._wake.set()

    def reconfigure(self, path: str | Path, pools: Iterable[Prefix]) -> None:
        """Another file, other pools. What was read from the old file is kept until the new one is right."""
        self._path = Path(path)
        self._pools = PrefixSet(pools)
        self._watch.replace([self._path])
        self._wake.set()

    async def run(self) -> None:
        """Read and deliver until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run())
            self._wake.set()
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._read()

    async def _read(self) -> None:
        path, pools = self._path, self._pools
        try:
            text = read_text(path)
        except OSError as error:
            self._say(_lost(path, error))
            self._watch.again()
            return
        except ValueError as error:
            self._say(f"{path}: {error}")
            return
        found = parse(text, pools) if len(text) <= INLINE else await asyncio.to_thread(parse, text, pools)
        if (path, pools) == (self._path, self._pools):  # else it was reconfigured meanwhile, and is read again
            self._take(found)

    def _take(self, found: BlockFile) -> None:
        if found.problems:
            self._read_once |= found.readable
            self._kept |= found.blocks
            self._say(f"{self._path}: {found.reason}")
            return
        self._read_once = True
        self._kept = found.blocks
        self._hand_over(SourceState.SYNCED, f"{_count(len(found.blocks))} in {self._path}")

    def _say(self, problem: str) -> None:
        """Something is wrong: deliver what is kept, and why it may not be the truth."""
        if self._read_once:
            self._hand_over(SourceState.STALE, f"{problem}: keeping {_count(len(self._kept))}")
        else:
            self._hand_over(SourceState.WAITING, f"{problem}: nothing was read yet")

    def _hand_over(self, state: SourceState, reason: str) -> None:
        blocks = Blocks("file", state, reason, self._kept)
        if blocks != self._delivered:
            self._delivered = blocks
            self._deliver(blocks)


def read_text(path: Path) -> str:
    """The text of a regular file. Raises ``OSError``, and ``ValueError`` for one that is no text or too long."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not block the loop
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no Path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"is longer than {MAX_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"line {data.count(bytes([10]), 0, error.start) + 1}: is not UTF-8") from None


def _lost(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} is not there"
    return f"{path} cannot be read ({error.strerror or error})"


def _count(blocks: int) -> str:
    return f"{blocks:,} block" if blocks == 1 else f"{blocks:,} blocks"
