"""Whether a write may begin: the lock of its object, and its preconditions.

A route table, a VNet and a NIC answer 429 while another write runs (a lock, not a quota); a hub answers 409, and the
loser of two parallel bgpConnection writes stays behind as ``Failed`` (seen by openshift/bgp-cloud-connector).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, cast

import msgspec

from azure_twin.core.errors import ArmError, Json, error_body, retryable
from azure_twin.core.kinds import Kind, Put, World
from azure_twin.core.kinds.hubs import CONNECTION
from azure_twin.core.operations import Operation
from azure_twin.core.render import etag_of
from azure_twin.core.resources import FAILED, Resource, new_etag


@dataclass(frozen=True, slots=True)
class Attempt:
    """A write that wants to begin. ``put`` is ``None`` for PATCH and DELETE; ``base`` begins the links in an answer."""

    kind: Kind
    resource_id: str
    base: str
    put: Put | None = None


def check_lock(world: World, attempt: Attempt) -> None:
    """Raise unless the object is free; set to supersede, the running operation is canceled instead."""
    kind = attempt.kind
    holder = world.operations.holder(kind.lock_of(attempt.resource_id)) if kind.lock != "none" else None
    if holder is None:
        return
    if kind.conflict == "hub":
        _refuse_hub(world, attempt, holder)
    if world.settings.rules.concurrent_write == "supersede":
        _cancel(world, holder)
        return
    raise retryable(
        "RetryableErrorDueToAnotherOperation",
        f"Operation {holder.name} ({holder.id}) is updating resource {holder.lock}. "
        "The call can be retried in 11 seconds.",
        11 if world.settings.rules.lock_retry_after else None,
    )


def _cancel(world: World, holder: Operation) -> None:
    """What the canceled operation wrote is left as Failed (assumed)."""
    for key in (*holder.touched, *(holder.removed if holder.method == "DELETE" else ())):
        found = world.store.get(key)
        if found is not None:
            world.store.put(msgspec.structs.replace(found, state=FAILED))
    error = error_body(
        "CanceledAndSupersededDueToAnotherOperation",
        f"Operation {holder.name} ({holder.id}) was canceled and superseded by another operation.",
    )["error"]
    world.operations.finish(holder, "Canceled", cast("Json", error))


def _refuse_hub(world: World, attempt: Attempt, holder: Operation) -> NoReturn:
    kind, put, settings = attempt.kind, attempt.put, world.settings
    parallel = kind.name == CONNECTION and "/bgpconnections/" in holder.target.lower()
    stays = parallel and put is not None and settings.rules.bgp_conflict_leaves == "failed"
    if put is not None and stays and (put.existing is None or put.existing.key not in holder.touched):
        world.store.put(
            Resource(id=put.resource_id, kind=kind.name, etag=new_etag(), state=FAILED, properties=put.properties)
        )
    place = f"subscriptions/{settings.subscription}/providers/Microsoft.Network/locations/{settings.location}"
    raise ArmError(
        409,
        "ConflictError" if parallel else "AnotherOperationInProgress",
        "Another operation on this or dependent resource is in progress. To retrieve status of the operation use uri: "
        f"{attempt.base}/{place}/operations/{holder.id}?api-version={world.version}.",
    )


def check_match(world: World, kind: Kind, existing: Resource | None, headers: Mapping[str, str]) -> None:
    """If-Match and If-None-Match; raises 412 with the provider's detail."""
    wanted = headers.get("if-match")
    if kind.lock == "parent" and not world.settings.rules.child_if_match:
        wanted = None
    if headers.get("if-none-match") == "*" and existing is not None:
        raise ArmError(412, "PreconditionFailed", f"Resource {existing.id} already exists.")
    if wanted is None:
        return
    held = etag_of(world, existing) if existing else ""
    if existing is not None and (wanted == "*" or _bare(wanted) == _bare(held)):
        return
    words = (
        f"Etag provided in if-match header {wanted} does not match etag {held} of resource "
        f"{existing.id if existing else ''} in NRP data store."
    )
    raise ArmError(
        412, "PreconditionFailed", "Precondition failed.", details=[("PreconditionFailedEtagMismatch", words)]
    )


def _bare(etag: str) -> str:
    """An ETag for weak comparison (RFC 9110 section 8.8.3.2), with or without its quotes."""
    return etag.removeprefix("W/").strip('"')
