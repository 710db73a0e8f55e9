"""A machine that systemd boots: a lab node's network, this machine's disk with a layer of its own on top.

What deployment promises is judged where it is kept: real units, real users, real capabilities and system call filters,
started and stopped by a real systemd that is process 1 of its own process namespace. Whatever the machine writes ends
up in the layer, in the sandbox's memory, and vanishes with it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lab.netns import Namespace, wait_for

ROOT: Final = Path(__file__).resolve().parents[2]
BOOT: Final = Path(__file__).with_name("boot.sh")
PYTHON: Final = Path("/usr/bin/python3")
CGROUPS: Final = Path("/run/cgroup2")


def why_no_machine() -> str | None:
    """Why no machine can be booted here, with the remedy; None when it can be tried."""
    if not Path("/lib/systemd/systemd").exists():
        return "systemd is not installed: `lab/install systemd`"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system: `modprobe overlay`"
    if not _same_python():
        return f"the dependencies are not installed for {PYTHON}: `make venv PYTHON={PYTHON}`"
    try:
        with control_group():
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no control group of one's own here: {error}: be root"


def _same_python() -> bool:
    """Do the dependencies of this Python fit the one that every user of a machine may run."""
    if not PYTHON.exists():
        return False
    code = "import sysconfig; print(sysconfig.get_config_var('SOABI'))"
    asked = subprocess.run([PYTHON, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=20)
    return asked.stdout.strip() == sysconfig.get_config_var("SOABI")


@contextlib.contextmanager
def control_group() -> Iterator[Path]:
    """A new control group; systemd makes its own below it. Its processes must have been told to end."""
    if not CGROUPS.is_mount():
        CGROUPS.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", CGROUPS], check=True, capture_output=True)
    for folder in CGROUPS.glob("bgp-agent-test-*"):
        _remove(folder)  # of a run that was killed
    made = CGROUPS / f"bgp-agent-test-{secrets.token_hex(4)}"
    made.mkdir()
    try:
        yield made
    finally:
        wait_for(f"{made} can be removed", lambda: _remove(made), 10)


def _remove(folder: Path) -> bool:
    """Remove a control group and those below it, unless a process lives in one."""
    for path, _folders, _files in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(path).rmdir()
    return not folder.exists()


class Machine:
    """The machine of one network namespace. ``folder``: an empty one, on a file system that bears a layer."""

    def __init__(self, inside: Namespace, folder: Path) -> None:
        self.layer = folder / "up"
        self._inside = inside
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._pid = 0

    def __enter__(self) -> Self:
        with self._stack:
            group = self._stack.enter_context(control_group())
            self._boot(group)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _boot(self, group: Path) -> None:
        words = (BOOT, group, self._folder, self._folder / "root", sysconfig.get_path("purelib"))
        log = self._stack.enter_context((self._folder / "boot.log").open("ab"))
        outer = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *self._inside.command(*words)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        self._stack.callback(outer.wait)
        self._stack.callback(outer.kill)  # and with it, by --kill-child, process 1 and all the others
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        wait_for("the machine has a process 1", lambda: outer.poll() is not None or children.read_text().strip(), 10)
        self._pid = int(children.read_text().split()[0])
        wait_for("systemd is up", lambda: self.ask("systemctl is-system-running").stdout.strip() == "running", 40, 0.2)

    def ask(self, command: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root at the machine's prompt, in the source tree; whatever comes of it."""
        return subprocess.run(
            ["nsenter", f"--target={self._pid}", "--all", "env", "-i", "HOME=/root", "LC_ALL=C.UTF-8",
             "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
             "bash", "-euc", f"cd {ROOT}; {command}"],
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def run(self, command: str, timeout: float = 60.0) -> str:
        """As :meth:`ask`; a failure raises with what was said."""
        done = self.ask(command, timeout)
        if done.returncode:
            raise RuntimeError(f"`{command}` exited {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run(f"systemctl show --value -p {name} {unit}").strip()
