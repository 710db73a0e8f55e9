"""The agent: the one place where the parts meet.

Every part runs as a task and calls back when it has news; each callback gives the news to the router and then
*settles*: derive, write to the kernel, tell the speaker and the probe, log. Settling is synchronous, so that no two
decisions ever overlap, and immediate, so that a changed prefix is in the kernel a millisecond after the peer said so.

Ending is the easy part. The agent just stops: sessions live in the speaker, routes in the kernel, and the next agent
finds both as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import structlog

from bgp_agent import translate
from bgp_agent.alone import alone
from bgp_agent.config import Config, Found, Loaded
from bgp_agent.configuring import Configuration
from bgp_agent.control import client
from bgp_agent.control.server import ControlServer
from bgp_agent.core.fib import Fib
from bgp_agent.core.nexthop import NextHops
from bgp_agent.core.prefix import Address, Family, Prefix, family_of, host, parse_address, prefix_text
from bgp_agent.core.reports import Verified
from bgp_agent.core.router import Actions, Change, Router
from bgp_agent.core.values import Announcement, Blocks, SpeakerEvent
from bgp_agent.crash import on_fault
from bgp_agent.draining import MARK, Control, left
from bgp_agent.home import Home
from bgp_agent.kernel import Changed, Kernel
from bgp_agent.lock import Lock, locked
from bgp_agent.log import configure
from bgp_agent.moving import SPEAKER, Moving
from bgp_agent.notify import notify, watchdog
from bgp_agent.probe import setup
from bgp_agent.probe.service import Prober
from bgp_agent.reporting import Reports
from bgp_agent.rolling import Rolling
from bgp_agent.sources.choice import source_of
from bgp_agent.sources.watch import Watch
from bgp_agent.speaker.client import Speaker
from bgp_agent.speaker.spawn import spawner
from bgp_agent.telling import Telling, exabgp_said
from bgp_agent.web.server import serving

log: Final = structlog.get_logger("bgp_agent")

#: Seconds between looks for the node's own address while no route to the first peer exists.
ADDRESS_RETRY: Final = 1.0
#: Seconds between two looks at what no callback tells.
LOOK: Final = 1.0
#: Who asks for the hand-over before a drain, and what is said where there is nothing to hand over to.
DRAIN: Final = "drain"
NO_TABLE: Final = "there is no route table to hand over to"
#: A step's decisions come to rest after two or three rounds; a defect must not keep the loop from everything else.
ROUNDS: Final = 100


class Agent:
    """One node's agent. ``loaded``: the configuration that was read; ``environ``: for reading it again.

    ``lock``: the held lock of its state directory.
    """

    def __init__(self, loaded: Loaded, environ: dict[str, str], spawn: Callable[[], None] | None, lock: Lock) -> None:
        config = loaded.config
        self.configuration = Configuration(loaded, environ)
        self.state_dir = Path(config.state_dir)
        next_hops = NextHops(config.kernel.protocol)
        kernel = config.kernel
        self.fib = Fib(
            kernel.metric,
            kernel.protocol,
            kernel.table,
            install=kernel.install,
            interface=next_hops.interface,
            down=next_hops.down,
        )
        families = {family_of(pool) for pool in translate.pools(config)} or set(Family)
        self.kernel = Kernel(self.fib, next_hops, self._on_kernel, families=families)
        self.next_hops = next_hops
        self.router = Router(translate.settings(config), self.fib, next_hops, time.monotonic())
        self.source = source_of(config, translate.pools(config), self._on_source, self._on_owners)
        self.prober = Prober(
            config.node.name or "", config.probe.port, self._on_verified, in_use=lambda a: next_hops.in_use(host(a))
        )
        self.moving: Moving | None = None
        if config.azure is not None:
            self.moving = Moving(config, self.router, self.prober.probe, self._settle, self._on_azure)
        self.speaker = Speaker(
            self.state_dir / "speaker.sock", self._on_speaker, spawn=spawn, peer_log=exabgp_said,
            maintenance=self._before_the_speaker_stops,
        )  # fmt: skip
        self._control = ControlServer(self.state_dir / "agent.sock", Control(self, self.state_dir))
        self.home = Home(lock, self._control, self._remember_drain)
        self.reports = Reports(
            identity=self.configuration.identity, router=self.router, kernel=self.kernel,
            speaker=self.speaker, prober=self.prober, home=self.home, clock=time.monotonic,
            attraction=self.moving.attraction if self.moving is not None else None,
        )  # fmt: skip
        self.rolling = Rolling(self.speaker.set_peers, self._stands, serves=self._serves)
        self._watch = Watch(loaded.files, lambda _: self.reload())
        self._kernel_ready = asyncio.Event()
        self._probe_changed = asyncio.Event()
        self._told = asyncio.Event()  # Azure told of this node
        self._stop = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._settling = False
        self.telling = Telling(self.reports.publish)

    # --- life --------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Until :meth:`stop`, or a signal to end."""
        asyncio.get_running_loop().set_exception_handler(on_fault)
        drained = (self.state_dir / MARK).exists()
        self.router.own.drain(on=drained)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._signals())
            kernel = self.config.kernel
            await stack.enter_async_context(alone(kernel.table, kernel.protocol, kernel.metric))
            await stack.enter_async_context(self._control.serving())
            http = self.config.http
            await stack.enter_async_context(serving(self.reports, http.listen, http.metrics_listen))
            stack.callback(self.reports.events.close)
            stack.callback(self.telling.close)
            log.info("started", node=self.config.node.name, config=str(self.configuration.loaded.path), drained=drained)
            notify("READY=1")
            await stack.enter_async_context(self._tasks())
            await self._stop.wait()
            notify("STOPPING=1")
        log.info("stopped; sessions and routes stay as they are")

    def stop(self) -> None:
        """End soon."""
        self._stop.set()

    @contextlib.asynccontextmanager
    async def _tasks(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.kernel.run(), name="kernel"),
                group.create_task(self._after_the_kernel(), name="speaker, source, probe"),
                group.create_task(self._watch.run(), name="watch the configuration"),
                group.create_task(self._look_around(), name="look around"),
                group.create_task(self.home.keep(self.telling.tell, self.stop), name="state directory"),
                group.create_task(watchdog(lambda: True), name="watchdog"),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _after_the_kernel(self) -> None:
        """What stands in the kernel is known before anything else is heard: it decides what is adopted."""
        await self._kernel_ready.wait()
        self._tell_prober()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.source.run(), name="source")
            group.create_task(self._speaking(), name="node address, speaker")
            group.create_task(self.rolling.run(), name="changed peers, one by one")
            group.create_task(self._probing(), name="probe")
            if self.moving is not None:
                group.create_task(self.moving.run(), name="hand-over")

    async def _speaking(self) -> None:
        """Attach when it is known who the peers are: what the speaker tells of its sessions is told once."""
        await self._find_address()
        await self.speaker.run()

    async def _probing(self) -> None:
        """Run the probe as configured, and run it anew when that changes. With mode off nothing of it is left."""
        while True:
            self._probe_changed.clear()
            port = self.prober.port = self.config.probe.port
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self.prober.run()) if self.config.probe.mode == "auto" else None
                if task is None:
                    self.prober.reason = "probe.mode is off"
                await self._probe_changed.wait()
                if task is not None:
                    task.cancel()
            try:
                setup.remove(socket.socket, port)
            except setup.SetupError as error:
                log.warning("the probe's old rules stay", port=port, reason=str(error))

    async def _look_around(self) -> None:
        """Once a second: what no callback tells."""
        attached: bool | None = None
        host: int | None = None
        ready, judged = False, -1
        while True:
            await asyncio.sleep(LOOK)
            self.telling.settled()
            if not ready or judged != self.router.revision:
                judged = self.router.revision
                ready = self._say_readiness(ready)
            if self.speaker.attached:
                self.router.rib.expect(time.monotonic())
                self._arm()
            if self.speaker.attached is not attached:
                attached = self.speaker.attached  # that it is, the speaker's client has said already
                change = Change("speaker", "speaker", "attached" if attached else "lost", self.speaker.reason)
                self.telling.tell(change, quietly=attached)
            serving = self.speaker.host_pid if attached else None
            if serving is not None and serving != host and self.moving is not None:
                self.moving.back(SPEAKER)  # another process, or the same one again: whoever wanted to stop is back
            host = serving

    def _say_readiness(self, before: bool) -> bool:
        ready, reason = self.reports.readiness()
        if ready is not before:
            self.telling.tell(Change("node", self.config.node.name or "", "ready" if ready else "not ready", reason))
        return ready

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        actions = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGHUP: self.reread}
        for number, action in actions.items():
            loop.add_signal_handler(number, action)
        try:
            yield
        finally:
            for number in actions:
                loop.remove_signal_handler(number)

    # --- configuration -----------------------------------------------------------------------------------------------
    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.configuration.config

    async def _find_address(self) -> None:
        """The peers are told to the speaker when the node knows its own address: a route to the first peer exists."""
        said = False
        while not self.configuration.locate():
            if not said:
                log.warning("the node's address is not known yet; looking again", why=self.configuration.unlocated)
                said = True
            with contextlib.suppress(TimeoutError):  # what Azure tells may be all that was missing
                async with asyncio.timeout(ADDRESS_RETRY):
                    await self._told.wait()
            self._told.clear()
        self.router.configure(translate.settings(self.config), time.monotonic())
        self.rolling.want(self.configuration.definitions())
        for peer, export in self.router.own.exports.items():  # what was decided before there was anybody to tell
            self.speaker.announce(peer, dict(export.wanted), export.settings.announce_limit)
            if peer in self.router.completed:
                self.speaker.complete(peer)
        self._tell_prober()
        self._settle()

    def _tell_prober(self) -> None:
        self.router.probing = self.config.probe.mode == "auto"
        self.prober.pools(translate.pools(self.config))
        self.prober.uplinks(self._uplinks())

    def _stands(self, address: str) -> bool:
        return address in self.router.peers and self.router.peers[address].established

    def _serves(self, address: str) -> bool:
        """Does the peer hold every block that it is to be told."""
        if not self._stands(address):
            return False
        peer = self.router.peers[address]
        return self.router.own.exports[address].wanted.keys() <= peer.announced | peer.refused.keys()

    def _uplinks(self) -> set[str]:
        """The links by which packets for the pools come in: of the node's address, and of the ways to the peers."""
        own = {parse_address(a) for a in (self.config.node.address, self.config.node.address6) if a}
        links = self.next_hops.links_of(own)
        for peer in self.router.settings.peers:
            links |= {hop.interface for hop in self.next_hops.resolve(peer.packed).hops}
        return {self.next_hops.interface(index) for index in links}

    def reread(self) -> None:
        """SIGHUP: read the configuration and the block file again, changed or not."""
        log.info("reading the configuration and the block file again, as SIGHUP asks")
        self.reload()
        self.source.reread()

    def reload(self) -> None:
        """The configuration or a password file changed."""
        changed = self.configuration.reload()
        if changed is None:
            if self.configuration.unread:
                self._watch.again()
            return
        self._watch.replace(self.configuration.loaded.files)
        config = self.config
        if changed.live:
            self.source.reconfigure(config.blocks.path, translate.pools(self.configuration.loaded.config))
            self.router.configure(translate.settings(config), time.monotonic())
            self._tell_prober()
            if self.moving is not None:
                self.moving.configure(config)
            if {"probe.mode", "probe.port"} & set(changed.live):
                self._probe_changed.set()
        if self.configuration.located:
            self.rolling.want(self.configuration.definitions())  # also when only a password file changed
        if self.configuration.unread:
            self._watch.again()
        self._settle()

    # --- news --------------------------------------------------------------------------------------------------------
    def _on_source(self, blocks: Blocks) -> None:
        if blocks.pools is not None and self.configuration.sourced(blocks.pools):
            self.router.configure(translate.settings(self.config), time.monotonic())
            self._tell_prober()
        self.router.on_source(blocks, time.monotonic())
        self._settle()

    def _on_owners(self, owners: Mapping[Prefix, Address | None]) -> None:
        self.router.on_owners(owners)
        self._settle()

    def _on_speaker(self, events: list[SpeakerEvent]) -> None:
        self.router.on_events(events, time.monotonic())
        self._settle()

    def _on_kernel(self, changed: Changed) -> None:
        now = time.monotonic()
        if changed.ready:
            self.router.adopt_kernel(self.fib.adopted(), now)
            self._kernel_ready.set()
        if changed.ready or changed.sysctls:
            self.router.own.forward({family: self.kernel.sysctls.forwarding(family) is not False for family in Family})
        if changed.ready or changed.links or changed.next_hops:
            self.router.on_links(changed.next_hops)
            self.prober.uplinks(self._uplinks())
        self.router.on_kernel(changed.routes)
        self._settle()

    def _on_azure(self, found: Found) -> None:
        """What Azure told of this node and its peers."""
        self._told.set()
        if not self.configuration.discovered(found) or not self.configuration.located:
            return
        self.router.configure(translate.settings(self.config), time.monotonic())
        self.rolling.want(self.configuration.definitions())
        self._tell_prober()
        self._settle()

    def _on_verified(self, answers: list[tuple[Prefix, Verified]]) -> None:
        for prefix, answer in answers:
            before = self.reports.verified.get(prefix)
            self.reports.verified[prefix] = answer
            if before is None or (before.state, before.node) != (answer.state, answer.node):
                change = Change("verified", prefix_text(prefix), answer.state, answer.reason)
                usual = before is None and answer.state != "misdelivered"
                self.telling.tell(change, quietly=usual)

    # --- settling ----------------------------------------------------------------------------------------------------
    def _settle(self) -> None:
        """Decide and act until nothing is left to decide. What comes in meanwhile joins in."""
        if self._settling or not self._kernel_ready.is_set():
            return
        self._settling = True
        rounds: list[Actions] = []
        try:
            now = time.monotonic()
            for _ in range(ROUNDS):
                actions = self.router.derive(now)
                self.router.on_kernel(self.kernel.flush())
                self._act(actions)
                rounds.append(actions)
                if not self.router.dirty:
                    break
            else:
                log.error("decisions did not come to rest; the loop goes on first", rounds=ROUNDS)
                asyncio.get_running_loop().call_later(LOOK, self._settle)
            self._speak(rounds)
            if self.moving is not None:
                rounds.append(Actions(changes=self.moving.look(now)))
        finally:
            self._settling = False
            for actions in rounds:  # when all is done: a line in the log costs as much as a decision
                for change in actions.changes:
                    self.telling.tell(change)
        self._arm()

    def _speak(self, rounds: list[Actions]) -> None:
        """Tell the speaker what all rounds decided, at once: what is new in one may take the place of another's old."""
        announce: dict[str, dict[Prefix, Announcement | None]] = {}
        for actions in rounds:
            for peer, changes in actions.announce.items():
                announce.setdefault(peer, {}).update(changes)
        for peer, changes in announce.items():
            self.speaker.announce(peer, changes, self.router.own.exports[peer].settings.announce_limit)
        for actions in rounds:
            for peer in actions.complete:
                self.speaker.complete(peer)
            for peer in actions.refresh:
                self.speaker.refresh(peer)
            for peer in actions.restart:
                self.speaker.restart(peer, "the peer does not answer a route refresh, and routes depend on what it has")

    def _act(self, actions: Actions) -> None:
        if actions.own is not None:
            self.prober.own(actions.own)
            self.reports.forget_released(actions.own)
        self.prober.learned_many(actions.learned)
        for prefix in actions.forgotten:
            self.prober.forget(prefix)
            self.reports.verified.pop(prefix, None)

    # --- for the control socket --------------------------------------------------------------------------------------
    def drain(self, *, on: bool) -> None:
        """Take back every announcement, or offer them again."""
        log.warning("drained" if on else "no longer drained")
        self.router.own.drain(on=on, now=time.monotonic())
        self._settle()

    def _remember_drain(self) -> None:
        if self.router.own.drained:
            (self.state_dir / MARK).touch(mode=0o600)

    def cannot_move(self) -> str | None:
        """Why the traffic cannot be moved to a route table before a drain; None when it can."""
        return NO_TABLE if self.moving is None else self.moving.cannot()

    async def move(self, progress: Callable[[str], None]) -> str | None:
        """Move the traffic to the route table; why that never comes to be."""
        return NO_TABLE if self.moving is None else await self.moving.moved(DRAIN, "a drain", progress)

    def moved_back(self) -> None:
        """What was moved for a drain need not stay."""
        if self.moving is not None:
            self.moving.back(DRAIN)

    def drained(self) -> bool:
        """Was a drain asked for, and not taken back."""
        return self.router.own.drained

    def leave_waits_for(self) -> str | None:
        """What a drain still waits for; None when nothing is announced any more."""
        return self.router.own.leave_waits_for()

    async def _before_the_speaker_stops(self, seconds: float) -> None:
        """The traffic to the route table, then notice to the peers that lose the blocks with their sessions."""
        if self.moving is not None:
            await self.moving.before_the_speaker_stops(seconds)
        self.router.own.end_sessions(time.monotonic())
        self._settle()
        await left(self.router.own.notice_waits_for, lambda _: None)

    async def stop_speaker(self) -> str | None:
        """End the speaker; None when it ended, else why not."""
        self.speaker.spawn_no_more()
        timeout = self.config.speaker.stop_timeout + 10.0
        outcome = await asyncio.to_thread(client.end, self.state_dir / "speaker.sock", timeout)
        return None if outcome.good else outcome.reason

    # --- time --------------------------------------------------------------------------------------------------------
    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        times = [self.router.next_timer(), self.moving.next_timer() if self.moving is not None else None]
        at = min((each for each in times if each is not None), default=None)
        loop = asyncio.get_running_loop()
        self._timer = None if at is None else loop.call_later(max(0.0, at - time.monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self.router.handle_timer(time.monotonic())
        self._settle()


def run_agent(loaded: Loaded) -> int:
    """Run the agent of a loaded configuration until it is told to end; the exit code.

    Raises :class:`~bgp_agent.lock.LockedError`, :class:`~bgp_agent.web.server.ListenError` and ``OSError``.
    """
    config = loaded.config
    configure(config.log.level, config.log.format)
    if loaded.ignored:
        log.info("environment variables that name no key are ignored", names=list(loaded.ignored))
    for warning in loaded.warnings:
        log.warning(warning)
    state_dir = Path(config.state_dir)
    state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    spawn = spawner(state_dir, user=config.speaker.user, stop_timeout=config.speaker.stop_timeout)
    with locked(state_dir) as lock:
        agent = Agent(loaded, dict(os.environ), spawn if config.speaker.spawn else None, lock)
        # What was imported lives as long as the process: it need not be looked through for garbage again and again,
        # which costs a tenth of the time of a large table, and a pause in the middle of something urgent.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 10, 10)
        asyncio.run(agent.run())
    return 0
