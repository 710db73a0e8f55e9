"""The log: one event for each change, for people or for programs, on standard error.

Events of the agent and records of the libraries (asyncio, aiohttp) go the same way: masked, rate-limited, rendered,
written. The log is never worth the agent: :mod:`bgp_agent.sink`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor

from bgp_agent.sink import Sink

REPEAT: Final = 60.0
"""Seconds in which a warning that says the same is written once."""
MAX_REMEMBERED: Final = 1000
MAX_VALUE: Final = 2000
"""Characters of one value."""

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_SECRET_KEY: Final = re.compile(r"password|passwd|secret|token|authorization|md5.?key|api.?key", re.IGNORECASE)
_SECRET_TEXT: Final = (
    (re.compile(r"(?<=://)[^/@\s]+@"), "***@"),
    (re.compile(r"(?i)\b(bearer\s+)[\w.~+/-]+=*"), r"\1***"),
    (re.compile(r"(?i)\b(md5-password\s+)(\"[^\"]*\"|\S+)"), r"\1***"),
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def get(part: str) -> structlog.stdlib.BoundLogger:
    """The logger of one part, such as ``speaker``. Events are lower-case phrases; facts go in as keywords."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(f"bgp_agent.{part}", part=part)
    return logger


def configure(level: str = "info", form: str = "console", stream: TextIO | None = None) -> Sink:
    """Set the log up for the whole process, and tell where it goes. Called again, the new set-up replaces the old one.

    ``form``: "console" or "json". ``stream``: standard error when None.
    """
    out = sys.stderr if stream is None else stream
    sink = Sink(out)
    repeats = Repeats()
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        clean,
        repeats,
    ]
    renderer: list[Processor]
    if form == "json":
        renderer = [structlog.processors.format_exc_info, _in_order, structlog.processors.JSONRenderer()]
    else:
        renderer = [
            structlog.dev.ConsoleRenderer(
                colors=_is_terminal(out), exception_formatter=structlog.dev.plain_traceback, sort_keys=False
            )
        ]
    handler = _Handler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    set_level(level)
    return sink


def set_level(level: str) -> None:
    """Change the level of the running process. Libraries speak from warning on, unless the level is debug."""
    logging.getLogger().setLevel(_LEVELS[level] if level == "debug" else max(_LEVELS[level], logging.WARNING))
    logging.getLogger("bgp_agent").setLevel(_LEVELS[level])


class _Handler(logging.Handler):
    """Hands rendered records to the sink."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; whatever is wrong with it, this does not raise."""
        try:
            line = self.format(record)
        except structlog.DropEvent:
            return
        except Exception as error:  # noqa: BLE001 - a value that cannot be shown must not stop what it belongs to
            line = f"a log event of {record.name} cannot be shown: {type(error).__name__}: {error}"
        self._sink.write(_masked(line) if record.exc_info else line)


def _in_order(_logger: object, _method: str, event: EventDict) -> EventDict:
    """When, how bad and what first: that is how people read JSON as well."""
    first = {key: event[key] for key in ("timestamp", "level", "event") if key in event}
    return {**first, **event}


def clean(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Mask secrets, and take out what a peer could use to draw on a terminal or to forge a line."""
    for key, value in event.items():
        if key.startswith("_") or key in ("exc_info", "stack_info"):
            continue
        if _SECRET_KEY.search(key) and not key.endswith("_file") and value is not None:
            event[key] = "***"
        elif isinstance(value, str):
            event[key] = _clean_text(value)
        elif not isinstance(value, (int, float, type(None))):
            event[key] = _clean_text(_text(value))
    return event


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - the log is never worth what is logged
        return f"<a {type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _clean_text(text: str) -> str:
    if len(text) > MAX_VALUE:
        text = text[:MAX_VALUE] + "..."
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], _masked(text))


def _masked(text: str) -> str:
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


_OF_THE_MOMENT: Final = frozenset({"timestamp", "_record", "_from_structlog", "exc_info", "stack_info"})


class Repeats:
    """Lets a warning or an error that says the same as before through once in :data:`REPEAT` seconds.

    The next one that comes through carries ``repeated``, the number that was held back. Events below warning stand for
    one change each, and are never held back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, every: float = REPEAT) -> None:
        self._clock = clock
        self._every = every
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __call__(self, _logger: object, method: str, event: MutableMapping[str, Any]) -> EventDict:
        """Let an event through, or raise ``structlog.DropEvent``."""
        if event.get("level", method) not in ("warning", "error", "critical", "exception"):
            return event
        said = repr(sorted((key, value) for key, value in event.items() if key not in _OF_THE_MOMENT))
        now = self._clock()
        since, held = self._seen.get(said, (now - self._every, 0))
        if now - since < self._every:
            self._seen[said] = (since, held + 1)
            raise structlog.DropEvent
        self._seen[said] = (now, 0)
        self._seen.move_to_end(said)
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        if held:
            event["repeated"] = held
        return event


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and "NO_COLOR" not in os.environ
    except (AttributeError, ValueError, OSError):
        return False
