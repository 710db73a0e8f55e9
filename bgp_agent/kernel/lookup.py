"""What the kernel would do with a packet, asked with RTM_GETROUTE, in words."""

from __future__ import annotations

import errno
import os
from typing import Final

from bgp_agent.core.nexthop import NextHops
from bgp_agent.core.prefix import Address, address_text, prefix_text
from bgp_agent.core.seen import KINDS, KernelRoute, Strange
from bgp_agent.core.values import Hop, Unicast
from bgp_agent.kernel.routes import RTA_DST, RTA_IIF, RTM_GETROUTE, RTM_NEWROUTE, RTMSG, Reader
from bgp_agent.kernel.sockets import Asker
from bgp_agent.kernel.wire import U32, WireError, attribute

_RTA_SRC: Final = 2
_RTM_F_FIB_MATCH: Final = 0x2000
_CLONED: Final = 0x200

_MEANING: Final = {
    errno.ENETUNREACH: "network unreachable: no route",
    errno.EHOSTUNREACH: "an unreachable route answers",
    errno.EINVAL: "dropped: a blackhole answers",
    errno.EACCES: "prohibited by a route",
    errno.EXDEV: "dropped: the reverse-path filter does not let this source in there",
    errno.ENODEV: "no such link",
}


def lookup(
    asker: Asker, next_hops: NextHops, address: Address, source: Address | None = None, iif: int | None = None
) -> str:
    """One sentence: ``192.168.2.7 via 10.42.1.1 dev eth0 src 10.42.1.4 proto 179 metric 4096, by 192.168.2.0/26``.

    ``source``, ``iif``: as for a packet with this source that came in by this link (its index).
    """
    text = address_text(address)
    try:
        chosen = _ask(asker, address, source, iif, 0)
        if chosen is None:
            return f"{text}: the kernel did not answer with a route"
        try:
            entry = _ask(asker, address, source, iif, _RTM_F_FIB_MATCH)
        except OSError:
            entry = None
    except OSError as error:
        return f"{text}: {_MEANING.get(error.errno or 0) or error.strerror or os.strerror(error.errno or 0)}"
    except WireError as error:
        return f"{text}: the kernel's answer is not understood: {error}"
    words = [text]
    if isinstance(chosen.target, Strange):
        words.append(KINDS.get(chosen.target.kind, f"type {chosen.target.kind}"))
    elif isinstance(chosen.target, Unicast):
        words += _hop_words(chosen.target.hops[0], next_hops)
        if chosen.target.source is not None:
            words.append(f"src {address_text(chosen.target.source)}")
    else:
        words.append("blackhole")
    return " ".join(words + (_entry_words(entry) if entry else []))


def _hop_words(hop: Hop, next_hops: NextHops) -> list[str]:
    via = [f"via {address_text(hop.gateway)}"] if hop.gateway is not None else []
    return [*via, f"dev {next_hops.interface(hop.interface)}"]


def _entry_words(entry: KernelRoute) -> list[str]:
    words = [f"proto {entry.protocol}", f"metric {entry.metric}, by {prefix_text(entry.prefix)}"]
    if isinstance(entry.target, Unicast) and len(entry.target.hops) > 1:
        words.append(f"with {len(entry.target.hops)} next hops")
    return words


def _ask(asker: Asker, address: Address, source: Address | None, iif: int | None, flags: int) -> KernelRoute | None:
    bits = len(address) * 8
    family = 2 if len(address) == 4 else 10
    body = RTMSG.pack(family, bits, bits if source else 0, 0, 0, 0, 0, 0, flags) + attribute(RTA_DST, address)
    if source is not None:
        body += attribute(_RTA_SRC, source)
    if iif is not None:
        body += attribute(RTA_IIF, U32.pack(iif))
    for answer in asker.ask(RTM_GETROUTE, 0, body):
        if answer.kind == RTM_NEWROUTE:
            return Reader().read(_plain(answer.body))
    return None


def _plain(body: bytes) -> bytes:
    """The answer without what marks it as one: cloned, with a source."""
    if len(body) < RTMSG.size:
        return body
    family, length, _, tos, table, protocol, scope, kind, flags = RTMSG.unpack_from(body)
    return RTMSG.pack(family, length, 0, tos, table, protocol, scope, kind, flags & ~_CLONED) + body[RTMSG.size :]
