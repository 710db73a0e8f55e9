"""What goes over the control socket: one JSON object a line, versioned.

The client sends one :class:`Request` and reads :class:`Progress` lines until one :class:`Outcome`. Sans-IO; everything
read is checked for its type and size.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Final

VERSION: Final = 1
LINE: Final = 4096
"""Bytes of the longest line either side takes."""
ACTIONS: Final = ("drain", "undrain", "stop")
TIMEOUT: Final = 180.0
TIMEOUT_MOST: Final = 86_400.0


class MessageError(ValueError):
    """A line that is no message; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to do. ``force`` and ``timeout`` (seconds) are for drain, ``everything`` is for stop: the speaker too."""

    action: str
    force: bool = False
    timeout: float = TIMEOUT
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """One step on the way, for a person."""

    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended: done, or not and why."""

    good: bool
    reason: str


def encode_request(request: Request) -> bytes:
    """The line of a request."""
    return _line({"version": VERSION, "action": request.action, "force": request.force, "timeout": request.timeout,
                  "all": request.everything})  # fmt: skip


def encode_answer(answer: Progress | Outcome) -> bytes:
    """The line of an answer."""
    if isinstance(answer, Progress):
        return _line({"progress": answer.text[:1000]})
    return _line({"good": answer.good, "reason": answer.reason[:1000]})


def decode_request(line: bytes) -> Request:
    """Read a request. Raises :class:`MessageError`."""
    found = _object(line)
    version = found.get("version")
    if version != VERSION:
        raise MessageError(
            f"the control protocol here is version {VERSION}, not {str(version)[:20]}: use the agent's own bgp-agent"
        )
    action = found.get("action")
    if action not in ACTIONS:
        raise MessageError(f"{str(action)[:40]!r} is not one of {', '.join(ACTIONS)}")
    force, everything, timeout = found.get("force", False), found.get("all", False), found.get("timeout", TIMEOUT)
    if not (isinstance(force, bool) and isinstance(everything, bool)):
        raise MessageError("force and all are true or false")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= TIMEOUT_MOST:
        raise MessageError(f"timeout is a number of seconds, above 0 and at most {TIMEOUT_MOST:g}")
    return Request(str(action), force, float(timeout), everything)


def decode_answer(line: bytes) -> Progress | Outcome:
    """Read an answer. Raises :class:`MessageError`."""
    found = _object(line)
    progress, good, reason = found.get("progress"), found.get("good"), found.get("reason")
    if isinstance(progress, str):
        return Progress(progress)
    if isinstance(good, bool) and isinstance(reason, str):
        return Outcome(good, reason)
    raise MessageError("neither a progress nor an outcome")


def _line(body: dict[str, object]) -> bytes:
    return json.dumps(body).encode() + b"\n"


def _object(line: bytes) -> dict[str, object]:
    try:
        found = json.loads(line, parse_constant=lambda _: math.nan)
    except (ValueError, RecursionError):
        raise MessageError("not a line of JSON") from None
    if not isinstance(found, dict):
        raise MessageError("not a JSON object")
    return found
