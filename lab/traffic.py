"""Numbered packets at a steady rate, and an exact count of those that did not arrive.

Every stream is UDP from one namespace to an address of another. A packet carries its number; the receiver marks it. So
a loss is known one by one, and how long the longest silence was. One thread sends for all streams on an absolute
schedule (a late packet does not delay the next), one receives.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Final, Self

from lab.netns import Namespace, wait_for

_NUMBER: Final = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class Count:
    """What became of one stream. ``silence``: the longest time between two arrivals, in seconds."""

    name: str
    sent: int
    lost: tuple[int, ...]  # the numbers of the packets that never came
    duplicates: int
    silence: float


@dataclass(slots=True)
class _Stream:
    name: str
    sender: socket.socket
    receiver: socket.socket
    target: tuple[str, int]
    sent: int = 0
    duplicates: int = 0
    seen: set[int] = field(default_factory=set)
    last: float = 0.0
    silence: float = 0.0

    def send(self) -> None:
        number = self.sent
        self.sent += 1
        try:
            self.sender.sendto(_NUMBER.pack(number), self.target)
        except OSError:
            return  # no route to send it by: that packet is lost like any other

    def receive(self, now: float) -> None:
        (number,) = _NUMBER.unpack(self.receiver.recv(64))
        if number in self.seen:
            self.duplicates += 1
        self.seen.add(number)
        if self.last:
            self.silence = max(self.silence, now - self.last)
        self.last = now

    def count(self) -> Count:
        lost = tuple(number for number in range(self.sent) if number not in self.seen)
        return Count(self.name, self.sent, lost, self.duplicates, self.silence)


class Traffic:
    """Streams of ``rate`` packets a second each, from ``with`` to :meth:`finish`."""

    def __init__(self, rate: int = 200) -> None:
        self.rate = rate
        self._streams: list[_Stream] = []
        self._sending = threading.Event()
        self._receiving = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, name="traffic-send", daemon=True),
            threading.Thread(target=self._receive, name="traffic-receive", daemon=True),
        ]

    def stream(self, name: str, source: Namespace, target: Namespace, address: str) -> None:
        """Add a stream from ``source`` to ``address``, which lives in ``target``."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with source.entered():
            sender = socket.socket(family, socket.SOCK_DGRAM)
        with target.entered():
            receiver = socket.socket(family, socket.SOCK_DGRAM)
        receiver.bind((address, 0))
        self._streams.append(_Stream(name, sender, receiver, (address, receiver.getsockname()[1])))

    def __enter__(self) -> Self:
        self._sending.set()
        self._receiving.set()
        for thread in self._threads:
            thread.start()
        wait_for("a packet of every stream arrives", lambda: all(s.seen for s in self._streams), 5)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._sending.clear()
        self._receiving.clear()
        for thread in self._threads:
            thread.join()
        for stream in self._streams:
            stream.sender.close()
            stream.receiver.close()

    def sent(self) -> int:
        """How many packets each stream has sent so far (the smallest count)."""
        return min(stream.sent for stream in self._streams)

    def run_for(self, seconds: float) -> None:
        """Let ``seconds`` worth of packets pass, counted in packets."""
        goal = self.sent() + int(seconds * self.rate)
        wait_for(f"{seconds:g} s of traffic", lambda: self.sent() >= goal, seconds * 3 + 5)

    def finish(self) -> list[Count]:
        """Stop sending, give what is on its way a second to arrive, and count."""
        self._sending.clear()
        self._threads[0].join()
        deadline = time.monotonic() + 1.0
        while any(len(s.seen) < s.sent for s in self._streams) and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        return [stream.count() for stream in self._streams]

    def _send(self) -> None:
        start = time.monotonic()
        number = 0
        while self._sending.is_set():
            for stream in self._streams:
                stream.send()
            number += 1
            time.sleep(max(0.0, start + number / self.rate - time.monotonic()))

    def _receive(self) -> None:
        with selectors.DefaultSelector() as selector:
            for stream in self._streams:
                selector.register(stream.receiver, selectors.EVENT_READ, stream)
            while self._receiving.is_set():
                ready = selector.select(0.1)
                now = time.monotonic()
                for key, _events in ready:
                    key.data.receive(now)
