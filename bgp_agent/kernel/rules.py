"""The two policy rules that a routing table of our own needs (linux/fib_rules.h).

One rule is not enough: before ``main`` it would hide the pods' own /32 behind their block's blackhole, after it the
default route would answer first. So ``lookup main suppress_prefixlength 0`` (main, but for its default route), and then
``lookup TABLE``, both before main's own rule at 32766. The rules carry our protocol, and nothing without it is touched.

pyroute2 could do this too; it would cost 10 MiB of memory for the forty lines below.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from typing import Final

from bgp_agent.core.seen import MAIN
from bgp_agent.kernel.sockets import Asker
from bgp_agent.kernel.wire import NLM_F_CREATE, NLM_F_EXCL, U32, attribute

RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33

PRIORITIES: Final = (32764, 32765)

_FRA_PRIORITY: Final = 6
_FRA_SUPPRESS_PREFIXLEN: Final = 14
_FRA_TABLE: Final = 15
_FRA_PROTOCOL: Final = 21
_TO_TABLE: Final = 1  # FR_ACT_TO_TBL
_HEADER: Final = struct.Struct("=8BI")


def add(asker: Asker, table: int, protocol: int) -> None:
    """Put in what is missing of the two rules, for both families. Raises OSError."""
    for body in _bodies(table, protocol):
        try:
            asker.ask(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, body)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.EAFNOSUPPORT):
                raise


def remove(asker: Asker, table: int, protocol: int) -> None:
    """Take the two rules out; that they are not there is fine. Raises OSError."""
    for body in _bodies(table, protocol):
        with contextlib.suppress(FileNotFoundError):
            try:
                asker.ask(RTM_DELRULE, 0, body)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:
                    raise


def _bodies(table: int, protocol: int) -> list[bytes]:
    bodies = []
    for family in (2, 10):
        for priority, lookup, suppress in ((PRIORITIES[0], MAIN, True), (PRIORITIES[1], table, False)):
            header = _HEADER.pack(family, 0, 0, 0, lookup if lookup < 256 else 0, 0, 0, _TO_TABLE, 0)
            body = header + attribute(_FRA_PRIORITY, U32.pack(priority)) + attribute(_FRA_TABLE, U32.pack(lookup))
            if suppress:
                body += attribute(_FRA_SUPPRESS_PREFIXLEN, U32.pack(0))
            bodies.append(body + attribute(_FRA_PROTOCOL, bytes((protocol,))))
    return bodies
