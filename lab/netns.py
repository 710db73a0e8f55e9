"""Network namespaces as hosts: made, wired, entered and taken away again.

Used by the lab and by the tests. A namespace belongs to the :class:`Network` that made it and goes with it, as do the
processes started in it. Names carry a tag of their own, so that two networks never meet.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

NETNS: Final = Path("/run/netns")
CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class ExpiredError(AssertionError):
    """A condition did not come true in time; the message names it."""


def wait_for(what: object, condition: Callable[[], object], timeout: float = 10.0, interval: float = 0.02) -> None:
    """Wait until ``condition()`` is true; raise :class:`ExpiredError` naming ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise ExpiredError(f"after {timeout:g} s still not so: {what}")
        threading.Event().wait(interval)


class Namespace:
    """One network namespace, used as a host."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = NETNS / name

    def command(self, *argv: str | Path) -> list[str]:
        """The argument list that runs ``argv`` inside (the mount namespace stays the caller's)."""
        return ["nsenter", f"--net={self.path}", "--", *map(str, argv)]

    def run(self, *argv: str | Path, check: bool = True, stdin: str | None = None, timeout: float = 30.0) -> str:
        """Run to the end and return what it printed; a failure raises with its error text."""
        done = subprocess.run(
            self.command(*argv), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            words = " ".join(map(str, argv))
            raise RuntimeError(f"{self.name}: `{words}` exited {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def ip(self, words: str, *, check: bool = True) -> str:
        """Run ``ip WORDS``."""
        return self.run("ip", *words.split(), check=check)

    def batch(self, *lines: str) -> None:
        """Run many ``ip`` commands in one process; the first that fails raises."""
        self.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")

    def sysctl(self, key: str, value: str | int) -> None:
        """Set one sysctl of this namespace (``net.…`` only: those belong to it)."""
        with self.entered():
            Path("/proc/sys", *key.split(".")).write_text(f"{value}\n")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread into the namespace: sockets made meanwhile belong to it for ever."""
        with Path("/proc/thread-self/ns/net").open("rb") as before, self.path.open("rb") as inside:
            _setns(inside)
            try:
                yield
            finally:
                _setns(before)


def _setns(target: IO[bytes]) -> None:
    if _LIBC.setns(target.fileno(), CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


class Network:
    """Namespaces, the wires between them and the processes in them; ``close`` (or leaving ``with``) ends all.

    ``tag`` is added to the names, by default one that nobody else has; empty: plain names, in a sandbox of one's own.
    """

    def __init__(self, tag: str | None = None) -> None:
        self.tag = secrets.token_hex(3) if tag is None else tag
        self.namespaces: dict[str, Namespace] = {}
        self.processes: list[subprocess.Popen[bytes]] = []
        self._wires = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, name: str, *, forwarding: bool = False) -> Namespace:
        """Make a namespace with loopback up. ``forwarding``: for both families."""
        full = f"{name}-{self.tag}" if self.tag else name
        subprocess.run(["ip", "netns", "add", full], check=True, capture_output=True)
        made = Namespace(full)
        self.namespaces[name] = made
        made.ip("link set lo up")
        forward = int(forwarding)
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            made.sysctl(key, forward)
        for scope in ("all", "default"):
            made.sysctl(f"net.ipv6.conf.{scope}.accept_dad", 0)
        return made

    def wire(
        self, left: Namespace, left_name: str, right: Namespace, right_name: str, *,
        left_addresses: Sequence[str] = (), right_addresses: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Join two namespaces by a veth pair, ends named and addressed (``10.0.0.1/24``), links up."""
        self._wires += 1
        left.ip(f"link add {left_name} type veth peer name {right_name} netns {right.name}")
        for end, name, addresses in ((left, left_name, left_addresses), (right, right_name, right_addresses)):
            for address in addresses:
                end.ip(f"address add {address} dev {name}" + (" nodad" if ":" in address else ""))
            end.ip(f"link set {name} up")

    def start(
        self, inside: Namespace, *argv: str | Path, log: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process inside; it ends with this network, or with the process that owns the network."""
        out: IO[bytes] | int = log.open("ab") if log else subprocess.DEVNULL
        try:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *inside.command(*argv)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                env={**os.environ, **(env or {})},
            )  # fmt: skip
        finally:
            if not isinstance(out, int):
                out.close()
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End the processes, then the namespaces. A process has a moment to end by itself, all at the same time."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + 2.0
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.wait()
        for namespace in self.namespaces.values():
            pids = subprocess.run(["ip", "netns", "pids", namespace.name], capture_output=True, text=True, check=False)
            for pid in pids.stdout.split():  # whatever our processes left behind in a namespace that is ours alone
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", namespace.name], check=False, capture_output=True)
        self.namespaces.clear()
        self.processes.clear()
