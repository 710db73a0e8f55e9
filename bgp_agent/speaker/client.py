"""The agent's side of the speaker: attaches to the host, keeps a session for each peer, and hands on what they tell.

Losing the connection says nothing about any peer: sessions are detached and keep what they know until a host tells how
things stand. A socket that stands there with nobody listening for :data:`GONE` seconds does say something: its host was
killed, ExaBGPs end with their host, and so every session has ended too. Whatever the order of attaching, defining and
announcing, the outcome is the same: the host runs exactly the wanted peers, and each session knows the whole wanted
set.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import bgp_agent
from bgp_agent.core.prefix import Prefix
from bgp_agent.core.values import Announcement, SpeakerEvent
from bgp_agent.speaker.connection import Connection
from bgp_agent.speaker.definition import PeerDefinition
from bgp_agent.speaker.protocol import VERSION, Kind, Lines, Message, ProtocolError, Snapshot, lines, message
from bgp_agent.speaker.wanted import Wanted

#: Seconds between two tries to reach the host: the first, and the longest.
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
#: A connection that ends sooner than this (seconds) is no reason to hurry: something is wrong at one of its ends.
LASTING: Final = 1.0
#: Seconds between two starts of a host.
SPAWN_AGAIN: Final = 10.0
#: Seconds without anybody at the socket after which the sessions have ended; a host that is started again takes less.
GONE: Final = 3.0
#: Seconds between two questions whether the host still answers, and how many of them may stay without an answer. In all
#: less than pipeline.ANSWER_TIMEOUT: a host that stands still must not be read as ExaBGPs that do, which are restarted.
PING: Final = 3.0
UNANSWERED: Final = 2

Deliver = Callable[[list[SpeakerEvent]], None]
Maintenance = Callable[[float], Awaitable[None]]
PeerLog = Callable[[str, str, str], None]


class Speaker:
    """The BGP speaker, seen from the agent.

    ``deliver`` gets events in batches, as soon as they are read, never from inside a call of this class. ``spawn``
    starts a host when none answers, None leaves that to others. ``peer_log(peer, level, line)`` gets ExaBGP's own log.
    ``maintenance(seconds)`` is awaited when the host is about to stop: move the traffic away, then return.
    """

    def __init__(
        self, socket_path: Path, deliver: Deliver, *, spawn: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic, log: logging.Logger | None = None,
        peer_log: PeerLog | None = None, maintenance: Maintenance | None = None,
    ) -> None:  # fmt: skip
        self.reason = "not connected yet"
        self._path = socket_path
        self._deliver = deliver
        self._spawn = spawn
        self._spawned: float | None = None
        self._clock = clock
        self._log = log or logging.getLogger(__name__)
        self._peer_log = peer_log or self._log_line
        self._maintenance = maintenance
        self._peers: dict[str, Wanted] = {}
        self._configured = False  # until the first set_peers the host is not told to drop anything
        self._connection: Connection | None = None
        self._hosted: dict[str, str] = {}  # what the host runs: address -> fingerprint
        self._ready = False
        self._boot: str | None = None
        self._nobody_since: float | None = None  # nobody listens at the socket
        self._events: list[SpeakerEvent] = []
        self._dirty: set[str] = set()
        self._pumping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: asyncio.TaskGroup | None = None

    # --- what the agent uses ------------------------------------------------------------------------------------
    @property
    def attached(self) -> bool:
        """Is a host there, and has it told how every peer stands."""
        return self._ready

    @property
    def host_pid(self) -> int | None:
        """The host's process id, None while there is none."""
        return self._connection.host_pid if self._connection is not None and self._ready else None

    def set_peers(self, peers: Mapping[str, PeerDefinition]) -> None:
        """These peers and no others; only differences act. A peer whose definition changed starts again."""
        self._configured = True
        for address in self._peers.keys() - peers.keys():
            del self._peers[address]
        for address, definition in peers.items():
            known = self._peers.get(address)
            if known is None:
                self._peers[address] = Wanted(definition)
                self._touch(address)
            elif known.definition != definition:
                hosted = self._hosted.get(address)
                if known.definition.fits(hosted) and definition.fits(hosted):
                    known.definition = definition  # its key cannot be read any more, or again: the ExaBGP is the same
                    continue
                self._events += known.redefine(definition)
                self._touch(address)
        if self._ready:
            self._reconcile()

    def announce(self, peer: str, changes: Mapping[Prefix, Announcement | None], limit: int | None = None) -> None:
        """Change what a peer shall hear; None withdraws. An unknown peer is nobody's loss.

        ``limit``: prefixes that the peer holds at most. As far as there is room, what is new goes out before what is
        old is taken back.
        """
        if (known := self._peers.get(peer)) is not None:
            known.announce(changes, limit)
            self._push(peer, known)

    def complete(self, peer: str) -> None:
        """The wanted set of this peer is whole: what else is announced may be withdrawn, End-of-RIB may go."""
        if (known := self._peers.get(peer)) is not None:
            known.complete = True
            known.session.complete()
            self._push(peer, known)

    def refresh(self, peer: str) -> None:
        """Ask the peer for all its routes again."""
        if (known := self._peers.get(peer)) is not None:
            known.session.refresh()
            self._push(peer, known)

    def restart(self, peer: str, reason: str) -> None:
        """Start this peer's ExaBGP again."""
        self._send(message(Kind.RESTART, peer=peer, reason=reason))

    def spawn_no_more(self) -> None:
        """From now on a host that is gone stays gone: somebody is about to end it on purpose."""
        self._spawn = None

    def stop_host(self) -> None:
        """Ask the host for a planned stop, as SIGTERM does."""
        self._send(message(Kind.STOP))

    # --- life ---------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Keep attached to a host, for ever."""
        self._loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        try:
            async with asyncio.TaskGroup() as self._tasks:
                while True:
                    started = self._clock()
                    good = await self._serve() and self._clock() - started > LASTING
                    pause = FIRST_PAUSE if good else min(pause * 2, LONGEST_PAUSE)
                    await asyncio.sleep(pause)
        finally:
            self._detach("the agent ends")
            for handle in (self._timer, self._soon):
                if handle is not None:
                    handle.cancel()
            self._loop = self._timer = self._soon = None

    async def _serve(self) -> bool:
        """One connection from beginning to end; was it a good one."""
        assert self._loop is not None  # noqa: S101
        try:
            _, connection = await self._loop.create_unix_connection(
                lambda: Connection(self._on_frames), str(self._path)
            )
        except OSError as error:
            self.reason = f"no speaker answers at {self._path}: {error.strerror or error}"
            self._nobody_answers(error)
            self._spawn_host()
            return False
        self._nobody_since = None
        self._connection = connection
        connection.send(message(Kind.HELLO, protocol=VERSION, version=bgp_agent.__version__))
        good = False
        assert self._tasks is not None  # noqa: S101 - made by run()
        watch = self._tasks.create_task(self._watch(connection), name="does the speaker answer")
        try:
            reason = await connection.ended
            good = self._ready
        finally:
            watch.cancel()
            connection.close()
            self._connection = None
        self._detach(reason)
        return good

    async def _watch(self, connection: Connection) -> None:
        """End the connection to a host that is stopped or stuck.

        Counted in questions, not in seconds: after a pause of our own the answers are there already.
        """
        unanswered = 0
        while unanswered < UNANSWERED:
            before = connection.reads
            connection.send(message(Kind.PING))
            await asyncio.sleep(PING)
            unanswered = unanswered + 1 if connection.reads == before else 0
        who = f" (process {connection.host_pid})" if connection.host_pid is not None else ""
        self.reason = f"the speaker{who} has not answered for {PING * UNANSWERED:g} s: it is stopped or stuck"
        connection.end(self.reason)

    def _nobody_answers(self, error: OSError) -> None:
        """A socket that is left over says that its host is dead; one that is not there, or not for us, says nothing."""
        if error.errno != errno.ECONNREFUSED:
            self._nobody_since = None
            return
        now = self._clock()
        self._nobody_since = now if self._nobody_since is None else self._nobody_since
        if now - self._nobody_since < GONE:
            return
        ended = Snapshot("stopped", established=False, since=time.time(), problem="the speaker is not running")
        for address, peer in self._peers.items():
            peer.session.attached(ended, now)
            self._dirty.add(address)
        self._pump()

    def _spawn_host(self) -> None:
        now = self._clock()
        if self._spawn is None or (self._spawned is not None and now - self._spawned < SPAWN_AGAIN):
            return
        self._spawned = now
        try:
            self._spawn()
        except OSError as error:
            self.reason = f"no speaker answers at {self._path}, and none can be started: {error.strerror or error}"
            self._log.error("%s", self.reason)
        else:
            self._log.info("no speaker answered; started one, its log is %s", self._path.with_name("speaker.log"))

    def _detach(self, reason: str) -> None:
        if self._ready:
            self._log.warning("lost the speaker: %s; what is known stays", reason)
        self.reason = reason
        self._ready = False
        self._hosted.clear()
        now = self._clock()
        for address, peer in self._peers.items():
            peer.session.detached(now)
            self._dirty.add(address)
        self._pump()

    # --- what the host says ---------------------------------------------------------------------------------------
    def _on_frames(self, frames: list[Message | Lines]) -> None:
        """One read's worth. Raises :class:`ProtocolError`, which ends the connection."""
        now = self._clock()
        try:
            for frame in frames:
                if isinstance(frame, Lines):
                    self._on_lines(frame, now)
                else:
                    self._on_message(frame, now)
        finally:
            self._pump()

    def _on_lines(self, frame: Lines, now: float) -> None:
        peer = self._peers.get(frame.peer)
        if peer is None or frame.epoch != peer.epoch:
            return
        receive = peer.session.receive
        for line in frame.data.splitlines():
            receive(line, now)
        self._dirty.add(frame.peer)

    def _on_message(self, frame: Message, now: float) -> None:
        match frame.kind:
            case Kind.HELLO:
                self._on_hello(frame)
            case Kind.REFUSED:
                self._refused(frame.text("reason"))
            case Kind.STATE:
                self._on_state(frame.text("peer"), frame.text("fingerprint"), Snapshot.from_json(frame.body), now)
            case Kind.GONE:
                self._hosted.pop(frame.text("peer"), None)
                self._reconcile()  # it may be wanted again by now
            case Kind.READY:
                self._on_ready()
            case Kind.LOG:
                self._peer_log(frame.text("peer"), frame.text("level"), frame.text("line"))
            case Kind.PONG:
                pass  # that it came is all that it says
            case Kind.STOPPING:
                self._on_stopping(frame.number("timeout"))
            case _:
                raise ProtocolError(f"{frame.kind.name} is not for the agent")

    def _on_hello(self, frame: Message) -> None:
        if (version := frame.number("protocol")) != VERSION:
            self._refused(
                f"the speaker speaks version {version:g} of the protocol and this agent {VERSION}: run the same "
                "release of both; no session is touched meanwhile"
            )
            return
        assert self._connection is not None  # noqa: S101 - a frame came from it
        self._connection.host_pid = int(frame.number("pid"))
        boot = frame.text("boot")
        if self._boot not in {None, boot}:
            self._log.warning("another speaker answers: the ExaBGPs of the one before have ended with it")
        self._boot = boot

    def _refused(self, reason: str) -> None:
        if reason != self.reason:
            self._log.warning("the speaker refused: %s", reason)
        assert self._connection is not None  # noqa: S101
        self._connection.end(reason)

    def _on_state(self, address: str, fingerprint: str, snapshot: Snapshot, now: float) -> None:
        self._hosted[address] = fingerprint
        peer = self._peers.get(address)
        if peer is None or not peer.definition.fits(fingerprint):
            return  # another definition's ExaBGP: it is about to be replaced
        peer.epoch = snapshot.epoch
        peer.session.attached(snapshot, now)
        self._dirty.add(address)

    def _on_ready(self) -> None:
        self._ready = True
        self._spawned = None
        self.reason = f"attached to the speaker (process {self.host_pid}) with {len(self._hosted)} peers"
        self._log.info("%s", self.reason)
        now = self._clock()
        for address, peer in self._peers.items():
            if address not in self._hosted:  # this host has no such ExaBGP: whatever session there was has ended
                peer.session.attached(Snapshot("stopped", established=False, since=time.time()), now)
                self._dirty.add(address)
        self._reconcile()

    def _reconcile(self) -> None:
        """Tell the host the difference between what it runs and what is wanted."""
        if not (self._configured and self._ready):
            return
        for address in self._hosted.keys() - self._peers.keys():
            self._send(message(Kind.REMOVE, peer=address))
        for address, peer in self._peers.items():
            if not peer.definition.fits(self._hosted.get(address)):
                fingerprint = self._hosted[address] = peer.definition.fingerprint
                self._send(message(Kind.DEFINE, definition=peer.definition.to_json(), fingerprint=fingerprint))

    def _on_stopping(self, timeout: float) -> None:
        if self._maintenance is None or self._tasks is None:
            self._send(message(Kind.PREPARED, wait=0))
            return
        self._send(message(Kind.PREPARED, wait=timeout))
        self._tasks.create_task(self._prepare(self._maintenance, timeout), name="maintenance before the speaker stops")

    async def _prepare(self, maintenance: Maintenance, timeout: float) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await maintenance(timeout)
        finally:
            self._send(message(Kind.PREPARED, wait=0))

    # --- sessions -------------------------------------------------------------------------------------------------
    def _push(self, address: str, peer: Wanted) -> None:
        """Something changed on our side: commands go at once, events wait for the loop."""
        self._send_commands(address, peer)
        self._touch(address)

    def _touch(self, address: str) -> None:
        self._dirty.add(address)
        if self._loop is not None and self._soon is None and not self._pumping:
            self._soon = self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Take what sessions left to take, until nothing is left."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._dirty or self._events:
                for address in list(self._dirty):
                    if (peer := self._peers.get(address)) is not None:
                        self._take(address, peer)
                self._dirty.clear()
                events, self._events = self._events, []
                if events:
                    self._deliver(events)
        finally:
            self._pumping = False
            self._arm()

    def _take(self, address: str, peer: Wanted) -> None:
        self._send_commands(address, peer)
        self._events += peer.take_events()
        if (reason := peer.session.take_restart()) is not None:
            self.restart(address, reason)

    def _send_commands(self, address: str, peer: Wanted) -> None:
        if commands := peer.session.take_lines():
            self._send(lines(Kind.COMMANDS, address, peer.epoch, b"".join(commands)))

    def _send(self, frame: bytes) -> None:
        if self._connection is not None:
            self._connection.send(frame)

    def _arm(self) -> None:
        """One timer for all sessions."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = min(
            (moment for p in self._peers.values() if (moment := p.session.next_timer()) is not None), default=None
        )
        if due is not None and self._loop is not None:
            self._timer = self._loop.call_later(max(0.0, due - self._clock()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._clock()
        for address, peer in self._peers.items():
            due = peer.session.next_timer()
            if due is not None and due <= now:
                peer.session.handle_timer(now)
                self._dirty.add(address)
        if self._dirty:
            self._pump()
        else:
            self._arm()

    def _log_line(self, peer: str, level: str, line: str) -> None:
        self._log.log(logging.getLevelNamesMapping().get(level.upper(), logging.INFO), "ExaBGP %s: %s", peer, line)
