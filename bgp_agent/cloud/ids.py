"""Resource IDs: compared without regard to case, and safe to put in a URL.

An ID comes from the configuration or from an answer; it names a place that our token is sent to, so it is checked
before it is used: nothing in it can leave the path (``..``, ``?``, ``@host``).
"""

from __future__ import annotations

import re
from typing import Final, NewType
from urllib.parse import quote

ResourceId = NewType("ResourceId", str)
"""``/subscriptions/{guid}/resourceGroups/{name}/providers/{namespace}/{type}/{name}...``, as somebody wrote it."""

MAX_LENGTH: Final = 1024
_SEGMENT: Final = re.compile(r"[\w()~-][\w.()~-]{0,99}")
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?")


def resource_id(text: str) -> ResourceId:
    """Check an ID. Raises :class:`ValueError` with what is wrong."""
    segments = text.rstrip("/").split("/")
    if len(text) > MAX_LENGTH or segments[0] or segments[1:2] != ["subscriptions"] or len(segments) % 2 == 0:
        raise ValueError(f"{text[:80]!r} is no resource ID: write /subscriptions/.../resourceGroups/.../providers/...")
    bad = next((each for each in segments[1:] if _SEGMENT.fullmatch(each) is None), None)
    if bad is not None:
        raise ValueError(f"{text[:80]!r} is no resource ID: {bad[:40]!r} cannot be part of one")
    return ResourceId("/".join(segments))


def child(parent: ResourceId, kind: str, name: str) -> ResourceId:
    """A resource below another. Raises :class:`ValueError` for a name that Azure would not take."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name[:80]!r} is no name that Azure takes: 1 to 80 letters, digits, '.', '-' and '_'")
    return ResourceId(f"{parent}/{kind}/{name}")


def key(of: str) -> str:
    """What IDs are compared by: ARM's paths do not distinguish case."""
    return of.rstrip("/").lower()


def same(one: str | None, other: str | None) -> bool:
    """Do both name the same resource."""
    return one is not None and other is not None and key(one) == key(other)


def name(of: str) -> str:
    """The last segment."""
    return of.rstrip("/").rpartition("/")[2]


def parent(of: ResourceId) -> ResourceId:
    """The resource that this one is a child of: without the last kind and name."""
    return ResourceId(of.rsplit("/", 2)[0])


def group(of: ResourceId) -> ResourceId:
    """``/subscriptions/{guid}/resourceGroups/{name}`` of a resource."""
    return ResourceId("/".join(of.split("/")[:5]))


def subscription(of: ResourceId) -> ResourceId:
    """``/subscriptions/{guid}`` of a resource."""
    return ResourceId("/".join(of.split("/")[:3]))


def short(of: str) -> str:
    """What people need of an ID to know which one is meant: ``routeTables/rt1/routes/r1``."""
    return of.rpartition("/providers/Microsoft.Network/")[2]


def path(of: str) -> str:
    """An ID as the path of a URL."""
    return quote(of, safe="/()~")
