"""The control socket, both ends over a real Unix socket, and its messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.control import client, server
from bgp_agent.control.messages import (
    ACTIONS,
    TIMEOUT_MOST,
    MessageError,
    Outcome,
    Progress,
    Request,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from bgp_agent.control.server import ControlServer


class Recorded:
    """Actions that remember what was asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.release = asyncio.Event()
        self.release.set()

    async def drain(self, *, force: bool, progress: Callable[[str], None]) -> Outcome:
        self.asked.append(("drain", force))
        progress("withdrawing 2 blocks on 2 peers")
        await self.release.wait()
        return Outcome(good=force, reason="withdrawn" if force else "there is no user-defined route: use --force")

    async def undrain(self, *, progress: Callable[[str], None]) -> Outcome:
        self.asked.append("undrain")
        progress("announcing")
        raise RuntimeError("the speaker is gone")

    async def stop(self, *, everything: bool, progress: Callable[[str], None]) -> Outcome:
        self.asked.append(("stop", everything))
        progress("stopping")
        return Outcome(good=True, reason="the agent ends")


async def ask(path: Path, request: Request) -> tuple[Outcome, list[str]]:
    steps: list[str] = []
    return await asyncio.to_thread(client.call, path, request, steps.append), steps


async def raw(path: Path, data: bytes) -> Outcome:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    answer = decode_answer(await reader.readline())
    writer.close()
    assert isinstance(answer, Outcome)
    return answer


async def test_each_action_reaches_the_agent_and_its_outcome_comes_back(tmp_path: Path) -> None:
    actions, path = Recorded(), tmp_path / "agent.sock"
    async with ControlServer(path, actions).serving():
        forced = await ask(path, Request("drain", force=True))
        refused = await ask(path, Request("drain"))
        stopped = await ask(path, Request("stop", everything=True))
    assert forced == (Outcome(good=True, reason="withdrawn"), ["withdrawing 2 blocks on 2 peers"])
    assert refused[0] == Outcome(good=False, reason="there is no user-defined route: use --force")
    assert stopped == (Outcome(good=True, reason="the agent ends"), ["stopping"])
    assert actions.asked == [("drain", True), ("drain", False), ("stop", True)]


async def test_a_failing_action_is_told_and_the_next_one_works(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    async with ControlServer(path, Recorded()).serving():
        outcome, _ = await ask(path, Request("undrain"))
        assert outcome == Outcome(good=False, reason="undrain failed: the speaker is gone")
        assert (await ask(path, Request("stop")))[0].good


async def test_a_drain_that_takes_too_long_is_told_so(tmp_path: Path) -> None:
    actions, path = Recorded(), tmp_path / "agent.sock"
    actions.release.clear()
    async with ControlServer(path, actions).serving():
        outcome, steps = await ask(path, Request("drain", timeout=0.05))
    assert not outcome.good
    assert "not done after 0.05 s" in outcome.reason
    assert steps


async def test_a_caller_that_goes_away_leaves_the_drain_under_way(tmp_path: Path) -> None:
    actions, path = Recorded(), tmp_path / "agent.sock"
    actions.release.clear()
    async with ControlServer(path, actions).serving():
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(encode_request(Request("drain", force=True)))
        assert isinstance(decode_answer(await reader.readline()), Progress)
        writer.close()
        await writer.wait_closed()
        actions.release.set()
        assert (await ask(path, Request("drain", force=True)))[0].good


async def test_the_socket_is_for_its_owner_alone_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    path.write_text("a leftover")
    async with ControlServer(path, Recorded()).serving():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_ISSOCK(path.stat().st_mode)
    assert not path.exists()


#: Connects to agent.sock in its working directory, sends a line, prints the answer as it came. Everything is imported
#: before the user changes: as another one it could not read the interpreter's files.
AS_NOBODY = """
import contextlib, os, socket, sys
os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
connection = socket.socket(socket.AF_UNIX); connection.connect("agent.sock")
with contextlib.suppress(BrokenPipeError):  # it may be refused before it has asked
    connection.sendall(sys.argv[1].encode())
os.write(1, connection.recv(4096))
"""


def ask_as_nobody(folder: Path) -> bytes:
    """Ask for a stop as another user, in a process of its own: a user cannot be changed back."""
    (folder / "agent.sock").chmod(0o666)
    folder.chmod(0o711)
    line = encode_request(Request("stop")).decode()
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, line], cwd=folder, capture_output=True, check=True, timeout=20
    ).stdout


async def test_a_caller_that_is_refused_before_it_has_asked_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why, closed = Outcome(good=False, reason="8 callers wait already"), threading.Event()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "agent.sock"))
        listening.listen()

        def refuse() -> None:
            with listening.accept()[0] as caller:
                caller.sendall(encode_answer(why))
            closed.set()

        def late(request: Request) -> bytes:
            assert closed.wait(5)
            return encode_request(request)

        monkeypatch.setattr(client, "encode_request", late)
        told, _ = await asyncio.gather(ask(tmp_path / "agent.sock", Request("undrain")), asyncio.to_thread(refuse))
    assert told == (why, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as another user")
async def test_another_user_is_refused_by_the_kernels_word(tmp_path: Path) -> None:
    actions = Recorded()
    async with ControlServer(tmp_path / "agent.sock", actions).serving():
        answer = decode_answer(await asyncio.to_thread(ask_as_nobody, tmp_path))
    assert isinstance(answer, Outcome)
    assert "user 65534 may not control this agent" in answer.reason
    assert not actions.asked


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"drain\n", "not a line of JSON"),
        (b"[1]\n", "not a JSON object"),
        (b'{"action":"drain"}\n', "version 1, not None"),
        (b'{"version":2,"action":"drain"}\n', "version 1, not 2"),
        (b'{"version":1,"action":"reboot"}\n', "'reboot' is not one of drain, undrain, stop"),
        (b'{"version":1,"action":"drain","force":"yes"}\n', "true or false"),
        (b'{"version":1,"action":"drain","timeout":-1}\n', "timeout"),
        (b'{"version":1,"action":"drain","timeout":NaN}\n', "timeout"),
        (b'{"version":1,"action":"drain","timeout":true}\n', "timeout"),
        (b"[" * 3000 + b"\n", "not a line of JSON"),
        (b"x" * 100_000 + b"\n", "not understood"),
    ],
)
async def test_what_is_not_understood_changes_nothing(tmp_path: Path, line: bytes, why: str) -> None:
    actions, path = Recorded(), tmp_path / "agent.sock"
    async with ControlServer(path, actions).serving():
        outcome = await raw(path, line)
    assert not outcome.good
    assert why in outcome.reason
    assert not actions.asked


async def test_a_caller_that_says_nothing_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ASK_TIMEOUT", 0.05)
    path = tmp_path / "agent.sock"
    async with ControlServer(path, Recorded()).serving():
        assert "nothing was asked" in (await raw(path, b"")).reason


async def test_callers_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    async with ControlServer(path, Recorded()).serving():
        held = [await asyncio.open_unix_connection(path) for _ in range(server.CALLERS)]
        assert "8 callers wait already" in (await raw(path, b"\n")).reason
        for _, writer in held:
            writer.close()


def test_without_an_agent_the_error_names_the_socket_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(client.UnreachableError, match=r"agent\.sock.*is `bgp-agent run` started"):
        client.call(tmp_path / "agent.sock", Request("drain"), print)


DYING = """
import socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
print("up", flush=True)
s.accept()[0].recv(10)
"""


def test_an_agent_that_dies_in_between_is_said(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with subprocess.Popen([sys.executable, "-c", DYING, str(path)], stdout=subprocess.PIPE) as dying:
        assert dying.stdout
        assert dying.stdout.readline() == b"up\n"
        with pytest.raises(client.UnreachableError, match=r"went away|broke off"):
            client.call(path, Request("drain"), print)


SPEAKER = """
import signal, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
if len(sys.argv) > 2: signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True); signal.pause(); signal.pause()
"""


def speaker(path: Path, *more: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", SPEAKER, str(path), *more], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    return process


def test_ending_the_speaker_hits_the_process_that_listens(tmp_path: Path) -> None:
    with speaker(tmp_path / "speaker.sock") as process:
        outcome = client.end(tmp_path / "speaker.sock", 10)
        assert outcome == Outcome(good=True, reason=f"the speaker (process {process.pid}) has ended")
        assert process.wait(5) == -signal.SIGTERM
    assert client.end(tmp_path / "speaker.sock", 1) == Outcome(good=True, reason="no speaker runs")


def test_a_speaker_that_does_not_end_is_said(tmp_path: Path) -> None:
    with speaker(tmp_path / "speaker.sock", "stubborn") as process:
        outcome = client.end(tmp_path / "speaker.sock", 0.05)
        process.kill()
    assert not outcome.good
    assert "has not ended after 0.05 s" in outcome.reason


@given(st.builds(Request, st.sampled_from(ACTIONS), st.booleans(), st.floats(0.001, TIMEOUT_MOST), st.booleans()))
def test_requests_survive_the_wire(request_: Request) -> None:
    assert decode_request(encode_request(request_)) == request_


@given(st.builds(Progress, st.text(max_size=100)) | st.builds(Outcome, st.booleans(), st.text(max_size=100)))
def test_answers_survive_the_wire(answer: Progress | Outcome) -> None:
    assert decode_answer(encode_answer(answer)) == answer


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["version", "action", "force", "good"]), inner),
)


@given(st.binary() | JSONS.map(lambda value: json.dumps(value).encode()))
def test_no_line_makes_another_error_than_the_one_that_says_so(line: bytes) -> None:
    for decode in (decode_request, decode_answer):
        with contextlib.suppress(MessageError):
            decode(line)
