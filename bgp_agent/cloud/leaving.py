"""Own routes taken out of the route tables for good, when the agent leaves a node: ``bgp-agent cleanup``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bgp_agent.cloud import ids, remembered, resources
from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.discovery import Discovered, discover
from bgp_agent.cloud.errors import Busy, Changed, CloudError, Denied, NotFound, Throttled
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.imds import Imds
from bgp_agent.cloud.keeping import as_table
from bgp_agent.cloud.opening import opened, wanted
from bgp_agent.cloud.remembered import Remembered
from bgp_agent.config import Config
from bgp_agent.core.cloudtable import OURS, Node, leftovers
from bgp_agent.core.prefix import Address, address_text, parse_address

PATIENCE: Final = 300.0
"""Seconds for all of it; Azure takes 4 to 10 for one route, and one at a time in each table."""


@dataclass(frozen=True, slots=True)
class Left:
    """``done``: in words; ``failed``: a sentence with its remedy for each table that may still hold routes of ours."""

    done: str
    failed: tuple[str, ...] = ()


async def leave(config: Config) -> Left:
    """Take out the routes with our exact names that lead to this node, in every configured or discovered table."""
    try:
        async with asyncio.timeout(PATIENCE), opened(config) as (imds, arm):
            return await _leave(config, imds, arm)
    except TimeoutError:
        return Left("", (f"not done within {PATIENCE:g} s: run it again",))
    except ValueError as error:
        return Left("", (str(error),))


async def _leave(config: Config, imds: Imds, arm: Arm) -> Left:
    found = await discover(imds, arm, wanted(config))
    last = remembered.load(Path(config.state_dir)) or Remembered()
    node = _node(config, found, last)
    tables = _tables(config, found, last)
    causes = "; ".join(found.missing)
    if node is None:
        return Left("", (f"this node's address is not known, so nothing is its own: {causes}: set node.address",))
    if not tables and not found.subnets:
        return Left(
            "", (f"the route tables are not known: {causes or 'no subnet with nodes'}: set azure.route_tables",)
        )
    answers = await asyncio.gather(*(_out(arm, each, node) for each in tables))
    taken = sum(count for count, _ in answers)
    names = ", ".join(ids.name(each) for each in tables) or "no table is associated"
    return Left(f"{taken} taken out ({names})", tuple(why for _, why in answers if why is not None))


def _node(config: Config, found: Discovered, last: Remembered) -> Node | None:
    def first(*addresses: str | Address | None) -> Address | None:
        known = next((each for each in addresses if each), None)
        return parse_address(known) if isinstance(known, str) else known

    address = first(config.node.address, found.address, last.address)
    six = first(config.node.address6, found.address6, last.address6)
    return None if address is None else Node(config.node.name or "", address, six)


def _tables(config: Config, found: Discovered, last: Remembered) -> tuple[ResourceId, ...]:
    """Configured, found and remembered ones: each may hold routes of ours."""
    several: Iterable[str | None] = (
        *wanted(config).route_tables,
        *(each.id for each in found.tables),
        *(each.route_table for each in found.subnets),
        *last.tables,
    )
    return tuple({ids.key(each): ResourceId(each) for each in several if each is not None}.values())


async def _out(arm: Arm, table: ResourceId, node: Node) -> tuple[int, str | None]:
    """How many were taken out of one table, and what stopped it."""
    taken = 0
    while True:
        try:
            found = await resources.read_table(arm, table)
            left = leftovers(as_table(found), node)
            if not left:
                return taken, None
            await resources.delete_route(arm, table, left[0].name, if_match=found.etag)
            taken += 1
        except Changed:
            continue
        except (Busy, Throttled) as error:
            await asyncio.sleep(error.retry_after)
        except NotFound:
            return taken, None
        except CloudError as error:
            return taken, f"route table {ids.name(table)}: {error}: {_remedy(table, node, error)}"


def _remedy(table: ResourceId, node: Node, error: CloudError) -> str:
    right = error.action if isinstance(error, Denied) else None
    query = f"[?starts_with(name,'{OURS}') && nextHopIpAddress=='{address_text(node.address)}'].id"
    where = f"-g {ids.name(ids.group(table))} --route-table-name {ids.name(table)}"
    listed = f'az network route-table route list {where} --query "{query}" -o tsv'
    by_hand = f"az network route-table route delete --ids $({listed})"
    return f"{f'grant {right} and run it again' if right else 'run it again'}, or `{by_hand}`"
