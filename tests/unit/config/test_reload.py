from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bgp_agent.config import Config, Peer, changes, parse
from bgp_agent.config.reload import LIVE, RESTART, leaves

BASE: dict[str, Any] = {
    "pools": ["192.168.0.0/16"],
    "bgp": {"asn": 64512, "peers": [{"address": "10.42.0.4", "asn": 65515}, {"address": "10.42.0.5", "asn": 65515}]},
}

OTHER: dict[str, Any] = {
    "pools": ["10.0.0.0/16"],
    "blocks.source": "node",
    "blocks.path": "other.yaml",
    "bgp.asn": 64513,
    "bgp.router_id": "1.2.3.4",
    "bgp.graceful_restart": "60s",
    "bgp.graceful_shutdown": 0,
    "bgp.stale_time": 0,
    "bgp.hold_time": "9s",
    "bgp.allow_own_as": 0,
    "bgp.peers": [{"address": "10.42.0.4", "asn": 65515}],
    "import.refuse": ["192.168.9.0/24"],
    "speaker.spawn": False,
    "speaker.user": "exabgp",
    "speaker.stop_timeout": "1s",
    "kernel.table": 100,
    "kernel.protocol": 180,
    "kernel.metric": 1,
    "kernel.install": False,
    "kernel.blackhole": False,
    "kernel.max_paths": 2,
    "azure": {},
    "fallback.mode": "always",
    "fallback.min_peers": 2,
    "fallback.after": "1s",
    "fallback.revert_after": "1s",
    "probe.mode": "off",
    "probe.port": 1,
    "kubernetes.kubeconfig": "/kc",
    "kubernetes.context": "c",
    "kubernetes.owners": False,
    "http.listen": "127.0.0.1:1",
    "http.metrics_listen": "127.0.0.1:2",
    "state_dir": "/elsewhere",
    "log.level": "debug",
    "log.format": "json",
    "node.name": "other",
    "node.address": "10.42.1.9",
    "node.address6": "fd00::9",
}
"""Another value for each key."""


def made(**other: Any) -> Config:  # noqa: ANN401 - values as YAML has them
    whole: dict[str, Any] = {**BASE, "bgp": dict(BASE["bgp"])}
    for key, value in other.items():
        section, _, leaf = key.partition(".")
        if leaf:
            whole[section] = {**whole.get(section, {}), leaf: value}
        else:
            whole[section] = value
    return Config.model_validate(whole)


def test_every_key_is_either_live_or_needs_a_restart() -> None:
    assert sorted(leaves()) == sorted([*LIVE, *RESTART])
    assert set(OTHER) == set(leaves())


def test_nothing_changed_is_no_change() -> None:
    found = changes(made(), made())
    assert not found
    assert (found.peers_added, found.peers_removed, found.peers_changed) == ((), (), ())


@pytest.mark.parametrize("key", sorted(set(LIVE) - {"fallback.mode"}))
def test_a_live_key_is_in_force_at_once(key: str) -> None:
    old, new = made(), made(**{key: OTHER[key]})
    found = changes(old, new)
    assert (found.live, found.restart) == ((key,), ())
    assert found.config == new


@pytest.mark.parametrize("key", sorted(set(RESTART) - {"azure"}))
def test_a_key_that_needs_a_restart_keeps_its_old_value(key: str) -> None:
    old, new = made(), made(**{key: OTHER[key]})
    found = changes(old, new)
    assert (found.live, found.restart) == ((), (key,))
    assert found.config == old


def test_both_kinds_in_one_section_go_their_own_ways() -> None:
    new = made(
        **{
            "kernel.metric": 7,
            "kernel.max_paths": 2,
            "http.listen": "127.0.0.1:1",
            "http.metrics_listen": "127.0.0.1:2",
        }
    )
    found = changes(made(), new)
    assert found.config == made(**{"kernel.max_paths": 2})
    assert found.live == ("kernel.max_paths",)
    assert set(found.restart) == {"kernel.metric", "http.listen", "http.metrics_listen"}


def test_the_fallback_waits_with_the_cloud_that_it_hangs_on() -> None:
    old = made()
    found = changes(old, made(azure={}))
    assert found.live == ()
    assert {"azure", "fallback.mode", "fallback.min_peers"} == set(found.restart)
    assert found.config == old
    with_cloud = made(azure={})
    assert changes(with_cloud, made(**{"azure": {}, "fallback.mode": "always"})).live == ("fallback.mode",)


def test_peers_are_told_apart_one_by_one() -> None:
    stays, goes = BASE["bgp"]["peers"]
    new = made(**{"bgp.peers": [{"address": "10.42.0.6", "asn": 65515}, {**stays, "med": 5}]})
    found = changes(made(), new)
    assert [p.address for p in found.peers_added] == ["10.42.0.6"]
    assert found.peers_removed == (goes["address"],)
    assert [(p.address, p.med) for p in found.peers_changed] == [("10.42.0.4", 5)]
    assert not found.sessions


def test_peers_in_another_order_or_with_defaults_written_out_are_the_same_peers() -> None:
    one, two = BASE["bgp"]["peers"]
    found = changes(made(), made(**{"bgp.peers": [two, {**one, "port": 179, "families": ["ipv4"], "multihop": 8}]}))
    assert (found.peers_added, found.peers_removed, found.peers_changed) == ((), (), ())


@pytest.mark.parametrize("key", ["bgp.hold_time", "bgp.graceful_restart"])
def test_what_every_session_must_hear_of_is_told(key: str) -> None:
    assert changes(made(), made(**{key: OTHER[key]})).sessions


def test_two_loads_of_one_file_are_equal() -> None:
    text = "pools: [10.0.0.0/16]\nbgp: {asn: 1, peers: [{address: 10.42.0.4, asn: 2}]}\n"
    one, two = (parse(text, Path("/c.yaml"), {}).config for _ in range(2))
    assert not changes(one, two)
    assert isinstance(one.bgp.peers[0], Peer)
