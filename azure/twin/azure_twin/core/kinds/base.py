"""What a resource type is to the front: how its body is checked, shown, locked and timed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from azure_twin.core import ids
from azure_twin.core.errors import ArmError, Json, bad_request, retryable
from azure_twin.core.operations import Operations
from azure_twin.core.resources import SUCCEEDED, Resource, Store
from azure_twin.core.settings import Settings, Timing
from azure_twin.core.specs import Anything, Spec


@dataclass(frozen=True, slots=True)
class World:
    """What a rule may look at: the resources, those in effect, the settings, the request's api-version and the time."""

    store: Store
    effective: Store
    settings: Settings
    version: str
    now: float
    operations: Operations


@dataclass(frozen=True, slots=True)
class Put:
    """One resource about to be written.

    ``siblings``: the children of its parent by name, as they will be; ``parent``: the parent's properties, as they
    will be.
    """

    resource_id: str
    spec: Spec
    properties: Json
    existing: Resource | None
    siblings: Mapping[str, Spec] = field(default_factory=dict)
    parent: Spec | None = None

    @property
    def name(self) -> str:
        """The last part of the id."""
        return ids.last(self.resource_id)


Check = Callable[[World, Put], Json]
Show = Callable[[World, Resource], Json]


def _unchanged(_: World, put: Put) -> Json:
    return put.properties


def _nothing(_: World, __: Resource) -> Json:
    return {}


def _always(_: World, __: Resource) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource type.

    ``check`` raises :class:`ArmError` or gives the properties to keep; ``show`` gives Azure's read-only properties;
    ``joins`` the actions on other resources that a write needs; ``inline`` children that the body carries as lists.
    """

    name: str
    title: str
    spec: type[Spec] = Anything
    check: Check = _unchanged
    show: Show = _nothing
    check_delete: Callable[[World, Resource], None] = _always
    joins: Callable[[Put], list[tuple[str, str]]] = lambda _: []
    inline: Mapping[str, str] = field(default_factory=dict)
    lock: Literal["self", "parent", "none"] = "self"
    conflict: Literal["retryable", "hub"] = "retryable"
    seconds: Callable[[Timing], float] = lambda timing: timing.other
    delete_seconds: Callable[[Timing], float] | None = None
    effect: Callable[[Timing], float] = lambda _: 0.0
    read_only: frozenset[str] = frozenset({"provisioningState", "resourceGuid"})

    def lock_of(self, resource_id: str) -> str:
        """The key of the object that a write of this resource locks."""
        return ids.key(ids.parent(resource_id) if self.lock == "parent" else resource_id)


_CIDR: Final = re.compile(r"[0-9a-fA-F.:]+/[0-9]{1,3}")


def network(prefix: str, resource_id: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A prefix of a body; 400 with Azure's codes for what is not one."""
    try:  # without the pattern Python also reads netmasks, zones and a bare address
        right = ipaddress.ip_network(prefix if _CIDR.fullmatch(prefix) else "", strict=False)
    except ValueError:
        raise bad_request(
            "InvalidAddressPrefixFormat",
            f"Address prefix {prefix} of resource {resource_id} is not formatted correctly. It should "
            "follow CIDR notation, "
            "for example 10.0.0.0/24.",
        ) from None
    if ipaddress.ip_address(prefix.partition("/")[0]) == right.network_address:
        return right
    raise bad_request(
        "InvalidCIDRNotation",
        f"The address prefix {prefix} in resource {resource_id} has an invalid CIDR notation. For the given "
        "prefix length, "
        f"the address prefix should be {right}.",
    )


def address(text: str, resource_id: str, code: str = "InvalidIPAddressFormat") -> ipaddress.IPv4Address:
    """An IPv4 address of a body; 400 for what is not one."""
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        raise bad_request(code, f"IP address {text!r} of resource {resource_id} is not a valid IPv4 address.") from None


def hop_address(text: str, resource_id: str, code: str) -> None:
    """A next hop of a body, IPv4 or IPv6; 400 for what is neither."""
    if ":" not in text:
        address(text, resource_id, code)
        return
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise bad_request(code, f"IP address {text!r} of resource {resource_id} is not valid.") from None


def referenced(world: World, reference: str, by: str, operation: str) -> Resource:
    """The resource that a body refers to: 400 when it is not there, 429 while it is being updated."""
    found = world.store.get(reference)
    if found is None:
        raise bad_request(
            "InvalidResourceReference",
            f"Resource {reference} referenced by resource {by} was not found. Please make sure that the "
            "referenced resource "
            "exists, and that both resources are in the same region.",
        )
    holder = world.operations.holder(found.key)
    if found.state not in {SUCCEEDED, "Failed"} or holder is not None:
        state = found.state if holder is None else "Updating"
        operation = operation if holder is None else holder.name
        raise retryable(
            "ReferencedResourceNotProvisioned",
            f"Cannot proceed with operation because resource {found.id} used by resource {by} is not in "
            "Succeeded state. "
            f"Resource is in {state} state and the last operation that updated/is updating the resource is "
            f"{operation}.",
            None,
        )
    return found


def in_use(code: str, what: str, users: list[str]) -> ArmError:
    """400: something still refers to a resource that is to be deleted."""
    return bad_request(code, f"{what} is in use by {', '.join(users[:5])} and cannot be deleted.")
