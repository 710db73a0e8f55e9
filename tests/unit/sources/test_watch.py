"""Real files, changed in every way that files are changed."""

# ruff: noqa: ASYNC240 - files are what is tested, and the test's own loop may wait for them
from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bgp_agent.sources import watch as module
from bgp_agent.sources.watch import Watch, look, trail


class Seen:
    """Runs a watch and remembers what it told."""

    def __init__(self, *paths: Path, poll: float = 30.0, settle: float = 0.05) -> None:
        self.told: list[frozenset[Path]] = []
        self.told_something = asyncio.Event()
        self.watch = Watch(paths, self._take, poll=poll, settle=settle)

    def _take(self, paths: frozenset[Path]) -> None:
        self.told.append(paths)
        self.told_something.set()

    async def change(self, what: str, deadline: float = 5.0) -> None:
        """Wait to be told: long before the next look without an event, which comes after 30 s."""
        try:
            async with asyncio.timeout(deadline):
                await self.told_something.wait()
        except TimeoutError:
            pytest.fail(f"after {deadline:g} s still not told: {what}")
        self.told_something.clear()

    async def nothing(self, during: float = 0.2) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(during):
                await self.told_something.wait()
        assert self.told == []


@contextlib.asynccontextmanager
async def watching(*paths: Path, poll: float = 30.0, settle: float = 0.05) -> AsyncIterator[Seen]:
    seen = Seen(*paths, poll=poll, settle=settle)
    task = asyncio.create_task(seen.watch.run())
    for _ in range(10):  # turns of the loop: the watch stands after its first
        await asyncio.sleep(0)
    assert seen.watch.reason != "not started"
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def renamed(path: Path, text: str) -> None:
    other = path.with_name(".new")
    other.write_text(text)
    other.rename(path)


def written(path: Path, text: str) -> None:
    path.write_text(text)


def edited(path: Path, text: str) -> None:
    """As vim saves: the old file moves away, a new one is written, the old one goes."""
    path.rename(path.with_name("file~"))
    path.write_text(text)
    path.with_name("file~").unlink()


def hard_linked(path: Path, text: str) -> None:
    other = path.with_name(".new")
    other.write_text(text)
    path.unlink()
    os.link(other, path)
    other.unlink()


@pytest.mark.parametrize("change", [renamed, written, edited, hard_linked])
async def test_each_way_to_save_a_file_is_seen_by_its_event(
    tmp_path: Path, change: Callable[[Path, str], None]
) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    async with watching(path) as seen:
        for text in ("two", "six"):  # the same size, and soon after each other
            change(path, text)
            await seen.change(f"{change.__name__} {text}")
            assert path.read_text() == text
            await asyncio.sleep(0.06)
            seen.told_something.clear()


async def test_a_configmap_swaps_a_symlink_above_the_file(tmp_path: Path) -> None:
    for name, text in (("..1", "one"), ("..2", "two"), ("..3", "three")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "file"
    path.symlink_to("..data/file")
    async with watching(path) as seen:
        for name, gone in (("..2", "..1"), ("..3", "..2")):
            (tmp_path / "..data_tmp").symlink_to(name)
            (tmp_path / "..data_tmp").rename(tmp_path / "..data")
            shutil.rmtree(tmp_path / gone)
            await seen.change("..data swapped")
        assert path.read_text() == "three"
        (tmp_path / "..3" / "file").write_text("in place, behind the new link")
        await seen.change("written behind the swapped link")


async def test_a_chain_of_links_across_directories_is_followed(tmp_path: Path) -> None:
    real = tmp_path / "a" / "b" / "real"
    real.parent.mkdir(parents=True)
    real.write_text("one")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "second").symlink_to("../a/b/real")
    path = tmp_path / "first"
    path.symlink_to(tmp_path / "c" / "second")
    async with watching(path) as seen:
        real.write_text("two")
        await seen.change("the file at the end was written")
        (tmp_path / "other").write_text("three")
        (tmp_path / "c" / "next").symlink_to(tmp_path / "other")
        (tmp_path / "c" / "next").rename(tmp_path / "c" / "second")
        await seen.change("the link in the middle was swapped")
        assert path.read_text() == "three"


async def test_deleted_and_made_again_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    async with watching(path) as seen:
        path.parent.mkdir(parents=True)
        path.write_text("one")
        await seen.change("file and directories appeared")
        shutil.rmtree(tmp_path / "deep")
        await seen.change("the directories went")
        path.parent.mkdir(parents=True)
        renamed(path, "two")
        await seen.change("all of it is back")
        assert path.read_text() == "two"


async def test_a_directory_above_that_is_renamed_away_and_back_is_seen_by_the_look(tmp_path: Path) -> None:
    path = tmp_path / "one" / "file"
    path.parent.mkdir()
    path.write_text("text")
    async with watching(path, poll=0.05) as seen:
        (tmp_path / "one").rename(tmp_path / "two")
        await seen.change("the directory is elsewhere")
        (tmp_path / "two").rename(tmp_path / "one")
        await seen.change("it is back")
        path.write_text("new")
        await seen.change("and still watched")


async def test_a_file_that_is_still_being_written_is_left_alone_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("whole")
    async with watching(path) as seen:
        with path.open("w") as file:
            file.write("ha")
            file.flush()
            await seen.nothing()
            file.write("lf")
        await seen.change("closed")


async def test_other_files_in_the_directory_wake_nobody(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    async with watching(path) as seen:
        for index in range(50):
            renamed(tmp_path / f"other{index}", "text")
        await seen.nothing()


async def test_a_burst_of_writes_is_told_in_a_few_calls_and_the_last_one_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    async with watching(path) as seen:
        for index in range(500):
            path.write_text(str(index))
        await seen.change("written")
        await asyncio.sleep(0.06)
        assert len(seen.told) < 20
        assert path.read_text() == "499"


async def test_a_symlink_loop_is_no_file_and_its_repair_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    path.symlink_to("loop")
    async with watching(path) as seen:
        renamed(path, "text")
        await seen.change("a file stands there now")


async def test_without_inotify_the_looks_find_every_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(module, "Inotify", refused)
    path = tmp_path / "file"
    async with watching(path, poll=0.03) as seen:
        assert "inotify cannot be used" in str(seen.watch.reason)
        for change in (written, renamed, edited):
            change(path, change.__name__)
            await seen.change(change.__name__)
        path.unlink()
        await seen.change("deleted")


async def test_out_of_watches_it_says_so_and_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr("asyncinotify.Inotify.add_watch", refused)
    path = tmp_path / "file"
    async with watching(path, poll=0.03) as seen:
        path.write_text("new")
        await seen.change("written")
        assert "cannot be watched" in str(seen.watch.reason)


async def test_what_is_half_written_at_one_look_waits_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([(0,), (1,), (2,), (3,)])  # it changes at each look, then rests
    monkeypatch.setattr(module, "look", lambda _: next(looks, (9,)))
    seen = Seen(tmp_path / "file", poll=0.01)
    for _ in range(4):
        seen.watch._look()
        assert seen.told == []
    seen.watch._look()
    assert len(seen.told) == 1


async def test_what_could_not_be_read_is_told_again_at_the_next_look_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with watching(tmp_path / "file", poll=0.05) as seen:
        await seen.nothing()
        seen.watch.again()
        await seen.change("the next look is over")
        seen.told.clear()
        await seen.nothing()


async def test_one_that_cannot_be_read_for_long_is_looked_at_as_seldom_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    told: list[frozenset[Path]] = []

    def reader(paths: frozenset[Path]) -> None:
        told.append(paths)
        watch.replace([path])
        watch.again()

    watch = Watch([path], reader, poll=30.0, settle=0.01)
    watch.again()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            await watch.run()
    assert len(told) <= 2, "telling of it brings no look of its own"


async def test_another_set_of_files_can_be_watched_at_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "sub" / "two"
    two.parent.mkdir()
    async with watching(one) as seen:
        seen.watch.replace([two])
        for _ in range(10):
            await asyncio.sleep(0)
        two.write_text("x")
        await seen.change("the new file")
        assert seen.told == [frozenset({two})]
        seen.told.clear()
        seen.told_something.clear()
        one.write_text("x")
        await seen.nothing()


def kernel_watches() -> int:
    """The inotify watches of this process, by the kernel's count."""
    return sum(file.read_text().count("inotify wd:") for file in Path("/proc/self/fdinfo").iterdir() if file.exists())


async def test_directories_that_no_path_goes_through_any_more_are_let_go(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "file").write_text("")
    (tmp_path / "..data").symlink_to("..0")
    before = kernel_watches()
    async with watching(tmp_path / "..data" / "file") as seen:
        for number in range(1, 10):
            (tmp_path / "..data_tmp").symlink_to(f"..{number}")
            (tmp_path / "..data_tmp").rename(tmp_path / "..data")
            await seen.change("..data swapped")
        assert kernel_watches() - before == 2


async def test_nothing_stays_behind_when_it_ends(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    async with watching(tmp_path / "file"):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_trail_names_each_directory_that_decides(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "up").symlink_to("../real/file")
    assert trail(tmp_path / "link" / "up") == {tmp_path: {"link"}, tmp_path / "real": {"up", "file"}}
    assert trail(tmp_path / "gone" / "file") == {tmp_path: {"gone"}}


def test_a_look_never_raises(tmp_path: Path) -> None:
    assert look(tmp_path / "none") == "FileNotFoundError"
    assert look(Path("/dev/null/x")) == "NotADirectoryError"
    assert look(Path("a\0b")) == "ValueError"
