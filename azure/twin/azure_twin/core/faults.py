"""Faults on demand: what the next matching ARM requests meet, instead of or besides their ordinary answer."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal

import msgspec

from azure_twin.core.errors import ArmError, Json, error_body, retryable

MAX_FAULTS: Final = 256

#: Bodies for the usual refusals; ``code`` and ``message`` of a fault replace them.
USUAL: Final[dict[int, tuple[str, str]]] = {
    401: ("ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time."),
    403: ("AuthorizationFailed", "The client does not have authorization to perform the action."),
    404: ("ResourceNotFound", "The Resource was not found."),
    409: ("AnotherOperationInProgress", "Another operation on this or dependent resource is in progress."),
    412: ("PreconditionFailed", "Precondition failed."),
    429: ("TooManyRequests", "The request is being throttled."),
    500: ("InternalServerError", "An error occurred."),
    502: ("BadGateway", "The gateway did not receive a response from the resource provider."),
    503: ("ServiceUnavailable", "The service is unavailable."),
    504: (
        "GatewayTimeout",
        "The gateway did not receive a response from 'Microsoft.Network' within the specified time period.",
    ),
}


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault. ``method`` and ``path`` choose the requests (``*`` and ``?``, lower case), ``times`` how many meet it.

    ``kind``: ``answer`` (a refusal with ``status``) · ``lock`` (429 of a busy table) · ``hang`` (no answer for
    ``seconds``, then the connection is closed) · ``close`` (closed at once) · ``slow`` (the operation takes
    ``seconds`` more) ·
    ``fail`` (the operation ends as Failed and so does the object). With ``apply`` a hang or close happens after the
    request was carried out.
    """

    kind: Literal["answer", "lock", "hang", "close", "slow", "fail"]
    method: str = "*"
    path: str = "*"
    times: Annotated[int, msgspec.Meta(ge=1)] = 1
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 500
    code: str = ""
    message: str = ""
    retry_after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    seconds: Annotated[float, msgspec.Meta(ge=0, le=315360000)] = 30.0
    apply: bool = False
    id: int = 0

    def error(self) -> ArmError:
        """The refusal of an ``answer`` or a ``lock``."""
        if self.kind == "lock":
            return retryable(
                "RetryableErrorDueToAnotherOperation",
                "Operation PutRouteTableOperation is updating resource. The call can be retried in 11 seconds.",
                self.retry_after,
            )
        code, message = USUAL.get(self.status, ("Fault", "A fault on demand."))
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return ArmError(self.status, self.code or code, self.message or message, headers=headers)

    def failure(self) -> Json:
        """The error of an operation that ends as Failed."""
        return error_body(self.code or "InternalServerError", self.message or "An error occurred.")["error"]  # type: ignore[return-value]  # always a mapping


class Faults:
    """The faults that wait, oldest first."""

    def __init__(self) -> None:
        self.waiting: list[Fault] = []
        self._next = 1

    def add(self, fault: Fault) -> int:
        """Set a fault up; gives its id. Raises :class:`ValueError` when there are too many."""
        if len(self.waiting) >= MAX_FAULTS:
            raise ValueError(f"{MAX_FAULTS} faults wait already; DELETE /twin/faults takes them away")
        fault.id, self._next = self._next, self._next + 1
        self.waiting.append(fault)
        return fault.id

    def clear(self) -> None:
        """Take all away."""
        self.waiting.clear()

    def meet(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, if any; it is used up by one."""
        lowered = path.lower()
        for fault in self.waiting:
            if fnmatchcase(method, fault.method.upper()) and fnmatchcase(lowered, fault.path.lower()):
                fault.times -= 1
                if fault.times <= 0:
                    self.waiting.remove(fault)
                return fault
        return None
