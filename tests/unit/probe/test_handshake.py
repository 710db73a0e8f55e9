from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.core.prefix import Address, parse_address
from bgp_agent.probe.handshake import (
    HELD,
    MAX_LINE,
    PER_SOURCE,
    Answer,
    AnswerError,
    Limit,
    Listener,
    SilentError,
    answer_line,
    ask,
    read_answer,
)
from tests.unit.probe.fabric import until

LOCALHOST = parse_address("127.0.0.1")


# --- the line --------------------------------------------------------------------------------------------------------
def test_the_line_as_sent() -> None:
    assert answer_line("node-b", own=True) == b"bgp-agent 1 own node-b\n"
    assert answer_line("node-b", own=False) == b"bgp-agent 1 other node-b\n"


@given(st.text(), st.booleans())
def test_every_name_makes_a_line_that_can_be_read(name: str, own: bool) -> None:
    answer = read_answer(answer_line(name, own=own))
    assert answer.own is own


def test_what_a_later_version_adds_behind_the_name_is_ignored() -> None:
    assert read_answer(b"bgp-agent 1 own node-b load=3\n") == Answer("node-b", own=True)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "no end"),
        (b"bgp-agent 1 own node-b", "no end"),
        (b"bgp-agent 1 own " + b"n" * MAX_LINE + b"\n", "no end"),
        (b"SSH-2.0-OpenSSH_9.2\n", "no bgp-agent"),
        (b"\n", "no bgp-agent"),
        (b"bgp-agent 2 own node-b\n", "version '2'"),
        (b"bgp-agent 1 mine node-b\n", "malformed"),
        (b"bgp-agent 1 own \n", "malformed"),
        (b"bgp-agent 1 own \xff\xfe\n", "malformed"),
        (b"bgp-agent 1 own " + b"n" * 254 + b"\n", "malformed"),
        (b"bgp-agent 1 own node\x1b[31m\n", "malformed"),
    ],
)
def test_what_is_no_answer_is_refused_with_the_reason(line: bytes, why: str) -> None:
    with pytest.raises(AnswerError, match=why):
        read_answer(line)


@given(st.binary(max_size=400) | st.binary(max_size=60).map(lambda junk: b"bgp-agent 1 own " + junk + b"\n"))
def test_whatever_a_stranger_sends_is_read_or_refused(line: bytes) -> None:
    with contextlib.suppress(AnswerError):
        answer = read_answer(line)
        assert answer.node.isascii()
        assert answer.node.isprintable()
        assert 0 < len(answer.node) <= 253


def test_the_limit_counts_by_the_second_for_each_source_and_forgets() -> None:
    limit = Limit(2, keys=2)
    assert [limit.allows(b"a", 1.0), limit.allows(b"a", 1.5), limit.allows(b"a", 1.9)] == [True, True, False]
    assert limit.allows(b"b", 1.9)
    assert not limit.allows(b"c", 1.9)  # no memory for more sources in this second
    assert limit.allows(b"c", 2.0)
    assert limit.allows(b"a", 2.0)


# --- the listener, on loopback ---------------------------------------------------------------------------------------
@contextlib.asynccontextmanager
async def listening(line: bytes | None = b"bgp-agent 1 own node-b\n") -> AsyncIterator[tuple[Listener, int]]:
    made = socket.socket()
    made.settimeout(0)
    made.bind(("127.0.0.1", 0))
    asked: list[Address] = []

    def answer(local: Address) -> bytes | None:
        asked.append(local)
        return line

    listener = Listener(made, answer)
    try:
        yield listener, made.getsockname()[1]
    finally:
        assert set(asked) <= {LOCALHOST}
        listener.close()


def client() -> socket.socket:
    made = socket.socket()
    made.settimeout(0)
    return made


async def exchange(port: int, sent: bytes = b"") -> bytes:
    """Connect, send, and read a line, or until the other end closes or resets."""
    loop = asyncio.get_running_loop()
    got = b""
    with contextlib.closing(client()) as made, contextlib.suppress(ConnectionError):
        await loop.sock_connect(made, ("127.0.0.1", port))
        if sent:
            await loop.sock_sendall(made, sent)
        while not got.endswith(b"\n") and (more := await loop.sock_recv(made, 4096)):
            got += more
    return got


async def test_the_listener_says_its_line_and_lets_the_client_close() -> None:
    async with listening() as (listener, port), asyncio.timeout(5):
        assert await exchange(port) == b"bgp-agent 1 own node-b\n"
        assert listener.answered == 1


async def test_an_address_outside_of_the_pools_is_reset_without_a_word() -> None:
    async with listening(line=None) as (listener, port), asyncio.timeout(5):
        assert await exchange(port) == b""
        assert (listener.answered, listener.refused) == (0, 1)


@pytest.mark.parametrize("garbage", [b"\0" * 100_000, b"GET / HTTP/1.1\r\n\r\n", b"bgp-agent 9 own x\n" * 500])
async def test_garbage_from_a_client_changes_nothing_for_the_next_one(garbage: bytes) -> None:
    async with listening() as (_, port), asyncio.timeout(5):
        for _ in range(10):
            await exchange(port, garbage)
        assert await exchange(port) == b"bgp-agent 1 own node-b\n"


async def test_a_flood_is_refused_beyond_the_rate_and_answered_again_in_the_next_second() -> None:
    async with listening() as (listener, port), asyncio.timeout(20):
        with contextlib.ExitStack() as many:
            for _ in range(PER_SOURCE * 5):
                made = many.enter_context(contextlib.closing(client()))
                with contextlib.suppress(ConnectionError):
                    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
                assert len(listener._held) <= HELD
            await until("every connection is served or refused", lambda: not _backlog(listener))
            assert listener.refused >= PER_SOURCE
            assert len(listener._held) <= HELD
        flooded = int(asyncio.get_running_loop().time())
        await until("the next second", lambda: int(asyncio.get_running_loop().time()) != flooded)
        assert await exchange(port) == b"bgp-agent 1 own node-b\n"


async def test_clients_that_never_leave_are_dropped_after_a_second() -> None:
    async with listening() as (listener, port), asyncio.timeout(10):
        with contextlib.ExitStack() as many:
            for _ in range(10):
                made = many.enter_context(contextlib.closing(client()))
                await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
            await until("all are held", lambda: len(listener._held) == 10)
            await until("all are dropped", lambda: not listener._held)
            assert listener._sweep is None


def _backlog(listener: Listener) -> int:
    """Connections that wait for accept (tcp_info: tcpi_unacked of a listening socket)."""
    info = listener._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int(struct.unpack_from("=I", info, 24)[0])


async def test_no_free_descriptor_is_waited_out_not_spun_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as (listener, port), asyncio.timeout(10):
        calls = 0
        real = listener._socket

        class Exhausted:
            def accept(self) -> tuple[socket.socket, tuple[str, int]]:
                nonlocal calls
                calls += 1
                raise OSError(24, "Too many open files")

            def __getattr__(self, name: str) -> object:
                return getattr(real, name)

        monkeypatch.setattr(listener, "_socket", Exhausted())
        asking = asyncio.create_task(exchange(port))
        await until("one try was made", lambda: calls)
        await asyncio.sleep(0.1)
        assert calls == 1
        monkeypatch.setattr(listener, "_socket", real)
        assert await asking == b"bgp-agent 1 own node-b\n"


# --- asking ----------------------------------------------------------------------------------------------------------
@contextlib.asynccontextmanager
async def stranger(says: bytes, *, then_close: bool = True) -> AsyncIterator[int]:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        if then_close:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Plain(socket.socket):
    """The port is shared only in the real world: here the client takes any."""

    def bind(self, address: tuple[str, int]) -> None:  # type: ignore[override]  # this one call is all that is made
        super().bind((address[0], 0))


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"", "no end|was refused"),
        (b"x" * 1_000_000, "no end"),
        (b"220 mail ready\n", "no bgp-agent"),
        (b"bgp-agent 7 own node-b\n", "version"),
    ],
)
async def test_a_stranger_on_the_port_proves_nothing(says: bytes, why: str) -> None:
    async with stranger(says) as port:
        with pytest.raises(SilentError, match=why):
            await ask(Plain, port, LOCALHOST, LOCALHOST, line=b"hello\n", timeout=5)


async def test_one_who_connects_and_says_nothing_is_a_time_out() -> None:
    async with stranger(b"", then_close=False) as port:
        with pytest.raises(SilentError, match=r"did not answer within 0\.2 s"):
            await ask(Plain, port, LOCALHOST, LOCALHOST, line=b"hello\n", timeout=0.2)


async def test_a_refusal_is_no_evidence() -> None:
    async with listening() as (_, port):
        pass
    with pytest.raises(SilentError, match="was refused"):
        await ask(Plain, port, LOCALHOST, LOCALHOST, line=b"hello\n", timeout=5)
