"""A recorded stream of watch events, put onto a live API server one by one.

One event a line, as a watch shows it. ADDED becomes a create, MODIFIED an update, DELETED a delete; what a server
decides itself (resource version, uid, times) is left to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.kube.client import Client

SERVERS_OWN: Final = frozenset(
    {"resourceVersion", "uid", "creationTimestamp", "generation", "managedFields", "selfLink"}
)

#: (apiVersion, kind, name) of an object that is in no namespace.
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``type``: ADDED, MODIFIED or DELETED; ``thing``: the object without what a server decides."""

    type: str
    thing: dict[str, Any]

    @property
    def key(self) -> Key:
        """What it is about."""
        return key(self.thing)


def key(thing: dict[str, Any]) -> Key:
    """Kind and name of an object."""
    return thing["apiVersion"], thing["kind"], thing["metadata"]["name"]


def portable(thing: dict[str, Any]) -> dict[str, Any]:
    """An object without what a server decides."""
    return {**thing, "metadata": {k: v for k, v in thing["metadata"].items() if k not in SERVERS_OWN}}


def read(path: Path) -> list[Event]:
    """The events of a file, in their order."""
    parsed = map(json.loads, path.read_text().splitlines())
    return [Event(each["type"], portable(each["object"])) for each in parsed]


def put(client: Client, event: Event) -> None:
    """Make one event true on a server."""
    if event.type == "ADDED":
        client.create(event.thing)
    elif event.type == "MODIFIED":
        client.update(event.thing)
    elif event.type == "DELETED":
        client.delete(event.thing)
    else:
        raise ValueError(f"no such event: {event.type}")


def replay(client: Client, events: Iterable[Event]) -> Iterator[Event]:
    """Put one event after the other, and hand each out once it is true: a test looks around between two."""
    for event in events:
        put(client, event)
        yield event


def after(events: Iterable[Event]) -> dict[Key, dict[str, Any]]:
    """The objects that stand when all events have happened."""
    standing: dict[Key, dict[str, Any]] = {}
    for event in events:
        if event.type == "DELETED":
            del standing[event.key]
        else:
            standing[event.key] = event.thing
    return standing
