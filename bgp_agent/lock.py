"""One agent for each state directory: a lock that the kernel drops with its holder, however that ends (flock(2))."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

NAME: Final = "agent.lock"


class LockedError(Exception):
    """Another process holds the lock; the message names it and the file."""


class Lock:
    """The lock ``name`` of ``state_dir``, held until :meth:`close`. Raises :class:`LockedError`, and OSError.

    The file stays when the lock is given up: removing it would let two processes lock two files of one name.
    """

    def __init__(self, state_dir: Path, name: str = NAME) -> None:
        self.path = state_dir / name
        self._held = _take(self.path)

    def stands(self) -> bool:
        """Is what has its name still what is held; False when somebody removed it, or another one stands there."""
        try:
            there = self.path.lstat()
        except OSError:
            return False
        ours = os.fstat(self._held)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def renew(self) -> None:
        """Hold what has its name now, made again when missing. Raises as at first; then nothing has changed."""
        renewed = _take(self.path)
        os.close(self._held)
        self._held = renewed

    def close(self) -> None:
        """Give it up."""
        os.close(self._held)


@contextlib.contextmanager
def locked(state_dir: Path, name: str = NAME) -> Iterator[Lock]:
    """Hold a :class:`Lock` while inside."""
    lock = Lock(state_dir, name)
    try:
        yield lock
    finally:
        lock.close()


def _take(path: Path) -> int:
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        words = _who(held, path) if isinstance(error, BlockingIOError) else ""
        os.close(held)
        if words:
            raise LockedError(words) from None
        raise
    with contextlib.suppress(OSError):  # a full disk: the lock is held, and only the word of who holds it is missing
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
    return held


def holder(state_dir: Path, name: str = NAME) -> str | None:
    """Who holds the lock, in words; None when nobody does. Takes nothing."""
    try:
        held = os.open(state_dir / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _who(held, state_dir / name)
    finally:
        os.close(held)
    return None


def _who(held: int, path: Path) -> str:
    pid = os.pread(held, 32, 0).strip().decode("ascii", "replace")
    named = f"process {pid}" if pid.isdecimal() else "another process"
    return f"{named} holds {path}: stop that agent first (`bgp-agent stop`), or give this one a state_dir of its own"
