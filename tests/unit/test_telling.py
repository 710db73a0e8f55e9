"""What somebody should look at is a warning, the usual course is not, and a starting agent does not think aloud."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import CapturingLogger

from bgp_agent import log, telling
from bgp_agent.core.router import Change
from bgp_agent.telling import Telling

BLOCK = "192.168.1.0/26"


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    yield stream
    structlog.reset_defaults()


def said(out: io.StringIO) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    return [{key: value for key, value in line.items() if key not in {"timestamp", "level"}} for line in lines]


def test_of_a_blocks_first_moments_only_the_outcome_is_told(out: io.StringIO) -> None:
    published: list[Change] = []
    made = Telling(published.append)
    for state in ("withheld", "pending", "announced"):
        made.tell(Change("block", BLOCK, state, "why"))
    made.tell(Change("block", "192.168.2.0/26", "withheld", "found in the kernel"))
    made.tell(Change("block", "192.168.2.0/26", "pending", "none of 2 peers is established"))
    assert [(change.subject, change.state) for change in published] == [(BLOCK, "announced")]
    made.settled()
    made.tell(Change("block", BLOCK, "withheld", "drained"))
    told = [("192.168.1.0/26", "announced"), ("192.168.2.0/26", "pending"), ("192.168.1.0/26", "withheld")]
    assert [(change.subject, change.state) for change in published] == told
    assert [(line["block"], line["state"]) for line in said(out)] == told


def test_an_agent_that_ends_in_its_first_moment_still_tells(out: io.StringIO) -> None:
    made = Telling(lambda _: None)
    made.tell(Change("block", BLOCK, "pending", "why"))
    made.close()
    assert said(out) == [{"event": "block", "block": BLOCK, "state": "pending", "reason": "why"}]


def test_a_subject_that_is_the_kind_itself_is_not_said_twice(out: io.StringIO) -> None:
    made = Telling(lambda _: None)
    made.tell(Change("speaker", "speaker", "lost", "the connection broke"))
    made.tell(Change("state_dir", "/run/bgp-agent", "usable", "it can be written again"))
    assert said(out) == [
        {"event": "speaker", "state": "lost", "reason": "the connection broke"},
        {"event": "state_dir", "path": "/run/bgp-agent", "state": "usable", "reason": "it can be written again"},
    ]


@pytest.mark.parametrize(
    ("change", "level"),
    [
        (Change("peer", "10.42.0.4", "connecting", "we ended it: hold timer expired (4/0)"), "warning"),
        (Change("peer", "10.42.0.4", "down", "password_file /etc/key is not there"), "warning"),
        (Change("peer", "10.42.0.4", "established", "established, ipv4"), "info"),
        (Change("node", "node-a", "not ready", "ipv4 forwarding is off"), "warning"),
        (Change("block", "192.168.1.0/26", "announced", "acknowledged by 2 of 2 peers"), "info"),
    ],
)
def test_a_session_that_is_lost_is_a_warning_and_one_that_stands_is_none(
    monkeypatch: pytest.MonkeyPatch, change: Change, level: str
) -> None:
    logger, told = CapturingLogger(), list[Change]()
    monkeypatch.setattr(telling, "log", logger)
    Telling(told.append).tell(change)
    assert [(line.method_name, line.kwargs["reason"]) for line in logger.calls] == [(level, change.reason)]
    assert told == [change]
