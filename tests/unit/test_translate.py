"""The configuration arrives in the core and at the speaker as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgp_agent import translate
from bgp_agent.config import Config, parse
from bgp_agent.core.prefix import Family, PrefixSet, parse_address, parse_prefix
from bgp_agent.core.values import Announcement
from bgp_agent.passwords import Passwords

MINIMAL = """\
node: {name: node-a, address: 10.42.1.4}
pools: [192.168.0.0/16]
bgp:
  asn: 64512
  peers:
  - {address: 10.42.0.4, asn: 65515}
"""
FULL = """\
node: {name: node-a, address: 10.42.1.4, address6: "fd00::4"}
pools: [192.168.0.0/16, "fd00:1::/48"]
bgp:
  asn: 64512
  router_id: 192.0.2.7
  graceful_restart: 90s
  stale_time: 45s
  graceful_shutdown: 5s
  hold_time: 9s
  allow_own_as: 2
  peers:
  - {address: 10.42.0.4, asn: 65515, families: [ipv4, ipv6], max_prefixes: 10, warn_prefixes: 5, announce_limit: 3,
     med: 50, communities: ["64512:10"], prepend: 2}
  - {address: "fd00::5", asn: 65515, port: 1179, multihop: 3, passive: true}
import: {refuse: [192.168.9.0/24]}
kernel: {install: false, blackhole: false, max_paths: 2}
fallback: {min_peers: all}
"""


def config(text: str) -> Config:
    return parse(text, Path("/etc/bgp-agent/config.yaml"), {}, host_name=lambda: "host-a").config


def test_settings_of_a_full_configuration() -> None:
    made = translate.settings(config(FULL))
    assert (made.node, made.own_asn, made.allow_own_as) == ("node-a", 64512, 2)
    assert made.pools == PrefixSet(map(parse_prefix, ("192.168.0.0/16", "fd00:1::/48")))
    assert made.refuse == PrefixSet([parse_prefix("192.168.9.0/24")])
    assert (made.stale_time, made.max_paths, made.min_peers) == (45.0, 2, None)
    assert made.graceful_shutdown == 5.0
    assert (made.blackhole, made.install) == (False, False)
    assert made.own_addresses == (
        (Family.IPV4, parse_address("10.42.1.4")),
        (Family.IPV6, parse_address("fd00::4")),
    )
    one, two = made.peers
    assert (one.address, one.packed, one.asn, one.families) == (
        "10.42.0.4", parse_address("10.42.0.4"), 65515, frozenset(Family),
    )  # fmt: skip
    assert (one.max_prefixes, one.warn_prefixes, one.announce_limit) == (10, 5, 3)
    assert one.attributes == Announcement(None, 50, ("64512:10",), 2)
    assert (two.families, two.announce_limit, two.attributes) == (frozenset({Family.IPV6}), None, Announcement())


def test_settings_of_a_minimal_configuration_whose_address_is_not_known_yet() -> None:
    made = translate.settings(config(MINIMAL.replace(", address: 10.42.1.4", "")))
    assert made.own_addresses == ()
    assert made.min_peers == 1
    assert made.stale_time == 120.0


def test_pools_are_packed() -> None:
    assert translate.pools(config(FULL)) == {parse_prefix("192.168.0.0/16"), parse_prefix("fd00:1::/48")}


# --- definitions -----------------------------------------------------------------------------------------------------
def test_definitions_of_a_full_configuration() -> None:
    made = translate.definitions(config(FULL), Passwords())
    assert list(made) == ["10.42.0.4", "fd00::5"]
    one, two = made.values()
    assert (one.asn, one.local_asn, one.router_id, one.local_address) == (65515, 64512, "192.0.2.7", "10.42.1.4")
    assert (one.hold_time, one.graceful_restart, one.families) == (9, 90, (Family.IPV4, Family.IPV6))
    assert (one.password, one.problem) == (None, None)
    assert (two.local_address, two.port, two.multihop, two.passive) == ("fd00::4", 1179, 3, True)


def test_a_peer_of_a_family_that_the_node_has_no_address_of_lets_the_system_choose() -> None:
    made = translate.definitions(config(FULL.replace(', address6: "fd00::4"', "")), Passwords())
    assert made["fd00::5"].local_address is None


def test_a_node_address_of_the_other_family_is_not_given_to_a_peer() -> None:
    text = MINIMAL.replace("10.42.1.4}", '"fd00::4"}').replace("asn: 64512", "asn: 64512\n  router_id: 192.0.2.7")
    assert translate.definitions(config(text), Passwords())["10.42.0.4"].local_address is None


def test_without_a_router_id_the_peer_stays_down_and_says_what_to_set() -> None:
    made = translate.definitions(config(MINIMAL), Passwords())["10.42.0.4"]
    assert made.problem == "no router ID: the node has no IPv4 address to take it from; set bgp.router_id"


# --- passwords -------------------------------------------------------------------------------------------------------
def with_password(path: Path) -> Config:
    text = MINIMAL.replace("asn: 64512", "asn: 64512\n  router_id: 192.0.2.7")
    return config(text.replace("asn: 65515}", f"asn: 65515, password_file: {path}}}"))


def test_a_password_is_read_from_its_file_without_the_newline(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    made = translate.definitions(with_password(tmp_path / "key"), Passwords())["10.42.0.4"]
    assert (made.password, made.problem) == ("s3cret", None)
    assert "s3cret" not in repr(made)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "is not there"), (b"", "is empty"), (b"x" * 81, "password"), (b"\xff\xfe", "password")],
)
def test_a_password_that_cannot_be_used_keeps_the_peer_down_and_is_never_shown(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    made = translate.definitions(with_password(path), Passwords())["10.42.0.4"]
    assert made.password is None
    assert made.problem is not None
    assert words in made.problem
    assert "xxxx" not in made.problem


def test_a_definition_that_exabgp_could_not_run_keeps_its_peer_down_and_the_others_run() -> None:
    class Careless(Passwords):
        def read(self, file: str) -> tuple[str | None, str | None]:
            del file
            return "x" * 81, None

    made = translate.definitions(with_password(Path("/key")), Careless())["10.42.0.4"]
    assert made.password is None
    assert "password" in (made.problem or "")
    assert "xxxx" not in (made.problem or "")
