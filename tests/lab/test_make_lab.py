"""`make lab` itself: it shows what it promises, and whatever ends it leaves nothing behind."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from lab.netns import wait_for
from lab.topology import PLAN

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]


class Marked:
    """A sandbox whose processes carry a mark in their environment, by which they are found wherever they went."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.mark = f"LAB_TEST_MARK={secrets.token_hex(8)}"
        name, _, value = self.mark.partition("=")
        self.output = folder / "output"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [str(ROOT / "lab/sandbox"), sys.executable, *words],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                env={**os.environ, name: value, "TMPDIR": str(folder)},
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        self.process.wait()

    def processes(self) -> dict[int, list[bytes]]:
        """Process id -> command line."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
        return found

    def comes_to(self, words: str) -> None:
        wait_for(f"the lab has come to {words!r}", lambda: words in self.text() or self.process.poll() is not None, 90)
        assert self.process.poll() is None, self.text()

    def gone(self) -> bool:
        return not self.processes()

    def text(self) -> str:
        return self.output.read_text(errors="replace")  # the last character may be half written


def traces() -> list[Path]:
    """What a lab could leave on the machine: namespaces under the plain names that only it uses, and its folder."""
    return [path for path in (*(Path("/run/netns") / plan.name for plan in PLAN), Path("/run/lab")) if path.exists()]


def test_make_lab_shows_everything_exits_0_and_leaves_nothing(tmp_path: Path) -> None:
    with Marked(tmp_path, "-m", "lab") as lab:
        assert lab.process.wait(120) == 0, lab.text()
    for promise in ("everything held", "Ping from pod to pod", "Who gets a packet", "packets lost"):
        assert promise in lab.text()
    took = re.search(r"everything held after (\d+) s", lab.text())
    assert took
    assert int(took[1]) < 60
    wait_for("every process of the lab is gone", lab.gone)
    assert not traces()
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def _kill_outer(lab: Marked) -> None:
    lab.process.kill()


def _terminate(lab: Marked) -> None:
    lab.process.terminate()


def _interrupt_as_a_terminal_does(lab: Marked) -> None:
    os.killpg(lab.process.pid, signal.SIGINT)


def _kill_the_lab_itself(lab: Marked) -> None:
    pids = [pid for pid, words in lab.processes().items() if words[1:3] == [b"-m", b"lab"]]
    pid = min(pids)  # a child between its fork and its exec still has the lab's words
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("end", [_kill_outer, _terminate, _interrupt_as_a_terminal_does, _kill_the_lab_itself])
@pytest.mark.parametrize("moment", ["Ping from pod to pod", "The lab: three nodes"])
def test_an_interrupted_lab_leaves_nothing(tmp_path: Path, end: Callable[[Marked], None], moment: str) -> None:
    with Marked(tmp_path, "-m", "lab", "--keep") as lab:
        lab.comes_to(moment)
        end(lab)
        assert lab.process.wait(15)
        wait_for("every process of the lab is gone", lab.gone)
    assert not traces()
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_a_lab_that_is_kept_can_be_looked_into(tmp_path: Path) -> None:
    with Marked(tmp_path, "-m", "lab", "--keep") as lab:
        lab.comes_to("Look inside")
        look = [sys.executable, str(ROOT / "lab/inside.py")]
        shown = subprocess.run([*look, "node-a", "bgp-agent", "status"], capture_output=True, text=True, timeout=20,
                               check=True)  # fmt: skip
        assert "10.42.0.4" in shown.stdout
        azure = subprocess.run([*look, "azure", "azure-twin", "status"], capture_output=True, text=True, timeout=20,
                               check=True)  # fmt: skip
        assert "192.168.3.0/26" in azure.stdout
        wrong = subprocess.run([*look, "node-x"], capture_output=True, text=True, timeout=20, check=False)
        assert wrong.returncode == 1
        assert "node-a, node-b, node-c" in wrong.stderr
