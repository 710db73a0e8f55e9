"""Run ExaBGP 5.0.15 for one peer: ``exabgp PATH/PEER.conf`` (the name it is linked under is what ``ps`` shows).

ExaBGP ends with the process that started it (PR_SET_PDEATHSIG), and five things of it are set right for a process that
has one peer and a supervisor:

- SIGALRM means "try now": a peer without a session is connected to at once, and nothing else happens. As shipped it
  resets established sessions, reads the configuration again and replaces the helper. The state is looked at here, in
  ExaBGP's own loop, so a session that has just come up cannot be hit. A connection that waits for an answer is dropped
  with its socket and tried again: after a lost SYN the kernel would wait up to 64 s.
- ``teardown`` keeps quiet only where graceful restart was *negotiated* (RFC 4724 section 4), not wherever it is
  configured, and does not connect again: the process is about to end.
- The begin and the end of a peer's refresh (RFC 7313 section 4) are not taken for requests. As shipped each makes
  ExaBGP send all it has once more.
- A closed socket leaves the poller. As shipped it stays, ``poll`` returns at once for ever, and the loop defends itself
  with a sleep in each turn: tens of milliseconds more for every message.
- Hold time, keepalives and the pauses between tries go by a clock that nobody sets. As shipped they go by the time of
  day: put forward it ends every session, put back it stops the keepalives for as long.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Final

from exabgp.application import main, server
from exabgp.bgp import timer
from exabgp.bgp.fsm import FSM
from exabgp.bgp.message.open.capability import REFRESH, Capability
from exabgp.reactor import delay, loop
from exabgp.reactor.interrupt import Signal
from exabgp.reactor.loop import Reactor
from exabgp.reactor.peer import Peer

TESTED: Final = "5.0.15"
PR_SET_PDEATHSIG: Final = 1


class SteadyClock:
    """What the module ``time`` is to those who wait: seconds that only go forward."""

    time = staticmethod(time.monotonic)


class NudgedSignal(Signal):
    """SIGALRM without a line in the log: it comes every few seconds while a peer is away."""

    def sigalrm(self, signum: int, _frame: object) -> None:
        """Let the loop call :meth:`OnePeerReactor.restart`."""
        if self._ready and not self.received:
            self.received, self.number = self.RESTART, signum


class OnePeer(Peer):
    """A peer whose process ends when its session is ended."""

    def try_now(self) -> None:
        """Connect at once if nothing stands yet."""
        if self.proto or self.neighbor["passive"] or self.fsm.state not in (FSM.IDLE, FSM.ACTIVE):
            return
        if self.generator:
            self.generator.close()
            self.generator = None
        self._delay.reset()

    def resend(self, enhanced: object, family: object = None) -> None:
        """Send everything again, when that was asked for: an enhanced peer's request says that it is one."""
        if not enhanced and self.proto and self.proto.negotiated.refresh == REFRESH.ENHANCED:
            return
        super().resend(enhanced, family)

    def teardown(self, code: int, restart: bool = False) -> None:
        """End the session for good; with a NOTIFICATION unless both ends do graceful restart."""
        received = self.proto and self.proto.negotiated.received_open
        if received and not received.capabilities.announced(Capability.CODE.GRACEFUL_RESTART):
            self.neighbor["capability"]["graceful-restart"] = False
        super().teardown(code, restart)


class OnePeerReactor(Reactor):
    """The loop, with the poller kept clean."""

    def restart(self) -> None:
        """What SIGALRM asks for."""
        for peer in self._peers.values():
            peer.try_now()

    def _wait_for_io(self, sleeptime: int) -> Iterator[int]:
        if not self.asynchronous.ready():
            sleeptime = 0
        try:
            for descriptor, event in self._poller.poll(sleeptime):
                if event & select.POLLNVAL:
                    with contextlib.suppress(KeyError):
                        self._poller.unregister(descriptor)
                elif event & (select.POLLIN | select.POLLPRI):
                    yield descriptor
                else:
                    self._prevent_spin()
        except KeyboardInterrupt:
            self._termination("interrupted", self.Exit.normal)


def die_with_parent() -> None:
    """Let the kernel end this process with the one that started it."""
    parent = int(os.environ.pop("BGP_AGENT_HOST", os.getppid()))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it had ended before the kernel was asked
        sys.exit(1)


def run() -> int:
    """Run ExaBGP until it ends."""
    die_with_parent()
    if (version := metadata.version("exabgp")) != TESTED:
        print(f"ExaBGP is {version}; what this program relies on was tested with {TESTED}", flush=True)  # noqa: T201 - the supervisor reads it
    loop.Signal, loop.Peer, server.Reactor = NudgedSignal, OnePeer, OnePeerReactor
    timer.time = delay.time = SteadyClock
    sys.argv = ["exabgp", "server", *sys.argv[1:]]
    return int(main.main() or 0)


if __name__ == "__main__":
    sys.exit(run())
