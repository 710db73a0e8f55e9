"""The log never stops the agent, never tells a secret, never repeats itself for ever."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent import log


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("bgp_agent").setLevel(logging.NOTSET)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_event_is_one_json_line_with_its_facts() -> None:
    out = io.StringIO()
    log.configure("info", "json", out)
    log.get("speaker").info("session is up", peer="10.42.0.4", hold_time=30, families=("ipv4",))
    (line,) = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "session is up", "level": "info", "part": "speaker", "peer": "10.42.0.4", "hold_time": 30,
        "families": "('ipv4',)",
    }  # fmt: skip


def test_the_console_line_is_plain_text_where_no_terminal_reads_it() -> None:
    out = io.StringIO()
    log.configure("info", "console", out)
    log.get("kernel").warning("route is back", prefix="192.168.2.0/26", reason="somebody removed it")
    assert "\x1b" not in out.getvalue()
    assert "route is back" in out.getvalue()
    assert "prefix=192.168.2.0/26" in out.getvalue()
    assert out.getvalue().count("\n") == 1


def test_the_level_changes_while_it_runs() -> None:
    out = io.StringIO()
    log.configure("info", "json", out)
    logger = log.get("agent")
    logger.debug("no")
    log.set_level("debug")
    logger.debug("yes")
    log.set_level("error")
    logger.warning("no")
    assert [line["event"] for line in lines(out)] == ["yes"]


def test_libraries_speak_the_same_way_and_from_warning_on() -> None:
    out = io.StringIO()
    log.configure("info", "json", out)
    logging.getLogger("aiohttp.access").info("GET /status")
    logging.getLogger("asyncio").error("Task %s failed", "x\nforged line")
    (line,) = lines(out)
    assert (line["event"], line["level"], line["logger"]) == ("Task x\\nforged line failed", "error", "asyncio")


def test_an_exception_is_in_the_line_with_its_cause() -> None:
    out = io.StringIO()
    log.configure("info", "json", out)
    for logger in (log.get("agent"), logging.getLogger("asyncio")):
        try:
            raise ValueError("https://user:hunter2@host/")  # noqa: TRY301
        except ValueError:
            logger.exception("failed")
    assert all("ValueError" in line["exception"] for line in lines(out))
    assert "hunter2" not in out.getvalue()


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_secret_is_written(form: str) -> None:
    out = io.StringIO()
    log.configure("debug", form, out)
    log.get("speaker").info(
        "peer changed",
        password="hunter2",  # noqa: S106
        md5_key="hunter2",
        access_token=b"hunter2",
        password_file="/etc/bgp-agent/key",  # noqa: S106
        line='neighbor { md5-password "hunter2"; }',
        header="Authorization: Bearer hunter2.x.y",
        url="https://me:hunter2@host/",
    )
    assert "hunter2" not in out.getvalue()
    assert "/etc/bgp-agent/key" in out.getvalue()


@given(st.text(max_size=40))
def test_nothing_a_peer_says_forges_a_line_or_reaches_the_terminal(text: str) -> None:
    for form in ("console", "json"):
        out = io.StringIO()
        log.configure("info", form, out)
        log.get("speaker").info("notification", message=text)
        assert len(out.getvalue().splitlines()) == 1
        assert all(c.isprintable() or c in "\n\t" or ord(c) > 0x9F for c in out.getvalue())


def test_a_value_of_megabytes_is_cut() -> None:
    out = io.StringIO()
    log.configure("info", "json", out)
    log.get("speaker").info("line", text="x" * 10_000_000)
    assert len(out.getvalue()) < 3000


def test_a_value_that_cannot_be_shown_stops_nobody() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    out = io.StringIO()
    logging.getLogger().handlers.clear()  # pytest's own raise what ours must not
    log.configure("info", "json", out)
    logging.getLogger("aiohttp").warning("%s", Broken())
    log.get("agent").info("event", value=Broken())
    assert "cannot be shown: RuntimeError: no" in out.getvalue()
    assert "<a Broken that cannot be shown: RuntimeError>" in out.getvalue()


def test_a_warning_that_repeats_is_written_once_a_minute_and_counted() -> None:
    times = iter([0.0, 0.0, 1.0, 30.0, 59.0, 60.0, 121.0])
    repeats = log.Repeats(lambda: next(times))

    def said(peer: str) -> dict[str, Any] | None:
        try:
            return dict(repeats(None, "warning", {"event": "down", "level": "warning", "peer": peer}))
        except structlog.DropEvent:
            return None

    whole = {"event": "down", "level": "warning", "peer": "a"}
    assert said("a") == whole
    assert said("b") == {**whole, "peer": "b"}
    assert [said("a"), said("a"), said("a")] == [None, None, None]
    assert said("a") == {**whole, "repeated": 3}
    assert said("a") == whole


def test_changes_are_never_held_back() -> None:
    out = io.StringIO()
    log.configure("info", "json", out)
    for _ in range(3):
        log.get("agent").info("route installed", prefix="10.0.0.0/24")
        log.get("agent").warning("route lost", prefix="10.0.0.0/24")
        logging.getLogger("asyncio").warning("slow")
    assert [line["event"] for line in lines(out)].count("route installed") == 3
    assert [line["event"] for line in lines(out)].count("route lost") == 1
    assert [line["event"] for line in lines(out)].count("slow") == 1


def test_what_is_remembered_of_warnings_is_bounded() -> None:
    repeats = log.Repeats(lambda: 0.0)
    for index in range(log.MAX_REMEMBERED * 3):
        repeats(None, "warning", {"event": str(index)})
    assert len(repeats._seen) == log.MAX_REMEMBERED


def test_a_reader_that_stopped_costs_lines_and_not_the_agent() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        sink = log.configure("info", "json", stream)
        logger = log.get("agent")
        begun = time.monotonic()
        for index in range(5000):
            logger.info("event", index=index, text="x" * 100)
        assert time.monotonic() - begun < 5
        assert sink.lost > 1000
        reader.read1(1 << 20)
        logger.info("the reader is back")
        tail = reader.read1(1 << 20).decode()
        assert f"{sink.lost} log lines before this one were lost" in tail
        assert "the reader is back" in tail


def test_a_reader_that_left_costs_lines_and_not_the_agent() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        sink = log.configure("info", "json", stream)
        os.close(reading)
        log.get("agent").info("event")
        assert sink.lost == 1


def test_a_closed_stream_costs_lines_and_not_the_agent(tmp_path: Path) -> None:
    for stream in (io.StringIO(), (tmp_path / "log").open("w")):
        sink = log.configure("info", "json", stream)
        stream.close()
        log.get("agent").info("event")
        assert sink.lost == 1


def test_a_full_disk_costs_lines_and_not_the_agent() -> None:
    with Path("/dev/full").open("w") as stream:
        sink = log.configure("info", "json", stream)
        log.get("agent").info("event")
        assert sink.lost == 1


def test_a_long_line_reaches_a_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as stream:
        log.configure("info", "json", stream)
        log.get("agent").info("event", **{f"key{n}": "ä" * 1000 for n in range(20)})
    assert len(json.loads(path.read_text())) == 24


def test_set_up_twice_writes_once() -> None:
    first, second = io.StringIO(), io.StringIO()
    log.configure("info", "json", first)
    log.configure("info", "json", second)
    log.get("agent").info("event")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1
