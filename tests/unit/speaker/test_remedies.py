from __future__ import annotations

import errno
from pathlib import Path

from bgp_agent.speaker.remedies import explain, no_start


def test_missing_exabgp_has_its_remedy() -> None:
    assert "pip install exabgp==5.0.15" in explain(1, ["ModuleNotFoundError: No module named 'exabgp'"])


def test_taken_port_is_named() -> None:
    assert "port 1179" in explain(1, ["network | can not bind to 10.0.0.1:1179 (…)", "bye"], 1179)


def test_signal_and_silence_are_said() -> None:
    assert explain(-9, []) == "ExaBGP ended by signal 9 without a word"
    assert explain(1, ["a", "last"]) == "ExaBGP ended with exit code 1: last"


def test_a_disk_that_takes_nothing_has_its_remedy_and_its_path() -> None:
    for number in (errno.ENOSPC, errno.EROFS):
        words = no_start(OSError(number, "whatever"), Path("/run/x/exabgp"))
        assert "/run/x/exabgp cannot be written" in words
        assert "make room there, or mount it writable" in words
    assert no_start(OSError(errno.ENOENT, "No such file", "python3"), Path("/x")).endswith("No such file: 'python3'")
