"""Port 179 as a doorbell: a peer that connects to us while its session is down says that it is back.

ExaBGP opens the sessions itself and waits longer and longer between two tries; its own listening would need one
process for all peers. So the host listens, closes what comes in, and nudges that peer's ExaBGP. A peer with a password
signs its SYN (RFC 2385), so the listening socket needs the key too, or the kernel drops it unheard.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from bgp_agent.core.prefix import Family, family_of
from bgp_agent.speaker.definition import PeerDefinition

#: linux/tcp.h and linux/in.h
TCP_MD5SIG: Final = 14
IP_FREEBIND: Final = 15
#: Connections taken in one turn of the loop, so that a flood of knocks leaves room for ExaBGPs.
BURST: Final = 16

_FAMILIES: Final = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Door:
    """One address to listen on, and whose keys it knows: (peer, password), sorted."""

    address: str
    keys: tuple[tuple[str, str], ...]


def source_towards(peer: PeerDefinition) -> str | None:
    """The own address of this peer's session; None while there is no route to it."""
    if peer.local_address is not None:
        return peer.local_address
    try:
        with socket.socket(_FAMILIES[peer.family], socket.SOCK_DGRAM) as probe:
            probe.connect((peer.address, peer.port))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def doors(peers: Iterable[PeerDefinition]) -> dict[str, Door]:
    """Where to listen for these peers: each own address once, but those where a passive peer's ExaBGP listens."""
    sources = [(source_towards(peer), peer) for peer in peers]
    taken = {source for source, peer in sources if peer.passive}
    found: dict[str, Door] = {}
    for source in {source for source, _ in sources if source is not None and source not in taken}:
        keys = sorted((peer.address, peer.password) for own, peer in sources if own == source and peer.password)
        found[source] = Door(source, tuple(keys))
    return found


class Doorbell:
    """Listens on the doors it is given. ``knock(address)`` for each connection; ``say`` gets what went wrong, once."""

    def __init__(self, port: int, knock: Callable[[str], None], say: Callable[[str], None]) -> None:
        self._port = port
        self._knock = knock
        self._say = say
        self._open: dict[str, tuple[Door, socket.socket]] = {}
        self._complaints: dict[str, str] = {}

    def set_doors(self, wanted: dict[str, Door]) -> None:
        """Listen on exactly these; call it again to retry what could not be opened."""
        for address, (door, _) in list(self._open.items()):
            if wanted.get(address) != door:
                self._shut(address)
        for address in self._complaints.keys() - wanted.keys():
            del self._complaints[address]
        for address, door in wanted.items():
            if address not in self._open:
                self._try(door)

    def _try(self, door: Door) -> None:
        try:
            opened = _listen(door, self._port)
        except OSError as error:
            complaint = _complaint(door.address, self._port, error)
            if self._complaints.get(door.address) != complaint:
                self._complaints[door.address] = complaint
                self._say(complaint)
            return
        self._complaints.pop(door.address, None)
        self._open[door.address] = (door, opened)
        asyncio.get_running_loop().add_reader(opened, self._answer, door.address, opened)

    def _answer(self, address: str, door: socket.socket) -> None:
        for _ in range(BURST):
            try:
                connection, source = door.accept()
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE}:  # who waits would wake us for ever
                    self._shut(address)
                return
            connection.close()
            self._knock(str(source[0]))

    def _shut(self, address: str) -> None:
        _, opened = self._open.pop(address)
        asyncio.get_running_loop().remove_reader(opened)
        opened.close()

    def close(self) -> None:
        """Listen no more."""
        for address in list(self._open):
            self._shut(address)


def _listen(door: Door, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in door.address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)  # the address may come later
        for peer, password in door.keys:
            opened.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, md5_signature(peer, password))
        opened.bind((door.address, port))
        opened.listen(BURST)
    except OSError:
        opened.close()
        raise
    return opened


def md5_signature(peer: str, password: str) -> bytes:
    """``struct tcp_md5sig`` of linux/tcp.h: the peer as sockaddr_storage (128 bytes), flags, length, index, key."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in peer else socket.AF_INET, peer)
    if family_of(packed) is Family.IPV4:  # type: ignore[arg-type]  # Address is bytes
        address = struct.pack("=HH4s120x", socket.AF_INET, 0, packed)
    else:
        address = struct.pack("=HHI16sI100x", socket.AF_INET6, 0, 0, packed, 0)
    key = password.encode()
    return address + struct.pack("=BBHi80s", 0, 0, len(key), 0, key)


def _complaint(address: str, port: int, error: OSError) -> str:
    what = {
        errno.EADDRINUSE: "another program listens there",
        errno.EACCES: "not permitted; give CAP_NET_BIND_SERVICE",
        errno.ENOPROTOOPT: "this kernel has no TCP-MD5",
    }.get(error.errno or 0, error.strerror or str(error))
    return (
        f"cannot listen on {address} port {port} for peers that come back: {what}; "
        "sessions are tried again every few seconds instead"
    )
