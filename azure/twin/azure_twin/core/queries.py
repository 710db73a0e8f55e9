"""POST actions: what a Route Server learned and advertises, and the effective routes of a NIC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from azure_twin.core.errors import ArmError, Json
from azure_twin.core.kinds import World
from azure_twin.core.kinds.hubs import CONNECTION
from azure_twin.core.kinds.nics import NIC, vm_of
from azure_twin.core.resources import Resource


class Answers(Protocol):
    """Who knows the routes."""

    def answer(self, world: World, query: str, resource: Resource) -> Json:
        """The body for a query (a name of :data:`QUERIES`)."""


@dataclass(frozen=True, slots=True)
class Query:
    """One action; ``check`` refuses a resource that cannot answer."""

    name: str
    check: Callable[[World, Resource], None] = lambda _world, _resource: None


def _needs_vm(world: World, nic: Resource) -> None:
    if world.settings.rules.effective_routes_need_vm and vm_of(world, nic) is None:
        raise ArmError(
            400,
            "NetworkInterfaceNotAttachedToRunningVm",
            f"Effective routes of {nic.id} cannot be read: it must be attached to a running virtual machine.",
        )


QUERIES: Final = {
    (CONNECTION.lower(), "learnedroutes"): Query("learnedRoutes"),
    (CONNECTION.lower(), "advertisedroutes"): Query("advertisedRoutes"),
    (NIC.lower(), "effectiveroutetable"): Query("effectiveRouteTable", _needs_vm),
}
