from __future__ import annotations

import json
import logging
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
