"""Reading the kernel's tables whole: links, addresses, netconf, routes.

A row that cannot be read is left out and logged; broken framing ends the dump with :class:`WireError`, so that nothing
is taken for gone because of it.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

import structlog

from bgp_agent.core.fib import Fib
from bgp_agent.core.nexthop import NextHops
from bgp_agent.core.seen import MAIN, KernelRoute
from bgp_agent.kernel.links import (
    IFADDRMSG,
    IFINFOMSG,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    read_address,
    read_link,
)
from bgp_agent.kernel.routes import RTA_TABLE, RTM_GETROUTE, RTM_NEWROUTE, RTMSG, Reader
from bgp_agent.kernel.sockets import Asker
from bgp_agent.kernel.sysctl import NETCONFMSG, RTM_GETNETCONF, RTM_NEWNETCONF, Sysctls
from bgp_agent.kernel.wire import U32, Message, WireError, attribute

_TRIES: Final = 3  # of a short dump that the kernel interrupted
_AF_INET: Final = 2
_AF_INET6: Final = 10

log = structlog.get_logger("bgp_agent.kernel")
Value = TypeVar("Value")


async def read_all(asker: Asker, reader: Reader, fib: Fib, next_hops: NextHops, sysctls: Sysctls) -> tuple[bool, bool]:
    """One whole reading into the cores. Returns (links or addresses changed, sysctls changed).

    Raises OSError and :class:`WireError`; what had been read until then stays, and nothing counts as gone.
    """
    links = await _read_links(asker, next_hops)
    changed = False
    for family in (_AF_INET, _AF_INET6):
        try:
            changed |= any(await _rows(asker, RTM_GETNETCONF, NETCONFMSG.pack(family), RTM_NEWNETCONF, sysctls.read))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):  # a kernel without IPv6
                raise
    for table in fib.tables:
        await _read_table(asker, reader, table, fib, next_hops)
    return links, changed


async def routes(asker: Asker, reader: Reader, table: int) -> AsyncIterator[list[KernelRoute]]:
    """The routes of a table, both families, in pieces."""
    body = RTMSG.pack(0, 0, 0, 0, table if table < 256 else 0, 0, 0, 0, 0) + attribute(RTA_TABLE, U32.pack(table))
    async for piece in asker.dump(RTM_GETROUTE, body):
        yield _read(piece, RTM_NEWROUTE, reader.read)


async def _read_links(asker: Asker, next_hops: NextHops) -> bool:
    """Links and addresses; returns whether they were not as known. What was heard while they were read is newer."""
    for _ in range(_TRIES):
        before = next_hops.news
        links = await _rows(asker, RTM_GETLINK, IFINFOMSG.pack(0, 0, 0, 0, 0, 0), RTM_NEWLINK, read_link)
        addresses = await _rows(asker, RTM_GETADDR, IFADDRMSG.pack(0, 0, 0, 0, 0), RTM_NEWADDR, read_address)
        if next_hops.news == before:
            changed = next_hops.replace_links(links)
            return next_hops.replace_addresses(addresses) or changed
    return True  # news upon news: each asks for another dump


async def _read_table(asker: Asker, reader: Reader, table: int, fib: Fib, next_hops: NextHops) -> None:
    main = table == MAIN
    fib.begin(table)
    if main:
        next_hops.begin()
    async for piece in routes(asker, reader, table):
        fib.rows(table, piece)
        if main:
            next_hops.rows(piece)
    if asker.interrupted:
        fib.suspicious = True
        return
    fib.end(table)
    if main:
        next_hops.end()


async def _rows(asker: Asker, ask: int, body: bytes, answer: int, read: Callable[[bytes], Value | None]) -> list[Value]:
    """A short dump as a whole, repeated when the kernel says that its list changed meanwhile."""
    found: list[Value] = []
    for _ in range(_TRIES):
        found = [value async for piece in asker.dump(ask, body) for value in _read(piece, answer, read)]
        if not asker.interrupted:
            break
    return found  # still interrupted: whatever changed is announced by a message of its own


def _read(piece: list[Message], kind: int, read: Callable[[bytes], Value | None]) -> list[Value]:
    values = []
    for message in piece:
        if message.kind == kind:
            try:
                value = read(message.body)
            except WireError as error:
                log.warning("a row of the kernel's was not understood", kind=kind, reason=str(error))
                continue
            if value is not None:
                values.append(value)
    return values
