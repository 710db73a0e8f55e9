from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bgp_agent.core.prefix import parse_prefix
from bgp_agent.core.values import Announcement, Audited, PeerProblem, SessionDown, SessionUp, SpeakerEvent
from bgp_agent.speaker import client
from bgp_agent.speaker.client import Speaker
from bgp_agent.speaker.definition import PeerDefinition
from bgp_agent.speaker.pipeline import ANSWER_TIMEOUT
from bgp_agent.speaker.protocol import VERSION, FrameReader, Kind, Lines, Message, Snapshot, lines, message

PEER = PeerDefinition("10.99.1.2", 65515, 64512, "10.99.1.1", local_address="10.99.1.1")
OTHER = PeerDefinition("10.99.1.3", 65515, 64512, "10.99.1.1", local_address="10.99.1.1")
OPEN = (
    b'{ "exabgp": "5.0.0", "time": 1.0, "host" : "vm", "pid" : 17, "ppid" : 16, "counter": 2, "type": "open", '
    b'"neighbor": { "address": { "local": "10.99.1.1", "peer": "10.99.1.2" }, "asn": { "local": 64512, "peer": 65515 '
    b'}, "router-id": "10.99.1.1" , "direction": "receive", "open": { "version": 4, "asn": 65515, "hold_time": 30, '
    b'"router_id": "10.99.1.2", "capabilities": { "1": { "name": "multiprotocol", "families": [ "ipv4/unicast" ] } } '
    b"} } }"
)
UP = (
    b'{ "exabgp": "5.0.0", "time": 1.0, "host" : "vm", "pid" : 17, "ppid" : 16, "counter": 3, "type": "state", '
    b'"neighbor": { "address": { "local": "10.99.1.1", "peer": "10.99.1.2" }, "asn": { "local": 64512, "peer": 65515 '
    b'}, "router-id": "10.99.1.1" , "state": "up" } }'
)


KEY = "s3cret"


class FakeHost:
    """The host's end of the socket, as the test wants it."""

    def __init__(self, path: Path, boot: str = "one", protocol: int = VERSION) -> None:
        self.path, self.boot, self.protocol = path, boot, protocol
        self.heard: list[Message | Lines] = []
        self.writer: asyncio.StreamWriter | None = None
        self.connections = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.connections += 1
        frames = FrameReader()
        writer.write(message(Kind.HELLO, protocol=self.protocol, version="x", boot=self.boot, pid=1))
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                self.heard += frames.feed(data)
        writer.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FakeHost]:
        self.path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, str(self.path))
        try:
            yield self
        finally:
            server.close()
            if self.writer is not None:
                self.writer.close()

    def say(self, *frames: bytes) -> None:
        assert self.writer is not None
        self.writer.write(b"".join(frames))

    def kinds(self) -> list[Kind]:
        return [frame.kind for frame in self.heard]

    def asked(self) -> list[Message]:
        """What the agent wants, without its questions whether anybody is there."""
        return [frame for frame in self.heard if isinstance(frame, Message) and frame.kind is not Kind.PING]

    def commands(self) -> bytes:
        return b"".join(frame.data for frame in self.heard if isinstance(frame, Lines))


def state(peer: PeerDefinition, process: str = "running", *, established: bool = False, epoch: int = 7) -> bytes:
    opened = OPEN if established else None
    snapshot = Snapshot(process, established, time.time(), opened, epoch=epoch)
    return message(Kind.STATE, peer=peer.address, fingerprint=peer.fingerprint, **snapshot.to_json())


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "after 5 s still not so"
        await asyncio.sleep(0.005)


class Rig:
    def __init__(self, path: Path) -> None:
        self.batches: list[list[SpeakerEvent]] = []
        self.path = path
        self.speaker = Speaker(path, self.batches.append)

    @property
    def events(self) -> list[SpeakerEvent]:
        return [event for batch in self.batches for event in batch]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "s.sock")
    task = asyncio.create_task(made.speaker.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def attach(rig: Rig, host: FakeHost, *states: bytes) -> None:
    before = host.connections
    await until(lambda: host.connections > before or host.connections)
    host.say(*states, message(Kind.READY))
    await until(lambda: rig.speaker.attached)


async def test_nothing_is_defined_or_removed_before_the_peers_are_known(rig: Rig) -> None:
    async with FakeHost(rig.path).running() as host:
        await attach(rig, host, state(PEER))
        await asyncio.sleep(0.05)
        assert [frame.kind for frame in host.asked()] == [Kind.HELLO]


async def test_only_differences_are_told_to_the_host(rig: Rig) -> None:
    async with FakeHost(rig.path).running() as host:
        rig.speaker.set_peers({PEER.address: PEER})
        await attach(rig, host, state(PEER, "stopped"), state(OTHER, "stopped"))
        await until(lambda: Kind.REMOVE in host.kinds())
        rig.speaker.set_peers({PEER.address: PEER, OTHER.address: OTHER})
        host.say(message(Kind.GONE, peer=OTHER.address))
        await until(lambda: Kind.DEFINE in host.kinds())
        assert [frame.body for frame in host.asked()][1:] == [
            {"peer": OTHER.address}, {"definition": OTHER.to_json(), "fingerprint": OTHER.fingerprint},
        ]  # fmt: skip


async def test_a_key_that_cannot_be_read_for_a_while_changes_nothing_at_the_host(rig: Rig) -> None:
    keyed = replace(PEER, keyed=True, password=KEY)
    unread = replace(keyed, password=None, problem="password_file /key is not there")
    async with FakeHost(rig.path).running() as host:
        rig.speaker.set_peers({PEER.address: unread})
        await attach(rig, host, state(keyed, established=True))
        await until(lambda: any(isinstance(event, SessionUp) for event in rig.events))
        rig.speaker.set_peers({PEER.address: keyed})
        rig.speaker.set_peers({PEER.address: replace(keyed, password=KEY[::-1])})
        await until(lambda: Kind.DEFINE in host.kinds())
        defined = [frame.body["definition"] for frame in host.asked() if frame.kind is Kind.DEFINE]
        assert [PeerDefinition.from_json(each).password for each in defined] == [KEY[::-1]]


async def test_another_version_is_a_reason_and_nothing_is_sent(rig: Rig) -> None:
    async with FakeHost(rig.path, protocol=VERSION + 1).running() as host:
        rig.speaker.set_peers({PEER.address: PEER})
        await until(lambda: "same release" in rig.speaker.reason)
        assert not rig.speaker.attached
        assert {frame.kind for frame in host.asked()} <= {Kind.HELLO}


async def test_one_read_is_one_batch_and_none_comes_from_inside_a_call(rig: Rig) -> None:
    async with FakeHost(rig.path).running() as host:
        rig.speaker.set_peers({PEER.address: PEER})
        await attach(rig, host, state(PEER))
        await until(lambda: b"show adj-rib out" in host.commands())
        host.say(lines(Kind.LINES, PEER.address, 7, b"done\n" + OPEN + b"\n" + UP + b"\n"))
        await until(lambda: rig.events)
        assert len(rig.batches) == 1
        assert [type(event) for event in rig.events] == [Audited, SessionUp]
        before = len(rig.batches)
        rig.speaker.set_peers({})
        rig.speaker.set_peers({PEER.address: PEER})
        rig.speaker.announce(PEER.address, {parse_prefix("192.168.1.0/26"): Announcement()})
        assert len(rig.batches) == before


async def test_lines_of_another_epoch_are_for_nobody(rig: Rig) -> None:
    async with FakeHost(rig.path).running() as host:
        rig.speaker.set_peers({PEER.address: PEER})
        await attach(rig, host, state(PEER))
        host.say(lines(Kind.LINES, PEER.address, 6, OPEN + b"\n" + UP + b"\n"), state(PEER, "stopped"))
        await asyncio.sleep(0.05)
        assert not [event for event in rig.events if isinstance(event, SessionUp)]


async def test_losing_the_host_is_no_evidence_and_the_same_epoch_goes_on(rig: Rig) -> None:
    rig.speaker.set_peers({PEER.address: PEER})
    async with FakeHost(rig.path).running() as host:
        await attach(rig, host, state(PEER, established=True))
        await until(lambda: rig.events)
    await until(lambda: not rig.speaker.attached)
    assert not [event for event in rig.events if isinstance(event, SessionDown)]
    async with FakeHost(rig.path).running() as host:
        await attach(rig, host, state(PEER, established=True))
        await asyncio.sleep(0.05)
        assert not [event for event in rig.events if isinstance(event, SessionDown)]


async def test_sessions_of_a_host_that_is_gone_for_good_have_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """ExaBGPs end with their host: nobody at its socket for a while is evidence, and no peer stays "established"."""
    monkeypatch.setattr(client, "GONE", 0.2)
    rig.speaker.set_peers({PEER.address: PEER})
    async with FakeHost(rig.path).running() as host:
        await attach(rig, host, state(PEER, established=True))
        await until(lambda: rig.events)
    await until(lambda: [event for event in rig.events if isinstance(event, SessionDown)])
    told = PeerProblem(PEER.address, "the speaker is not running")
    await until(lambda: told in rig.events)
    await asyncio.sleep(0.3)
    assert rig.events.count(told) == 1, "said once, however often nobody answers"
    async with FakeHost(rig.path, boot="two").running() as host:
        await attach(rig, host, state(PEER, established=True, epoch=8))
        await until(lambda: isinstance(rig.events[-1], SessionUp))
        assert PeerProblem(PEER.address, None) in rig.events


async def test_a_frozen_host_is_said_ends_no_session_and_is_not_told_to_restart_anything(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PING", 0.05)
    rig.speaker.set_peers({PEER.address: PEER})
    async with FakeHost(rig.path).running() as host:
        await attach(rig, host, state(PEER, established=True))
        await until(lambda: host.connections == 2 and not rig.speaker.attached)
        assert "stopped or stuck" in rig.speaker.reason
        assert Kind.PING in host.kinds()
        assert Kind.RESTART not in host.kinds()
        assert not [event for event in rig.events if isinstance(event, SessionDown)]
        await attach(rig, host, state(PEER, established=True))


def test_a_frozen_host_is_noticed_before_its_exabgps_are_taken_for_frozen() -> None:
    assert client.PING * (client.UNANSWERED + 1) < ANSWER_TIMEOUT


async def test_a_host_that_answers_stays(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PING", 0.05)
    async with FakeHost(rig.path).running() as host:
        await attach(rig, host)
        for _ in range(10):
            host.say(message(Kind.PONG))
            await asyncio.sleep(0.05)
        assert host.connections == 1


@pytest.mark.parametrize("states", [(), (state(PEER, "starting", epoch=0),), (state(PEER, established=True, epoch=8),)])
async def test_another_host_means_that_the_sessions_of_the_last_one_are_over(
    rig: Rig, states: tuple[bytes, ...]
) -> None:
    rig.speaker.set_peers({PEER.address: PEER})
    async with FakeHost(rig.path).running() as host:
        await attach(rig, host, state(PEER, established=True))
        await until(lambda: rig.events)
    await until(lambda: not rig.speaker.attached)
    async with FakeHost(rig.path, boot="two").running() as host:
        await attach(rig, host, *states)
        await until(lambda: [event for event in rig.events if isinstance(event, SessionDown)])


async def test_changed_definition_ends_session_and_problem_and_keeps_the_wanted_set(rig: Rig) -> None:
    changed = PeerDefinition(PEER.address, 65515, 64512, "10.99.1.1", local_address="10.99.1.1", hold_time=9)
    rig.speaker.set_peers({PEER.address: PEER})
    rig.speaker.announce(PEER.address, {parse_prefix("192.168.1.0/26"): Announcement()})
    async with FakeHost(rig.path).running() as host:
        await attach(rig, host, state(PEER, established=True))
        host.say(
            message(
                Kind.STATE, peer=PEER.address, fingerprint=PEER.fingerprint,
                **Snapshot("running", established=True, since=0.0, problem="hm", epoch=7).to_json(),
            )
        )  # fmt: skip
        await until(lambda: any(isinstance(event, PeerProblem) for event in rig.events))
        rig.speaker.set_peers({PEER.address: changed})
        await until(lambda: any(isinstance(event, SessionDown) for event in rig.events))
        assert rig.events[-1] == PeerProblem(PEER.address, None)
        host.heard.clear()
        host.say(state(changed, epoch=9))
        await until(lambda: b"show adj-rib out" in host.commands())
        host.say(lines(Kind.LINES, PEER.address, 9, b"done\n"))
        await until(lambda: b"192.168.1.0/26" in host.commands())


async def test_host_that_talks_nonsense_is_left_and_tried_again(rig: Rig) -> None:
    async with FakeHost(rig.path).running() as host:
        await attach(rig, host)
        host.say(message(Kind.DEFINE))
        await until(lambda: host.connections >= 2)


async def test_a_socket_that_is_not_there_says_nothing_of_any_session(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "GONE", 0.1)
    rig.speaker.set_peers({PEER.address: PEER})
    async with FakeHost(rig.path).running() as host:
        await attach(rig, host, state(PEER, established=True))
        await until(lambda: rig.events)
        rig.path.unlink()
    await until(lambda: "No such file" in rig.speaker.reason)
    await asyncio.sleep(0.5)
    assert not [event for event in rig.events if isinstance(event, SessionDown | PeerProblem)]


async def test_no_host_is_started_more_than_once_in_a_while(tmp_path: Path) -> None:
    started: list[float] = []
    speaker = Speaker(tmp_path / "s.sock", lambda _: None, spawn=lambda: started.append(time.monotonic()))
    task = asyncio.create_task(speaker.run())
    await asyncio.sleep(0.5)
    assert len(started) == 1
    assert "no speaker answers" in speaker.reason
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_host_that_is_ended_on_purpose_is_not_started_again(tmp_path: Path) -> None:
    started: list[float] = []
    speaker = Speaker(tmp_path / "s.sock", lambda _: None, spawn=lambda: started.append(time.monotonic()))
    speaker.spawn_no_more()
    task = asyncio.create_task(speaker.run())
    await until(lambda: "no speaker answers" in speaker.reason)
    assert started == []
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
