"""Where log lines go: a stream that is never worth the program.

A reader that is gone, slow or frozen and a disk that is full cost lines, which are counted and named when writing works
again, and neither an exception nor a pause beyond :data:`PATIENCE`. Standard library alone: the speaker uses it too.
"""

from __future__ import annotations

import io
import os
import select
from typing import Final, Protocol

PATIENCE: Final = 0.05
"""Seconds to wait for a reader that is slow, once; while it stays slow there is no wait."""
_ATOMIC: Final = select.PIPE_BUF  # bytes that a pipe that is ready takes without blocking (pipe (7))


class Stream(Protocol):
    """What a sink writes to; the file descriptor where there is one."""

    def fileno(self) -> int:
        """The descriptor to write to now. Raises ``OSError`` and ``ValueError`` when there is none at the moment."""

    def write(self, text: str, /) -> int:
        """For a stream that never has one."""


class Sink:
    """Writes lines to a stream that may be slow, full, closed or gone. Never raises and hardly ever waits."""

    def __init__(self, stream: Stream, patience: float = PATIENCE) -> None:
        self._stream = stream
        self._patience = patience
        self._slow = False
        self._torn = False  # the last line was cut: end it before the next one
        self._unsaid = 0
        self.lost = 0
        """Lines that could not be written, since the start."""

    def write(self, line: str) -> None:
        """Write one line, or count it as lost."""
        text = line + "\n"
        if self._unsaid:
            why = "the log's reader is slow or gone, or its disk is full"
            text = f"{self._unsaid} log lines before this one were lost: {why}\n{text}"
        try:
            written = self._put(("\n" if self._torn else "") + text)
        except (OSError, ValueError):  # ValueError: the stream is closed
            written = False
        if written:
            self._unsaid = 0
        else:
            self._unsaid += 1
            self.lost += 1

    def _put(self, text: str) -> bool:
        try:
            descriptor = self._stream.fileno()
        except (AttributeError, io.UnsupportedOperation):
            self._stream.write(text)
            return True
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        while rest:
            if not self._ready(descriptor):
                return False
            count = os.write(descriptor, rest[:_ATOMIC])
            rest = rest[count:]
            self._torn = bool(rest)
        return True

    def _ready(self, descriptor: int) -> bool:
        """Would a write of :data:`_ATOMIC` bytes go through now."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        wait = 0 if self._slow else int(self._patience * 1000)
        ready = bool(poll.poll(wait))
        self._slow = not ready
        return ready
