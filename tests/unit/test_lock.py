"""One agent for each state directory."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bgp_agent.lock import LockedError, holder, locked

HOLDER = """
import pathlib, signal, sys
from bgp_agent.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


def test_a_second_agent_is_refused_and_told_who_runs(tmp_path: Path) -> None:
    with locked(tmp_path):
        told = rf"process {os.getpid()} holds {tmp_path}/agent\.lock: .*bgp-agent stop"
        with pytest.raises(LockedError, match=told), locked(tmp_path):
            pass
        assert f"process {os.getpid()}" in (holder(tmp_path) or "")
    with locked(tmp_path):
        pass
    assert holder(tmp_path) is None


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(LockedError, match=f"process {process.pid}"), locked(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(5)
    with locked(tmp_path):
        pass


def test_nobody_holds_the_lock_of_an_empty_directory(tmp_path: Path) -> None:
    assert holder(tmp_path) is None


def test_a_symlink_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "agent.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"agent\.lock"), locked(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_that_somebody_removed_is_taken_again_unless_another_was_faster(tmp_path: Path) -> None:
    with locked(tmp_path) as lock:
        assert lock.stands()
        lock.path.unlink()
        assert not lock.stands()
        with locked(tmp_path):
            assert not lock.stands()
            with pytest.raises(LockedError):
                lock.renew()
        lock.renew()
        assert lock.stands()
        with pytest.raises(LockedError), locked(tmp_path):
            pass


def test_a_full_disk_takes_the_name_of_the_holder_and_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with locked(tmp_path), pytest.raises(LockedError, match="another process holds"), locked(tmp_path):
        pass
