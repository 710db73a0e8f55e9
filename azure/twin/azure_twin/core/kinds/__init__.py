"""Every resource type, by its name in lower case."""

from __future__ import annotations

from typing import Final

from azure_twin.core.kinds import hubs, networks, nics, plain, route_tables
from azure_twin.core.kinds.base import Kind, Put, World

KINDS: Final[dict[str, Kind]] = {
    kind.name.lower(): kind for module in (plain, route_tables, networks, hubs, nics) for kind in module.KINDS
}

__all__ = ["KINDS", "Kind", "Put", "World"]
