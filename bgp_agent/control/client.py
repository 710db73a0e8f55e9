"""The command line's end of the control socket, and how a speaker is asked to stop. Blocking: it serves one command."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bgp_agent.control.messages import (
    LINE,
    MessageError,
    Outcome,
    Request,
    decode_answer,
    encode_request,
)
from bgp_agent.control.server import caller

GRACE: Final = 10.0
"""Seconds that an answer may come late."""


class UnreachableError(Exception):
    """Nobody answers at the socket; the message says what and the remedy."""


def call(path: Path, request: Request, progress: Callable[[str], None]) -> Outcome:
    """Ask the agent at ``path`` and wait for the outcome. Raises :class:`UnreachableError`."""
    with _connected(path, "agent", "`bgp-agent run`") as connection:
        connection.settimeout(request.timeout + GRACE)
        with contextlib.suppress(BrokenPipeError):  # who is refused for who it is, or comes too many, is told unasked
            connection.sendall(encode_request(request))
        with connection.makefile("rb") as lines:
            return _outcome(path, iter(lambda: lines.readline(LINE), b""), progress)


def _outcome(path: Path, lines: Iterator[bytes], progress: Callable[[str], None]) -> Outcome:
    try:
        for line in lines:
            answer = decode_answer(line)
            if isinstance(answer, Outcome):
                return answer
            progress(answer.text)
    except (MessageError, OSError) as error:
        raise UnreachableError(f"the agent at {path} broke off: {error}") from error
    raise UnreachableError(f"the agent at {path} went away before it was done; `bgp-agent status` shows where it is")


@contextlib.contextmanager
def _connected(path: Path, who: str, start: str) -> Iterator[socket.socket]:
    connection = socket.socket(socket.AF_UNIX)
    with connection:
        try:
            connection.connect(os.fspath(path))
        except PermissionError as error:
            raise UnreachableError(f"no right to use {path}: be root, or the user that runs {start}") from error
        except OSError as error:
            raise UnreachableError(
                f"no {who} answers at {path} ({error.strerror or error}): is {start} started, with this state_dir?"
            ) from error
        yield connection


def listener(path: Path) -> int | None:
    """The process that listens at a Unix socket, None when nobody does. 0: it lives in another pid namespace."""
    try:
        with _connected(path, "process", "it") as connection:
            return caller(connection)[0]
    except UnreachableError:
        return None


def end(path: Path, timeout: float) -> Outcome:
    """Send TERM to the speaker that listens at ``path`` and wait until it is gone. ``timeout`` in seconds.

    The kernel names the process (``SO_PEERCRED``) and a pidfd holds on to it, so no other process can be hit.
    """
    pid = listener(path)
    if pid is None:
        return Outcome(good=True, reason="no speaker runs")
    if pid == 0:
        return Outcome(good=False, reason=f"the speaker at {path} runs in another container: stop that container")
    try:
        held = os.pidfd_open(pid)
    except ProcessLookupError:
        return Outcome(good=True, reason="the speaker has just ended")
    try:
        return _end(path, pid, held, timeout)
    finally:
        os.close(held)


def _end(path: Path, pid: int, held: int, timeout: float) -> Outcome:
    named = f"the speaker (process {pid})"
    if listener(path) != pid:  # the id may have been given to another process before the pidfd was opened
        return Outcome(good=False, reason=f"the speaker at {path} changed meanwhile: try again")
    try:
        signal.pidfd_send_signal(held, signal.SIGTERM)
    except PermissionError:
        return Outcome(good=False, reason=f"no right to end {named}: be root or its user")
    if _gone(held, timeout):
        return Outcome(good=True, reason=f"{named} has ended")
    return Outcome(good=False, reason=f"{named} has not ended after {timeout:g} s")


def wait_for_end(pid: int, timeout: float) -> bool:
    """Wait until a process is gone. ``timeout`` in seconds."""
    try:
        held = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return _gone(held, timeout)
    finally:
        os.close(held)


def _gone(held: int, timeout: float) -> bool:
    """Does a process end in time; a pidfd becomes readable then (pidfd_open(2))."""
    poll = select.poll()
    poll.register(held, select.POLLIN)
    deadline = time.monotonic() + timeout
    while not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        if time.monotonic() >= deadline:
            return False
    return True
