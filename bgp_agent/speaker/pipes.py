"""Pipe ends on the event loop: read as soon as something is there, write as much as fits, never block."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable
from typing import Final

#: Bytes taken in one read.
CHUNK: Final = 256 * 1024
#: What the kernel is asked to hold for a writer while this process is busy, in bytes; the default is 64 KiB.
CAPACITY: Final = 1024 * 1024
#: Seconds until the next try when no memory was left to read into; what is to be read waits in the pipe.
PAUSE: Final = 1.0


class Inlet:
    """The reading end: ``deliver`` gets what arrives, ``ended`` is called once at its end."""

    def __init__(self, descriptor: int, deliver: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._deliver = deliver
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)
        with contextlib.suppress(OSError):  # above the user's share of pipe memory: the default will do
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, CAPACITY)
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> bool:
        """Read once; is there more to expect at once."""
        try:
            chunk = os.read(self._descriptor, CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        except MemoryError as error:
            self._pause(error)
            return False
        except OSError:
            chunk = b""
        if chunk:
            self._deliver(chunk)
            return self._descriptor >= 0
        self.close()
        self._ended()
        return False

    def _pause(self, error: MemoryError) -> None:
        self._loop.remove_reader(self._descriptor)
        self._loop.call_later(PAUSE, self._resume)
        self._loop.call_exception_handler({"message": "nothing is read for a second", "exception": error})

    def _resume(self) -> None:
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._read)

    def drain(self) -> None:
        """Take what is there now."""
        while self._descriptor >= 0 and self._read():
            pass

    def close(self) -> None:
        """Let go of the descriptor; ``ended`` is not called."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class Outlet:
    """The writing end, with what did not fit yet."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending = bytearray()
        self._loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)

    @property
    def pending(self) -> int:
        """Bytes that wait for the reader."""
        return len(self._pending)

    def write(self, data: bytes) -> None:
        """Write now or as soon as there is room; a reader that is gone is noticed by its other pipe."""
        if self._descriptor < 0:
            return
        waiting = bool(self._pending)
        self._pending += data
        if not waiting:
            self._flush()
            if self._pending:
                self._loop.add_writer(self._descriptor, self._flush)

    def _flush(self) -> None:
        try:
            done = os.write(self._descriptor, self._pending)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        del self._pending[:done]
        if not self._pending:
            self._loop.remove_writer(self._descriptor)

    def close(self) -> None:
        """Let go of the descriptor and of what was not written."""
        self._pending.clear()
        if self._descriptor >= 0:
            self._loop.remove_writer(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
