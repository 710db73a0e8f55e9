"""What somebody should look at is a warning; the usual course of things is not."""

from __future__ import annotations

import pytest
from structlog.testing import CapturingLogger

from bgp_agent import telling
from bgp_agent.core.router import Change
from bgp_agent.telling import Telling


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
    log, told = CapturingLogger(), list[Change]()
    monkeypatch.setattr(telling, "log", log)
    Telling(told.append).tell(change)
    assert [(line.method_name, line.kwargs["reason"]) for line in log.calls] == [(level, change.reason)]
    assert told == [change]
