"""`lab/sandbox`: whatever a command makes is gone when it ends, however it ends, and its result is the command's."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.netns import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.timeout(60)]

SANDBOX = Path(__file__).resolve().parents[2] / "lab/sandbox"
NOBODY = 65534


def marked(mark: str) -> list[int]:
    """The processes that carry a mark in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(SANDBOX), *words], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("words", "code"), [("true", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
)
def test_it_ends_as_the_command_does(words: str, code: int) -> None:
    assert run("sh", "-c", words).returncode == code


def test_a_command_that_does_not_exist_is_said_so() -> None:
    done = run("no-such-command")
    assert done.returncode == 127
    assert "no-such-command" in done.stderr


def test_inside_there_is_an_empty_run_and_only_own_processes_and_loopback() -> None:
    done = run("sh", "-c", "ls -A /run /run/netns; ip -br link; ls -d /proc/[0-9]*/ | wc -l")
    lines = done.stdout.split("\n")
    assert lines[:4] == ["/run:", "netns", "", "/run/netns:"]
    assert lines[4].startswith("lo")
    assert int(lines[5]) <= 4


def test_orphans_are_reaped() -> None:
    """Without a process 1 that reaps, a dead orphan stays a zombie and looks alive to a signal 0."""
    wait = "for i in $(seq 100); do [ -e /proc/$(cat /run/orphan) ] || exit 0; sleep 0.05; done; exit 1"
    script = f"(sleep 0.1 & echo $! >/run/orphan); {wait}"
    assert run("sh", "-c", script).returncode == 0


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()


def _terminate(process: subprocess.Popen[bytes]) -> None:
    process.terminate()


def _interrupt_the_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize("end", [_kill, _terminate, _interrupt_the_group])
def test_nothing_survives_its_end(end: Callable[[subprocess.Popen[bytes]], None]) -> None:
    mark = f"MARK={secrets.token_hex(8)}"
    stubborn = "setsid sh -c 'trap \"\" TERM INT HUP; while :; do sleep 1; done' & exec sleep 1000"
    process = subprocess.Popen(
        [str(SANDBOX), "sh", "-c", stubborn], start_new_session=True, env={**os.environ, "MARK": mark[5:]}
    )
    wait_for("outer, process 1, the command and the stubborn one run", lambda: len(marked(mark)) >= 5)
    end(process)
    process.wait(15)
    wait_for("all are gone", lambda: not marked(mark))


def test_it_ends_with_whoever_started_it() -> None:
    mark = f"MARK={secrets.token_hex(8)}"
    starter = subprocess.Popen(
        ["sh", "-c", f"{SANDBOX} sleep 1000; true"], start_new_session=True, env={**os.environ, "MARK": mark[5:]}
    )
    wait_for("the command runs", lambda: len(marked(mark)) >= 4)
    starter.kill()
    starter.wait()
    wait_for("all are gone", lambda: not marked(mark))


@pytest.fixture
def readable() -> Iterator[Path]:
    """A copy of the sandbox that any user may read (a test's own folder is the owner's alone)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for part in ("sandbox", "isolate.py"):
            shutil.copy(SANDBOX.with_name(part), folder)
        yield folder


def test_an_ordinary_user_gets_namespaces_by_a_user_namespace(readable: Path) -> None:
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    script = "id -u; ip netns add x && nsenter --net=/run/netns/x ip -br link && bird --version"
    if subprocess.run([*become, "unshare", "--user", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no second user to try it with: this sandbox is a user namespace itself, or users may make none")
    done = subprocess.run(
        [*become, "env", "PATH=/usr/bin:/bin", str(readable / "sandbox"), "sh", "-c", script],
        capture_output=True, text=True, timeout=30, check=False, cwd=readable,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0\nlo")
