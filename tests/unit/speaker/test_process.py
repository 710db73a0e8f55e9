"""One ExaBGP's life with a stand-in for ExaBGP: a program that hands its pipes over and does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bgp_agent.speaker import process as module
from bgp_agent.speaker.definition import PeerDefinition
from bgp_agent.speaker.handover import Handover
from bgp_agent.speaker.process import PeerProcess, Place
from bgp_agent.speaker.supervision import State

PEER = PeerDefinition("10.42.0.4", 65515, 64512, "10.42.1.4", local_address="10.42.1.4")
UP = '{ "type": "state", "neighbor": { "state": "up" } }'
#: Reads its configuration for the socket and the token, hands two pipes over, answers each command with done.
HAND_OVER = """
import os, re, signal, socket, sys, time
path, token = re.search(r"handover.py (\\S+) (\\w+);", open(sys.argv[-1]).read()).groups()
events, commands = os.pipe(), os.pipe()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
    host.connect(path)
    socket.send_fds(host, [token.encode()], [events[0], commands[1]])
os.close(events[0]); os.close(commands[1])
say = lambda text: os.write(events[1], text.encode() + b"\\n")
def serve():
    while data := os.read(commands[0], 65536):
        for line in data.splitlines():
            if line.startswith(b"neighbor"):
                say('{ "type": "state", "neighbor": { "state": "down" } }')
            say("done")
"""


class Ears:
    def __init__(self) -> None:
        self.lines = b""
        self.log: list[str] = []
        self.states: list[tuple[str, str | None]] = []

    def heard(self, process: PeerProcess, lines: bytes) -> None:
        assert process.epoch
        self.lines += lines

    def logged(self, process: PeerProcess, line: str) -> None:
        assert process.address == PEER.address
        self.log.append(line)

    def changed(self, process: PeerProcess) -> None:
        self.states.append((process.snapshot.process, process.problem))


class Life:
    def __init__(self, folder: Path, code: str, peer: PeerDefinition = PEER) -> None:
        self.ears = Ears()
        account = pwd.getpwuid(os.geteuid())
        place = Place(folder, folder / "h.sock", account, command=lambda path: [sys.executable, "-c", code, str(path)])
        self.process = PeerProcess(peer, place, self.ears)
        self.handover = Handover(place.handover, account, lambda _, a, b: self.process.take_pipes(a, b))

    @contextlib.asynccontextmanager
    async def lived(self) -> AsyncIterator[PeerProcess]:
        task = asyncio.create_task(self.process.supervise())
        try:
            yield self.process
        finally:
            task.cancel()
            await asyncio.wait({task})
            self.handover.close()
            assert self.process.state is State.STOPPED

    async def until(self, what: str, condition: Callable[[], object], seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"after {seconds:g} s still not so: {what}; {self.ears.states}"
            self.process.check(time.monotonic())
            await asyncio.sleep(0.01)


async def test_pipes_come_and_commands_are_answered(tmp_path: Path) -> None:
    life = Life(tmp_path, HAND_OVER + f"say('{UP}'); serve()")
    async with life.lived() as process:
        await life.until("established", lambda: process.established)
        process.write(process.epoch, b"a\nb\n")
        process.write(process.epoch + 1, b"of another epoch\n")
        assert process.snapshot.unacked == 2
        await life.until("answered", lambda: life.ears.lines.endswith(b"done\ndone\n"))
        assert process.snapshot.unacked == 0
        assert [state for state, _ in life.ears.states] == ["starting", "running"]
        assert (tmp_path / "10.42.0.4.conf").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("lacking", ["pidfd_open", "dup"])
async def test_without_a_descriptor_to_hold_it_by_no_process_is_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Remembered(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - whatever Popen takes
            super().__init__(*args, **options)
            started.append(self)

    def used_up(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(subprocess, "Popen", Remembered)
    life = Life(tmp_path, HAND_OVER + f"try:\n    say('{UP}'); serve()\nfinally:\n    time.sleep(60)")
    async with life.lived() as process:
        with monkeypatch.context() as patch:
            patch.setattr(os, lacking, used_up)
            await life.until("the problem is told", lambda: "Too many open files" in str(process.problem))
        await life.until("it runs when there are some", lambda: process.established)
        assert [popen.poll() is None for popen in started] == [False] * (len(started) - 1) + [True]


async def test_silent_process_is_asked_and_left_alone_when_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET", 0.05)
    monkeypatch.setattr(module, "FROZEN", 0.3)
    life = Life(tmp_path, HAND_OVER + "serve()")
    async with life.lived() as process:
        await life.until("running", lambda: process.state is State.RUNNING)
        deadline = time.monotonic() + 1.5
        await life.until("a while later", lambda: time.monotonic() > deadline)
        assert [state for state, _ in life.ears.states] == ["starting", "running"]
        assert life.ears.lines == b"", "the host's own question is not for the agent"


async def test_frozen_process_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET", 0.1)
    monkeypatch.setattr(module, "FROZEN", 0.3)
    life = Life(tmp_path, HAND_OVER + "os.kill(os.getpid(), signal.SIGSTOP)")
    async with life.lived():
        await life.until("replaced", lambda: any("frozen" in (problem or "") for _, problem in life.ears.states))
        await life.until("started again", lambda: [s for s, _ in life.ears.states].count("running") > 1)


async def test_busy_process_is_not_taken_for_a_frozen_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET", 0.1)
    monkeypatch.setattr(module, "FROZEN", 0.3)
    busy = "end = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass\nserve()"
    life = Life(tmp_path, HAND_OVER + busy)
    async with life.lived() as process:
        await life.until("running", lambda: process.state is State.RUNNING)
        process.write(process.epoch, b"a\n")
        await life.until("answered", lambda: life.ears.lines == b"done\n")


async def test_process_that_never_hands_over_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START", 0.3)
    life = Life(tmp_path, "import time; time.sleep(100)")
    async with life.lived():
        await life.until("ended", lambda: any("handed over" in (problem or "") for _, problem in life.ears.states))


async def test_line_without_end_costs_the_process_not_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgp_agent.speaker.stream.MAX_LINE", 1_000_000)
    life = Life(tmp_path, HAND_OVER + "while True: os.write(events[1], b'x' * 65536)")
    async with life.lived():
        await life.until("ended", lambda: any("a line of more" in (problem or "") for _, problem in life.ears.states))


async def test_what_was_lost_for_lack_of_memory_is_told_again_by_a_new_session(tmp_path: Path) -> None:
    life = Life(tmp_path, HAND_OVER + f"say('{UP}'); serve()")
    heard, failed = life.ears.heard, list[bytes]()

    def no_memory_once(process: PeerProcess, lines: bytes) -> None:
        if not failed:
            failed.append(lines)
            raise MemoryError
        heard(process, lines)

    life.ears.heard = no_memory_once  # type: ignore[method-assign]
    async with life.lived():
        await life.until("the next one is heard", lambda: UP.encode() in life.ears.lines)
        assert any("no memory was left" in str(problem) for _, problem in life.ears.states)


async def test_crash_loop_is_told_with_the_last_words(tmp_path: Path) -> None:
    life = Life(tmp_path, "print('the reason'); raise SystemExit(3)")
    async with life.lived():
        await life.until("told", lambda: any("keeps ending" in (problem or "") for _, problem in life.ears.states))
    last = life.ears.states[-1][1] or ""
    assert "exit code 3: the reason" in last
    assert "the reason" in life.ears.log


async def test_program_that_cannot_be_executed_is_told(tmp_path: Path) -> None:
    life = Life(tmp_path, "")
    life.process = PeerProcess(
        PEER, Place(tmp_path, tmp_path / "h", pwd.getpwuid(os.geteuid()), command=lambda _: ["/nowhere/python"]),
        life.ears,
    )  # fmt: skip
    async with life.lived():
        await life.until("told", lambda: any("/nowhere/python" in (problem or "") for _, problem in life.ears.states))


async def test_established_session_is_never_nudged_and_a_lost_one_at_a_pace(tmp_path: Path) -> None:
    code = HAND_OVER + f"signal.signal(signal.SIGALRM, lambda *_: say('nudged')); say('{UP}'); serve()"
    life = Life(tmp_path, code)
    async with life.lived() as process:
        await life.until("established", lambda: process.established)
        later = time.monotonic() + 100
        assert not process.nudge(later)
        assert not process.nudge(later, knocked=True)
        process.write(process.epoch, b"neighbor x teardown\n")
        await life.until("down", lambda: not process.established)
        assert process.nudge(later)
        assert not process.nudge(later + 1)
        assert process.nudge(later + 1, knocked=True)
        assert not process.nudge(later + 1.1, knocked=True)
        await life.until("nudged", lambda: b"nudged" in life.ears.lines)


@pytest.mark.parametrize("stubborn", [False, True])
async def test_end_is_in_good_order_or_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stubborn: bool
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.3)
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    life = Life(tmp_path, HAND_OVER + ignore + f"say('{UP}'); serve()")
    async with life.lived() as process:
        await life.until("established", lambda: process.established)
        pid = process._popen.pid if process._popen else 0
        await process.end()
        assert not process.established, "the session was ended before the process"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
