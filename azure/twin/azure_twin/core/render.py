"""Resources as ARM shows them."""

from __future__ import annotations

from azure_twin.core import ids
from azure_twin.core.errors import Json
from azure_twin.core.kinds import KINDS, Kind, World
from azure_twin.core.rbac import ASSIGNMENTS, DEFINITIONS
from azure_twin.core.resources import Resource

_BARE = {ASSIGNMENTS.lower(), DEFINITIONS.lower()}  # of another provider: no ETag, no provisioningState


def kind_of(resource: Resource) -> Kind:
    """The type of a resource that the store holds."""
    return KINDS[resource.kind.lower()]


def etag_of(world: World, resource: Resource) -> str:
    """A child's ETag is its parent's, unless set otherwise: to the provider they are one object."""
    kind = kind_of(resource)
    if kind.lock == "parent" and kind.conflict == "retryable" and world.settings.rules.etag_scope == "table":
        holder = world.store.get(ids.parent(resource.id))
        return holder.etag if holder else resource.etag
    return resource.etag


def render(world: World, resource: Resource) -> Json:
    """The whole document."""
    kind = kind_of(resource)
    properties: Json = dict(resource.properties)
    shown: Json = {"name": resource.name, "id": resource.id, "type": resource.kind, "properties": properties}
    if resource.kind.lower() not in _BARE:
        properties["provisioningState"] = resource.state
        if kind.lock != "none":
            shown["etag"] = etag_of(world, resource)
    for field, child_kind in kind.inline.items():
        properties[field] = [render(world, child) for child in world.store.children(resource.id, child_kind)]
    for name, value in kind.show(world, resource).items():
        if value is None:
            properties.pop(name, None)
        else:
            properties[name] = value
    if resource.location:
        shown["location"] = resource.location
    if resource.tags:
        shown["tags"] = resource.tags
    if resource.sku:
        shown["sku"] = resource.sku
    if kind.title == "VirtualHub":
        shown["kind"] = "RouteServer"
    return shown
