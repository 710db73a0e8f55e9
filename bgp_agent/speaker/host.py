"""``bgp-agent speaker``: keeps one ExaBGP for each peer, and lets the agent come and go.

The host knows peers, not routes. It starts from the definitions it keeps on disk, drains what ExaBGPs print whether an
agent listens or not, and hands an agent that attaches the state of each. Losing the agent changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from dataclasses import dataclass, field
from typing import Any, Final

from bgp_agent.speaker import exabgp_config, leftovers, premises, store
from bgp_agent.speaker.chatter import is_chatter
from bgp_agent.speaker.definition import DefinitionError, PeerDefinition
from bgp_agent.speaker.doorbell import Doorbell, doors, source_towards
from bgp_agent.speaker.handover import Handover
from bgp_agent.speaker.link import AgentLink
from bgp_agent.speaker.premises import Settings
from bgp_agent.speaker.process import PeerProcess, Place
from bgp_agent.speaker.protocol import Kind, Lines, Message, ProtocolError, lines, message

#: Seconds between two looks at every ExaBGP, and between two looks at the doors.
TICK: Final = 1.0
DOORS: Final = 10.0
#: Seconds that an agent has to answer that the speaker is about to stop.
ANSWER: Final = 2.0
#: Peers in all; a bound, not a limit anybody should meet.
MAX_PEERS: Final = 1024


@dataclass(slots=True)
class _Slot:
    """One peer's place: what is wanted, and the process that makes it so."""

    wanted: PeerDefinition | None
    fingerprint: str  # of what is wanted, as the agent reckons it: its release may do so otherwise than ours
    blocked: str | None = None
    forget: bool = False  # the peer was taken out of the configuration: it shall lose our routes
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    process: PeerProcess | None = None


class Host:
    """The speaker. Call :meth:`run` once."""

    def __init__(self, settings: Settings, log: logging.Logger) -> None:
        self.boot = os.urandom(8).hex()
        self._settings = settings
        self._log = log
        self._store = store.Store(settings.state_dir / "peers.json", log)
        self._slots: dict[str, _Slot] = {}
        self._said: dict[str, str | None] = {}  # peer -> the problem that the log told last
        self._agent: AgentLink | None = None
        self._stop = asyncio.Event()
        self._prepared = asyncio.Event()
        self._patience = 0.0  # monotonic: how long a planned stop waits for the agent
        self._tasks = asyncio.TaskGroup()
        self._place: Place | None = None
        self._hold: premises.Hold | None = None
        self._handover: Handover | None = None
        self._server: asyncio.Server | None = None
        self._homeless: str | None = None  # why the sockets could not be made again
        self._doorbell = Doorbell(settings.port, self._knocked, self._log.warning)
        self._doors_soon = False
        self._doors_due = 0.0

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; the exit code. Raises :class:`HostError`."""
        settings = self._settings
        with contextlib.closing(premises.Hold(settings.state_dir)) as self._hold:
            self._place = premises.place(settings)
            for pid in leftovers.end(self._place.folder):
                self._log.warning("ended an ExaBGP that an earlier speaker left behind (process %d)", pid)
            for stale in self._place.folder.glob("*.conf"):  # of peers that may be gone, with their keys
                stale.unlink()
            self._catch_signals()
            asyncio.get_running_loop().set_exception_handler(self._on_fault)
            await self._open_sockets(self._place)
            try:
                async with self._tasks as tasks:
                    self._load()
                    watch = tasks.create_task(self._watch())
                    self._log.info(
                        "speaker started with %d peers; agents attach at %s", len(self._slots), settings.socket
                    )
                    await self._stop.wait()
                    await self._planned_stop()
                    watch.cancel()
                    for slot in self._slots.values():
                        slot.wanted = None
                        slot.changed.set()
            finally:
                self._close_sockets()
                if self._hold.stands():  # else it is another speaker's
                    with contextlib.suppress(OSError):  # what stays is a leftover that the next start replaces
                        settings.socket.unlink(missing_ok=True)
                self._doorbell.close()
                if self._agent is not None:
                    self._agent.close()
        self._log.info("speaker stopped")
        return 0

    async def _open_sockets(self, place: Place) -> None:
        """Where ExaBGPs' helpers and agents find us. Raises :class:`HostError`."""
        anyone = self._settings.group is not None
        self._handover = premises.handover(place, self._take_pipes)
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: AgentLink(self, anyone=anyone), sock=premises.listen(self._settings)
        )

    def _close_sockets(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._handover is not None:
            self._handover.close()
        self._server = self._handover = None

    async def _return_home(self, hold: premises.Hold) -> None:
        """Somebody removed the state directory under us: make it again, or no agent would ever find this host."""
        try:
            if not hold.stands():
                hold.renew()
            self._close_sockets()
            await self._open_sockets(premises.place(self._settings))
        except premises.TakenError as error:
            self._log.error("the state directory was removed, and %s: this one ends", error)
            self.ask_to_stop("a speaker that took its place")
        except premises.HostError as error:
            if str(error) != self._homeless:
                self._homeless = str(error)
                self._log.error("%s was removed: %s", self._settings.socket, error)
        else:
            self._homeless = None
            self._save()
            self._log.warning("%s was removed; it is made again, and sessions go on", self._settings.socket)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ask_to_stop, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # a terminal that closes ends no session

    def _on_fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What no task owns: into our own log, that never waits for its reader."""
        fault = context.get("exception")
        if isinstance(fault, MemoryError):
            self._log.error("no memory is left: sessions go on, what ExaBGPs say waits; raise the limit")
        else:
            self._log.error("%s", context["message"], exc_info=fault)

    def ask_to_stop(self, why: str) -> None:
        """Begin a planned stop; asked twice, it does not wait for the agent any longer."""
        self._log.info("stop asked for by %s", why)
        if self._stop.is_set():
            self._prepared.set()
        self._stop.set()

    # --- peers --------------------------------------------------------------------------------------------------
    def _load(self) -> None:
        definitions, complaints = store.load(self._store.path)
        for complaint in complaints:
            self._log.error("%s", complaint)
        for definition in definitions[:MAX_PEERS]:
            self._define(definition, definition.fingerprint)

    def _define(self, definition: PeerDefinition, fingerprint: str) -> None:
        slot = self._slots.get(definition.address)
        if slot is None:
            if len(self._slots) >= MAX_PEERS:
                raise ProtocolError(f"more than {MAX_PEERS} peers")
            slot = self._slots[definition.address] = _Slot(definition, fingerprint)
            self._tasks.create_task(self._keep(definition.address, slot))
        elif slot.wanted != definition:
            slot.wanted, slot.fingerprint, slot.forget = definition, fingerprint, False
            slot.changed.set()
        elif slot.fingerprint != fingerprint:
            slot.fingerprint = fingerprint
            if slot.process is not None and slot.process.definition == definition:
                slot.process.fingerprint = fingerprint
                self._tell(_state(slot.process))
        self._judge_listening()

    def _remove(self, address: str) -> None:
        slot = self._slots.get(address)
        if slot is not None and slot.wanted is not None:
            slot.wanted, slot.forget = None, True
            slot.changed.set()
            self._judge_listening()

    def _judge_listening(self) -> None:
        """One address has one port 179: of several passive peers on it, the first gets it."""
        if not self._doors_soon:  # before an ExaBGP that listens itself has started
            self._doors_soon = True
            asyncio.get_running_loop().call_soon(self._open_doors)
        holders: dict[str | None, str] = {}
        for address, slot in self._slots.items():
            blocked = None
            if slot.wanted is not None and slot.wanted.passive and slot.wanted.problem is None:
                holder = holders.setdefault(source_towards(slot.wanted), address)
                if holder != address:
                    blocked = (
                        f"passive peer {holder} already listens on this address, and one address can have one: "
                        "let one of the two be active, or give it another local address"
                    )
            if blocked != slot.blocked:
                slot.blocked = blocked
                slot.changed.set()

    async def _keep(self, address: str, slot: _Slot) -> None:
        """Make what is wanted of one peer so, until it is not wanted at all."""
        assert self._place is not None  # noqa: S101
        while slot.wanted is not None:
            slot.changed.clear()
            slot.process = process = PeerProcess(slot.wanted, self._place, self, slot.blocked)
            process.fingerprint = slot.fingerprint
            self.changed(process)
            life = asyncio.create_task(self._guard(process))
            try:
                await slot.changed.wait()
                await process.end(forget=slot.forget)
            finally:
                life.cancel()
                await asyncio.wait({life})
                self._tell(_state(process))  # it is over, and that is certain
        slot.process = None
        self._said.pop(address, None)
        if self._slots.get(address) is slot:
            del self._slots[address]
        if slot.forget:
            with contextlib.suppress(OSError):  # a read-only disk: the next start takes it out
                (self._place.folder / exabgp_config.file_name(address)).unlink(missing_ok=True)
            self._tell(message(Kind.GONE, peer=address))

    async def _guard(self, process: PeerProcess) -> None:
        """The root of one peer's life: a fault in it is this peer's alone."""
        while True:
            try:
                await process.supervise()
            except Exception:  # noqa: BLE001 - the root of a life: logged, and begun again
                self._log.exception(
                    "supervising an ExaBGP failed; it is started again", extra={"peer": process.address}
                )
                await asyncio.sleep(5.0)
            else:
                return

    def _save(self) -> None:
        self._store.save(slot.wanted for slot in self._slots.values() if slot.wanted is not None)

    async def _watch(self) -> None:
        """Look after every ExaBGP once a second."""
        self._doors_due = time.monotonic() + DOORS
        while True:
            await asyncio.sleep(TICK)
            try:
                await self._look_after(time.monotonic())
            except Exception:  # noqa: BLE001 - the root of a task: a fault in it must not end every session
                self._log.exception("looking after the ExaBGPs failed; they go on, and so does this")

    async def _look_after(self, now: float) -> None:
        hold = self._hold
        if hold is not None and not (hold.stands() and self._settings.socket.exists()):
            await self._return_home(hold)
        if self._store.problem is not None:
            self._save()
        for process in self._processes():
            process.check(now)
            process.nudge(now)
        if now >= self._doors_due:  # addresses and routes come and go, as do other programs on the port
            self._doors_due = now + DOORS
            self._open_doors()

    def _open_doors(self) -> None:
        self._doors_soon = False
        self._doorbell.set_doors(doors(slot.wanted for slot in self._slots.values() if slot.wanted))

    def _processes(self) -> list[PeerProcess]:
        return [slot.process for slot in self._slots.values() if slot.process is not None]

    def _take_pipes(self, token: str, events: int, commands: int) -> None:
        for process in self._processes():
            if token and process.token == token:
                process.take_pipes(events, commands)
                return
        os.close(events)
        os.close(commands)

    def _knocked(self, address: str) -> None:
        slot = self._slots.get(address)
        if slot is not None and slot.process is not None and slot.process.nudge(time.monotonic(), knocked=True):
            self._log.info("the peer is back; its ExaBGP tries at once", extra={"peer": address})

    # --- what ExaBGPs say -----------------------------------------------------------------------------------------
    def heard(self, process: PeerProcess, data: bytes) -> None:
        """Lines for whoever listens."""
        self._tell(lines(Kind.LINES, process.address, process.epoch, data))

    def logged(self, process: PeerProcess, line: str) -> None:
        """A line of an ExaBGP's log, into ours and to the agent."""
        chatter = is_chatter(line)
        self._log.log(logging.DEBUG if chatter else logging.INFO, "ExaBGP: %s", line, extra={"peer": process.address})
        self._tell(message(Kind.LOG, peer=process.address, level="debug" if chatter else "warning", line=line))

    def changed(self, process: PeerProcess) -> None:
        """An ExaBGP started, ended, or has a problem."""
        if process.problem != self._said.get(process.address):
            self._said[process.address] = process.problem
            if process.problem:
                self._log.warning("%s", process.problem, extra={"peer": process.address})
        self._tell(_state(process))

    def _tell(self, frame: bytes) -> None:
        if self._agent is not None:
            self._agent.send(frame)

    # --- the agent ------------------------------------------------------------------------------------------------
    def attach(self, link: AgentLink) -> str | None:
        """One agent at a time; the next one is served when this one is gone."""
        if self._agent is not None:
            return f"another agent (process {self._agent.pid}) is attached; one at a time"
        if self._stop.is_set():
            return "the speaker is stopping"
        self._agent = link
        self._log.info("agent attached (process %d)", link.pid)
        for process in self._processes():
            link.send(_state(process))
        link.send(message(Kind.READY))
        return None

    def detach(self, link: AgentLink, reason: str) -> None:
        """Sessions go on; what they say is drained and dropped until an agent attaches and learns anew."""
        if link is self._agent:
            self._agent = None
            self._prepared.set()
            self._log.info("agent detached: %s", reason)

    def receive(self, link: AgentLink, frame: Message | Lines) -> None:
        """Do what the agent asks. Raises :class:`ProtocolError`."""
        if isinstance(frame, Lines):
            slot = self._slots.get(frame.peer)
            if slot is not None and slot.process is not None and not slot.process.write(frame.epoch, frame.data):
                raise ProtocolError(f"ExaBGP for {frame.peer} does not take commands as fast as they come")
            return
        if frame.kind is Kind.PING:
            link.send(message(Kind.PONG))
            return
        if self._stop.is_set() and frame.kind is not Kind.PREPARED and frame.kind is not Kind.STOP:
            return  # too late: all ends
        match frame.kind:
            case Kind.DEFINE:
                self._receive_definition(frame)
            case Kind.REMOVE:
                self._remove(frame.text("peer"))
                self._save()
            case Kind.RESTART:
                self._restart(frame.text("peer"), frame.text("reason"))
            case Kind.PREPARED:
                self._prepared_in(frame.number("wait"))
            case Kind.STOP:
                self.ask_to_stop(f"the agent (process {link.pid})")
            case _:
                raise ProtocolError(f"{frame.kind.name} is not for the speaker")

    def _receive_definition(self, frame: Message) -> None:
        try:
            definition = PeerDefinition.from_json(frame.body.get("definition"))
        except DefinitionError as error:
            raise ProtocolError(str(error)) from None
        self._define(definition, frame.text("fingerprint") if "fingerprint" in frame.body else definition.fingerprint)
        self._save()

    def _restart(self, address: str, reason: str) -> None:
        slot = self._slots.get(address)
        if slot is not None and slot.process is not None:
            self._log.warning("restart asked for: %s", reason, extra={"peer": address})
            slot.process.restart(reason)

    # --- the end ----------------------------------------------------------------------------------------------------
    async def _planned_stop(self) -> None:
        """Give the agent the chance to move the traffic away first."""
        if self._agent is None:
            return
        self._prepared.clear()
        started = time.monotonic()
        self._patience = started + min(ANSWER, self._settings.stop_timeout)
        self._agent.send(message(Kind.STOPPING, timeout=self._settings.stop_timeout))
        while not self._prepared.is_set() and (left := self._patience - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._prepared.wait(), min(left, TICK))
        self._log.info("waited %.1f s for the agent", time.monotonic() - started)

    def _prepared_in(self, wait: float) -> None:
        if wait > 0:
            self._patience = time.monotonic() + min(wait, self._settings.stop_timeout)
        else:
            self._prepared.set()


def _state(process: PeerProcess) -> bytes:
    return message(Kind.STATE, peer=process.address, fingerprint=process.fingerprint, **process.snapshot.to_json())
