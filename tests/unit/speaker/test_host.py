from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bgp_agent.speaker import host as host_module
from bgp_agent.speaker import link
from bgp_agent.speaker.definition import PeerDefinition
from bgp_agent.speaker.host import Host
from bgp_agent.speaker.premises import HostError, Settings
from bgp_agent.speaker.process import PeerProcess
from bgp_agent.speaker.protocol import VERSION, FrameReader, Kind, Lines, Message, lines, message
from bgp_agent.speaker.store import save

LOG = logging.getLogger("test")
#: A peer that must stay down: no ExaBGP runs in these tests.
DOWN = PeerDefinition(
    "192.0.2.4", 65515, 64512, "192.0.2.1", local_address="127.0.0.1", problem="password_file is missing"
)


class Caller:
    """A raw connection to a host."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._frames = FrameReader()
        self._read: list[Message | Lines] = []

    def say(self, *frames: bytes) -> None:
        for frame in frames:
            self.writer.write(frame)

    def hello(self, protocol: float = VERSION) -> None:
        self.say(message(Kind.HELLO, protocol=protocol, version="test"))

    async def hear(self, kind: Kind) -> Message:
        """The next frame of a kind; what comes before it is passed over."""
        async with asyncio.timeout(5):
            while True:
                while self._read:
                    frame = self._read.pop(0)
                    if isinstance(frame, Message) and frame.kind is kind:
                        return frame
                data = await self.reader.read(65536)
                assert data, f"closed before {kind.name}"
                self._read += self._frames.feed(data)

    async def closed(self) -> bool:
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):
                while await self.reader.read(65536):
                    pass
        return True


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@contextlib.asynccontextmanager
async def hosting(state_dir: Path) -> AsyncIterator[Settings]:
    settings = Settings(state_dir, port=0, stop_timeout=1.0)
    host = Host(settings, LOG)
    task = asyncio.create_task(host.run())
    try:
        deadline = time.monotonic() + 5
        while not answers(settings.socket):
            assert not task.done(), task.exception()
            assert time.monotonic() < deadline, "the host does not answer"
            await asyncio.sleep(0.01)
        yield settings
    finally:
        host.ask_to_stop("the test")
        assert await task == 0


@contextlib.asynccontextmanager
async def calling(settings: Settings) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_unix_connection(str(settings.socket))
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    async with hosting(tmp_path / "state") as made:
        yield made


async def test_another_version_is_told_so_and_touches_no_session(settings: Settings) -> None:
    async with calling(settings) as caller:
        caller.hello(VERSION + 1)
        assert f"version {VERSION + 1}" in (await caller.hear(Kind.REFUSED)).text("reason")
        caller.say(message(Kind.DEFINE, definition=DOWN.to_json()))
        assert await caller.closed()
    assert not (settings.state_dir / "peers.json").exists()


@pytest.mark.parametrize(
    "frame",
    [
        b"GET / HTTP/1.1\r\n\r\n", message(Kind.READY), lines(Kind.COMMANDS, "192.0.2.4", 1, b"x\n"),
        message(Kind.HELLO, protocol="one"),
    ],
    ids=["http", "no hello", "commands first", "no number"],
)  # fmt: skip
async def test_stranger_is_refused_with_the_reason(settings: Settings, frame: bytes) -> None:
    async with calling(settings) as caller:
        caller.say(frame)
        assert (await caller.hear(Kind.REFUSED)).text("reason")
        assert await caller.closed()


@pytest.mark.parametrize(
    "frame",
    [
        message(Kind.DEFINE, definition={"address": "x"}), message(Kind.DEFINE), message(Kind.REMOVE),
        message(Kind.RESTART, peer="192.0.2.4"), message(Kind.PREPARED), message(Kind.READY),
    ],
)  # fmt: skip
async def test_agent_that_talks_nonsense_loses_its_connection_and_nothing_else(
    settings: Settings, frame: bytes
) -> None:
    async with calling(settings) as caller:
        caller.hello()
        await caller.hear(Kind.READY)
        caller.say(message(Kind.DEFINE, definition=DOWN.to_json()), frame)
        assert await caller.closed()
    async with calling(settings) as caller:
        caller.hello()
        assert (await caller.hear(Kind.STATE)).text("peer") == DOWN.address


async def test_peer_that_must_stay_down_shows_its_problem_and_is_kept_for_the_next_host(tmp_path: Path) -> None:
    for expected in (False, True):
        async with hosting(tmp_path / "state") as settings, calling(settings) as caller:
            caller.hello()
            if not expected:
                await caller.hear(Kind.READY)
                caller.say(message(Kind.DEFINE, definition=DOWN.to_json()))
            state = await caller.hear(Kind.STATE)
            assert state.body["problem"] == DOWN.problem
            assert state.body["fingerprint"] == DOWN.fingerprint
            assert state.body["process"] == "stopped"


async def test_an_agent_of_a_release_that_reckons_fingerprints_otherwise_knows_its_peer_again(tmp_path: Path) -> None:
    save(tmp_path / "peers.json", [DOWN])
    async with hosting(tmp_path) as settings, calling(settings) as caller:
        caller.hello()
        first = await caller.hear(Kind.STATE)
        assert first.body["fingerprint"] == DOWN.fingerprint
        caller.say(message(Kind.DEFINE, definition=DOWN.to_json(), fingerprint="another"))
        again = await caller.hear(Kind.STATE)
        assert again.body == {**first.body, "fingerprint": "another"}, "nothing else has changed"
    async with hosting(tmp_path) as settings, calling(settings) as caller:
        caller.hello()
        assert (await caller.hear(Kind.STATE)).body["fingerprint"] == DOWN.fingerprint


async def test_removed_peer_is_gone_from_the_file_too(settings: Settings) -> None:
    async with calling(settings) as caller:
        caller.hello()
        caller.say(message(Kind.DEFINE, definition=DOWN.to_json()), message(Kind.REMOVE, peer=DOWN.address))
        assert (await caller.hear(Kind.GONE)).text("peer") == DOWN.address
    assert DOWN.address not in (settings.state_dir / "peers.json").read_text()


async def test_commands_for_nobody_are_dropped(settings: Settings) -> None:
    async with calling(settings) as caller:
        caller.hello()
        caller.say(
            lines(Kind.COMMANDS, "192.0.2.99", 7, b"x\n"), message(Kind.REMOVE, peer="192.0.2.99"),
            message(Kind.RESTART, peer="192.0.2.99", reason="why"),
        )  # fmt: skip
        caller.say(message(Kind.DEFINE, definition=DOWN.to_json()))
        await caller.hear(Kind.STATE)


async def test_agent_that_does_not_read_is_cut_off_and_may_come_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "MAX_WAITING", 100_000)
    async with calling(settings) as caller:
        caller.hello()
        await caller.hear(Kind.READY)
        transport = caller.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        for number in range(3000):  # each change of the definition is a STATE that waits
            changed = {**DOWN.to_json(), "problem": "x" * 2000 + str(number % 2)}
            caller.say(message(Kind.DEFINE, definition=changed))
            await asyncio.sleep(0)
        transport.resume_reading()
        assert await caller.closed()
    async with calling(settings) as caller:
        caller.hello()
        await caller.hear(Kind.READY)


async def test_agent_that_does_not_answer_delays_a_planned_stop_a_moment_only(tmp_path: Path) -> None:
    async with hosting(tmp_path / "state") as settings, calling(settings) as caller:
        caller.hello()
        await caller.hear(Kind.READY)
        caller.say(message(Kind.STOP))
        assert (await caller.hear(Kind.STOPPING)).number("timeout") == 1.0
        assert await caller.closed()


async def test_socket_of_a_dead_host_is_replaced(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(state / "speaker.sock"))
    async with hosting(state) as settings:
        assert settings.socket.stat().st_mode & 0o777 == 0o600
        async with calling(settings) as caller:
            await caller.hear(Kind.HELLO)


async def test_damaged_file_of_peers_does_not_stop_the_host(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    save(state / "peers.json", [DOWN])
    (state / "peers.json").write_text((state / "peers.json").read_text()[:-5])
    async with hosting(state) as settings, calling(settings) as caller:
        caller.hello()
        await caller.hear(Kind.READY)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(Path("/proc/nowhere")), "state_dir"),
        (Settings(Path("/dev/null/x")), "state_dir"),
    ],
)
async def test_host_that_cannot_run_says_what_to_change(settings: Settings, words: str) -> None:
    with pytest.raises(HostError, match=words):
        await Host(settings, LOG).run()


async def test_unknown_user_and_too_long_a_path_are_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no user"):
        await Host(Settings(tmp_path, user="nobody-of-that-name"), LOG).run()
    with pytest.raises(HostError, match="short"):
        await Host(Settings(tmp_path / ("x" * 120)), LOG).run()


async def test_a_fault_in_looking_after_the_exabgps_does_not_end_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(host_module, "TICK", 0.01)
    looked: list[float] = []

    def faulty(_: PeerProcess, now: float) -> None:
        looked.append(now)
        raise ValueError("a fault")

    monkeypatch.setattr(PeerProcess, "check", faulty)
    save(tmp_path / "peers.json", [DOWN])
    async with hosting(tmp_path) as settings:
        async with asyncio.timeout(5):
            while len(looked) < 3:  # noqa: ASYNC110 - asked, not told
                await asyncio.sleep(0.01)
        async with calling(settings) as caller:
            caller.hello()
            assert (await caller.hear(Kind.STATE)).text("peer") == DOWN.address
    assert "they go on, and so does this" in caplog.text
