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
_NOISE: Final = (
    "/var/", "/root/", f"{ROOT}/", "/etc/.pwd.lock", "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-",
    "/etc/subuid-", "/etc/subgid-",
)  # fmt: skip
"""The journal and its like, the checkout, and the copies that useradd(8) and its like keep of what they change."""


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
    return asked.stdout.strip() == str(sysconfig.get_config_var("SOABI"))


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
        self._inside = inside
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._pid = 0

    def __enter__(self) -> Self:
        self._boot()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def boot_again(self) -> None:
        """Pull the plug and boot from the same disk. The network namespace stays as it is."""
        self._stack.close()
        self._boot()

    def _boot(self) -> None:
        with contextlib.ExitStack() as stack:
            group = stack.enter_context(control_group())
            log = stack.enter_context((self._folder / "boot.log").open("ab"))
            words = (BOOT, group, self._folder, self._folder / "root", sysconfig.get_path("purelib"), ROOT)
            outer = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self._inside.command(*words)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            stack.callback(outer.wait)
            stack.callback(outer.kill)  # and with it, by --kill-child, process 1 and all the others
            self._pid = _child(outer)
            wait_for("systemd is up", lambda: "running" in self.ask("systemctl is-system-running").stdout, 40, 0.2)
            self._stack = stack.pop_all()

    def files(self) -> set[str]:
        """Every file that is not as on the disk underneath, but for what a machine writes whatever runs on it."""
        layer = self._folder / "up"
        written = (path for path in layer.rglob("*") if path.is_symlink() or path.is_file())  # a device: removed
        changed = {f"/{path.relative_to(layer)}" for path in written if not _same(path, "/" / path.relative_to(layer))}
        return {name for name in changed if not name.startswith(_NOISE)}

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
            told = done.stdout[-2000:] + done.stderr[-2000:] + self.ask("journalctl -n 40 --no-pager -o cat").stdout
            raise RuntimeError(f"`{command}` exited {done.returncode}:\n{told}")
        return done.stdout

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run(f"systemctl show --value -p {name} {unit}").strip()


def _child(outer: subprocess.Popen[bytes]) -> int:
    """The process that ``unshare --fork`` made: the machine's process 1."""
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    wait_for("the machine has a process 1", lambda: outer.poll() is not None or children.read_text().strip(), 10)
    return int(children.read_text().split()[0])


def _same(one: Path, other: Path) -> bool:
    try:
        return one.is_symlink() == other.is_symlink() and one.read_bytes() == other.read_bytes()
    except OSError:
        return False
