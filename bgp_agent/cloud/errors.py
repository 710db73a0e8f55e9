# ruff: noqa: N818  # named after what happened, as the caller acts on it, not after being an error
"""What Azure would not do: one exception for each thing that a caller does differently.

The resource manager's answer (status, headers, body) becomes one of them in :func:`refusal`, by the common error
contract ``{"error": {"code", "message", "details"}}``. An answer without that shape was not given by Azure's resource
provider but by something on the way (a proxy, a gateway), and is evidence of nothing: :class:`Trouble`. So a 404 in
HTML never reads as "the table is gone".
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from typing import Final

import msgspec

MAX_WAIT: Final = 300.0
"""Seconds of a ``Retry-After`` that are believed at most; Azure's longest window is 5 minutes."""
LOCK_WAIT: Final = 11.0
"""Seconds until a locked object is free, where Azure does not say (kubernetes #88151: "retried in 11 seconds")."""
QUOTA_WAIT: Final = 10.0
"""Seconds to leave a quota alone, where Azure does not say."""
MAX_WORDS: Final = 400
"""Characters of somebody else's words that are repeated."""


class CloudError(Exception):
    """Azure did not do what was asked. The text is one line, bounded, and holds no secret."""


class NotFound(CloudError):
    """The resource is not there: the provider said so itself."""


class Denied(CloudError):
    """No right to do this (401, 403, a refused identity).

    ``action``: the missing permission, such as ``Microsoft.Network/routeTables/read``, where Azure names it;
    ``scope``: the resource it is missing on. A new role assignment takes minutes, so asking again slowly is right.
    """

    def __init__(self, words: str, action: str | None = None, scope: str | None = None) -> None:
        super().__init__(words)
        self.action = action
        self.scope = scope


class Busy(CloudError):
    """Another operation holds the object, or ours still runs: look again after ``retry_after`` seconds."""

    def __init__(self, words: str, retry_after: float = LOCK_WAIT) -> None:
        super().__init__(words)
        self.retry_after = retry_after


class Changed(CloudError):
    """The ETag is not the current one (412): somebody wrote in between; read again before writing."""


class Throttled(CloudError):
    """A quota is used up (429): nothing of this kind is sent for ``retry_after`` seconds."""

    def __init__(self, words: str, retry_after: float = QUOTA_WAIT) -> None:
        super().__init__(words)
        self.retry_after = retry_after


class Conflict(CloudError):
    """Azure understood and refuses: asking the same again is useless. ``code``: Azure's, such as ``RouteConflict``."""

    def __init__(self, words: str, code: str, message: str) -> None:
        super().__init__(words)
        self.code = code
        self.message = message


class Trouble(CloudError):
    """Nothing is known: no answer, a timeout, 5xx, or an answer that is not Azure's. Keep what is, and ask again."""


_GONE: Final = frozenset({"resourcenotfound", "notfound", "parentresourcenotfound", "resourcegroupnotfound"})
_BUSY: Final = frozenset(
    {
        "anotheroperationinprogress",
        "canceledandsupersededduetoanotheroperation",
        "conflicterror",  # parallel writes of bgpConnections
        "referencedresourcenotprovisioned",
        "retryableerror",
        "retryableerrorduetoanotheroperation",
    }
)
_THEIRS: Final = frozenset(
    {"internalservererror", "internalerror", "serviceunavailable", "gatewaytimeout", "operationtimedout", "badgateway"}
)
_ACTION: Final = re.compile(r"perform (?:the )?action '([^']{1,200})' over scope '([^']{1,500})'")
_LINKED: Final = re.compile(
    r"does not have permission to perform action\(s\) '([^']{1,400})' on the linked scope\(s\) '([^']{1,1000})'"
)
_HINT: Final = re.compile(r"retried in (\d{1,4}) second")
_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_-]{8,}[A-Za-z0-9_.-]*")


class _Detail(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class Said(msgspec.Struct):
    """The common error contract, as far as it is read."""

    code: str
    message: str | None = None
    details: msgspec.Raw = msgspec.Raw(b"null")

    def all(self) -> list[_Detail]:
        """Itself and its details; details of another shape count as none."""
        try:
            found = msgspec.json.decode(self.details, type=list[_Detail] | None)
        except (msgspec.DecodeError, RecursionError):
            found = None
        return [_Detail(self.code, self.message), *(found or [])]


class _Body(msgspec.Struct):
    error: Said


def clean(text: object) -> str:
    """Somebody else's words: one line, bounded, without anything that looks like a token."""
    cut = str(text)[: MAX_WORDS * 2]
    words = " ".join(_TOKEN.sub("(a token)", cut).split())
    words = "".join(each if each.isprintable() else "?" for each in words)
    return words if len(words) <= MAX_WORDS else words[: MAX_WORDS - 3] + "..."


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of ``Retry-After`` (RFC 9110 section 10.2.3), 0 to :data:`MAX_WAIT`; None without or with nonsense."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:9]), MAX_WAIT)
    try:
        then = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(then - time.time(), 0.0), MAX_WAIT)


def read_error(body: bytes) -> Said | None:
    """The error of a body, None if it does not have Azure's shape."""
    try:
        return msgspec.json.decode(body, type=_Body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def refusal(what: str, status: int, headers: Mapping[str, str], body: bytes) -> CloudError:
    """The exception for an answer that is no success. ``what``: the request in words."""
    said = read_error(body)
    if said is None:
        shown = clean(body[:200].decode("utf-8", "replace")) or "nothing"
        return Trouble(f"{what}: {status}, not Azure's way of saying so: {shown}")
    words, found = _words(what, status, said), failure(what, said, status, retry_after(headers))
    if status == 412:
        found = Changed(words)
    elif status in {401, 403}:
        found = _denied(words, said)
    elif status >= 500 or status == 408:
        found = Trouble(words)
    elif status == 404 and said.code.lower() in _GONE:
        found = NotFound(words)
    elif status == 429 and not isinstance(found, Busy):
        found = Throttled(words, retry_after(headers) or QUOTA_WAIT)
    return found


def failure(what: str, said: Said, status: int | None = None, wait: float | None = None) -> CloudError:
    """The exception for the error of an operation that failed, or of an answer that is told by its code alone."""
    words = _words(what, status, said)
    if _is_busy(said):
        hint = next((found for each in said.all() if (found := _HINT.search(each.message or ""))), None)
        return Busy(words, wait or (float(hint[1]) if hint else LOCK_WAIT))
    if said.code.lower() in _THEIRS:
        return Trouble(words)
    if "authorizationfailed" in said.code.lower():
        return _denied(words, said)
    return Conflict(words, clean(said.code), clean(said.message or ""))


def _is_busy(said: Said) -> bool:
    return any((each.code or "").lower() in _BUSY for each in said.all())


def _denied(words: str, said: Said) -> Denied:
    found = _LINKED.search(said.message or "") or _ACTION.search(said.message or "")
    return Denied(words, clean(found[1]), clean(found[2])) if found else Denied(words)


def _words(what: str, status: int | None, said: Said) -> str:
    inner = "; ".join(f"{each.code}: {each.message}" for each in said.all()[1:3] if each.code or each.message)
    number = f"{status} " if status else ""
    message = f": {said.message}" if said.message else ""
    return clean(f"{what}: {number}{said.code}{message}{f' ({inner})' if inner else ''}")
