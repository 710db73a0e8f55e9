"""The journal: what ARM answered survives the twin's death.

Every change is one line, written before the answer goes out; a write that was handed to the kernel survives SIGKILL
of the process (not a power cut: nothing is synced). At the start the lines are read, a torn last one is left out, and
the file is written anew.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from azure_twin.core.operations import Operation
from azure_twin.core.resources import Change

COMPACT_ABOVE: Final = 32 * 1024 * 1024  # bytes


class Secret(msgspec.Struct, frozen=True, tag="secret"):
    """What tokens are signed with."""

    value: bytes


class Offset(msgspec.Struct, frozen=True, tag="clock"):
    """How far the twin's clock was moved ahead (seconds)."""

    seconds: float


Line: TypeAlias = Change | Operation | Secret | Offset
_DECODER: Final = msgspec.json.Decoder(Secret | Change | Operation | Offset)
_ENCODER: Final = msgspec.json.Encoder()


class JournalError(RuntimeError):
    """The state directory cannot be used; the message says why and what to do."""


class Journal:
    """One state directory, held by one twin. Without a directory nothing is kept."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self.secret = secrets.token_bytes(32)
        self.offset = 0.0
        self.fresh = True
        self._file = -1
        self._lock = -1
        self._size = 0

    def open(self, load: Callable[[Change | Operation], None]) -> None:
        """Take the directory and read what is in it; raises :class:`JournalError`."""
        if self.directory is None:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = self._path.read_bytes() if self._path.exists() else b""
        except BlockingIOError:
            raise JournalError(
                f"{self.directory} is in use by another azure-twin; give this one another `state`"
            ) from None
        except OSError as error:
            raise JournalError(f"state directory {self.directory}: {error.strerror}") from None
        for number, line in enumerate(_whole_lines(data), 1):
            try:
                self._take(_DECODER.decode(line), load)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise JournalError(
                    f"{self._path}:{number}: {error}; start with --fresh to begin anew, or repair the line"
                ) from None

    def append(self, lines: Iterable[Change | Operation | Offset]) -> None:
        """Write lines; when this returns, SIGKILL cannot lose them."""
        if self._file < 0:
            return
        data = b"".join(_ENCODER.encode(line) + b"\n" for line in lines)
        if data:
            self._write(data)

    def compact(self, lines: Iterable[Change | Operation]) -> None:
        """Write the file anew with what there is now, atomically."""
        if self.directory is None:
            return
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as out:
            first: tuple[Line, ...] = (Secret(self.secret), Offset(self.offset))
            for line in (*first, *lines):
                out.write(_ENCODER.encode(line) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        fresh.chmod(0o600)
        fresh.replace(self._path)
        if self._file >= 0:
            os.close(self._file)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size = self._path.stat().st_size
        self._limit = max(COMPACT_ABOVE, self._size * 4)

    @property
    def is_large(self) -> bool:
        """Whether it is time to compact."""
        return self._file >= 0 and self._size > self._limit

    def close(self) -> None:
        """Let go of the directory."""
        for each in (self._file, self._lock):
            if each >= 0:
                os.close(each)
        self._file = self._lock = -1

    @property
    def _path(self) -> Path:
        assert self.directory is not None  # noqa: S101  # callers asked
        return self.directory / "journal.jsonl"

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._size += len(data)

    def _take(self, line: Line, load: Callable[[Change | Operation], None]) -> None:
        self.fresh = False
        if isinstance(line, Secret):
            self.secret = line.value
        elif isinstance(line, Offset):
            self.offset = line.seconds
        else:
            load(line)


def _whole_lines(data: bytes) -> list[bytes]:
    """The lines that end in a newline: a torn last one was never answered."""
    return data.split(b"\n")[:-1]
