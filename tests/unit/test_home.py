"""The state directory of a running agent: what somebody takes away is made again, what is wrong is said once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bgp_agent import home
from bgp_agent.control.messages import Outcome
from bgp_agent.control.server import ControlServer
from bgp_agent.core.router import Change
from bgp_agent.home import Home, trouble
from bgp_agent.lock import Lock, LockedError, locked


class Nothing:
    """Actions that nobody asks for."""

    async def drain(self, *, force: bool, progress: Callable[[str], None]) -> Outcome:
        raise NotImplementedError

    async def undrain(self, *, progress: Callable[[str], None]) -> Outcome:
        raise NotImplementedError

    async def stop(self, *, everything: bool, progress: Callable[[str], None]) -> Outcome:
        raise NotImplementedError


class Living:
    """A home that is lived in; how often it was renewed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.renewed = 0
        self.control = ControlServer(folder / "agent.sock", Nothing())
        self.lock = Lock(folder)
        self.home = Home(self.lock, self.control, self._renew)

    def _renew(self) -> None:
        self.renewed += 1


@pytest.fixture
async def living(tmp_path: Path) -> AsyncIterator[Living]:
    folder = tmp_path / "state"
    folder.mkdir()
    made = Living(folder)
    async with made.control.serving():
        yield made
    made.lock.close()


async def test_what_stands_is_left_alone(living: Living) -> None:
    before = [(each.name, each.lstat()) for each in sorted(living.folder.iterdir())]
    assert not await living.home.look()
    assert [(each.name, each.lstat()) for each in sorted(living.folder.iterdir())] == before
    assert (living.home.problem, living.renewed) == (None, 0)


@pytest.mark.parametrize("gone", [".", "agent.lock", "agent.sock"])
async def test_what_somebody_removed_is_made_again_and_serves(living: Living, gone: str) -> None:
    path = living.folder / gone
    shutil.rmtree(path) if gone == "." else path.unlink()
    assert await living.home.look()
    assert not await living.home.look()
    assert (living.home.problem, living.renewed) == (None, 1)
    with pytest.raises(LockedError, match=f"process {os.getpid()}"), locked(living.folder):
        pass
    _, writer = await asyncio.open_unix_connection(living.folder / "agent.sock")
    writer.close()


async def test_a_place_that_cannot_be_made_again_is_a_problem_until_it_can(living: Living) -> None:
    shutil.rmtree(living.folder)
    living.folder.write_text("in the way")
    assert not await living.home.look()
    assert "cannot be made again" in str(living.home.problem)
    living.folder.unlink()
    assert await living.home.look()
    assert living.home.problem is None


async def test_an_agent_gives_way_to_another_one_that_was_faster(living: Living) -> None:
    shutil.rmtree(living.folder)
    living.folder.mkdir()
    told: list[Change] = []
    ends: list[str] = []
    with locked(living.folder):
        (living.folder / "agent.sock").write_text("the other one's")
        await asyncio.wait_for(living.home.keep(told.append, lambda: ends.append("stop")), 5)
    assert ends == ["stop"]
    assert [(change.kind, change.state) for change in told] == [("state_dir", "lost")]
    assert "another agent was faster" in told[0].reason


async def test_each_change_is_told_once(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "LOOK", 0.001)
    told: asyncio.Queue[Change] = asyncio.Queue()
    task = asyncio.create_task(living.home.keep(told.put_nowait, lambda: None))

    async def next_state() -> str:
        return (await asyncio.wait_for(told.get(), 5)).state

    monkeypatch.setattr(home, "trouble", lambda _: "it is full")
    assert await next_state() == "unusable"
    await asyncio.sleep(0.02)
    monkeypatch.setattr(home, "trouble", lambda _: None)
    assert await next_state() == "usable"
    (living.folder / "agent.sock").unlink()
    assert await next_state() == "made again"
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert told.empty()


async def test_a_socket_that_is_another_agents_by_now_stays_when_this_one_ends(tmp_path: Path) -> None:
    control = ControlServer(tmp_path / "agent.sock", Nothing())
    async with control.serving():
        (tmp_path / "agent.sock").unlink()
        (tmp_path / "agent.sock").write_text("another one's")
    assert (tmp_path / "agent.sock").exists()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("f_flag", os.ST_RDONLY, "is read-only: mount it writable"), ("f_bavail", 0, "is full: make room"),
        ("f_favail", 0, "is full: make room"),
    ],
)  # fmt: skip
def test_a_disk_that_takes_nothing_has_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: int, words: str
) -> None:
    assert trouble(tmp_path) is None
    names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_flag")
    found = dict.fromkeys((*names, "f_namemax"), 9) | {"f_flag": 0, field: value}
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(tuple(found.values())))
    assert f"state_dir {tmp_path} {words}" in str(trouble(tmp_path))
