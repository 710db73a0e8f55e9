"""Where log lines go is never worth the program; what the log itself makes of it is tested with the log."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

from bgp_agent.sink import Sink


def test_lines_that_were_lost_are_counted_and_named_when_writing_works_again() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        sink, begun = Sink(stream), time.monotonic()
        for _ in range(2000):
            sink.write("x" * 100)
        assert time.monotonic() - begun < 5
        lost = sink.lost
        assert lost > 0
        reader.read1(1 << 20)
        sink.write("the reader is back")
        assert reader.read1(1 << 20).decode().splitlines()[-2:] == [
            f"{lost} log lines before this one were lost: the log's reader is slow or gone, or its disk is full",
            "the reader is back",
        ]


def test_a_full_disk_a_closed_stream_and_a_reader_that_left_raise_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with Path("/dev/full").open("w") as disk, os.fdopen(writing, "w") as left:
        closed = io.StringIO()
        closed.close()
        for stream in (disk, left, closed):
            sink = Sink(stream)
            sink.write("event")
            assert sink.lost == 1
