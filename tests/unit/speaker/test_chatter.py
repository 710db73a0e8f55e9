"""What ExaBGP 5.0.15 writes again and again, and what must never be taken for that."""

from __future__ import annotations

import pytest

from bgp_agent.speaker.chatter import is_chatter


@pytest.mark.parametrize(
    "line",
    [
        "outgoing-7      outgoing-7 10.42.1.4-10.42.0.5, closing connection",
        "outgoing-7      connection to 10.42.0.5 closed",
        "outgoing-2      outgoing-2 10.42.1.4-10.42.0.5 10.42.0.5 lost TCP session with peer",
        "outgoing-1      --------------------------------------------------------------------",
        "outgoing-1      the connection can not carry the following family/families",
        "outgoing-1       - exabgp is not configured for ipv6/unicast",
        "outgoing-1      therefore no routes of this kind can be announced on the connection",
        "reactor         SIGTERM received",
        "reactor         SIGALRM received",
        "reactor         scheduling shutdown",
        "reactor         performing shutdown",
    ],
)
def test_what_an_event_tells_too_is_chatter(line: str) -> None:
    assert is_chatter(line)


@pytest.mark.parametrize(
    "line",
    [
        "outgoing-1       - peer is not configured for ipv6/unicast",
        "network         can not bind to 10.42.1.4:179 (could not listen on 10.42.1.4:179, in use)",
        "configuration   could not load/reload configuration",
        "ModuleNotFoundError: No module named 'exabgp'",
        "reactor         could not drop privileges to 'nobody' refusing to run as root",
        "",
    ],
)
def test_what_explains_something_is_not(line: str) -> None:
    assert not is_chatter(line)
