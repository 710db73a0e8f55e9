"""Resource ids: ``/subscriptions/{s}/resourceGroups/{g}/providers/{namespace}/{type}/{name}[/{type}/{name}...]``.

ARM compares ids without regard to case and gives them back as they were first written; ``key`` is the form for
comparing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

#: Resource names of the network provider: letters, digits, underscore, period, hyphen, at most 80 characters.
NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?")
MAX_PATH: Final = 2048


class IdError(ValueError):
    """Not an ARM path; the message says which part."""


def key(resource_id: str) -> str:
    """The id in the form for comparing."""
    return resource_id.rstrip("/").lower()


def parent(resource_id: str) -> str:
    """The id without its last type and name."""
    return resource_id.rsplit("/", 2)[0]


def last(resource_id: str) -> str:
    """The name at the end of an id."""
    return resource_id.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Target:
    """What a request path points at.

    ``kind`` is the full type (``Microsoft.Network/routeTables/routes``, as written); ``name`` is empty for a
    collection;
    ``resource_id`` is the id of the resource, or of the collection's parent; ``action`` is the POST verb, if there is
    one.
    """

    resource_id: str
    kind: str
    name: str = ""
    subscription: str = ""
    group: str = ""
    action: str = ""

    @property
    def is_collection(self) -> bool:
        """Whether the path names a list of resources."""
        return not self.name


def parse(path: str, *, post: bool = False) -> Target:
    """Take a request path apart. With ``post`` a path of a named resource may end in an action.

    Raises :class:`IdError` for anything that is not under ``/subscriptions``.
    """
    if len(path) > MAX_PATH:
        raise IdError(f"the path has {len(path)} characters, more than {MAX_PATH}")
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if not parts or parts[0].lower() != "subscriptions" or not all(parts):
        raise IdError("the path does not start with /subscriptions, or has an empty segment")
    if len(parts) == 1:
        return Target("", "Microsoft.Resources/subscriptions")
    subscription = parts[1]
    scope = f"/subscriptions/{subscription}"
    rest, group = parts[2:], ""
    if not rest:
        return Target(scope, "Microsoft.Resources/subscriptions", subscription, subscription)
    if rest[0].lower() == "resourcegroups":
        kind = "Microsoft.Resources/resourceGroups"
        if len(rest) == 1:
            return Target(scope, kind, "", subscription)
        group, rest = rest[1], rest[2:]
        scope = f"{scope}/resourceGroups/{group}"
        if not rest:
            return Target(scope, kind, group, subscription, group)
    return _provider(scope, rest, subscription, group, post=post)


def _provider(scope: str, rest: list[str], subscription: str, group: str, *, post: bool) -> Target:
    """The part from ``providers`` on; an extension resource has a second one, and the last counts."""
    at = max((index for index, part in enumerate(rest) if part.lower() == "providers"), default=-1)
    if at < 0 or len(rest) < at + 3:
        raise IdError(f"no resource provider and type in {'/'.join(rest)!r}")
    if at:
        scope = "/".join([scope, *rest[:at]])
    namespace, chain = rest[at + 1], rest[at + 2 :]
    action = ""
    if post and len(chain) % 2:
        chain, action = chain[:-1], chain[-1]
        if not chain:
            raise IdError(f"no resource before the action {action!r}")
    types, names = chain[0::2], chain[1::2]
    kind = "/".join([namespace, *types])
    whole = f"{scope}/providers/{namespace}" + "".join(
        f"/{each}/{name}" for each, name in zip(types, names, strict=False)
    )
    if len(names) == len(types):
        return Target(whole, kind, names[-1], subscription, group, action)
    return Target(whole if names else scope, kind, "", subscription, group, action)
