"""The host's log: the standard library's, because the host must stay small; the same two formats as the agent's."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Final

from bgp_agent.sink import Sink

#: Bytes of a log file; then it moves to NAME.1 and a new one begins.
MOST: Final = 4 * 1024 * 1024


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if peer := getattr(record, "peer", None):
            entry["peer"] = peer
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class _Console(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        peer = f" peer={record.peer}" if hasattr(record, "peer") else ""
        tail = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return f"{stamp}Z [{record.levelname.lower():7}] {record.getMessage()}{peer}{tail}"


class _Handler(logging.Handler):
    """Hands lines to the sink: the log is never worth the sessions."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        self._sink.write(self.format(record))


class _BoundedFile:
    """A file by its name: begun anew when it is large, and when somebody has removed it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = -1

    def fileno(self) -> int:
        """Its descriptor. Raises ``OSError`` while it cannot be opened."""
        if self._held >= 0 and not self._stands():
            os.close(self._held)
            self._held = -1
        if self._held < 0:
            self._held = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return self._held

    def _stands(self) -> bool:
        ours = os.fstat(self._held)
        try:
            there = self._path.stat()
            if ours.st_size > MOST:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                return False
        except FileNotFoundError:
            return False
        except OSError:  # it can be neither looked at nor moved now: what is open takes what it can
            return True
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def write(self, text: str) -> int:
        """For :class:`bgp_agent.sink.Stream`."""
        return os.write(self.fileno(), text.encode())


def set_up(level: str, form: str, file: Path | None) -> logging.Logger:
    """The logger of the host: ``level`` as in the config, ``form`` console or json, to ``file`` or standard error."""
    handler = _Handler(Sink(sys.stderr if file is None else _BoundedFile(file)))
    handler.setFormatter(_Json() if form == "json" else _Console())
    logger = logging.getLogger("bgp_agent.speaker")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())
    return logger
