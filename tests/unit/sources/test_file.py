"""The source over real files: what it delivers after each thing that can happen to a file."""

# ruff: noqa: ASYNC240 - files are what is tested, and the test's own loop may wait for them
from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from bgp_agent.core.prefix import Prefix, parse_prefix
from bgp_agent.core.values import Blocks, SourceState
from bgp_agent.sources import file
from bgp_agent.sources.blockfile import MAX_BYTES
from bgp_agent.sources.file import FileSource, read_text
from bgp_agent.sources.watch import Watch

POOLS = [parse_prefix("192.168.0.0/16"), parse_prefix("10.0.0.0/8")]


def blocks(*texts: str) -> frozenset[Prefix]:
    return frozenset(map(parse_prefix, texts))


ONE, TWO, THREE = "192.168.1.0/26", "192.168.2.0/26", "192.168.3.0/26"


def text_of(*texts: str) -> str:
    return "blocks:\n" + "".join(f"- cidr: {text}\n" for text in texts) if texts else "blocks: []\n"


class Node:
    """Stands where the agent stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.got: list[Blocks] = []
        self.news = asyncio.Event()
        self.source = FileSource(path, POOLS, self._take)

    def _take(self, found: Blocks) -> None:
        self.got.append(found)
        self.news.set()

    async def next(self, deadline: float = 4.0) -> Blocks:
        async with asyncio.timeout(deadline):
            await self.news.wait()
        self.news.clear()
        return self.got[-1]

    async def until(self, state: SourceState, *texts: str, deadline: float = 4.0) -> Blocks:
        """Wait for this state with exactly these blocks, and give the last word."""
        try:
            async with asyncio.timeout(deadline):
                while not (self.got and (self.got[-1].state, self.got[-1].blocks) == (state, blocks(*texts))):
                    await self.news.wait()
                    self.news.clear()
        except TimeoutError:
            pytest.fail(f"after {deadline:g} s not {state} {texts}, but {self.got[-1:]}")
        return self.got[-1]


@contextlib.asynccontextmanager
async def node(path: Path) -> AsyncIterator[Node]:
    made = Node(path)
    task = asyncio.create_task(made.source.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blocks.yaml"


async def test_a_good_file_is_delivered_at_the_start_and_at_each_change(path: Path) -> None:
    path.write_text(text_of(ONE))
    async with node(path) as agent:
        found = await agent.until(SourceState.SYNCED, ONE)
        assert (found.kind, found.reason) == ("file", f"1 block in {path}")
        path.write_text(text_of(ONE, TWO))
        await agent.until(SourceState.SYNCED, ONE, TWO)
        new = path.with_name(".new")
        new.write_text(text_of(TWO))
        new.rename(path)
        await agent.until(SourceState.SYNCED, TWO)


async def test_an_empty_list_withdraws_everything(path: Path) -> None:
    path.write_text(text_of(ONE, TWO))
    async with node(path) as agent:
        await agent.until(SourceState.SYNCED, ONE, TWO)
        path.write_text(text_of())
        assert (await agent.until(SourceState.SYNCED)).reason == f"0 blocks in {path}"


async def test_a_file_that_was_never_there_is_waited_for(path: Path) -> None:
    async with node(path) as agent:
        found = await agent.until(SourceState.WAITING)
        assert found.reason == f"{path} is not there: nothing was read yet"
        path.write_text("blocks: [")
        assert "nothing was read yet" in (await agent.next()).reason
        path.write_text(text_of(ONE))
        await agent.until(SourceState.SYNCED, ONE)


@pytest.mark.parametrize(
    "content", ["", "blocks:\n", f"- cidr: {TWO}\n", "blocks: [{cidr: 192.168.2.0/2", "\x00", "{}"]
)
async def test_a_file_that_is_no_block_file_withdraws_nothing(path: Path, content: str) -> None:
    path.write_text(text_of(ONE, TWO))
    async with node(path) as agent:
        await agent.until(SourceState.SYNCED, ONE, TWO)
        path.write_text(content)
        found = await agent.until(SourceState.STALE, ONE, TWO)
        assert found.reason.startswith(f"{path}: ")
        assert found.reason.endswith(": keeping 2 blocks")
        path.write_text(text_of(TWO))
        await agent.until(SourceState.SYNCED, TWO)


async def test_with_one_bad_entry_good_new_ones_are_added_and_nothing_is_withdrawn(path: Path) -> None:
    path.write_text(text_of(ONE, TWO))
    async with node(path) as agent:
        await agent.until(SourceState.SYNCED, ONE, TWO)
        path.write_text(text_of(TWO, "192.168.9.9/26", THREE))
        found = await agent.until(SourceState.STALE, ONE, TWO, THREE)
        assert "line 3: '192.168.9.9/26' has host bits set" in found.reason
        path.write_text(text_of(TWO, THREE))
        await agent.until(SourceState.SYNCED, TWO, THREE)


async def test_a_bad_entry_at_the_first_read_lets_the_good_ones_in(path: Path) -> None:
    path.write_text(text_of(ONE, "11.0.0.0/26"))
    async with node(path) as agent:
        assert "11.0.0.0/26 is outside the pools" in (await agent.until(SourceState.STALE, ONE)).reason


async def test_deletion_withdraws_nothing_and_the_file_may_come_back(path: Path) -> None:
    path.write_text(text_of(ONE, TWO, THREE))
    async with node(path) as agent:
        await agent.until(SourceState.SYNCED, ONE, TWO, THREE)
        path.unlink()
        found = await agent.until(SourceState.STALE, ONE, TWO, THREE)
        assert found.reason == f"{path} is not there: keeping 3 blocks"
        path.write_text(text_of(ONE))
        await agent.until(SourceState.SYNCED, ONE)


async def test_a_directory_or_a_pipe_in_its_place_withdraws_nothing_and_blocks_nobody(path: Path) -> None:
    path.write_text(text_of(ONE))
    async with node(path) as agent:
        await agent.until(SourceState.SYNCED, ONE)
        path.unlink()
        path.mkdir()
        assert "(Is a directory): keeping 1 block" in (await agent.until(SourceState.STALE, ONE)).reason
        path.rmdir()
        os.mkfifo(path)
        while "is not a regular file" not in (await agent.next()).reason:
            pass
        path.unlink()
        path.write_text(text_of(TWO))
        await agent.until(SourceState.SYNCED, TWO)


async def test_a_file_that_must_not_be_read_withdraws_nothing(path: Path) -> None:
    path.write_text(text_of(ONE))
    async with node(path) as agent:
        await agent.until(SourceState.SYNCED, ONE)
        if os.geteuid() == 0:  # root reads everything: a path through a file fails for root as well
            agent.source.reconfigure(path / "below", POOLS)
        else:
            path.chmod(0)
        found = await agent.until(SourceState.STALE, ONE)
        assert "cannot be read (" in found.reason
        assert found.reason.endswith("keeping 1 block")


async def test_a_file_that_could_not_be_read_when_it_changed_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor was left, or the disk did not answer; nothing of the file itself changes when that is over."""

    def used_up(_: Path) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(file, "Watch", partial(Watch, poll=0.05))
    path.write_text(text_of(ONE))
    async with node(path) as agent:
        await agent.until(SourceState.SYNCED, ONE)
        with monkeypatch.context() as patch:
            patch.setattr(file, "read_text", used_up)
            path.write_text(text_of(ONE, TWO))
            stale = await agent.until(SourceState.STALE, ONE)
            assert "Too many open files" in stale.reason
        await agent.until(SourceState.SYNCED, ONE, TWO)


async def test_a_configmap_update_is_taken(tmp_path: Path) -> None:
    for name, block in (("..1", ONE), ("..2", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "blocks.yaml").write_text(text_of(block))
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "blocks.yaml"
    path.symlink_to("..data/blocks.yaml")
    async with node(path) as agent:
        await agent.until(SourceState.SYNCED, ONE)
        (tmp_path / "..tmp").symlink_to("..2")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        await agent.until(SourceState.SYNCED, TWO)


async def test_a_writer_that_is_slow_never_withdraws_what_it_has_not_written_yet(path: Path) -> None:
    path.write_text(text_of(ONE, TWO, THREE))
    async with node(path) as agent:
        await agent.until(SourceState.SYNCED, ONE, TWO, THREE)
        with path.open("w") as file:
            for line in text_of(ONE, TWO, THREE, "192.168.4.0/26").splitlines(keepends=True):
                file.write(line)
                file.flush()
                await asyncio.sleep(0.03)
        await agent.until(SourceState.SYNCED, ONE, TWO, THREE, "192.168.4.0/26")
        assert all(blocks(ONE, TWO, THREE) <= found.blocks for found in agent.got)


async def test_a_rewrite_that_says_the_same_delivers_nothing_and_reread_does_neither(path: Path) -> None:
    path.write_text(text_of(ONE, TWO))
    async with node(path) as agent:
        await agent.until(SourceState.SYNCED, ONE, TWO)
        path.write_text(text_of(TWO, ONE))
        agent.source.reread()
        path.write_text(text_of(TWO, ONE, THREE))
        await agent.until(SourceState.SYNCED, ONE, TWO, THREE)
        assert len(agent.got) == 2


async def test_reread_reads_what_no_event_told_of(path: Path) -> None:
    path.write_text(text_of(ONE))
    async with node(path) as agent:
        await agent.until(SourceState.SYNCED, ONE)
        with path.open("w") as file:  # not closed, so no event says that it is complete
            file.write(text_of(TWO))
            file.flush()
            agent.source.reread()
            await agent.until(SourceState.SYNCED, TWO)


async def test_new_pools_and_another_file_keep_what_was_until_the_new_is_right(path: Path) -> None:
    path.write_text(text_of(ONE))
    other = path.with_name("other.yaml")
    async with node(path) as agent:
        await agent.until(SourceState.SYNCED, ONE)
        agent.source.reconfigure(other, POOLS)
        assert "is not there: keeping 1 block" in (await agent.until(SourceState.STALE, ONE)).reason
        other.write_text(text_of(TWO))
        await agent.until(SourceState.SYNCED, TWO)
        agent.source.reconfigure(other, [parse_prefix("10.0.0.0/8")])
        assert f"{TWO} is outside the pools" in (await agent.until(SourceState.STALE, TWO)).reason


async def test_10_000_blocks_are_taken_and_the_loop_goes_on_meanwhile(path: Path) -> None:
    texts = [f"10.{index >> 8}.{index & 255}.0/26" for index in range(10_000)]
    path.write_text(text_of(*texts))
    async with node(path) as agent:
        turns = 0
        while not agent.got:
            await asyncio.sleep(0.001)
            turns += 1
        assert len(agent.got[-1].blocks) == 10_000
        assert turns > 5, "the loop stood still while the file was parsed"
        path.write_text(text_of(*texts[1:]))
        await agent.until(SourceState.SYNCED, *texts[1:])


def test_a_file_without_end_is_refused_before_it_fills_the_memory(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_BYTES * 10)
    with pytest.raises(ValueError, match="is longer than"):
        read_text(path)


def test_what_is_not_utf_8_is_refused_with_its_line(path: Path) -> None:
    path.write_bytes(b"blocks: []\n# \xff\n")
    with pytest.raises(ValueError, match="line 2: is not UTF-8"):
        read_text(path)


def test_a_byte_order_mark_is_no_part_of_the_text(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbfblocks: []\n")
    assert read_text(path) == "blocks: []\n"
