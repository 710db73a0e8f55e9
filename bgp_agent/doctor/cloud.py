"""What the checks ask of Azure: everything that the hand-over needs, looked up once. Nothing is judged here.

Whether routes may be written is asked with requests that cannot succeed: Azure checks the right before it looks at the
request, so 403 means "no right", and what it says otherwise (412, 400, nothing to delete) that there is one. Nothing is
changed, in Azure neither; its activity log shows the attempts.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from bgp_agent.cloud import ids, remembered, resources
from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.discovery import Discovered, discover
from bgp_agent.cloud.errors import Changed, CloudError, Conflict, Denied
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.imds import Imds, ImdsError
from bgp_agent.cloud.keeping import as_table
from bgp_agent.cloud.opening import opened, wanted
from bgp_agent.cloud.remembered import Remembered
from bgp_agent.cloud.values import Nic
from bgp_agent.config import Config
from bgp_agent.core.cloudtable import Node, Table
from bgp_agent.core.prefix import address_text, parse_address
from bgp_agent.core.proof import Effective, Learned, Network, Row
from bgp_agent.doctor.groups import Group, Rule, RuleWire, read_rules

T = TypeVar("T")

PATIENCE: Final = 90.0
"""Seconds for all questions; effective and learned routes take Azure up to half a minute each."""
NOBODY: Final = "bgp-agent-doctor"
"""The name of a route that nobody has."""
_STALE: Final = 'W/"00000000-0000-0000-0000-000000000000"'


@dataclass(frozen=True, slots=True)
class Right:
    """A right that is missing. ``action``: as Azure names it; ``scope``: the resource, empty where it does not tell."""

    action: str
    scope: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What Azure said. ``trouble``: why nothing could be asked at all; ``imds``: why IMDS does not answer.

    ``identity``: why there is no token; ``principal``: the object ID of the identity, empty where it is not known.
    ``network``: the answers about our routes; ``unasked``: why a question has no answer, by its name.
    """

    trouble: str | None = None
    imds: str | None = None
    identity: str | None = None
    principal: str = ""
    found: Discovered = field(default_factory=Discovered)
    node: Node | None = None
    tables: tuple[Table, ...] = ()
    missing: tuple[Right, ...] = ()
    network: Network = field(default_factory=Network)
    groups: tuple[Group, ...] = ()
    unasked: Mapping[str, str] = field(default_factory=dict)

    @property
    def remembered(self) -> Remembered:
        """What the config is to be filled up with."""
        found, server = self.found, self.found.server
        return Remembered(
            address=address_text(found.address) if found.address else None,
            address6=address_text(found.address6) if found.address6 else None,
            asn=found.asn,
            server_asn=server.asn if server else None,
            peers=tuple(map(address_text, server.addresses)) if server else (),
        )


async def look(config: Config) -> Facts:
    """Ask. Never raises for anything that Azure does or does not do."""
    try:
        async with asyncio.timeout(PATIENCE), opened(config) as (imds, arm):
            return await _Look(config, imds, arm).all()
    except TimeoutError:
        return Facts(trouble=f"Azure did not answer everything within {PATIENCE:g} s")
    except ValueError as error:
        return Facts(trouble=str(error))


class _Look:
    """One look around; what is missing is gathered on the way."""

    def __init__(self, config: Config, imds: Imds, arm: Arm) -> None:
        self.config, self.imds, self.arm = config, imds, arm
        self.missing: dict[Right, None] = {}
        self.unasked: dict[str, str] = {}

    async def all(self) -> Facts:
        """Every question, those that need no other's answer at once."""
        no_imds, instance = None, None
        try:
            instance = await self.imds.instance()
        except ImdsError as error:
            no_imds = str(error)
        try:
            token = await self.arm.credential.get_token_info(self.arm.cloud.scope)
        except CloudError as error:
            return Facts(imds=no_imds, identity=str(error), found=Discovered(instance=instance))
        found = await discover(self.imds, self.arm, wanted(self.config))
        self.missing |= {Right(action, scope): None for action, scope in found.denied}
        limit, learned, effective, groups, *_ = await asyncio.gather(
            self._limit(found), self._learned(found), self._effective(found), self._groups(found), self._writes(found)
        )
        network = Network(
            learned, effective,
            tuple(ids.name(each.id) for each in found.tables if not each.propagates and each.subnets),
            found.network.space if found.network else (),
            found.interface.forwarding if found.interface else None,
        )  # fmt: skip
        return Facts(
            None, no_imds, None, principal(token.token), found, self._node(found),
            tuple(as_table(each, limit) for each in found.tables), tuple(self.missing), network, groups, self.unasked,
        )  # fmt: skip

    def _node(self, found: Discovered) -> Node | None:
        text = self.config.node.address or (remembered.load(Path(self.config.state_dir)) or Remembered()).address
        address = found.address or (parse_address(text) if text else None)
        return Node(self.config.node.name or "", address, found.address6) if address else None

    async def _ask(self, what: str, action: str, scope: str, answer: Awaitable[T]) -> T | None:
        try:
            return await answer
        except Denied as error:
            self.missing[Right(error.action or action, error.scope or scope)] = None
            self.unasked[what] = f"the right {error.action or action} is missing"
        except CloudError as error:
            self.unasked[what] = str(error)
        return None

    async def _limit(self, found: Discovered) -> int | None:
        if not found.tables or found.instance is None:
            return None
        subscription = ids.subscription(found.tables[0].id)
        answer = resources.routes_per_table(self.arm, subscription, found.instance.location)
        usage = await self._ask("limit", "Microsoft.Network/locations/usages/read", subscription, answer)
        return usage.limit if usage is not None else None

    async def _learned(self, found: Discovered) -> Learned | None:
        if found.connection is None:
            return None
        action = "Microsoft.Network/virtualHubs/bgpConnections/learnedRoutes/action"
        answer = resources.learned_routes(self.arm, found.connection.id)
        got = await self._ask("learned", action, found.connection.id, answer)
        if got is None:
            return None
        return Learned(0.0, {name: frozenset(each.prefix for each in has) for name, has in got.items()})

    async def _effective(self, found: Discovered) -> Effective | None:
        nic = found.interface
        if nic is None or nic.machine is None:
            return None
        action = "Microsoft.Network/networkInterfaces/effectiveRouteTable/action"
        got = await self._ask("effective", action, nic.id, resources.effective_routes(self.arm, nic.id))
        if got is None:
            return None
        rows = tuple(Row(each.prefix, each.source, each.active, each.next_hops) for each in got)
        return Effective(0.0, ids.name(nic.id), rows)

    async def _groups(self, found: Discovered) -> tuple[Group, ...]:
        """Security groups of the interface and of every subnet with nodes. The right to read them is not needed."""
        where: dict[str, tuple[ResourceId, list[str]]] = {}
        several = [(found.interface.security_group, _nic_name(found.interface))] if found.interface else []
        several += [(each.security_group, f"subnet {ids.name(each.id)}") for each in found.subnets]
        for group, place in several:
            if group is not None:
                where.setdefault(ids.key(group), (group, []))[1].append(place)
        return tuple(await asyncio.gather(*(self._group(each, tuple(places)) for each, places in where.values())))

    async def _group(self, group: ResourceId, places: tuple[str, ...]) -> Group:
        rules: list[Rule] = []
        try:
            for kind in ("securityRules", "defaultSecurityRules"):
                items = await self.arm.pages(f"{group}/{kind}")
                rules += read_rules(msgspec.convert(msgspec.json.decode(each), RuleWire) for each in items)
        except (CloudError, msgspec.DecodeError, msgspec.ValidationError) as error:
            return Group(group, places, None, str(error))
        return Group(group, places, tuple(rules))

    async def _writes(self, found: Discovered) -> None:
        """May routes be written and taken out, in each table."""
        for table in found.tables:
            path = ids.child(table.id, "routes", NOBODY)
            kind = "Microsoft.Network/routeTables/routes"
            body = {"name": NOBODY, "properties": {"addressPrefix": "none", "nextHopType": "None"}}
            await self._may(f"{kind}/write", table.id, self.arm.put(path, body, if_match=_STALE))
            await self._may(f"{kind}/delete", table.id, self.arm.delete(path, if_match=_STALE))

    async def _may(self, action: str, scope: str, answer: Awaitable[None]) -> None:
        try:
            await answer
        except Denied as error:
            self.missing[Right(error.action or action, error.scope or scope)] = None
        except (Changed, Conflict):
            return  # refused for what it is, and not for who asks
        except CloudError as error:
            self.unasked[action] = str(error)


def _nic_name(nic: Nic) -> str:
    return f"interface {ids.name(nic.id)}"


def principal(token: str) -> str:
    """The object ID in a token (claim ``oid``), for the command that grants a right; not verified, empty without."""
    try:
        body = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=dict[str, object])
    except (IndexError, binascii.Error, ValueError, msgspec.DecodeError):
        return ""
    return str(claims.get("oid", ""))
