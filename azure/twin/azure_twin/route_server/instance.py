"""One instance: a BIRD process in its own namespace, kept at the configuration it should have, and what it learns.

Level-triggered: :meth:`RouteServerInstance.want` says what should be, the one task closes the difference. BIRD's MRT
dump (a FIFO) tells at once that something was received; what is held is then asked of BIRD itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from azure_twin.core.counting import PeerCount
from azure_twin.core.learned import Learned
from azure_twin.core.settings import Limits
from azure_twin.route_server.bird_text import Peer, configuration, routes, states
from azure_twin.route_server.birdc import Birdc, BirdError
from azure_twin.route_server.mrt import MrtReader, State, Update
from azure_twin.route_server.process import Launch, Process

log = logging.getLogger("azure_twin.route_server")
PIPE_SIZE: Final = 1 << 20  # bytes; BIRD would wait for a reader that is slower than this
START_TIMEOUT: Final = 10.0  # seconds
KILL_TIMEOUT: Final = 3.0
FIRST_PAUSE: Final = 0.1  # after a failure, doubled from there
LAST_PAUSE: Final = 10.0
LOOK: Final = 0.25  # how often to look whether BIRD still runs


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an instance should be: running or not, with these peers, advertising these prefixes.

    ``lacks``: what it takes from its peers and does not keep. ``killed``: how it ends when it is not to run.
    """

    address: str
    gateway: str
    peers: tuple[Peer, ...] = ()
    prefixes: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    running: bool = True
    killed: bool = False


class RouteServerInstance:
    """The shell around one BIRD.

    ``report(routes, up)`` is called with all that it holds, whenever that may have changed.
    """

    def __init__(
        self, name: str, directory: Path, launch: Launch, limits: Limits,
        report: Callable[[list[Learned], bool], None], *, bird: str = "bird", put_drops_session: bool,
    ) -> None:  # fmt: skip
        self.name = name
        self.limits = limits
        self.peer_states: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.pending = False
        self._directory = directory
        self._launch = launch
        self._bird = bird
        self._report = report
        self._put_drops_session = put_drops_session
        self._wanted: Wanted | None = None
        self._process: Process | None = None
        self._birdc = Birdc(directory / "bird.ctl")
        self._written = ""
        self._etags: dict[str, str] = {}
        self._counts: dict[str, PeerCount] = {}
        self._blocked: dict[str, float] = {}
        self._mrt = MrtReader()
        self._pipe = -1
        self._wake = asyncio.Event()
        self._refresh = False

    @property
    def running(self) -> bool:
        """Whether BIRD runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def _should_run(self) -> bool:
        return self._wanted is not None and self._wanted.running

    def want(self, wanted: Wanted) -> None:
        """Say what should be."""
        if wanted != self._wanted:
            self._wanted = wanted
            self.pending = True
            self._wake.set()

    def away(self) -> None:
        """Its container is gone: it does not run until :meth:`want` says so again."""
        if self._wanted is not None:
            self.want(replace(self._wanted, running=False))

    def refresh_all(self) -> None:
        """Ask every peer for its routes anew (RFC 2918), as creating a VNet peering does.

        Without the capability: a hard reset.
        """
        self._refresh = True
        self._wake.set()

    async def run(self) -> None:
        """Keep the instance as wanted until cancelled; BIRD ends with this."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._open_pipe()
        pause = FIRST_PAUSE
        try:
            while True:
                wait = self._next_unblock()
                with contextlib.suppress(TimeoutError):  # not wait_for: before Python 3.12 it can lose a cancellation
                    async with asyncio.timeout(min(LOOK, wait or LOOK)):
                        await self._wake.wait()
                if not self._wake.is_set() and self.running == self._should_run:
                    continue
                self._wake.clear()
                self.pending = True
                try:
                    await self._step()
                    pause = FIRST_PAUSE
                    self.pending = self._wake.is_set()
                except (BirdError, OSError) as error:
                    log.warning("instance %s: %s; again in %g s", self.name, error, pause)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LAST_PAUSE)
                    self._wake.set()
        finally:
            await self._stop()
            asyncio.get_running_loop().remove_reader(self._pipe)
            os.close(self._pipe)

    def status(self) -> dict[str, dict[str, object]]:
        """For each peer: its state, what is counted against its limit, and a note."""
        peers = self._wanted.peers if self._wanted else ()
        return {
            peer.address: {
                "asn": peer.asn,
                "state": self.peer_states.get(peer.protocol, "down"),
                "held": len(self._counts[peer.address].held) if peer.address in self._counts else 0,
                "counted": self._counts[peer.address].counted if peer.address in self._counts else 0,
                "note": self.notes.get(peer.address, ""),
            }
            for peer in peers
        }

    async def _step(self) -> None:
        wanted = self._wanted
        if wanted is None:
            return
        if not wanted.running:
            if self._process is not None:
                await self._stop(killed=wanted.killed)
                self._report([], False)  # noqa: FBT003  # down
            return
        if not self.running:
            if self._process is not None:
                log.warning("instance %s: BIRD ended with %s", self.name, self._process.returncode)
                self._report([], False)  # noqa: FBT003  # down
            await self._start(wanted)
        await self._configure(wanted)
        if self._refresh:
            self._refresh = False
            await self._reload(wanted)
        held = routes(await self._birdc.ask("show route all"))
        self._report(held, True)  # noqa: FBT003  # up
        self.peer_states = states(await self._birdc.ask("show protocols"))

    async def _start(self, wanted: Wanted) -> None:
        await self._stop()
        (self._directory / "bird.conf").write_text(self._text(wanted), encoding="utf-8")
        self._written = ""
        conf, control = str(self._directory / "bird.conf"), str(self._directory / "bird.ctl")
        self._process = await self._launch([self._bird, "-f", "-c", conf, "-s", control])
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT
        while True:
            try:
                await self._birdc.ask("show status")
                break
            except BirdError as error:
                if self._process.returncode is not None:
                    said = await self._process.last_words()
                    raise BirdError(f"bird ended at once: {said.strip()[-500:]}") from error
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.01)
        self._etags = {peer.address: peer.etag for peer in wanted.peers}
        log.info("instance %s runs at %s", self.name, wanted.address)

    async def _stop(self, *, killed: bool = False) -> None:
        process, self._process = self._process, None
        self._birdc.close()
        for count in self._counts.values():
            count.down()
        if process is None or process.returncode is not None:
            return
        process.signal(signal.SIGKILL if killed else signal.SIGTERM)
        try:
            async with asyncio.timeout(KILL_TIMEOUT):
                await process.wait()
        except TimeoutError:
            process.signal(signal.SIGKILL)
            await process.wait()

    async def _configure(self, wanted: Wanted) -> None:
        text = self._text(wanted)
        if text != self._written:
            (self._directory / "bird.conf").write_text(text, encoding="utf-8")
            await self._birdc.ask("configure")
            self._written = text
        for peer in wanted.peers:
            if self._put_drops_session and self._etags.get(peer.address, peer.etag) != peer.etag:
                await self._birdc.ask(f"restart {peer.protocol}")
        self._etags = {peer.address: peer.etag for peer in wanted.peers}

    async def _reload(self, wanted: Wanted) -> None:
        for peer in wanted.peers:
            answer = await self._birdc.ask(f"reload in {peer.protocol}")
            if any("reload failed" in line for line in answer):  # it has no route-refresh capability
                await self._birdc.ask(f"restart {peer.protocol}")

    def _text(self, wanted: Wanted) -> str:
        peers = [replace(peer, etag="", blocked=peer.address in self._blocked) for peer in wanted.peers]
        return configuration(
            wanted.address, wanted.gateway, peers, wanted.prefixes, wanted.lacks,
            mrt=str(self._directory / "mrt"), log=str(self._directory / "bird.log"),
        )  # fmt: skip

    def _open_pipe(self) -> None:
        path = self._directory / "mrt"
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        asyncio.get_running_loop().add_reader(self._pipe, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._pipe, PIPE_SIZE)
        except BlockingIOError:
            return
        now = asyncio.get_running_loop().time()
        for event in self._mrt.feed(data):
            self._seen(event, now)
        self._wake.set()

    def _seen(self, event: Update | State, now: float) -> None:
        count = self._counts.get(event.peer)
        if count is None:
            count = self._counts[event.peer] = PeerCount(self.limits.routes_per_peer, self.limits.burst_window)
        if isinstance(event, State):
            if not event.established:
                count.down()
                if event.peer in self._blocked:
                    self._blocked[event.peer] = now + self.limits.limit_reconnect
            return
        over = count.update(event.announced, event.withdrawn, now)
        if over and event.peer not in self._blocked:
            self.notes[event.peer] = (
                f"session ended: {count.counted} routes counted (held and in one burst), limit {count.limit}"
            )
            log.warning("instance %s, peer %s: %s", self.name, event.peer, self.notes[event.peer])
            self._blocked[event.peer] = float("inf")

    def _next_unblock(self) -> float | None:
        """Seconds until a peer that was over its limit may come back."""
        now = asyncio.get_running_loop().time()
        for peer in [each for each, at in self._blocked.items() if at <= now]:
            del self._blocked[peer]
            self._wake.set()
        waiting = [at - now for at in self._blocked.values() if at != float("inf")]
        return max(0.0, min(waiting)) + 0.01 if waiting else None
