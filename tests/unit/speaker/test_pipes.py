from __future__ import annotations

import asyncio
import os
import time

import pytest

from bgp_agent.speaker import pipes
from bgp_agent.speaker.pipes import Inlet, Outlet


async def test_everything_arrives_and_the_end_is_told_once() -> None:
    read, write = os.pipe()
    chunks: list[bytes] = []
    ended = asyncio.Event()
    inlet = Inlet(read, chunks.append, ended.set)
    os.write(write, b"one")
    os.write(write, b"two")
    os.close(write)
    await asyncio.wait_for(ended.wait(), 5)
    assert b"".join(chunks) == b"onetwo"
    inlet.close()


async def test_drain_takes_what_is_there_and_waits_for_nothing() -> None:
    read, write = os.pipe()
    chunks: list[bytes] = []
    inlet = Inlet(read, chunks.append, lambda: None)
    os.write(write, b"last words")
    inlet.drain()
    assert chunks == [b"last words"]
    inlet.close()
    inlet.close()
    os.close(write)


async def test_without_memory_nothing_is_lost_and_it_is_tried_again_at_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "PAUSE", 0.05)
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
    read, write = os.pipe()
    chunks: list[bytes] = []
    inlet = Inlet(read, chunks.append, lambda: None)
    os.write(write, b"what waits")
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", lambda *_: bytearray(1 << 62))
        await asyncio.sleep(0.2)
    deadline = time.monotonic() + 5
    while not chunks:
        assert time.monotonic() < deadline, "nothing is read any more"
        await asyncio.sleep(0.01)
    assert chunks == [b"what waits"]
    assert 1 <= len(faults) <= 4
    assert all(isinstance(fault, MemoryError) for fault in faults)
    inlet.close()
    os.close(write)


async def test_writing_to_a_full_pipe_blocks_nobody_and_loses_nothing() -> None:
    read, write = os.pipe()
    outlet = Outlet(write)
    data = os.urandom(1_000_000)
    outlet.write(data[:500_000])
    outlet.write(data[500_000:])
    assert outlet.pending > 0
    got: list[bytes] = []
    ended = asyncio.Event()
    inlet = Inlet(read, got.append, ended.set)
    deadline = time.monotonic() + 5
    while outlet.pending:
        assert time.monotonic() < deadline, "not everything was written"
        await asyncio.sleep(0)
    outlet.close()
    await asyncio.wait_for(ended.wait(), 5)
    assert b"".join(got) == data
    inlet.close()


async def test_writing_to_a_reader_that_is_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    outlet = Outlet(write)
    outlet.write(b"x")
    outlet.write(b"y")
    assert outlet.pending == 0
