"""A blocking conversation with the kernel, for the handful of rules and routes that the probe needs.

The framing is the kernel part's (:mod:`bgp_agent.kernel.wire`); nothing here is on a hot path, so one question waits
for its answer.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Final, Self

from bgp_agent.kernel.wire import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    WireError,
    attributes,
    message,
    messages,
    refusal,
)

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12
TIMEOUT: Final = 2.0
"""Seconds to wait for the kernel; it answers at once."""


def attribute_map(body: bytes, start: int) -> dict[int, bytes]:
    """The attributes behind a fixed header, by type. Raises OSError when they make no sense."""
    try:
        return dict(attributes(body, start))
    except WireError as error:
        raise OSError(f"the kernel's netlink answer makes no sense: {error}") from error


class Netlink:
    """A socket to the kernel's routing tables; blocking, for a handful of messages at a time.

    Requests and dumps raise OSError with the kernel's reason, also for an answer that makes no sense.
    """

    def __init__(self, make: Callable[[int, int, int], socket.socket]) -> None:
        self._socket = make(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self._socket.settimeout(TIMEOUT)
        with contextlib.suppress(OSError):  # filters the dump of routes in the kernel; the reader checks again
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes) -> None:
        """Send one request and wait for its acknowledgement."""
        for _ in self._answers(kind, NLM_F_ACK | flags, body):
            pass

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """The bodies of a dump."""
        return self._answers(kind, NLM_F_DUMP, body)

    def _answers(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        self._sequence += 1
        self._socket.send(message(kind, NLM_F_REQUEST | flags, self._sequence, body))
        try:
            while True:
                for received in messages(self._socket.recv(1 << 16)):
                    if received.sequence != self._sequence:
                        continue
                    if received.kind not in (NLMSG_ERROR, NLMSG_DONE):
                        yield received.body
                        continue
                    code = refusal(received).errno
                    if code > 0:
                        raise OSError(code, os.strerror(code))
                    return
        except WireError as error:
            raise OSError(f"the kernel's netlink answer makes no sense: {error}") from error
