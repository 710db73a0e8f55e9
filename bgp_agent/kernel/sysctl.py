"""What the node's sysctls mean for forwarded packets, with the remedy; they are reported, never changed.

Read over netlink (RTM_GETNETCONF) instead of /proc: the answer is of the socket's own network namespace, and a change
is heard at once (RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF).

Strict reverse-path filtering compares devices: it drops a packet when the route back to its source leaves by another
device than the one it came in by. With one interface that cannot happen.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

from bgp_agent.core.nexthop import Link
from bgp_agent.core.prefix import Family
from bgp_agent.kernel.wire import I32, WireError, attributes

RTM_NEWNETCONF: Final = 80
RTM_DELNETCONF: Final = 81
RTM_GETNETCONF: Final = 82

ALL: Final = -1  # NETCONFA_IFINDEX_ALL
_DEFAULT: Final = -2
_IFINDEX: Final = 1
_FORWARDING: Final = 2
_RP_FILTER: Final = 3
_STRICT: Final = 1
_FAMILIES: Final = {2: Family.IPV4, 10: Family.IPV6}

NETCONFMSG: Final = struct.Struct("=B3x")
_REMEDY: Final = {
    Family.IPV4: "sysctl -w net.ipv4.ip_forward=1",
    Family.IPV6: "sysctl -w net.ipv6.conf.all.forwarding=1",
}


class Sysctls:
    """Forwarding and reverse-path filtering, by family and interface."""

    def __init__(self) -> None:
        self._values: dict[tuple[Family, int, int], int] = {}

    def read(self, body: bytes) -> bool:
        """Take an RTM_NEWNETCONF. Returns whether something is different. Raises :class:`WireError`."""
        if len(body) < NETCONFMSG.size:
            raise WireError(f"a netconf message of {len(body)} bytes")
        family = _FAMILIES.get(body[0])
        found = {kind: _number(value) for kind, value in attributes(body, NETCONFMSG.size)}
        if family is None or _IFINDEX not in found:
            return False
        changed = False
        for kind in (_FORWARDING, _RP_FILTER):
            if kind in found:
                key = (family, found[_IFINDEX], kind)
                changed |= self._values.get(key) != found[kind]
                self._values[key] = found[kind]
        return changed

    def forget(self, interface: int) -> None:
        """A link was deleted."""
        for key in [key for key in self._values if key[1] == interface]:
            del self._values[key]

    def forwarding(self, family: Family) -> bool | None:
        """Does the node forward packets of the family; None while that is not known."""
        value = self._values.get((family, ALL, _FORWARDING))
        return None if value is None else bool(value)

    def why_not_forwarding(self, family: Family) -> str:
        """The sentence for a family whose forwarding is off, with the remedy."""
        return f"{family.value} forwarding is off, so packets for pods are dropped: {_REMEDY[family]}"

    def warnings(
        self, families: Iterable[Family], links: Iterable[Link], name: Callable[[int], str]
    ) -> tuple[str, ...]:
        """What stands in the way of forwarding, one sentence each. Loopbacks and links that are down do not count."""
        live = [link for link in links if link.up and not link.loopback]
        found = []
        for family in families:
            if self.forwarding(family) is False:
                found.append(self.why_not_forwarding(family))
                continue
            if family is Family.IPV4:
                found.extend(
                    f"{family.value} forwarding is off on {name(link.index)}, so what comes in there is not "
                    f"forwarded: sysctl -w net.ipv4.conf.{name(link.index)}.forwarding=1"
                    for link in live
                    if self._values.get((family, link.index, _FORWARDING)) == 0
                )
        if Family.IPV4 in families and len(live) > 1:
            found.extend(self._strict(live, name))
        return tuple(found)

    def _strict(self, live: list[Link], name: Callable[[int], str]) -> list[str]:
        """Interfaces with strict reverse-path filtering; the kernel takes the larger of "all" and the interface's."""
        common = self._values.get((Family.IPV4, ALL, _RP_FILTER), 0)
        strict = [
            name(link.index)
            for link in live
            if max(common, self._values.get((Family.IPV4, link.index, _RP_FILTER), 0)) == _STRICT
        ]
        if not strict:
            return []
        shown = ", ".join(strict[:5]) + (f" and {len(strict) - 5} more" if len(strict) > 5 else "")
        words = f"rp_filter is strict on {shown} and there are several interfaces: packets whose way back leaves by "
        return [
            words + "another one are dropped without a word; sysctl -w net.ipv4.conf.all.rp_filter=2 makes it loose"
        ]


def _number(value: bytes) -> int:
    if len(value) != 4:
        raise WireError(f"{len(value)} bytes where a 32-bit number belongs")
    return int(I32.unpack(value)[0])
