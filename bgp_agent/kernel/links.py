"""Links and addresses on the wire: RTM_NEWLINK and RTM_NEWADDR, and their ends (rtnetlink(7))."""

from __future__ import annotations

import struct
from typing import Final

from bgp_agent.core.nexthop import InterfaceAddress, Link
from bgp_agent.core.prefix import Address
from bgp_agent.kernel.wire import WireError, attributes, u32

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22

_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_WIRELESS: Final = 11
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_FLAGS: Final = 8
_IFF_UP: Final = 0x1
_IFF_LOOPBACK: Final = 0x8
_IFF_RUNNING: Final = 0x40
_DADFAILED: Final = 0x08

IFINFOMSG: Final = struct.Struct("=BBHiII")  # family, -, device type, index, flags, changed flags
IFADDRMSG: Final = struct.Struct("=4BI")  # family, length, flags, scope, index
_BRIDGE: Final = 7  # AF_BRIDGE: a bridge's word about its port, not about the link itself


def read_link(body: bytes) -> Link | None:
    """The link of an RTM_NEWLINK or RTM_DELLINK; None for what is not about the link itself. Raises WireError."""
    if len(body) < IFINFOMSG.size:
        raise WireError(f"a link message of {len(body)} bytes")
    family, _, _, index, flags, _ = IFINFOMSG.unpack_from(body)
    found = dict(attributes(body, IFINFOMSG.size))
    if family == _BRIDGE or _IFLA_WIRELESS in found or _IFLA_IFNAME not in found:
        return None
    name = found[_IFLA_IFNAME].rstrip(b"\0").decode("utf-8", "replace")
    mtu = u32(found[_IFLA_MTU]) if _IFLA_MTU in found else 0
    up, running, loopback = (bool(flags & bit) for bit in (_IFF_UP, _IFF_RUNNING, _IFF_LOOPBACK))
    return Link(index, name, up, running, mtu, loopback)


def read_address(body: bytes) -> InterfaceAddress | None:
    """The address of an RTM_NEWADDR or RTM_DELADDR; None for one that cannot be used (yet). Raises WireError."""
    if len(body) < IFADDRMSG.size:
        raise WireError(f"an address message of {len(body)} bytes")
    family, length, flags, _, index = IFADDRMSG.unpack_from(body)
    size = {2: 4, 10: 16}.get(family)
    if size is None:
        return None
    found = dict(attributes(body, IFADDRMSG.size))
    flags = u32(found[_IFA_FLAGS]) if _IFA_FLAGS in found else flags
    # On a point-to-point link IFA_ADDRESS is the other end, and IFA_LOCAL ours.
    address = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
    if address is None or flags & _DADFAILED:
        return None
    if len(address) != size or length > size * 8:
        raise WireError(f"an address of {len(address)} bytes, length {length}, in family {family}")
    return InterfaceAddress(index, Address(address), length)
