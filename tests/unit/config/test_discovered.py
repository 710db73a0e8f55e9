"""What Azure told fills the places that the file leaves open, and no other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bgp_agent.config import Config, with_found
from bgp_agent.config.discovered import ROUTE_SERVER_LIMIT


@dataclass(frozen=True)
class Found:
    address: str | None = "10.42.1.4"
    address6: str | None = None
    asn: int | None = 64512
    server_asn: int | None = 65515
    peers: tuple[str, ...] = ("10.42.0.4", "10.42.0.5")


def config(**more: object) -> Config:
    return Config.model_validate({"azure": {}, "pools": ["192.168.0.0/16"], **more})


def told(given: Config) -> list[tuple[str, int, int | None]]:
    return [(each.address, each.asn, each.announce_limit) for each in given.bgp.peers]


def test_an_empty_section_is_filled_in_and_route_server_is_never_told_more_than_half_of_what_it_takes() -> None:
    filled = with_found(config(), Found(address6="fd00::4"))
    assert (filled.node.address, filled.node.address6, filled.bgp.asn) == ("10.42.1.4", "fd00::4", 64512)
    assert told(filled) == [(each, 65515, ROUTE_SERVER_LIMIT) for each in ("10.42.0.4", "10.42.0.5")]


def test_what_the_file_says_stays() -> None:
    peers = [{"address": "10.42.0.4", "asn": 65515, "announce_limit": 7}, {"address": "10.9.9.9", "asn": 65001}]
    given = config(node={"address": "10.42.1.9"}, bgp={"asn": 64999, "peers": peers})
    filled = with_found(given, Found())
    assert (filled.node.address, filled.bgp.asn) == ("10.42.1.9", 64999)
    assert told(filled) == [("10.42.0.4", 65515, 7), ("10.9.9.9", 65001, None)]


def test_a_configured_peer_that_is_a_route_server_gets_its_limit() -> None:
    given = config(bgp={"asn": 64512, "peers": [{"address": "10.42.0.5", "asn": 65515}]})
    assert told(with_found(given, Found())) == [("10.42.0.5", 65515, ROUTE_SERVER_LIMIT)]


@pytest.mark.parametrize("found", [Found(asn=None), Found(server_asn=None), Found(peers=())])
def test_with_one_side_unknown_there_is_nobody_to_peer_with(found: Found) -> None:
    assert with_found(config(), found).bgp.peers == ()


def test_nothing_found_changes_nothing() -> None:
    given = config()
    assert with_found(given, Found(None, None, None, None, ())) == given
