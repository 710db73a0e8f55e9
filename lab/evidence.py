"""What happened, as those saw it whom it would have happened to: kernels and BGP peers.

"Nothing happened" is only worth something when it is counted by somebody else than the program under test:
:class:`RouteEvents` is ``ip monitor route`` in every namespace given; :class:`Messages` reads what BIRD wrote down of
every BGP message it received (MRT, RFC 6396).
"""

from __future__ import annotations

import socket
import struct
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Self

from lab.netns import Namespace, Network, wait_for

BGP4MP: Final = 16
MESSAGE_AS4: Final = 4
UPDATE: Final = 2  # RFC 4271 section 4.1
#: What ``ip monitor`` prints late of a namespace that is being made: its links' other ends, and their multicast.
_NO_EVENTS: Final = ("Error: Peer netns reference is invalid.", "multicast ff00::/8")
AFI_IPV6: Final = 2
COMMUNITIES: Final = 8  # RFC 1997
EXTENDED_LENGTH: Final = 0x10  # RFC 4271 section 4.3: the attribute's length has two bytes


@dataclass(frozen=True, slots=True)
class Message:
    """A BGP message as a peer received it; ``body`` is what stands behind its header."""

    peer: str
    kind: int
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Told:
    """The IPv4 prefixes of one UPDATE (RFC 4271 section 4.3), in its order; an End-of-RIB has none."""

    announced: tuple[str, ...]
    withdrawn: tuple[str, ...]
    communities: tuple[str, ...] = ()


def read_mrt(data: bytes) -> Iterator[Message]:
    """The BGP messages in an MRT dump (RFC 6396 section 4.4.3); a record cut off at the end is left out."""
    position = 0
    while position + 12 <= len(data):
        _time, kind, subtype, length = struct.unpack_from("!IHHI", data, position)
        position += 12
        if position + length > len(data):
            return
        record = data[position : position + length]
        position += length
        if kind == BGP4MP and subtype == MESSAGE_AS4:
            yield _message(record)


def _message(record: bytes) -> Message:
    """Two AS numbers (8 bytes), interface (2), address family (2), two addresses, then the message itself."""
    (family,) = struct.unpack_from("!H", record, 10)
    size = 16 if family == AFI_IPV6 else 4
    peer = socket.inet_ntop(socket.AF_INET6 if size == 16 else socket.AF_INET, record[12 : 12 + size])
    message = record[12 + 2 * size :]
    return Message(peer, message[18], message[19:])


def read_update(body: bytes) -> Told:
    """Withdrawn routes, path attributes and NLRI, each of the first two behind its length."""
    (withdrawn,) = struct.unpack_from("!H", body)
    (attributes,) = struct.unpack_from("!H", body, 2 + withdrawn)
    return Told(
        announced=tuple(_prefixes(body[4 + withdrawn + attributes :])),
        withdrawn=tuple(_prefixes(body[2 : 2 + withdrawn])),
        communities=tuple(_communities(body[4 + withdrawn : 4 + withdrawn + attributes])),
    )


def _communities(attributes: bytes) -> Iterator[str]:
    """Each attribute is its flags, its type, and its value behind its length."""
    position = 0
    while position < len(attributes):
        flags, kind = attributes[position : position + 2]
        size = 2 if flags & EXTENDED_LENGTH else 1
        value = position + 2 + size
        end = value + int.from_bytes(attributes[position + 2 : value])
        if kind == COMMUNITIES:
            yield from (f"{a}:{b}" for a, b in struct.iter_unpack("!HH", attributes[value:end]))
        position = end


def _prefixes(data: bytes) -> Iterator[str]:
    """A length in bits, then as many bytes as it needs."""
    position = 0
    while position < len(data):
        length = data[position]
        end = position + 1 + (length + 7) // 8
        yield f"{socket.inet_ntop(socket.AF_INET, data[position + 1 : end].ljust(4, bytes(1)))}/{length}"
        position = end


class Messages:
    """The BGP messages that some BIRDs received after this was made, from their MRT dumps by name."""

    def __init__(self, dumps: Mapping[str, Path]) -> None:
        self._dumps = dumps
        self._start = {name: path.stat().st_size for name, path in dumps.items()}

    def updates(self) -> Counter[tuple[str, str]]:
        """How many UPDATEs each (BIRD, peer address) pair has had."""
        return Counter((name, message.peer) for name in self._dumps for message in self._updates(name))

    def told(self, name: str, peer: str) -> list[Told]:
        """What the BIRD of that name was told by a peer, UPDATE by UPDATE."""
        return [read_update(message.body) for message in self._updates(name) if message.peer == peer]

    def _updates(self, name: str) -> Iterator[Message]:
        data = self._dumps[name].read_bytes()[self._start[name] :]
        return (message for message in read_mrt(data) if message.kind == UPDATE)


class RouteEvents:
    """``ip monitor route`` in each namespace: every change of a route while ``with`` lasts."""

    def __init__(self, network: Network, namespaces: Iterable[Namespace], folder: Path) -> None:
        self._network = network
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs = {namespace: folder / f"{namespace.name}.routes" for namespace in namespaces}

    def __enter__(self) -> Self:
        for namespace, log in self._logs.items():
            log.write_bytes(b"")
            process = self._network.start(namespace, "ip", "-oneline", "monitor", "route", log=log)
            self._processes.append(process)
            wait_for(f"{namespace.name}: ip monitor has subscribed", partial(_subscribed, process.pid))
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def seen(self) -> list[str]:
        """Every event so far, as "NAMESPACE: what ip monitor printed"."""
        return [
            f"{namespace.name}: {line}"
            for namespace, log in self._logs.items()
            for line in log.read_text().splitlines()
            if not line.startswith(_NO_EVENTS)
        ]


def _subscribed(pid: int) -> bool:
    """Does the process hold a netlink socket with groups (/proc/PID/net/netlink: address, protocol, pid, groups)."""
    try:
        lines = Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]
    except OSError:
        return False
    return any(fields[1] == "0" and int(fields[2]) == pid and int(fields[3], 16) for fields in map(str.split, lines))
