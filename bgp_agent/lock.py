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


@contextlib.contextmanager
def locked(state_dir: Path, name: str = NAME) -> Iterator[None]:
    """Hold the lock ``name`` of ``state_dir`` while inside. Raises :class:`LockedError`, and OSError with the path.

    The file stays when the lock is given up: removing it would let two processes lock two files of one name.
    """
    path = state_dir / name
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(_who(held, path)) from None
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(held)


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
