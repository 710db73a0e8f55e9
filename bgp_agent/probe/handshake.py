"""The handshake: one TCP connection that proves two blocks, both ways, and names the node.

The asking node binds an address of *its own* block and connects to an address of the other's. The SYN goes by the
network's route for their block, the SYN-ACK by its route for ours; a connection that stands proves both. Each end
says one line: the version, whether the address it was reached at lies in a block that it announces, and its name. No
pod need exist at either address: both sockets are transparent (IP_TRANSPARENT, see ip(7)), and a policy rule
(``setup.py``) hands packets for this one port to them.

Both ends use the same port, so two nodes that ask each other at the same moment from the same two addresses make *one*
connection without a listener (simultaneous open, RFC 9293 section 3.5). That is why the asking end says its line too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import re
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from bgp_agent.core.prefix import Address, Family, Prefix, address_text, family_of, network, parse_address

VERSION: Final = 1
MAX_LINE: Final = 320
"""Bytes: the longest name of a node (253, RFC 1123) and the rest of the line."""

BACKLOG: Final = 16
HELD: Final = 64
"""Answered connections kept open until the other end has read; the oldest makes room."""

HOLD: Final = 1.0  # seconds
PER_SOURCE: Final = 40
"""Connections a second from one source network (/26 or /122, Calico's block sizes): twice what one node asks in all."""

PER_SECOND: Final = 500
"""Connections a second in all."""

TRIES: Final = 3
"""For one question. The other node may ask *us* between the same two addresses, where a block has only one."""

COLLISION_WAIT: Final = (0.005, 0.025)  # seconds
_COLLISION: Final = (errno.EADDRNOTAVAIL, errno.ECONNRESET)

IP_TRANSPARENT: Final = 19  # linux/in.h
IPV6_TRANSPARENT: Final = 75  # linux/in6.h
_LINGER_NOW: Final = struct.pack("ii", 1, 0)  # close() sends RST: no TIME_WAIT that would hold the port
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")

MakeSocket: TypeAlias = Callable[[int, int, int], socket.socket]
"""Makes a socket of (family, type, protocol) in the network namespace of the node."""


class AnswerError(ValueError):
    """What came back is no answer of this protocol; the message says what is wrong with it."""


class SilentError(Exception):
    """No answer that proves anything; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the node that got the packet says of itself."""

    node: str
    own: bool  # does it announce the block of the address that it was reached at


def answer_line(node: str, *, own: bool) -> bytes:
    """The line as sent. Characters that no node's name has become ``-``."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", node)[:253] or "-"
    return f"bgp-agent {VERSION} {'own' if own else 'other'} {name}\n".encode()


def read_answer(line: bytes) -> Answer:
    """Read the other end's line; fields after the name are a later version's matter. Raises :class:`AnswerError`."""
    if not line.endswith(b"\n") or len(line) > MAX_LINE:
        raise AnswerError(f"the answer has no end within {MAX_LINE} bytes")
    fields = line[:-1].decode("ascii", "replace").split(" ")
    if len(fields) < 4 or fields[0] != "bgp-agent":
        raise AnswerError("something that is no bgp-agent answered")
    if fields[1] != str(VERSION):
        raise AnswerError(f"it speaks version {fields[1][:8]!r} of the handshake, this agent {VERSION}")
    if fields[2] not in ("own", "other") or not _NAME.fullmatch(fields[3]):
        raise AnswerError("the answer is malformed")
    return Answer(fields[3], fields[2] == "own")


def transparent(make: MakeSocket, family: Family, port: int, source: Address | None) -> socket.socket:
    """A non-blocking TCP socket bound to ``source`` (None: every address) and ``port``; the address need not exist.

    Raises OSError: EPERM without CAP_NET_ADMIN, EADDRINUSE where a stranger has the port.
    """
    domain = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    made = make(domain, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.settimeout(0)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOW)
        if family is Family.IPV4:
            made.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address_text(source) if source else "", port))
    except OSError:
        made.close()
        raise
    return made


async def ask(
    make: MakeSocket, port: int, source: Address | None, target: Address, *, line: bytes, timeout: float
) -> Answer:
    """Connect from ``source`` to ``target`` and read who answers. Raises :class:`SilentError` after ``timeout`` s."""
    where = address_text(target)
    try:
        async with asyncio.timeout(timeout):
            for _ in range(TRIES - 1):
                try:
                    return await _connect(make, port, source, target, line)
                except OSError as error:
                    if error.errno not in _COLLISION:
                        raise
                await asyncio.sleep(random.uniform(*COLLISION_WAIT))  # noqa: S311 - so that both do not meet again
            return await _connect(make, port, source, target, line)
    except TimeoutError:
        raise SilentError(f"{where} did not answer within {timeout:g} s") from None
    except AnswerError as error:
        raise SilentError(f"{where}: {error}") from None
    except OSError as error:
        raise SilentError(_refusal(where, error)) from None


async def _connect(make: MakeSocket, port: int, source: Address | None, target: Address, line: bytes) -> Answer:
    loop = asyncio.get_running_loop()
    with contextlib.closing(transparent(make, family_of(target), port, source)) as made:
        await loop.sock_connect(made, (address_text(target), port))
        await loop.sock_sendall(made, line)
        return read_answer(await _read_line(loop, made))


async def _read_line(loop: asyncio.AbstractEventLoop, made: socket.socket) -> bytes:
    got = b""
    while b"\n" not in got and len(got) <= MAX_LINE:
        more = await loop.sock_recv(made, MAX_LINE + 1 - len(got))
        if not more:
            break
        got += more
    return got[: got.find(b"\n") + 1] or got


def _refusal(where: str, error: OSError) -> str:
    match error.errno:
        case errno.ECONNREFUSED | errno.ECONNRESET | errno.EPIPE:
            return f"{where} was refused: whoever got it runs no agent for this pool, or limits the rate"
        case errno.EPERM:
            return f"could not ask {where}: no right to a transparent socket, give the agent CAP_NET_ADMIN"
        case errno.ENETUNREACH | errno.EHOSTUNREACH | errno.EINVAL | errno.EACCES:
            return no_way(where, error)
        case code:
            return f"asking {where} failed: {os.strerror(code or 0)}"


def no_way(where: str, error: OSError) -> str:
    """The kernel would not send it: its errors name the kind of route that stood in the way."""
    code = error.errno or 0
    reason = {
        errno.EINVAL: "a blackhole route of this node drops it",
        errno.ENETUNREACH: "this node has no route for it",
        errno.EACCES: "a prohibit route of this node refuses it",
    }.get(code, os.strerror(code))
    return f"no way to {where}: {reason}"


class Limit:
    """At most ``rate`` a second, for each key and bounded in keys: counts within the running second."""

    def __init__(self, rate: int, *, keys: int = 1024) -> None:
        self._rate, self._keys = rate, keys
        self._second = 0
        self._counts: dict[bytes, int] = {}

    def allows(self, key: bytes, now: float) -> bool:
        """Count one, if there is room for it."""
        if int(now) != self._second:
            self._second = int(now)
            self._counts.clear()
        count = self._counts.get(key, 0)
        if count >= self._rate or (not count and len(self._counts) >= self._keys):
            return False
        self._counts[key] = count + 1
        return True


class Listener:
    """Answers who connects to any address of the pools; one for each family.

    ``answer(local)`` gives the line for an address, None for one outside the pools: such a connection is reset. Nothing
    that a client sends is looked at. Everything is bounded: the backlog, what is held, the rate.
    """

    def __init__(self, made: socket.socket, answer: Callable[[Address], bytes | None]) -> None:
        self._socket = made
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._held: OrderedDict[socket.socket, float] = OrderedDict()
        self._sweep: asyncio.TimerHandle | None = None
        self._per_source, self._in_all = Limit(PER_SOURCE), Limit(PER_SECOND)
        self.answered = 0
        self.refused = 0
        self._pause: asyncio.TimerHandle | None = None
        made.listen(BACKLOG)
        self._listen()

    def _listen(self) -> None:
        self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Stop; the connections still held are reset."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for held in list(self._held):
            self._drop(held)
        for timer in (self._sweep, self._pause):
            if timer:
                timer.cancel()

    def _accept(self) -> None:
        for _ in range(BACKLOG):
            try:
                made, remote = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor or memory is free: the socket stays readable, so look away for a while
                self._loop.remove_reader(self._socket)
                self._pause = self._loop.call_later(HOLD, self._listen)
                return
            made.settimeout(0)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOW)
            if self._served(made, remote[0]):
                self.answered += 1
            else:
                self.refused += 1
                made.close()

    def _served(self, made: socket.socket, remote: str) -> bool:
        now = self._loop.time()
        try:
            line = self._answer(parse_address(made.getsockname()[0]))
            if line is None or not self._allowed(parse_address(remote), now):
                return False
            made.send(line)
        except (OSError, ValueError):
            return False
        self._hold(made, now)
        return True

    def _allowed(self, remote: Address, now: float) -> bool:
        source: Prefix = network(remote, 26 if len(remote) == 4 else 122)
        return self._per_source.allows(source, now) and self._in_all.allows(b"", now)

    def _hold(self, made: socket.socket, now: float) -> None:
        """Leave the closing to the client: a reset right behind the line can overtake the client's connect()."""
        while len(self._held) >= HELD:
            self._drop(next(iter(self._held)))
        self._held[made] = now + HOLD
        self._loop.add_reader(made, self._heard, made)
        if self._sweep is None:
            self._sweep = self._loop.call_later(HOLD, self._expire)

    def _heard(self, made: socket.socket) -> None:
        """The client's own line, or its end."""
        try:
            if 0 < len(made.recv(MAX_LINE)) < MAX_LINE:
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(made)

    def _drop(self, made: socket.socket) -> None:
        self._held.pop(made, None)
        self._loop.remove_reader(made)
        made.close()

    def _expire(self) -> None:
        self._sweep = None
        now = self._loop.time()
        while self._held and next(iter(self._held.values())) <= now:
            self._drop(next(iter(self._held)))
        if self._held:
            self._sweep = self._loop.call_at(next(iter(self._held.values())), self._expire)
