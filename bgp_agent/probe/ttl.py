"""The TTL probe: names who forwards a packet for an address, needs no listener there and no capability here.

A UDP packet whose TTL ends at a node makes that node say so (ICMP time exceeded, RFC 792; ICMPv6, RFC 4443), and the
socket's error queue tells who it was (ip(7), IP_RECVERR). The TTL is raised from 1 until a *node* answers, and no
further: the next packet would reach a pod. A hop that is silent ends the probe for the same reason. Silence proves
nothing: a blackhole says nothing, and Linux answers one source about once a second (net.ipv4.icmp_ratelimit).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from bgp_agent.core.prefix import Address, Family, address_text, family_of
from bgp_agent.core.probing import Delivered, Evidence, Misdelivered, Silence
from bgp_agent.probe.handshake import no_way

PORT: Final = 33434
"""Just below traceroute(8)'s, where nothing listens. Hop N is asked at PORT + N: that tells the answers apart."""

MAX_HOPS: Final = 8
TRIES: Final = 2
"""Packets for each TTL: one may be lost, or fall to the other end's rate limit."""

_IP_RECVERR, _IPV6_RECVERR = 11, 25
_MSG_ERRQUEUE: Final = 0x2000
_EXTENDED_ERROR: Final = struct.Struct("=IBBBBII")  # sock_extended_err, linux/errqueue.h
_ORIGINS: Final = {2: Family.IPV4, 3: Family.IPV6}  # SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6
_EXCEEDED: Final = {Family.IPV4: 11, Family.IPV6: 3}
_UNREACHABLE: Final = {Family.IPV4: 3, Family.IPV6: 1}

MakeSocket: TypeAlias = Callable[[int, int, int], socket.socket]


@dataclass(frozen=True, slots=True)
class IcmpError:
    """One ICMP error: who sent it and what it says."""

    offender: Address
    exceeded: bool  # else: destination unreachable
    code: int


def read_error(level: int, kind: int, data: bytes) -> IcmpError | None:
    """Read one control message of the error queue; None for anything but an ICMP error that ends a probe."""
    if (level, kind) not in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
        return None
    if len(data) < _EXTENDED_ERROR.size:
        return None
    _, origin, icmp, code, _, _, _ = _EXTENDED_ERROR.unpack_from(data)
    family = _ORIGINS.get(origin)
    if family is None or icmp not in (_EXCEEDED[family], _UNREACHABLE[family]):
        return None
    start, size = (4, 4) if family is Family.IPV4 else (8, 16)  # sockaddr_in, sockaddr_in6
    offender = data[_EXTENDED_ERROR.size + start : _EXTENDED_ERROR.size + start + size]
    if len(offender) != size:
        return None
    return IcmpError(Address(offender), icmp == _EXCEEDED[family], code)


async def trace(
    make: MakeSocket, target: Address, *, owner: Address | None, is_node: Callable[[Address], bool], wait: float = 0.3
) -> Evidence:
    """Find the node that gets packets for ``target``; ``wait``: seconds for one packet's answer.

    ``owner``: the address of the node that should get them, None when that is not known: then nothing is proved, but
    the node is named.
    """
    where = address_text(target)
    try:
        made = _udp(make, target)
    except OSError as error:
        return Silence(no_way(where, error))
    with contextlib.closing(made):
        for hops in range(1, MAX_HOPS + 1):
            try:
                error_seen = await _hop(made, where, hops, wait)
            except OSError as error:
                return Silence(no_way(where, error))
            if error_seen is None:
                return Silence(f"hop {hops} on the way to {where} says nothing")
            verdict = _judge(error_seen, target, owner, is_node, hops)
            if verdict is not None:
                return verdict
    return Silence(f"no node within {MAX_HOPS} hops on the way to {where}")


def _judge(
    seen: IcmpError, target: Address, owner: Address | None, is_node: Callable[[Address], bool], hops: int
) -> Evidence | None:
    """What the answer proves; None: a router on the way, go on."""
    who = address_text(seen.offender)
    said = "the hop limit ended there" if seen.exceeded else "it has no pod at that address"
    if seen.offender == owner:
        return Delivered(who, f"{who}, the owner's address, answered at hop {hops}: {said}")
    if seen.offender == target:
        return Silence(f"{who} itself answered: it is reachable, but whose it is was not shown")
    if is_node(seen.offender):
        if owner is None:
            return Silence(f"{who} gets packets for {address_text(target)}; whether it should is not known")
        return Misdelivered(who, f"{who} answered at hop {hops}, the owner is {address_text(owner)}")
    if seen.exceeded:
        return None
    return Silence(f"{who}, which is no known node, says that {address_text(target)} is unreachable")


def _udp(make: MakeSocket, target: Address) -> socket.socket:
    v4 = family_of(target) is Family.IPV4
    made = make(socket.AF_INET if v4 else socket.AF_INET6, socket.SOCK_DGRAM, 0)
    try:
        made.settimeout(0)
        if v4:
            made.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        made.bind(("", 0))
    except OSError:
        made.close()
        raise
    return made


async def _hop(made: socket.socket, where: str, hops: int, wait: float) -> IcmpError | None:
    """The ICMP error that a packet with this hop limit brings back, None when none comes."""
    if made.family == socket.AF_INET:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    for _ in range(TRIES):
        made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # an error that is pending would be sendto's
        made.sendto(b"bgp-agent probe", (where, PORT + hops))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                return await _next_error(made, PORT + hops)
    return None


async def _next_error(made: socket.socket, port: int) -> IcmpError:
    loop = asyncio.get_running_loop()
    while True:
        seen = _read_queue(made, port)
        if seen is not None:
            return seen
        ready = loop.create_future()
        loop.add_reader(made, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(made)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _read_queue(made: socket.socket, port: int) -> IcmpError | None:
    """The next usable error for a packet to ``port``; stray datagrams and late answers to other hops are read away."""
    while True:
        try:
            _, control, _, sent_to = made.recvmsg(512, 512, _MSG_ERRQUEUE)
        except OSError:
            with contextlib.suppress(OSError):
                made.recv(512)
            return None
        for level, kind, data in control if sent_to[1] == port else ():
            seen = read_error(level, kind, data)
            if seen is not None:
                return seen
