"""The host's log: the standard library's, because the host must stay small; the same two formats as the agent's."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Final

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


class _BoundedFile(logging.FileHandler):
    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        if self.stream is not None and self.stream.tell() > MOST:
            self.close()
            path = Path(self.baseFilename)
            path.replace(path.with_name(path.name + ".1"))


def set_up(level: str, form: str, file: Path | None) -> logging.Logger:
    """The logger of the host: ``level`` as in the config, ``form`` console or json, to ``file`` or standard error."""
    handler = logging.StreamHandler(sys.stderr) if file is None else _BoundedFile(file, delay=True)
    handler.setFormatter(_Json() if form == "json" else _Console())
    logger = logging.getLogger("bgp_agent.speaker")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())
    return logger
