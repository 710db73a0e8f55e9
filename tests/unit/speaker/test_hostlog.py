from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgp_agent.speaker import hostlog


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    logger = logging.getLogger("bgp_agent.speaker")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


def test_json_lines_carry_the_peer(capsys: pytest.CaptureFixture[str]) -> None:
    hostlog.set_up("info", "json", None).info("it is %s", "so", extra={"peer": "10.42.0.4"})
    entry = json.loads(capsys.readouterr().err)
    assert (entry["event"], entry["peer"], entry["level"]) == ("it is so", "10.42.0.4", "info")


def test_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostlog, "MOST", 1000)
    log = hostlog.set_up("info", "console", tmp_path / "speaker.log")
    for number in range(200):
        log.info("line %d", number)
    log.handlers[0].close()
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert sizes.keys() <= {"speaker.log", "speaker.log.1"}
    assert max(sizes.values()) < 1200


def test_file_that_somebody_removed_is_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "there" / "speaker.log"
    file.parent.mkdir()
    log = hostlog.set_up("info", "console", file)
    log.info("before")
    shutil.rmtree(file.parent)
    log.info("nowhere to go")
    file.parent.mkdir()
    log.info("after")
    assert [line.split("] ")[-1] for line in file.read_text().splitlines()] == [
        "1 log lines before this one were lost: the log's reader is slow or gone, or its disk is full", "after",
    ]  # fmt: skip


def test_full_disk_costs_lines_and_not_the_host(capfd: pytest.CaptureFixture[str]) -> None:
    hostlog.set_up("info", "console", Path("/dev/full")).info("event")
    assert capfd.readouterr() == ("", "")


def test_file_that_can_be_written_and_not_moved_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostlog, "MOST", 100)
    log = hostlog.set_up("info", "console", tmp_path / "speaker.log")
    (tmp_path / "speaker.log.1").mkdir()
    for number in range(9):
        log.info("line %d", number)
    assert len((tmp_path / "speaker.log").read_text().splitlines()) == 9


def test_frozen_reader_costs_lines_and_not_the_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journald or a container's runtime stands still with a full pipe between: a write to it would never return."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        log = hostlog.set_up("info", "console", None)
        begun = time.monotonic()
        for number in range(3000):
            log.info("line %d %s", number, "x" * 100)
        assert time.monotonic() - begun < 5
