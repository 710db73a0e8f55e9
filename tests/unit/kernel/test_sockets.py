from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgp_agent.core.fib import Fib, Operation, Verb
from bgp_agent.core.nexthop import Link, NextHops
from bgp_agent.core.prefix import parse_prefix
from bgp_agent.core.values import Blackhole
from bgp_agent.kernel.dumps import read_all
from bgp_agent.kernel.links import IFINFOMSG
from bgp_agent.kernel.listen import Heard, Listener
from bgp_agent.kernel.routes import Packer, Reader
from bgp_agent.kernel.sockets import Asker, Writer
from bgp_agent.kernel.sysctl import Sysctls
from bgp_agent.kernel.wire import NLMSG_DONE, NLMSG_ERROR, U32, WireError, attribute, message


class Fake(socket.socket):
    """A datagram socket that says yes to what only netlink knows."""

    def setsockopt(self, *_: object) -> None:
        pass

    def bind(self, _address: object) -> None:
        pass

    def getsockname(self) -> tuple[int, int]:
        return 4711, 0


@contextlib.contextmanager
def kernel_side() -> Iterator[tuple[Fake, socket.socket]]:
    """Our end, and the end on which a test plays the kernel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs:
        theirs.settimeout(1)
        made = Fake(fileno=ours.detach())
        try:
            yield made, theirs
        finally:
            made.close()


def error(sequence: int, code: int) -> bytes:
    return message(NLMSG_ERROR, 0, sequence, struct.pack("=iIHHII", -code, 36, 24, 5, sequence, 0))


DONE = struct.pack("=i", 0)
OPERATIONS = [Operation(Verb.CREATE, parse_prefix(f"192.0.2.{at}/32"), 254, 6, Blackhole()) for at in range(5)]


def test_a_refusal_is_matched_to_its_operation_by_the_sequence_number() -> None:
    with kernel_side() as (ours, kernel):
        writer = Writer(lambda: ours, Packer(4096, 179))
        kernel.send(error(3, errno.EEXIST) + error(77, errno.EPERM) + error(1, 0))
        refusals, lost = writer.write(OPERATIONS)
        assert {at: said.errno for at, said in refusals.items()} == {2: errno.EEXIST}
        assert not lost


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_garbage_after_a_write_means_that_a_dump_has_to_tell(garbage: bytes) -> None:
    with kernel_side() as (ours, kernel):
        writer = Writer(lambda: ours, Packer(4096, 179))
        kernel.send(b"\x08\0" + garbage)
        refusals, lost = writer.write(OPERATIONS)
        assert lost
        assert refusals == {}


async def read(pieces: list[bytes]) -> Fib:
    """A first dump in which the kernel answers the first question with ``pieces``."""
    fib = Fib(4096, 179)
    with kernel_side() as (ours, kernel):
        asker = Asker(lambda: ours)
        for piece in pieces:
            kernel.send(piece)
        async with asyncio.timeout(5):
            await read_all(asker, Reader(), fib, NextHops(179), Sysctls())
    return fib


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=50)
def test_a_garbled_dump_is_given_up_and_nothing_counts_as_gone(garbage: bytes) -> None:
    with pytest.raises((WireError, OSError)):
        asyncio.run(read([b"\x09\0\0\0" + garbage]))


@pytest.mark.parametrize("code", [errno.EPERM, errno.EBUSY])
async def test_a_refused_dump_tells_the_errno(code: int) -> None:
    with pytest.raises(OSError, match="refused a dump") as caught:
        await read([error(1, code)])
    assert caught.value.errno == code


async def test_a_row_that_cannot_be_read_stops_none_of_the_others() -> None:
    bad = message(24, 2, 5, b"\x02\xff" + bytes(10))
    good = Packer(4096, 179).pack(OPERATIONS[:1], 5)[0]
    # Links, addresses, netconf twice, routes: five questions.
    answers = [message(NLMSG_DONE, 2, at, DONE) for at in range(1, 5)]
    fib = await read([*answers, bad + good, message(NLMSG_DONE, 2, 5, DONE)])
    assert fib.ready
    assert fib.adopted() == {OPERATIONS[0].prefix: Blackhole()}


async def test_an_interrupted_dump_is_asked_for_again_and_nothing_counts_as_gone() -> None:
    answers = [message(NLMSG_DONE, 2, at, DONE) for at in range(1, 5)]
    fib = await read([*answers, message(NLMSG_DONE, 0x12, 5, DONE)])
    assert not fib.ready
    assert fib.suspicious


async def test_a_link_that_went_down_while_links_were_read_is_not_taken_for_up() -> None:
    """The row was read before; the message is newer."""
    next_hops, old = NextHops(179), Link(7, "eth0", up=True, running=True, mtu=1500)
    down = Link(7, "eth0", up=False, running=False, mtu=1500)
    row = message(
        16, 2, 1, IFINFOMSG.pack(0, 0, 1, 7, 0x41, 0) + attribute(3, b"eth0\0") + attribute(4, U32.pack(1500))
    )
    next_hops.replace_links([old])
    with kernel_side() as (ours, kernel):
        asker = Asker(lambda: ours)
        kernel.send(row)
        reading = asyncio.create_task(read_all(asker, Reader(), Fib(4096, 179), next_hops, Sysctls()))
        await asyncio.sleep(0)
        next_hops.link(down)
        kernel.send(message(NLMSG_DONE, 2, 1, DONE))
        for at in range(2, 8):
            late = row.replace(b"\x41\0\0\0", bytes(4))[:8] + struct.pack("=I", at) + row[12:].replace(b"\x41", b"\0")
            kernel.send((late if at == 3 else b"") + message(NLMSG_DONE, 2, at, DONE))
        async with asyncio.timeout(5):
            await reading
    assert next_hops.links() == (down,)


async def test_what_is_left_of_a_dump_that_was_given_up_is_passed_over() -> None:
    stale = message(24, 2, 900, b"garbage that nobody looks at")
    answers = [message(NLMSG_DONE, 2, at, DONE) for at in range(1, 6)]
    assert (await read([stale, *answers])).ready


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_a_garbled_message_asks_for_a_dump_and_never_ends_the_listening(garbage: bytes) -> None:
    with kernel_side() as (ours, kernel):
        del kernel
        listener = Listener(lambda: ours, (), Fib(4096, 179), NextHops(179), Sysctls(), deaf_to=1, buffer=4096)
        heard = Heard()
        for kind in (16, 17, 20, 21, 24, 25, 80):
            listener._take(message(kind, 0, 0, garbage), heard)
        heard.unclear = False
        listener._take(b"\x09\0\0\0" + garbage, heard)
        assert heard.unclear
