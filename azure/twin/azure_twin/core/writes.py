"""PUT, PATCH and DELETE: checks, locks, preconditions, the operation, and its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import msgspec

from azure_twin.core import ids, rbac
from azure_twin.core.effects import Effects
from azure_twin.core.errors import ArmError, Json, child_not_found, parent_not_found
from azure_twin.core.faults import Fault
from azure_twin.core.gates import Attempt, check_lock, check_match
from azure_twin.core.ids import Target
from azure_twin.core.kinds import KINDS, Kind, Put, World
from azure_twin.core.messages import Request, json_object
from azure_twin.core.operations import Operation, Operations
from azure_twin.core.rbac import Principal
from azure_twin.core.render import kind_of
from azure_twin.core.resources import DELETING, FAILED, SUCCEEDED, UPDATING, Resource, Store, new_etag
from azure_twin.core.specs import Spec


class Body(msgspec.Struct):
    """The envelope of every resource."""

    properties: Json | None = None
    location: str | None = None
    tags: dict[str, str] | None = None
    sku: Json | None = None


class Inline(msgspec.Struct):
    """A child inside its parent's body."""

    name: str
    properties: Json = {}


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of a write: what there is now (``None`` after a DELETE) and the operation that goes on."""

    status: int
    resource: Resource | None
    operation: Operation | None


def convert(value: object, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """A typed value from a body; wrong types are 400 with the place."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ArmError(
            400, "InvalidRequestFormat", "Cannot parse the request.", details=[("InvalidJson", str(error))]
        ) from None


class Writes:
    """The writing side of ARM."""

    def __init__(self, store: Store, operations: Operations, effects: Effects) -> None:
        self.store = store
        self.operations = operations
        self.effects = effects

    def put(self, world: World, request: Request, target: Target, who: Principal, fault: Fault | None) -> Written:
        """Create or replace a resource; a child list in the body (routes, subnets) replaces all children."""
        kind = KINDS[target.kind.lower()]
        existing = self.store.get(target.resource_id)
        body = cast("Body", convert(json_object(request.body), Body))
        properties = {name: value for name, value in (body.properties or {}).items() if name not in kind.read_only}
        inline = {
            field: cast("list[Inline]", [convert(each, Inline) for each in _listed(properties.pop(field), field)])
            for field in kind.inline
            if field in properties
        }
        self._check_place(target, kind, body, existing)
        spec = cast("Spec", convert(properties, kind.spec))
        resource_id = existing.id if existing else target.resource_id
        put = Put(resource_id, spec, properties, existing, self._siblings(resource_id, kind), self._parent(resource_id))
        action = f"{kind.name}/write"
        rbac.require_linked(world.effective, who, action, resource_id, kind.joins(put))
        check_lock(world, Attempt(kind, resource_id, request.base, put))
        check_match(world, kind, existing, request.headers)
        kept = kind.check(world, put)
        children = [each for field, items in inline.items() for each in self._children(world, put, kind, field, items)]
        gone = self._gone(resource_id, kind, inline, children)
        seconds = kind.seconds(world.settings.timing) + (fault.seconds if fault and fault.kind == "slow" else 0.0)
        made = Resource(
            id=resource_id,
            kind=kind.name,
            etag=new_etag(),
            state=UPDATING,
            properties=kept,
            location=body.location or (existing.location if existing else ""),
            tags=body.tags if body.tags is not None else {},
            sku=body.sku or {},
        )
        for key in gone:
            self._let_go(world, key)
        self._write([made, *children])
        operation = self.operations.begin(
            f"Put{kind.title}Operation",
            lock=kind.lock_of(resource_id),
            target=resource_id,
            method="PUT",
            now=world.now,
            seconds=seconds,
            touched=tuple(each.key for each in (made, *children)),
            removed=tuple(gone),
            owner=who.object_id,
            fails=fault.failure() if fault and fault.kind == "fail" else None,
        )
        self.handle_timer(world.now)
        return Written(200 if existing else 201, self.store.get(resource_id), self._shown(kind, operation))

    def patch_tags(self, world: World, request: Request, target: Target) -> Written:
        """``updateTags``: the only PATCH that the network provider knows."""
        existing = self._existing(target)
        kind = kind_of(existing)
        if target.kind.lower().count("/") > 1:
            raise ArmError(405, "MethodNotAllowed", "The requested resource does not support http method 'PATCH'.")
        body = cast("Body", convert(json_object(request.body), Body))
        check_lock(world, Attempt(kind, existing.id, request.base))
        check_match(world, kind, existing, request.headers)
        changed = msgspec.structs.replace(existing, tags=body.tags or {}, etag=new_etag())
        self.store.put(changed)
        return Written(200, changed, None)

    def delete(self, world: World, request: Request, target: Target, who: Principal, fault: Fault | None) -> Written:
        """Delete a resource with everything under it; 204 when there is none."""
        existing = self.store.get(target.resource_id)
        if existing is None:
            return Written(204, None, None)
        kind = kind_of(existing)
        check_lock(world, Attempt(kind, existing.id, request.base))
        check_match(world, kind, existing, request.headers)
        kind.check_delete(world, existing)
        times = world.settings.timing
        seconds = (kind.delete_seconds or kind.seconds)(times) + (
            fault.seconds if fault and fault.kind == "slow" else 0.0
        )
        under = [each for each in self.store if each.key.startswith(existing.key + "/")]
        self.store.put(msgspec.structs.replace(existing, state=DELETING, etag=new_etag()))
        self._touch(existing)
        operation = self.operations.begin(
            f"Delete{kind.title}Operation",
            lock=kind.lock_of(existing.id),
            target=existing.id,
            method="DELETE",
            now=world.now,
            seconds=seconds,
            removed=(existing.key, *(each.key for each in under)),
            owner=who.object_id,
            fails=fault.failure() if fault and fault.kind == "fail" else None,
        )
        self.handle_timer(world.now)
        running = self._shown(kind, operation)
        told = existing if kind.name.startswith("Microsoft.Authorization/") else None  # that provider shows what went
        return Written(202 if running and running.status == "InProgress" else 200, told, running)

    def handle_timer(self, now: float) -> None:
        """End the operations whose time has come; what they wrote takes effect from there."""
        for operation in self.operations.due(now):
            self._finish(operation)

    def _finish(self, operation: Operation) -> None:
        if operation.fails is not None:
            for key in (*operation.touched, *(operation.removed if operation.method == "DELETE" else ())):
                self._settle(key, FAILED)
            self.operations.finish(operation, "Failed", operation.fails)
            return
        for key in operation.removed:
            gone = self.store.get(key) or self.effects.effective.get(key)
            if operation.method == "DELETE":
                self.store.remove(key)
            if gone is not None:
                self.effects.schedule(operation.due, gone.kind, key, None)
        for key in operation.touched:
            settled = self._settle(key, SUCCEEDED)
            if settled is not None:
                self.effects.schedule(operation.due, settled.kind, key, settled)
        self.operations.finish(operation, "Succeeded")

    def _let_go(self, world: World, key: str) -> None:
        """A child that the new body does not name any more: gone at once from what ARM shows."""
        found = self.store.get(key)
        if found is not None:
            kind_of(found).check_delete(world, found)
            self.store.remove(key)

    def _settle(self, key: str, state: str) -> Resource | None:
        found = self.store.get(key)
        if found is None:
            return None
        settled = msgspec.structs.replace(found, state=state)
        self.store.put(settled)
        return settled

    def _write(self, resources: list[Resource]) -> None:
        for each in resources:
            self.store.put(each)
        self._touch(resources[0])

    def _touch(self, child: Resource) -> None:
        """A child's write is its parent's as well: the parent gets a new ETag."""
        kind = kind_of(child)
        holder = self.store.get(ids.parent(child.id)) if kind.lock == "parent" else None
        if holder is not None:
            self.store.put(msgspec.structs.replace(holder, etag=new_etag()))

    def _check_place(self, target: Target, kind: Kind, body: Body, existing: Resource | None) -> None:
        if kind.name.startswith("Microsoft.Network/") and ids.NAME.fullmatch(target.name) is None:
            raise ArmError(
                400,
                "InvalidResourceName",
                f"Resource name {target.name[:100]} is invalid. The name can be up to 80 characters long. "
                "It must begin with a word character, and it must end with a word character or with '_'. "
                "The name may contain "
                "word characters or '.', '-', '_'.",
            )
        nested = kind.name.count("/") > 1
        if nested and self.store.get(ids.parent(target.resource_id)) is None:
            raise parent_not_found(ids.last(ids.parent(target.resource_id)))
        if target.group and not nested:
            group = target.resource_id.split("/providers/", 1)[0]
            if kind.name != "Microsoft.Resources/resourceGroups" and self.store.get(group) is None:
                raise ArmError(404, "ResourceGroupNotFound", f"Resource group '{target.group}' could not be found.")
        if not nested and not kind.name.startswith("Microsoft.Authorization"):
            if not body.location and existing is None:
                raise ArmError(400, "LocationRequired", "The location property is required for this definition.")
            if existing and body.location and _plain(body.location) != _plain(existing.location):
                raise ArmError(
                    409,
                    "InvalidResourceLocation",
                    f"The resource '{target.name}' already exists in location "
                    f"'{existing.location}'. A resource with the same name cannot be created in location "
                    f"'{body.location}'.",
                )

    def _children(self, world: World, put: Put, kind: Kind, field: str, items: list[Inline]) -> list[Resource]:
        child = KINDS[kind.inline[field].lower()]
        specs: dict[str, Spec] = {}
        for each in items:
            if each.name.lower() in {name.lower() for name in specs}:
                raise ArmError(400, "InvalidRequestFormat", f"{field} of {put.resource_id} names {each.name} twice.")
            specs[each.name] = cast("Spec", convert(each.properties, child.spec))
        return [self._child(world, put, child, each, specs) for each in items]

    def _child(self, world: World, put: Put, child: Kind, each: Inline, specs: dict[str, Spec]) -> Resource:
        child_id = f"{put.resource_id}/{child.name.rsplit('/', 1)[-1]}/{each.name}"
        if ids.NAME.fullmatch(each.name) is None:
            raise ArmError(
                400, "InvalidResourceName", f"Resource name {each.name[:100]} in {put.resource_id} is invalid."
            )
        properties = {name: value for name, value in each.properties.items() if name not in child.read_only}
        inner = Put(child_id, specs[each.name], properties, self.store.get(child_id), specs, put.spec)
        kept = child.check(world, inner)
        return Resource(id=child_id, kind=child.name, etag=new_etag(), state=UPDATING, properties=kept)

    def _gone(
        self, resource_id: str, kind: Kind, inline: Mapping[str, list[Inline]], children: list[Resource]
    ) -> list[str]:
        """Children that a whole PUT does not name. A table or VNet without the list at all loses all of it too."""
        kept = {each.key for each in children}
        fields = kind.inline if kind.title == "RouteTable" else inline
        return [
            each.key
            for field in fields
            for each in self.store.children(resource_id, kind.inline[field])
            if each.key not in kept
        ]

    def _siblings(self, resource_id: str, kind: Kind) -> dict[str, Spec]:
        if kind.lock != "parent":
            return {}
        return {each.name: each.spec(kind.spec) for each in self.store.children(ids.parent(resource_id), kind.name)}

    def _parent(self, resource_id: str) -> Spec | None:
        holder = self.store.get(ids.parent(resource_id))
        return holder.spec(kind_of(holder).spec) if holder else None

    def _existing(self, target: Target) -> Resource:
        found = self.store.get(target.resource_id)
        if found is None:
            raise child_not_found(target.resource_id)
        return found

    def _shown(self, kind: Kind, operation: Operation) -> Operation | None:
        return self.operations.get(operation.id) if kind.lock != "none" else None


def _listed(value: object, field: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ArmError(
            400,
            "InvalidRequestFormat",
            "Cannot parse the request.",
            details=[("InvalidJson", f"{field} is not a list")],
        )
    return value


def _plain(location: str) -> str:
    return location.replace(" ", "").lower()
