"""What one ExaBGP prints, followed just far enough: is its session up, and whose answer comes next.

The host passes lines on without reading them; it knows an UPDATE by a look at its first bytes. It reads the few lines
that say how the session stands, and it counts answers: ExaBGP answers each command with ``done`` or ``error``, in
order, without saying which command is meant. The host's own commands (a sign of life) have their answers taken out, so
that the agent only sees what it asked for.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Final

#: Bytes of a line that does not end. The longest seen, with extended messages, is 217,700.
MAX_LINE: Final = 4 * 1024 * 1024
#: RFC 4724: the capability's code, as ExaBGP writes it in a received OPEN.
_GRACEFUL_RESTART: Final = "64"
#: Where the type stands: after the version, the time, the host's name, the process ids and a counter.
_HEAD: Final = 512


class EndlessLineError(Exception):
    """ExaBGP printed more than :data:`MAX_LINE` bytes without an end of line."""


class Stream:
    """One ExaBGP's output since its pipes were taken over. Feed it bytes, get back the whole lines for the agent."""

    def __init__(self) -> None:
        self.established = False
        self.open_line: bytes | None = None
        self.peer_restarts_gracefully = False  # the peer's OPEN held the capability
        self._tail = b""
        self._answers: deque[bool] = deque()  # for each answer to come: is it the host's own

    @property
    def outstanding(self) -> int:
        """Answers to come, whoever asked."""
        return len(self._answers)

    @property
    def unacked(self) -> int:
        """Answers to come for commands of an agent."""
        return sum(1 for own in self._answers if not own)

    def asked(self, commands: bytes, *, own: bool) -> None:
        """These command lines are on their way to ExaBGP."""
        self._answers.extend([own] * commands.count(b"\n"))

    def feed(self, chunk: bytes) -> bytes:
        """The whole lines for the agent, after what ``chunk`` completes. Raises :class:`EndlessLineError`."""
        head, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            self._tail += chunk
            if len(self._tail) > MAX_LINE:
                raise EndlessLineError(f"a line of more than {MAX_LINE} bytes")
            return b""
        whole, self._tail = self._tail + head, tail
        kept = [line for line in whole.split(b"\n") if self._keep(line)]
        kept.append(b"")
        return b"\n".join(kept)

    def _keep(self, line: bytes) -> bool:
        """Follow one line; is it for the agent."""
        if line.startswith(b"{"):
            if b'"type": "update"' not in line[:_HEAD]:
                self._event(line)
            return True
        if line in {b"done", b"error"}:
            return not (self._answers and self._answers.popleft())
        return not (self._answers and self._answers[0])

    def _event(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            kind, neighbor = event["type"], event["neighbor"]
            if kind == "state":
                self.established = {"up": True, "down": False}.get(neighbor["state"], self.established)
            elif kind == "open" and neighbor["direction"] == "receive":
                self.open_line = line
                self.peer_restarts_gracefully = _GRACEFUL_RESTART in neighbor["open"]["capabilities"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return  # the agent's reader judges it; for the host it says nothing
