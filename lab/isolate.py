"""Run one command in private namespaces, so that whatever it makes is gone when it ends.

``lab/sandbox COMMAND…`` runs this file. The command gets mount, network, process and IPC namespaces of its own and an
empty ``/run``; network namespaces, routes, sockets and processes that it makes live in there and end with it, also when
it, this program or whoever started this program is killed with SIGKILL. Without root a user namespace is tried, and
only then sudo.

Two processes stand around the command. The outer one hands signals in and ends with its parent; the inner one is
process 1 of the new namespace and does what a process 1 must: it reaps orphans, and when it ends the kernel kills the
rest. The file stands alone (standard library only), because it runs before the environment exists.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

# <sched.h>, <sys/mount.h> and <sys/prctl.h>
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 1 << 18
PR_SET_PDEATHSIG: Final = 1

#: Seconds that the command has to end after a SIGTERM before everything is killed.
GRACE: Final = 10
#: What sudo lets through; everything else is its own environment.
KEPT: Final = "PATH,CI,JOBS,KEEP,TERM,COLORTERM,NO_COLOR,PYTHONASYNCIODEBUG"
REMEDY: Final = "This needs root (in a container: --privileged), or a kernel that lets users make user namespaces."

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class IsolationError(Exception):
    """The kernel refused a namespace or a mount; the message says which and what can be done."""


def _check(result: int, what: str) -> None:
    if result:
        raise IsolationError(f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    result = _LIBC.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(result, f"mount {target}")


def _unshare() -> None:
    """Enter new namespaces; as an ordinary user become root of a new user namespace first."""
    uid, gid = os.geteuid(), os.getegid()
    flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC
    _check(_LIBC.unshare(flags | (CLONE_NEWUSER if uid else 0)), "unshare")
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _furnish() -> None:
    """As process 1: mounts of our own, an empty /run, loopback up."""
    _mount("none", "/", "none", MS_REC | MS_PRIVATE)
    _mount("proc", "/proc", "proc")
    _mount("sandbox", "/run", "tmpfs", 0, "mode=0755")
    Path("/run/netns").mkdir()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def _user_namespace_works() -> bool:
    """Try it in a child: Ubuntu 24.04 lets anybody make a user namespace and then denies every right in it."""
    probe = [sys.executable, "-I", __file__, "--attempt"]
    return not subprocess.run(probe, capture_output=True, check=False).returncode


def _end_with_parent() -> None:
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _exit_code(status: int) -> int:
    """A wait status as a shell shows it: 128 + the signal for a killed process."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _hand_on(child: int) -> None:
    """SIGTERM and SIGHUP go on to the child. SIGINT comes from a terminal, which tells the whole group itself."""

    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)
        signal.alarm(GRACE)

    def give_up(_number: int, _frame: FrameType | None) -> None:
        os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGHUP, forward)
    signal.signal(signal.SIGALRM, give_up)


def _wait(child: int) -> NoReturn:
    """Reap whatever ends until the child does, and end as it did."""
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(_exit_code(status))


def _become(command: list[str]) -> NoReturn:
    os.environ["LAB_SANDBOX"] = "1"
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # Debian keeps ip and bird out of an ordinary user's path
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming the command is the point
    except OSError as error:
        print(f"sandbox: {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(127)


def _first_process(command: list[str]) -> NoReturn:
    """Be process 1: start the command, reap, end with it."""
    _end_with_parent()
    try:
        _furnish()
        child = os.fork()
        if not child:
            _become(command)
        _hand_on(child)
        _wait(child)
    except (IsolationError, OSError, subprocess.SubprocessError) as error:
        print(f"sandbox: {error}", file=sys.stderr, flush=True)
        os._exit(126)


def isolate(command: list[str]) -> NoReturn:
    """Run ``command`` in new namespaces and exit as it does. Raises :class:`IsolationError`."""
    _end_with_parent()
    _unshare()
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
    child = os.fork()
    if not child:
        _first_process(command)
    _hand_on(child)
    _wait(child)


def main() -> None:
    """Read the command line; see the module's docstring."""
    command = sys.argv[1:]
    if not command:
        sys.exit("usage: lab/sandbox COMMAND…")
    if command == ["--attempt"]:
        command = ["true"]
    elif os.geteuid() and not _user_namespace_works():
        print("sandbox: no root and no user namespaces here; asking for root through sudo", file=sys.stderr)
        program = [sys.executable, "-I", str(Path(__file__).resolve())]
        os.execvp("sudo", ["sudo", f"--preserve-env={KEPT}", *program, *command])  # noqa: S606
    try:
        isolate(command)
    except (IsolationError, OSError) as error:
        sys.exit(f"sandbox: {error}\n{REMEDY}")


if __name__ == "__main__":
    main()
