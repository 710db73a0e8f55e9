# ruff: noqa: N818  # named after what happened, as the caller acts on it, not after being an error
"""What the API server would not do: one exception for each thing that a caller does differently.

The server says what is wrong as a ``Status`` object (Kubernetes API conventions, "Response Status Kind"). An answer
without one was given by something on the way, and is evidence of nothing: :class:`Unavailable`.
"""

from __future__ import annotations

from typing import Final

import msgspec

MAX_WORDS: Final = 300
"""Characters of somebody else's words that are repeated."""


class ApiError(Exception):
    """The API server did not do what was asked. The text is one line, bounded. ``retry_after``: seconds, if told."""

    def __init__(self, words: str, retry_after: float | None = None) -> None:
        super().__init__(words)
        self.retry_after = retry_after


class Forbidden(ApiError):
    """No right to do this (401, 403): the text names verb and resource."""


class Absent(ApiError):
    """The object, or the kind, is not there: the API server said so itself."""


class Expired(ApiError):
    """The resource version is too old to go on from (410): list again."""


class Unavailable(ApiError):
    """Nothing is known: no answer, a timeout, 429, 5xx, or an answer that is not the API server's. Ask again."""


class Unrouted(Unavailable):
    """404 without a Status: so the API server answers for a path of a group it does not serve, and so does any proxy.

    Only its list of groups tells the two apart.
    """


class _Details(msgspec.Struct):
    retry_after: float | None = msgspec.field(default=None, name="retryAfterSeconds")


class Status(msgspec.Struct):
    """``v1.Status``, as far as it is read."""

    kind: str
    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


def refusal(what: str, body: bytes, status: int | None = None, retry_after: float | None = None) -> ApiError:
    """The exception for an answer that is no success, or for the object of an ERROR event. ``what``: the request."""
    try:
        said = msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = Status("")
    if said.kind != "Status" and status == 404:
        return Unrouted(f"{what}: 404")
    if said.kind != "Status":
        return Unavailable(f"{what}: {status or 'an answer'}, not the API server's way of saying so", retry_after)
    code = said.code or status or 0
    words = clean(f"{what}: {code} {said.reason or ''}: {said.message or ''}")
    wait = retry_after if said.details is None or said.details.retry_after is None else said.details.retry_after
    known: dict[int, type[ApiError]] = {401: Forbidden, 403: Forbidden, 404: Absent, 410: Expired}
    expired = said.reason in {"Expired", "Gone"}
    return (Expired if expired else known.get(code, Unavailable))(words, wait)


def clean(text: object) -> str:
    """Somebody else's words: one line, bounded, printable."""
    words = " ".join(str(text)[: MAX_WORDS * 2].split())
    words = "".join(each if each.isprintable() else "?" for each in words)
    return words if len(words) <= MAX_WORDS else words[: MAX_WORDS - 3] + "..."
