"""Run ExaBGP 5.0.15 for one peer: ``exabgp PATH/PEER.conf`` (the name it is linked under is what ``ps`` shows).

ExaBGP ends with the process that started it (PR_SET_PDEATHSIG), and a few things of it are set right for a process that
has one peer and a supervisor:

- SIGALRM means "try now": a peer without a session is connected to at once, and nothing else happens. As shipped it
  resets established sessions, reads the configuration again and replaces the helper. The state is looked at here, in
  ExaBGP's own loop, so a session that has just come up cannot be hit. A connection that waits for an answer is dropped
  with its socket and tried again: after a lost SYN the kernel would wait up to 64 s.
- ``teardown`` keeps quiet only where graceful restart was *negotiated* (RFC 4724 section 4), not wherever it is
  configured, and does not connect again: the process is about to end.
- The begin and the end of a peer's refresh (RFC 7313 section 4) are not taken for requests. As shipped each makes
  ExaBGP send all it has once more.
- A long UPDATE of IPv4 prefixes is read and told in one go (:class:`Many`), not prefix by prefix: what is said of them
  is the same, at a tenth of the time and without an object for each.
- A route of a command is taken as it is, not copied down to the last string first (:func:`_with_our_next_hop`): that
  copy is for the next peer, and is two thirds of the time that announcing takes.
- A message with a broken frame ends the session with its NOTIFICATION. As shipped, telling the API of it first fails,
  and the session ends without a word.
- A closed socket leaves the poller. As shipped it stays, ``poll`` returns at once for ever, and the loop defends itself
  with a sleep in each turn: tens of milliseconds more for every message.
- Hold time, keepalives and the pauses between tries go by a clock that nobody sets. As shipped they go by the time of
  day: put forward it ends every session, put back it stops the keepalives for as long.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Final

from exabgp.application import main, server
from exabgp.bgp import timer
from exabgp.bgp.fsm import FSM
from exabgp.bgp.message import Action, Message, Notify, Update
from exabgp.bgp.message.open.capability import REFRESH, Capability, Negotiated
from exabgp.bgp.message.update.attribute import Attribute, Attributes, NextHop
from exabgp.bgp.neighbor import Neighbor
from exabgp.protocol.family import AFI, SAFI, Family
from exabgp.protocol.ip import NoNextHop
from exabgp.reactor import delay, loop
from exabgp.reactor.api.processes import Processes
from exabgp.reactor.interrupt import Signal
from exabgp.reactor.loop import Reactor
from exabgp.reactor.peer import Peer
from exabgp.rib.change import Change

TESTED: Final = "5.0.15"
PR_SET_PDEATHSIG: Final = 1
#: Bytes of NLRI from which an UPDATE is long.
LONG: Final = 64


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


class Many:
    """The IPv4 prefixes of one UPDATE, as the one NLRI that ExaBGP's JSON encoder sees."""

    def __init__(self, action: int, data: bytes) -> None:
        """Read NLRI (RFC 4271 section 4.3). Raises Notify, as ExaBGP does for malformed ones."""
        self.action = action
        self.nexthop: object = NoNextHop
        self._texts: list[str] = []
        at, end = 0, len(data)
        while at < end:
            mask = data[at]
            stop = at + 1 + (mask + 7 >> 3)
            if mask > 32 or stop > end:
                raise Notify(3, 10, f"invalid network in an UPDATE: length {mask}, {end - at - 1} bytes left")
            address = socket.inet_ntop(socket.AF_INET, data[at + 1 : stop].ljust(4, b"\0"))
            self._texts.append(f"{address}/{mask}")
            at = stop

    def family(self) -> Family:
        """What they are."""
        return Family(AFI.ipv4, SAFI.unicast)

    def json(self, announced: bool = True, compact: bool = False) -> str:  # noqa: ARG002 - as NLRI have it
        """All of them, as items of a list."""
        form = '"{}"' if compact else '{{ "nlri": "{}" }}'
        return ", ".join(map(form.format, self._texts))


_as_shipped = Update.unpack_message


def _read_update(data: bytes, direction: int, negotiated: Negotiated) -> Message:
    """As Update.unpack_message; the IPv4 prefixes of a long one become :class:`Many`."""
    withdrawn, packed, announced = Update.split(data)
    if len(withdrawn) + len(announced) < LONG or negotiated.addpath.receive(AFI.ipv4, SAFI.unicast):
        return _as_shipped(data, direction, negotiated)
    update = Update([], Attributes())
    if packed:
        told = _as_shipped(bytes(2) + len(packed).to_bytes(2, "big") + packed, direction, negotiated)
        update = told if isinstance(told, Update) else update  # else an End-of-RIB: the prefixes are all there is
    many = []
    if withdrawn:
        many.append(Many(Action.WITHDRAW, withdrawn))
    if announced:
        many.append(Many(Action.ANNOUNCE, announced))
        many[-1].nexthop = update.attributes.get(Attribute.CODE.NEXT_HOP, NoNextHop)
    update.nlris[:0] = many
    return update


_with_next_hop: tuple[Attributes, Attributes] | None = None


def _with_our_next_hop(neighbor: Neighbor, change: Change) -> Change:
    """In place of Neighbor.remove_self: ``next-hop self`` becomes the address.

    The prefixes of one command share their attributes, here as before.
    """
    global _with_next_hop  # noqa: PLW0603 - of the command that is being read; there is one at a time
    if not change.nlri.nexthop.SELF:
        return change
    shared, ours = change.attributes, neighbor.ip_self(change.nlri.afi)
    change.nlri.nexthop = ours
    if Attribute.CODE.NEXT_HOP in shared:
        if _with_next_hop is None or _with_next_hop[0] is not shared:
            made = copy.copy(shared)
            made[Attribute.CODE.NEXT_HOP] = NextHop(str(ours), ours.pack())
            _with_next_hop = shared, made
        change.attributes = _with_next_hop[1]
    return change


def _told_when_sent(*_: object) -> None:
    """In place of Processes.notification: the agent hears of it with the NOTIFICATION that goes out."""


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
    Update.unpack_message = staticmethod(_read_update)
    Neighbor.remove_self = _with_our_next_hop
    Processes.notification = _told_when_sent
    loop.Signal, loop.Peer, server.Reactor = NudgedSignal, OnePeer, OnePeerReactor
    timer.time = delay.time = SteadyClock
    sys.argv = ["exabgp", "server", *sys.argv[1:]]
    return int(main.main() or 0)


if __name__ == "__main__":
    sys.exit(run())
