"""An HTTP request and its answer as values: what the rules see of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from azure_twin.core.errors import ArmError, Json


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Header names are lower case; ``base`` is ``scheme://host``, for links in the answer."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    base: str = "http://localhost"
    source: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. ``hang`` is for how long (seconds) the shell keeps silent; ``close``: no answer at all after that.

    ``waits``: the answer goes out when kernel and BIRD are as was asked.
    """

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: float = 0.0
    close: bool = False
    waits: bool = False

    def encoded(self) -> bytes:
        """The body as JSON; bytes as they are, empty for ``None``."""
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else msgspec.json.encode(self.body)


def refusal(error: ArmError) -> Response:
    """The answer for an error."""
    return Response(error.status, error.body(), error.headers)


def json_object(body: bytes) -> Json:
    """A JSON object from a body; raises 400 as ARM words it."""
    try:
        value: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArmError(
            400, "InvalidRequestContent", f"The request content was invalid and could not be deserialized: '{error}'."
        ) from None
    if not isinstance(value, dict):
        raise ArmError(
            400,
            "InvalidRequestContent",
            "The request content was invalid and could not be deserialized: not an object.",
        )
    return value
