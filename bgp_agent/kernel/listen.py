"""What others do to routes, links, addresses and sysctls, heard as it happens."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from bgp_agent.core.fib import Fib
from bgp_agent.core.nexthop import NextHops
from bgp_agent.core.seen import MAIN
from bgp_agent.kernel.links import RTM_DELADDR, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK, read_address, read_link
from bgp_agent.kernel.routes import RTM_DELROUTE, RTM_NEWROUTE, Reader
from bgp_agent.kernel.rules import RTM_DELRULE, RTM_NEWRULE
from bgp_agent.kernel.sockets import Inbox, Opener, drop_from, prepare
from bgp_agent.kernel.sysctl import RTM_NEWNETCONF, Sysctls
from bgp_agent.kernel.wire import Message, WireError, messages

GROUPS: Final = (1, 5, 9, 7, 11, 24, 25)  # RTNLGRP_LINK, _IPV4/6_IFADDR, _IPV4/6_ROUTE, _IPV4/6_NETCONF
RULE_GROUPS: Final = (8, 19)  # RTNLGRP_IPV4/6_RULE
_READS: Final = 1024  # at most so many before what was heard is acted on; a read is one message here

log = structlog.get_logger("bgp_agent.kernel")


@dataclass(slots=True)
class Heard:
    """What a burst of messages was about."""

    routes: bool = False
    links: bool = False  # links or addresses changed
    sysctls: bool = False
    unclear: bool = False  # only a dump tells what stands now
    overrun: int = 0  # the kernel dropped messages


class Listener:
    """The listening socket, and the way of its messages into the cores."""

    def __init__(
        self, opener: Opener, groups: Sequence[int], fib: Fib, next_hops: NextHops, sysctls: Sysctls, *,
        deaf_to: int, buffer: int,
    ) -> None:  # fmt: skip
        self._fib = fib
        self._next_hops = next_hops
        self._sysctls = sysctls
        self._reader = Reader()
        self._deaf_to = deaf_to
        self._inbox = Inbox()
        self._socket = prepare(opener, groups, buffer)
        drop_from(self._socket, deaf_to)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    async def hear(self) -> Heard:
        """Wait for messages and take in all that are there. Raises OSError when the socket is of no use any more."""
        heard = Heard()
        loop = asyncio.get_running_loop()
        try:
            self._take(self._inbox.taken(await loop.sock_recv_into(self._socket, self._inbox.space)), heard)
            for _ in range(_READS):
                self._take(self._inbox.read(self._socket), heard)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            heard.overrun += 1
            heard.unclear = True
        else:
            await asyncio.sleep(0)
        return heard

    def _take(self, data: bytes, heard: Heard) -> None:
        try:
            for message in messages(data):
                if message.port != self._deaf_to:
                    self._message(message, heard)
        except WireError as error:
            log.warning("a message of the kernel's was not understood", reason=str(error))
            heard.unclear = True

    def _message(self, message: Message, heard: Heard) -> None:
        kind, body = message.kind, message.body
        if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            self._route(body, new=kind == RTM_NEWROUTE)
            heard.routes = True
        elif kind in (RTM_NEWLINK, RTM_DELLINK):
            heard.links |= self._link(body, new=kind == RTM_NEWLINK)
        elif kind in (RTM_NEWADDR, RTM_DELADDR):
            address = read_address(body)
            if address is not None:
                heard.links |= self._next_hops.address(address, present=kind == RTM_NEWADDR)
        elif kind == RTM_NEWNETCONF:
            heard.sysctls |= self._sysctls.read(body)
        elif kind in (RTM_NEWRULE, RTM_DELRULE):
            heard.unclear = True
        heard.unclear |= heard.links

    def _route(self, body: bytes, *, new: bool) -> None:
        route = self._reader.read(body)
        if route is None:
            return
        cores = (self._fib, self._next_hops) if route.table == MAIN else (self._fib,)
        for core in cores:
            (core.new if new else core.deleted)(route)

    def _link(self, body: bytes, *, new: bool) -> bool:
        link = read_link(body)
        if link is None:
            return False
        if new:
            return self._next_hops.link(link)
        self._sysctls.forget(link.index)
        return self._next_hops.link_gone(link.index)
