"""A pod of the compose lab: ``python -m lab.compose.pod NODE ADDRESS [OTHER…]``.

It gets its network from its node, answers whoever sends it a packet, and asks every OTHER pod ten times a second with a
numbered one. A change and the count of what was never answered are lines of its log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
import sys
from dataclasses import dataclass, field
from typing import Final, cast

from azure_twin.containers.channel import Channel, Message
from azure_twin.containers.members import own_namespace

from lab.compose.node import GATEWAY, ip
from lab.compose.relay import wires

PORT: Final = 7007
PAUSE: Final = 0.1  # seconds between two questions
PATIENCE: Final = 1.0  # seconds after which a packet counts as lost
REPORT: Final = 30.0  # seconds between two counts in the log
QUESTION: Final = struct.Struct("!cQ")


def say(text: str | None) -> None:
    """A line of the log, if there is something to say."""
    if text is not None:
        print(text, flush=True)


@dataclass(slots=True)
class Other:
    """What is known of another pod; counted from its first answer on.

    ``waiting``: number -> when it was sent, of what is not answered yet; ``last``: when the last answer came.
    """

    address: str
    sent: int = 0
    lost: int = 0
    waiting: dict[int, float] = field(default_factory=dict)
    last: float | None = None
    silent: bool = True

    def ask(self, now: float) -> bytes:
        """The next question."""
        self.sent += 1
        self.waiting[self.sent] = now
        return QUESTION.pack(b"?", self.sent)

    def answered(self, number: int, now: float) -> str | None:
        """Take in an answer; what there is to say of it."""
        said = None
        if self.silent:
            missed = [each for each in self.waiting if each < number]
            for each in missed:
                del self.waiting[each]
            if self.last is None:
                said, self.lost, self.sent = f"{self.address} answers", 0, len(self.waiting)
            else:
                self.lost += len(missed)
                said = f"{self.address} answers again after {now - self.last:.1f} s, {self.lost} packets lost"
        self.waiting.pop(number, None)
        self.last, self.silent = now, False
        return said

    def judge(self, now: float) -> str | None:
        """What has waited for too long is lost; what there is to say of it."""
        for number in [number for number, at in self.waiting.items() if at < now - PATIENCE]:
            del self.waiting[number]
            self.lost += 1
        if self.silent or self.last is None or self.last > now - PATIENCE:
            return None
        self.silent = True
        return f"{self.address} is silent"


class Talk(asyncio.DatagramProtocol):
    """Answers questions, takes in answers."""

    def __init__(self, others: dict[str, Other]) -> None:
        self.others = others
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A question or an answer."""
        if len(data) != QUESTION.size or self.transport is None:
            return
        kind, number = QUESTION.unpack(data)
        if kind == b"?":
            self.transport.sendto(QUESTION.pack(b"!", number), addr)
        elif addr[0] in self.others:
            say(self.others[addr[0]].answered(number, asyncio.get_running_loop().time()))


async def join(node: str, address: str) -> None:
    """Have the network until the node is gone."""
    try:
        channel = await Channel.open(wires(node))
    except OSError:
        return
    with contextlib.closing(channel):
        namespace = own_namespace()
        try:
            channel.send(Message(join=address), (namespace,))
        finally:
            os.close(namespace)
        if await channel.receive() is None:
            return
        await ip("address", "add", f"{address}/32", "dev", "eth0")
        await ip("link", "set", "eth0", "up")
        await ip("route", "add", GATEWAY, "dev", "eth0", "scope", "link")
        await ip("route", "add", "default", "via", GATEWAY, "dev", "eth0")
        say(f"{address} has its network")
        await channel.receive()


async def stay(node: str, address: str) -> None:
    """Have a network, and again when the node was made anew, for ever."""
    while True:
        await join(node, address)
        await asyncio.sleep(0.5)


async def talk(address: str, others: dict[str, Other]) -> None:
    """Ask the others, for ever."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Talk(others), local_addr=("0.0.0.0", PORT))  # noqa: S104 - its address comes later
    due = loop.time() + REPORT
    while True:
        now = loop.time()
        for other in others.values():
            say(other.judge(now))
            transport.sendto(other.ask(now), (other.address, PORT))
        if now >= due:
            due += REPORT
            counts = (f"{each.address} {each.lost} of {each.sent} lost" for each in others.values())
            say(f"{address}: {', '.join(counts)}")
        await asyncio.sleep(PAUSE)


async def run(node: str, address: str, others: list[str]) -> None:
    """Be the pod until told to end."""
    async with asyncio.TaskGroup() as tasks:
        known = {each: Other(each) for each in others if each != address}
        here = [tasks.create_task(stay(node, address)), tasks.create_task(talk(address, known))]
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, lambda: [task.cancel() for task in here])


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], sys.argv[3:]))
