"""Two agents of one network namespace that would take out each other's routes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bgp_agent.alone import alone
from bgp_agent.lock import LockedError

NAME = (os.getpid(), 200, 4096)  # a table that no other test names
HOLD = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
name = socket.socket(socket.AF_UNIX)
name.bind("\\0" + sys.argv[1])
name.listen()
print("held", flush=True)
name.accept()
"""


@contextlib.contextmanager
def held_by(uid: int) -> Iterator[None]:
    name = "bgp-agent table {} protocol {} metric {}".format(*NAME)
    with subprocess.Popen([sys.executable, "-c", HOLD, name, str(uid)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield
        process.kill()


async def test_a_second_one_is_refused_and_told_who_runs_and_may_come_when_that_is_gone() -> None:
    async with alone(*NAME):
        for _ in range(200):  # more than wait in a queue that nobody serves
            with pytest.raises(LockedError, match=rf"process {os.getpid()}\) .*stop it first"):
                async with alone(*NAME):
                    pass
            await asyncio.sleep(0)
        async with alone(NAME[0], NAME[1], 4097):
            pass
    async with alone(*NAME):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_stranger_who_holds_the_name_keeps_no_agent_from_starting(caplog: pytest.LogCaptureFixture) -> None:
    with held_by(65534):
        async with alone(*NAME):
            pass
    assert "user 65534" in caplog.text
    with held_by(0), pytest.raises(LockedError):
        async with alone(*NAME):
            pass


async def test_nor_does_one_that_does_not_even_listen(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind("\0bgp-agent table {} protocol {} metric {}".format(*NAME))
        async with alone(*NAME):
            pass
    assert "no agent" in caplog.text
