"""How many peers are needed for a block."""

from __future__ import annotations

import dataclasses

import pytest

from bgp_agent.core.prefix import Family
from tests.unit.core.node import RS0, RS1, peer, settings

BOTH, SIX = frozenset(Family), frozenset({Family.IPV6})


@pytest.mark.parametrize(
    ("min_peers", "family", "needed"),
    [
        (None, Family.IPV4, 2),
        (None, Family.IPV6, 1),
        (1, Family.IPV4, 1),
        (2, Family.IPV6, 1),
        (5, Family.IPV4, 2),
        (0, Family.IPV4, 0),
    ],
)
def test_only_peers_that_carry_the_family_are_needed_and_never_more_than_there_are(
    min_peers: int | None, family: Family, needed: int
) -> None:
    assert settings(peer(RS0), peer(RS1, families=BOTH), min_peers=min_peers).needed(family) == needed


def test_a_block_that_no_peer_may_carry_needs_none() -> None:
    assert settings(peer(RS0), min_peers=None).needed(Family.IPV6) == 0
    assert settings(peer(RS0, families=SIX), min_peers=3).needed(Family.IPV4) == 0


def test_settings_are_values() -> None:
    assert settings() == settings()
    assert settings() != settings(max_paths=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings().max_paths = 2  # type: ignore[misc]  # that is the point
