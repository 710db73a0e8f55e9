"""Reasons in words."""

from __future__ import annotations

import pytest

from bgp_agent.speaker.reasons import down_text


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("notification received (6,2)", "the peer ended it: administrative shutdown (6/2)"),
        ("notification sent (4,0)", "we ended it: hold timer expired (4/0)"),
        ("notification sent (3,7)", "we ended it: UPDATE refused (3/7)"),
        ("notification received (99,1)", "the peer ended it: unknown (99/1)"),
        ("", "ExaBGP closed it without a reason; its log says why"),
        ("closing connection", "the connection was closed or could not be opened"),
        ("something new", "something new"),
    ],
)
def test_every_reason_that_exabgp_gives_is_a_sentence(said: str, text: str) -> None:
    assert down_text(said) == text
