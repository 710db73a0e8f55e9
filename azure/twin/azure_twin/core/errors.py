"""Azure's errors: one exception, raised where a rule says no and turned into the documented body at the edge.

Shape: ``{"error": {"code", "message", "details": [{"code", "message"}]}}``, the resource manager's common error
contract.
Wording and codes come from the sources in docs/reference/azure-twin.md; what no source shows is marked *assumed* there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = dict[str, object]


class ArmError(Exception):
    """A request that Azure would refuse: status, code, message, details and headers of the answer."""

    def __init__(
        self, status: int, code: str, message: str, *,
        details: Sequence[tuple[str, str]] = (), headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.headers = dict(headers or {})

    def body(self) -> Json:
        """The error as JSON."""
        return error_body(self.code, self.message, self.details)


def error_body(code: str, message: str, details: Sequence[tuple[str, str]] = ()) -> Json:
    """The common error contract as JSON; ``details`` only when there are some."""
    error: Json = {"code": code, "message": message}
    if details:
        error["details"] = [{"code": each, "message": text} for each, text in details]
    return {"error": error}


def bad_request(code: str, message: str) -> ArmError:
    """400 with a code of its own."""
    return ArmError(400, code, message)


def not_found(resource_type: str, name: str, group: str) -> ArmError:
    """404 ``ResourceNotFound``, as the resource manager words it."""
    return ArmError(
        404,
        "ResourceNotFound",
        f"The Resource '{resource_type}/{name}' under resource group '{group}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
    )


def child_not_found(resource_id: str) -> ArmError:
    """404 ``NotFound`` for a child whose parent exists: the network provider answers these itself."""
    return ArmError(404, "NotFound", f"Resource {resource_id} not found.")


def parent_not_found(name: str) -> ArmError:
    """404 ``ParentResourceNotFound``."""
    return ArmError(
        404,
        "ParentResourceNotFound",
        f"Failed to perform 'write' on resource(s) of type, because the parent resource '{name}' could not be found.",
    )


def retryable(code: str, message: str, retry_after: int | None) -> ArmError:
    """429 ``RetryableError``: a lock, not a quota (kubernetes #88151, hashicorp/terraform #7986)."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return ArmError(429, "RetryableError", "A retryable error occurred.", details=[(code, message)], headers=headers)
