"""Answers to GET that are not one stored resource: lists, the subscription, usages, built-in roles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from azure_twin.core import ids
from azure_twin.core.errors import ArmError, Json
from azure_twin.core.ids import Target
from azure_twin.core.kinds import KINDS, World
from azure_twin.core.kinds.hubs import HUB
from azure_twin.core.kinds.nics import NIC
from azure_twin.core.kinds.route_tables import TABLE
from azure_twin.core.rbac import BUILT_IN, DEFINITIONS
from azure_twin.core.render import render
from azure_twin.core.resources import Resource
from azure_twin.core.settings import Settings
from azure_twin.core.specs import RoleDefinitionSpec

_FILTER: Final = re.compile(r"roleName eq '(?P<name>[^']{1,128})'", re.IGNORECASE)


class Reads:
    """The reading side of ARM, beyond single resources."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def special(self, world: World, target: Target, query: Mapping[str, str]) -> Json | None:
        """The body for a list or another special path; ``None`` for a single resource."""
        kind = target.kind.lower()
        if kind == "microsoft.resources/subscriptions":
            return self._subscription() if target.name else {"value": [self._subscription()]}
        if kind == "microsoft.network/locations/usages":
            return {"value": list(self._usages(world))}
        if kind == DEFINITIONS.lower():
            return self._roles(world, target, query)
        if target.is_collection and kind in KINDS:
            return {"value": [render(world, each) for each in self._listed(world, target)]}
        return None

    def _listed(self, world: World, target: Target) -> Iterator[Resource]:
        nested = target.kind.count("/") > 1
        if nested:
            if world.store.get(target.resource_id) is None:
                raise ArmError(
                    404, "ParentResourceNotFound", f"Parent resource '{ids.last(target.resource_id)}' not found."
                )
            return world.store.children(target.resource_id, target.kind)
        prefix = ids.key(target.resource_id) + "/"
        return (each for each in world.store.of_kind(target.kind) if each.key.startswith(prefix))

    def _subscription(self) -> Json:
        return {
            "id": f"/subscriptions/{self.settings.subscription}",
            "subscriptionId": self.settings.subscription,
            "tenantId": self.settings.tenant,
            "displayName": "Azure twin",
            "state": "Enabled",
            "subscriptionPolicies": {"locationPlacementId": "Public_2014-09-01", "quotaId": "PayAsYouGo_2014-09-01"},
        }

    def _usages(self, world: World) -> Iterator[Json]:
        """Limits and counts; ``RoutesPerRouteTable`` is how a client discovers the limit of a table."""
        limits = self.settings.limits
        largest = max(
            (sum(1 for _ in world.store.children(each.id, f"{TABLE}/routes")) for each in world.store.of_kind(TABLE)),
            default=0,
        )
        rows = {
            "RouteTables": ("Route Tables", sum(1 for _ in world.store.of_kind(TABLE)), limits.route_tables),
            "RoutesPerRouteTable": ("Routes per Route Table", largest, limits.routes_per_table),
            "NetworkInterfaces": ("Network Interfaces", sum(1 for _ in world.store.of_kind(NIC)), 65536),
            "VirtualHubs": ("Virtual Hubs", sum(1 for _ in world.store.of_kind(HUB)), 100),
        }
        provider = f"/subscriptions/{self.settings.subscription}/providers/Microsoft.Network"
        for value, (localized, current, limit) in rows.items():
            yield {
                "id": f"{provider}/locations/{self.settings.location}/usages/{value}",
                "currentValue": current,
                "limit": limit,
                "unit": "Count",
                "name": {"value": value, "localizedValue": localized},
            }

    def _roles(self, world: World, target: Target, query: Mapping[str, str]) -> Json | None:
        if not target.is_collection:
            spec = BUILT_IN.get(target.name.lower())
            return self._built_in(target.name.lower(), spec) if spec else None
        found = [self._built_in(guid, spec) for guid, spec in BUILT_IN.items()]
        found += [render(world, each) for each in world.store.of_kind(DEFINITIONS)]
        wanted = _FILTER.search(query.get("$filter", ""))
        if wanted:
            found = [each for each in found if _role_name(each).lower() == wanted["name"].lower()]
        return {"value": found}

    def _built_in(self, guid: str, spec: RoleDefinitionSpec) -> Json:
        return {
            "id": f"/subscriptions/{self.settings.subscription}/providers/{DEFINITIONS}/{guid}",
            "name": guid,
            "type": "Microsoft.Authorization/roleDefinitions",
            "properties": {
                "roleName": spec.role_name,
                "type": "BuiltInRole",
                "description": "",
                "assignableScopes": ["/"],
                "permissions": [
                    {"actions": each.actions, "notActions": each.not_actions, "dataActions": [], "notDataActions": []}
                    for each in spec.permissions
                ],
            },
        }


def _role_name(document: Json) -> str:
    properties = document["properties"]
    return str(properties.get("roleName", "")) if isinstance(properties, dict) else ""
