"""Asking Azure for one thing after the other, and keeping in words why something was not told."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.errors import CloudError, Denied, NotFound
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.core.prefix import Address

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration says: ``node.address``, ``azure.route_server``, ``azure.route_tables``, ``bgp.asn``."""

    address: Address | None = None
    route_server: ResourceId | None = None
    route_tables: tuple[ResourceId, ...] = ()
    asn: int | None = None


@dataclass(slots=True)
class Search:
    """One look around: what was asked, and what came of it."""

    arm: Arm
    wanted: Wanted
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    again: bool = False
    denied: list[tuple[str, str]] = field(default_factory=list)  # right, and the resource where Azure names it
    serverless: bool = False  # all was looked through, and no Route Server is there

    async def ask(self, what: str, action: str, remedy: str, answer: Awaitable[T]) -> T | None:
        """The answer, or a sentence why there is none.

        ``action``: the right that asking takes; ``remedy``: what else would tell, such as "set bgp.asn".
        """
        try:
            return await answer
        except Denied as error:
            right = error.action or action
            self.denied.append((right, error.scope or ""))
            where = f" on {error.scope}" if error.scope else ""
            cause = f"the right {right}{where} is missing" if error.action else f"{error}"
            self.missing.append(f"{what} is not known: {cause}: grant {right}, or {remedy}")
        except NotFound as error:
            self.missing.append(f"{what} is not known: {error}: {remedy}")
        except CloudError as error:
            self.again = True
            self.missing.append(f"{what} is not known yet: {error}: it is asked again; or {remedy}")
        return None
