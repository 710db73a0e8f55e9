"""The rules and routes that hand packets for the probe's port to the listener, whatever pod address they are for.

For each pool and uplink::

    ip rule add pref 100 iif UPLINK to POOL ipproto tcp dport PORT lookup PORT protocol 179
    ip route add local POOL dev lo table PORT protocol 179

Only packets that come in by an uplink, for that one port, are taken; everything that pods say to each other passes by.
Both stay when the agent ends and are adopted when it comes back. What is ours is told by preference, table, protocol
mark, port and the table's number together; nothing else is looked at twice.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from bgp_agent.core.prefix import Address, Family, Prefix, family_of, length_of, network
from bgp_agent.kernel.wire import NLM_F_CREATE, NLM_F_EXCL, attribute
from bgp_agent.probe import netlink
from bgp_agent.probe.netlink import Netlink, attribute_map

PREFERENCE: Final = 100
PROTOCOL: Final = 179
LOOPBACK: Final = 1
"""The index of ``lo`` in every network namespace (linux/net/flow.h, LOOPBACK_IFINDEX)."""

_FRA_DST, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_TABLE = 1, 3, 6, 15
_FRA_PROTOCOL, _FRA_IP_PROTO, _FRA_SPORT_RANGE, _FRA_DPORT_RANGE = 21, 22, 23, 24
_FR_ACT_TO_TBL: Final = 1
_RTA_DST, _RTA_OIF, _RTA_TABLE = 1, 4, 15
_RT_SCOPE_HOST, _RTN_LOCAL = 254, 2
_RULE: Final = struct.Struct("=8BI")  # fib_rule_hdr
_ROUTE: Final = struct.Struct("=8BI")  # rtmsg

MakeSocket: TypeAlias = Callable[[int, int, int], socket.socket]


class SetupError(Exception):
    """Rules or routes cannot be set up; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Packets for the port that come in by ``uplink`` for an address of ``pool``."""

    uplink: str
    pool: Prefix


def ensure(make: MakeSocket, port: int, pools: Iterable[Prefix], uplinks: Iterable[str], family: Family) -> None:
    """Make exactly these rules and routes of one family stand; what is right already is not written again.

    Raises :class:`SetupError`.
    """
    wanted_routes = {pool for pool in pools if family_of(pool) is family}
    wanted_rules = {Rule(uplink, pool) for pool in wanted_routes for uplink in uplinks}
    try:
        with Netlink(make) as kernel:
            rules, routes = _rules(kernel, port, family), _routes(kernel, port, family)
            for pool in wanted_routes - routes:
                _write_route(kernel, netlink.RTM_NEWROUTE, port, pool)
            for rule in wanted_rules - rules:
                _write_rule(kernel, netlink.RTM_NEWRULE, port, rule)
            for rule in rules - wanted_rules:
                _write_rule(kernel, netlink.RTM_DELRULE, port, rule)
            for pool in routes - wanted_routes:
                _write_route(kernel, netlink.RTM_DELROUTE, port, pool)
    except PermissionError:
        raise SetupError(f"no right to set up the rule for TCP port {port}: give the agent CAP_NET_ADMIN") from None
    except OSError as error:
        raise SetupError(
            f"the rule for TCP port {port} ({family.value}) could not be set up: {_words(error)}"
        ) from error


def remove(make: MakeSocket, port: int) -> None:
    """Take every rule and route of ours away, both families. Raises :class:`SetupError`."""
    for family in Family:
        if _has(make, family):
            ensure(make, port, (), (), family)


def _has(make: MakeSocket, family: Family) -> bool:
    try:
        make(_domain(family), socket.SOCK_DGRAM, 0).close()
    except OSError:
        return False
    return True


def _domain(family: Family) -> int:
    return socket.AF_INET if family is Family.IPV4 else socket.AF_INET6


def _words(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _rules(kernel: Netlink, port: int, family: Family) -> set[Rule]:
    """The rules that are ours, as the kernel shows them."""
    out: set[Rule] = set()
    for payload in kernel.dump(netlink.RTM_GETRULE, _RULE.pack(_domain(family), *[0] * 8)):
        length = payload[1]
        seen = attribute_map(payload, _RULE.size)
        if payload[7] == _FR_ACT_TO_TBL and _FRA_DST in seen and seen.items() >= _rule_marks(port).items():
            name = seen.get(_FRA_IIFNAME, b"").rstrip(b"\0").decode(errors="replace")
            out.add(Rule(name, network(Address(seen[_FRA_DST]), length)))
    return out


def _rule_marks(port: int) -> dict[int, bytes]:
    """The attributes that tell a rule as ours, but for pool and uplink."""
    return {
        _FRA_PRIORITY: struct.pack("=I", PREFERENCE),
        _FRA_TABLE: struct.pack("=I", port),
        _FRA_PROTOCOL: bytes((PROTOCOL,)),
        _FRA_IP_PROTO: bytes((socket.IPPROTO_TCP,)),
        _FRA_DPORT_RANGE: struct.pack("=HH", port, port),
    }


def _write_rule(kernel: Netlink, kind: int, port: int, rule: Rule) -> None:
    header = _RULE.pack(_domain(family_of(rule.pool)), length_of(rule.pool), 0, 0, 0, 0, 0, _FR_ACT_TO_TBL, 0)
    body = attribute(_FRA_DST, rule.pool[:-1])
    if rule.uplink:
        body += attribute(_FRA_IIFNAME, rule.uplink.encode() + b"\0")
    for mark, value in _rule_marks(port).items():
        body += attribute(mark, value)
    _tolerant(kernel, kind, header + body)


def _routes(kernel: Netlink, port: int, family: Family) -> set[Prefix]:
    """The pools whose local route stands in our table."""
    table = attribute(_RTA_TABLE, struct.pack("=I", port))
    out: set[Prefix] = set()
    try:
        for payload in kernel.dump(netlink.RTM_GETROUTE, _ROUTE.pack(_domain(family), *[0] * 8) + table):
            _, length, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(payload)
            seen = attribute_map(payload, _ROUTE.size)
            if (protocol, kind, seen.get(_RTA_TABLE)) == (PROTOCOL, _RTN_LOCAL, struct.pack("=I", port)):
                address = seen.get(_RTA_DST, bytes(4 if family is Family.IPV4 else 16))
                out.add(network(Address(address), length))
    except FileNotFoundError:
        pass  # so the kernel says that the table does not exist yet
    return out


def _write_route(kernel: Netlink, kind: int, port: int, pool: Prefix) -> None:
    header = _ROUTE.pack(_domain(family_of(pool)), length_of(pool), 0, 0, 0, PROTOCOL, _RT_SCOPE_HOST, _RTN_LOCAL, 0)
    body = attribute(_RTA_DST, pool[:-1]) + attribute(_RTA_OIF, struct.pack("=I", LOOPBACK))
    _tolerant(kernel, kind, header + body + attribute(_RTA_TABLE, struct.pack("=I", port)))


def _tolerant(kernel: Netlink, kind: int, message: bytes) -> None:
    """Write; it is no error that somebody else was faster, in either direction."""
    making = kind in (netlink.RTM_NEWRULE, netlink.RTM_NEWROUTE)
    try:
        kernel.request(kind, NLM_F_CREATE | NLM_F_EXCL if making else 0, message)
    except FileExistsError:
        if not making:
            raise
    except (FileNotFoundError, ProcessLookupError):
        if making:
            raise
