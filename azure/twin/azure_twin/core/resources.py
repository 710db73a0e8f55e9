"""Resources as frozen values and the store that holds them, with every change noted for the journal."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Final, Literal, Self, TypeVar, cast

import msgspec

from azure_twin.core import ids
from azure_twin.core.errors import Json

SUCCEEDED: Final = "Succeeded"
UPDATING: Final = "Updating"
DELETING: Final = "Deleting"
FAILED: Final = "Failed"

SpecT = TypeVar("SpecT")
T = TypeVar("T")


def new_etag() -> str:
    """A weak ETag, as the network provider writes it into bodies."""
    return f'W/"{uuid.uuid4()}"'


class Resource(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One ARM object. ``properties`` is what was PUT, checked, without Azure's read-only values.

    Its name, key and typed properties are worked out once: a table's routes are looked at with each write of one.
    """

    id: str
    kind: str
    etag: str
    state: str = SUCCEEDED
    properties: Json = {}
    location: str = ""
    tags: dict[str, str] = {}
    sku: Json = {}

    @cached_property
    def name(self) -> str:
        """The last part of the id."""
        return ids.last(self.id)

    @cached_property
    def key(self) -> str:
        """The id in the form for comparing."""
        return ids.key(self.id)

    def spec(self, kind: type[SpecT]) -> SpecT:
        """The properties as a typed value; they were checked when they came in."""
        known: dict[object, SpecT] = self.__dict__.setdefault("known", {})
        found = known.get(kind)
        if found is None:
            found = known[kind] = msgspec.convert(self.properties, kind)
        return found

    def derived(self, name: object, make: Callable[[Self], T]) -> T:
        """What ``make`` gives for this resource, made once; ``name`` tells one thing that is made from another."""
        known: dict[object, object] = self.__dict__.setdefault("known", {})
        if name not in known:
            known[name] = make(self)
        return cast("T", known[name])


class Change(msgspec.Struct, frozen=True, tag="resource"):
    """One line of the journal: this store now holds ``value`` under ``key`` (``None``: nothing)."""

    store: Literal["arm", "fabric"]
    key: str
    value: Resource | None


class Store:
    """Resources by id, without regard to case, in the order they came."""

    def __init__(self, name: Literal["arm", "fabric"]) -> None:
        self.name: Literal["arm", "fabric"] = name
        self.changes: list[Change] = []
        self.version = 0
        self._items: dict[str, Resource] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._kinds: dict[str, dict[str, None]] = {}

    def get(self, resource_id: str) -> Resource | None:
        """The resource, or ``None``."""
        return self._items.get(ids.key(resource_id))

    def put(self, resource: Resource) -> None:
        """Hold a resource, new or in place of the one with its id."""
        key = resource.key
        self._items[key] = resource
        self._children.setdefault(ids.parent(key), {})[key] = None
        self._kinds.setdefault(resource.kind.lower(), {})[key] = None
        self._note(key, resource)

    def remove(self, resource_id: str) -> None:
        """Let go of a resource and of everything under it."""
        key = ids.key(resource_id)
        gone = self._items.pop(key, None)
        if gone is None:
            return
        for child in list(self._children.pop(key, ())):
            self.remove(child)
        self._children.get(ids.parent(key), {}).pop(key, None)
        self._kinds[gone.kind.lower()].pop(key, None)
        self._note(key, None)

    def children(self, parent_id: str, kind: str) -> Iterator[Resource]:
        """The resources of a type directly under another."""
        wanted = kind.lower()
        for key in self._children.get(ids.key(parent_id), ()):
            found = self._items[key]
            if found.kind == kind or found.kind.lower() == wanted:
                yield found

    def of_kind(self, kind: str) -> Iterator[Resource]:
        """All resources of a type."""
        for key in self._kinds.get(kind.lower(), ()):
            yield self._items[key]

    def __iter__(self) -> Iterator[Resource]:
        return iter(list(self._items.values()))

    def __len__(self) -> int:
        return len(self._items)

    def load(self, change: Change) -> None:
        """Take over one line of the journal; it is not noted again."""
        if change.value is None:
            self.remove(change.key)
        else:
            self.put(change.value)
        self.changes.clear()

    def _note(self, key: str, value: Resource | None) -> None:
        self.version += 1
        self.changes.append(Change(self.name, key, value))
