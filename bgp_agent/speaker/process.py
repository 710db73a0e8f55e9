"""One peer's ExaBGP: started, listened to, fed, kept alive, ended.

The process belongs to this object from the fork to the wait. Whatever it prints is read at once, whether somebody
listens or not: an ExaBGP whose pipe is full stands still, keepalives and all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bgp_agent.speaker import exabgp_config
from bgp_agent.speaker.chatter import is_chatter
from bgp_agent.speaker.definition import PeerDefinition
from bgp_agent.speaker.files import write_private
from bgp_agent.speaker.pipes import Inlet, Outlet
from bgp_agent.speaker.protocol import Snapshot
from bgp_agent.speaker.remedies import explain, no_start
from bgp_agent.speaker.stream import EndlessLineError, Stream
from bgp_agent.speaker.supervision import TRANSITIONS, Backoff, Event, State

#: Seconds without a word from ExaBGP after which it is asked for one.
QUIET: Final = 5.0
#: Seconds an answer may take while the process uses no CPU time, and at all.
FROZEN: Final = 10.0
STUCK: Final = 60.0
#: Seconds from the start of the process until its pipes must have come.
START: Final = 20.0
#: Seconds of running after which what went wrong before is forgotten.
SETTLED: Final = 30.0
#: Seconds between two nudges of a session that is down, and between two because the peer knocked.
NUDGE: Final = 3.0
KNOCK: Final = 0.5
#: Seconds for a session to end with its NOTIFICATION, and for the process to end after SIGTERM.
CEASE: Final = 2.0
GRACE: Final = 3.0
#: Bytes of commands that may wait for one ExaBGP. The session's window keeps it far below.
MAX_PENDING: Final = 16 * 1024 * 1024
#: Characters of one line of ExaBGP's log that are passed on, and lines that are kept to explain an end.
LOG_LINE: Final = 2000
LOG_KEPT: Final = 20
#: RFC 4486: Cease, Administrative Shutdown.
ADMINISTRATIVE_SHUTDOWN: Final = 2


@dataclass(frozen=True, slots=True)
class Place:
    """Where and as whom ExaBGPs run. ``command``: what starts one, given its configuration file."""

    folder: Path
    handover: Path
    account: pwd.struct_passwd
    listen: int = 179
    command: Callable[[Path], Sequence[str]] = exabgp_config.command


class Listener(Protocol):
    """Who hears what one ExaBGP says."""

    def heard(self, process: PeerProcess, lines: bytes) -> None:
        """Whole lines of its output."""

    def logged(self, process: PeerProcess, line: str) -> None:
        """A line of its log."""

    def changed(self, process: PeerProcess) -> None:
        """Its snapshot is another one now."""


class PeerProcess:
    """The ExaBGP of one definition. :meth:`supervise` runs it for ever; :meth:`end` ends it in good order.

    ``blocked``: why it must not run though it is wanted, beyond what the definition itself says.
    """

    def __init__(
        self, definition: PeerDefinition, place: Place, listener: Listener, blocked: str | None = None
    ) -> None:
        self.definition = definition
        self.fingerprint = definition.fingerprint
        self.address = definition.address
        self.state = State.STOPPED
        self.problem = self._blocked = blocked or definition.problem
        self.epoch = 0
        self.token = ""
        self.since = time.time()
        self._place = place
        self._listener = listener
        self._stream = Stream()
        self._inlet: Inlet | None = None
        self._outlet: Outlet | None = None
        self._log: Inlet | None = None
        self._log_tail = b""
        self._last_words: deque[str] = deque(maxlen=LOG_KEPT)
        self._popen: subprocess.Popen[bytes] | None = None
        self._handle = -1  # pidfd
        self._exited = asyncio.Event()
        self._word = asyncio.Event()  # something was heard
        self._backoff = Backoff()
        self._restarting: str | None = None
        self._ending = False
        self._started = self._heard = self._checked = self._nudged = time.monotonic()
        self._alive = self._heard  # last seen to get on: a word, or CPU time
        self._cpu = 0

    # --- what the host asks -------------------------------------------------------------------------------------
    @property
    def snapshot(self) -> Snapshot:
        """As an agent is told."""
        shown = State.STOPPED if self.state is State.ENDING else self.state
        stream = self._stream
        return Snapshot(
            shown.value, stream.established, self.since, stream.open_line, stream.unacked, self.problem, self.epoch
        )

    @property
    def established(self) -> bool:
        """Is the session up, as far as ExaBGP has said."""
        return self._stream.established

    @property
    def graceful(self) -> bool:
        """Did both ends negotiate graceful restart (RFC 4724)."""
        return bool(self.definition.graceful_restart) and self._stream.peer_restarts_gracefully

    def write(self, epoch: int, commands: bytes) -> bool:
        """Pass command lines on; False when ExaBGP does not take any more. Those for another epoch are dropped."""
        if self._outlet is None or epoch != self.epoch or self.state is not State.RUNNING:
            return True
        if self._outlet.pending + len(commands) > MAX_PENDING:
            return False
        self._ask(commands, own=False)
        return True

    def nudge(self, now: float, *, knocked: bool = False) -> bool:
        """Let ExaBGP try now, when it has no session and the last nudge is long enough ago; was it nudged."""
        pause = KNOCK if knocked else NUDGE
        passive = self.definition.passive
        if self.state is not State.RUNNING or self.established or passive or now - self._nudged < pause:
            return False
        self._nudged = now
        self._signal(signal.SIGALRM)
        return True

    def restart(self, reason: str) -> None:
        """End this ExaBGP the hard way; :meth:`supervise` starts the next one."""
        if self._popen is not None and self._restarting is None:
            self._restarting = reason
            self._signal(signal.SIGKILL)

    def check(self, now: float) -> None:
        """Look after it; called about once a second. A pause of the caller itself is not held against ExaBGP."""
        if now - self._checked > QUIET:
            self._heard = self._alive = self._started = now
        self._checked = now
        if self.state is State.STARTING and now - self._started > START:
            self.restart(f"ExaBGP had not handed over its pipes after {START:g} s")
        if self.state is not State.RUNNING:
            return
        if self.problem and now - self._started > SETTLED:
            self._set_problem(None)
        if self._stream.outstanding:
            self._judge(now)
        elif now - self._heard > QUIET:
            self._ask(b"version\n", own=True)

    def take_pipes(self, events: int, commands: int) -> None:
        """ExaBGP's helper handed over its pipes: the first time, or because ExaBGP replaced the helper."""
        if self.state in {State.ENDING, State.STOPPED}:
            os.close(events)
            os.close(commands)
            return
        established, opened = self.established, self._stream.open_line
        graceful = self._stream.peer_restarts_gracefully
        self._close_pipes()
        self._stream = Stream()
        self._stream.established, self._stream.open_line = established, opened
        self._stream.peer_restarts_gracefully = graceful
        self.epoch = int.from_bytes(os.urandom(4)) or 1  # none that an earlier host used, and never 0
        self._heard = self._alive = self._nudged = time.monotonic()
        self._outlet = Outlet(commands)
        self._inlet = Inlet(events, self._on_events, lambda: None)
        self._move(Event.PIPES)
        if not self._backoff.looping:
            self.problem = None
        self._listener.changed(self)

    # --- life ---------------------------------------------------------------------------------------------------
    async def supervise(self) -> None:
        """Start it, and start it again whenever it ends, until cancelled."""
        try:
            while self._blocked is None:
                reason = await self._live()
                if self._ending:
                    return
                pause = self._backoff.ended(time.monotonic())
                looping = "; it keeps ending" if self._backoff.looping else ""
                self._set_problem(f"{reason}{looping}; started again in {pause:g} s")
                await asyncio.sleep(pause)
            await asyncio.Event().wait()  # it must stay down; the problem says why
        finally:
            self.kill()

    async def _live(self) -> str:
        """From start to end; why it ended."""
        self._exited.clear()
        self._last_words.clear()
        self._restarting = None
        try:
            self._start()
        except (OSError, exabgp_config.ConfigError, subprocess.SubprocessError) as error:
            return no_start(error, self._place.folder)
        self._listener.changed(self)
        await self._exited.wait()
        code = self._reap()
        return self._why(code)

    def _why(self, code: int) -> str:
        return self._restarting or explain(code, self._last_words, self._place.listen)

    def _start(self) -> None:
        self.token = os.urandom(16).hex()
        account = self._place.account
        other = account.pw_uid != os.geteuid()
        listen = self._place.listen if self.definition.passive else None
        config = self._place.folder / exabgp_config.file_name(self.address)
        text = exabgp_config.text(self.definition, self._place.handover, self.token, listen=listen)
        config.unlink(missing_ok=True)  # of one that has ended: on a full disk the new one needs its room
        write_private(config, text.encode(), owner=account)
        popen = subprocess.Popen(
            self._place.command(config),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
            env=exabgp_config.environment(os.environ, account.pw_name), start_new_session=True, bufsize=0,
            user=account.pw_uid if other else None, group=account.pw_gid if other else None,
            extra_groups=[] if other else None,
        )  # fmt: skip
        assert popen.stdout is not None  # noqa: S101 - it was asked for
        with popen.stdout as out:
            try:
                self._handle = os.pidfd_open(popen.pid)
                self._log = Inlet(os.dup(out.fileno()), self._on_log, lambda: None)
            except OSError:  # no descriptor is left: one that nobody could end must not run
                popen.kill()
                popen.wait()
                if self._handle >= 0:
                    os.close(self._handle)
                    self._handle = -1
                raise
        self._popen = popen
        asyncio.get_running_loop().add_reader(self._handle, self._on_exit)
        self._started = time.monotonic()
        self._move(Event.STARTED)

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        self._exited.set()

    def _reap(self) -> int:
        """Take leave of a process that has ended; its exit code."""
        assert self._popen is not None  # noqa: S101
        code = self._popen.wait()
        self._close_pipes()
        if self._log is not None:
            self._log.drain()
            self._log.close()
            self._log = None
        os.close(self._handle)
        self._handle, self._popen = -1, None
        self._set_established(was=self.established, now=False)
        self._stream = Stream()
        self._move(Event.EXITED)
        return code

    def kill(self) -> None:
        """End it now, whatever it does, and wait for the kernel to say so."""
        if self._popen is not None:
            self._signal(signal.SIGKILL)
            asyncio.get_running_loop().remove_reader(self._handle)
            self._reap()

    async def end(self, *, forget: bool = False) -> None:
        """End it in good order, while :meth:`supervise` still runs; cancel that afterwards.

        A session with graceful restart ends without a NOTIFICATION, so that the peer keeps the routes; any other ends
        with a Cease (RFC 4486 section 4). ``forget``: the peer is not wanted any more; it is to lose the routes too.
        """
        self._ending = True
        if self._popen is None:
            return
        if self.established and self.state is State.RUNNING:
            await self._say_goodbye(forget=forget)
        self._move(Event.STOP)
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self._exited.wait()

    async def _say_goodbye(self, *, forget: bool) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CEASE):
                if not self.graceful:
                    self._ask(f"neighbor {self.address} teardown {ADMINISTRATIVE_SHUTDOWN}\n".encode(), own=True)
                    await self._until(lambda: not self.established)
                elif forget:
                    self._ask(f"neighbor {self.address} clear adj-rib out\n".encode(), own=True)
                    await self._until(lambda: not self._stream.outstanding)
                    await asyncio.sleep(0.1)  # the UPDATE leaves one turn of ExaBGP's loop after the answer

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._word.clear()
            await self._word.wait()

    # --- what it says -------------------------------------------------------------------------------------------
    def _on_events(self, chunk: bytes) -> None:
        self._heard = self._alive = time.monotonic()
        before = self.established
        try:
            lines = self._stream.feed(chunk)
            if lines:
                self._listener.heard(self, lines)
        except EndlessLineError as error:
            self.restart(f"ExaBGP printed {error}")
            return
        except MemoryError:  # what it said is lost: a new session tells it again
            self.restart("no memory was left for what ExaBGP said: raise the speaker's limit")
            return
        self._set_established(was=before, now=self.established)
        self._word.set()

    def _set_established(self, *, was: bool, now: bool) -> None:
        if was is not now:
            self.since = time.time()
            if now:
                self._set_problem(None)

    def _on_log(self, chunk: bytes) -> None:
        *lines, self._log_tail = (self._log_tail + chunk).split(b"\n")
        self._log_tail = self._log_tail[:LOG_LINE]
        for raw in lines:
            line = raw[:LOG_LINE].decode("utf-8", "replace").strip()
            if line:
                if not is_chatter(line):
                    self._last_words.append(line)
                self._listener.logged(self, line)

    # --- the small things ---------------------------------------------------------------------------------------
    def _ask(self, commands: bytes, *, own: bool) -> None:
        if self._outlet is not None:
            if not self._stream.outstanding:
                self._alive = self._heard = time.monotonic()
            self._stream.asked(commands, own=own)
            self._outlet.write(commands)

    def _judge(self, now: float) -> None:
        """An answer is due: is it only slow, or does it stand still."""
        cpu = self._cpu_ticks()
        if cpu != self._cpu:
            self._cpu, self._alive = cpu, now
        if now - self._alive > FROZEN or now - self._heard > STUCK:
            self.restart(f"ExaBGP was frozen: no answer for {now - self._heard:.0f} s")

    def _cpu_ticks(self) -> int:
        assert self._popen is not None  # noqa: S101
        try:
            fields = Path(f"/proc/{self._popen.pid}/stat").read_bytes().rpartition(b")")[2].split()
            return int(fields[11]) + int(fields[12])
        except (OSError, IndexError, ValueError):
            return self._cpu

    def _signal(self, number: signal.Signals) -> None:
        if self._handle >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def _move(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]

    def _set_problem(self, problem: str | None) -> None:
        if problem != self.problem:
            self.problem = problem
            self._listener.changed(self)

    def _close_pipes(self) -> None:
        if self._inlet is not None:
            self._inlet.drain()
            self._inlet.close()
            self._inlet = None
        if self._outlet is not None:
            self._outlet.close()
            self._outlet = None
