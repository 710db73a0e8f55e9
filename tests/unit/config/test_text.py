# ruff: noqa: E501 - one case a line
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bgp_agent.config import Config, defaults, effective, init_text, parse
from bgp_agent.config.model import Peer
from bgp_agent.config.reload import leaves
from bgp_agent.config.yaml12 import read

PATH = Path("/etc/bgp-agent/config.yaml")


def uncommented() -> dict[str, Any]:
    """The config that `init` writes, with every commented key switched on."""
    lines = []
    for line in init_text().splitlines():
        key = re.fullmatch(r"( *)# ( *)([a-z_0-9]+:.*)", line)
        lines.append(f"{key[1]}{key[2]}{key[3]}" if key and "cidr" not in line else line)
    value = read("\n".join(lines)).value
    assert isinstance(value, dict)
    return value


def test_what_init_writes_loads_as_it_stands_and_warns_of_nothing() -> None:
    loaded = parse(init_text(), PATH, {})
    assert loaded.warnings == ()
    assert len(loaded.config.bgp.peers) == 2


def test_what_init_writes_shows_every_key_and_each_with_its_default() -> None:
    whole = uncommented()
    shown = {f"{k}.{leaf}" for k, v in whole.items() if isinstance(v, dict) for leaf in v} | set(whole)
    assert set(leaves()) - shown == set()
    assert set(whole["azure"]) == set(Config.model_validate({"azure": {}}).azure.__dict__)
    assert set(whole["bgp"]["peers"][0]) == set(Peer.model_fields)
    for example in (("node", "name"), ("node", "address"), ("bgp", "router_id")):
        whole[example[0]].pop(example[1])
    plain = parse(init_text(), PATH, {}, host_name=lambda: "a").config
    with_cloud = {**yaml.safe_load(init_text()), "azure": {}}
    assert (
        parse(yaml.safe_dump(whole), PATH, {}, host_name=lambda: "a").config
        == parse(yaml.safe_dump(with_cloud), PATH, {}, host_name=lambda: "a").config
    )
    assert plain.fallback.mode == "off"


def test_the_defaults_are_those_of_the_model() -> None:
    shown = yaml.safe_load(defaults())
    assert shown["bgp"]["hold_time"] == "30s"
    assert shown["fallback"] == {"mode": "standby", "min_peers": "all", "after": "10s", "revert_after": "60s"}
    assert shown["kernel"] == {
        "table": 254,
        "protocol": 179,
        "metric": 4096,
        "install": True,
        "blackhole": True,
        "max_paths": 8,
    }
    assert shown["bgp"]["peers"][0]["max_prefixes"] == 4000


FULL = """\
node: {name: "012", address: 10.42.1.4, address6: "fd00::"}
pools: [192.168.0.0/16, "fd00:10::/32"]
bgp:
  asn: 64512
  stale_time: 0
  hold_time: 1500s
  graceful_restart: 1h
  peers:
  - {address: 10.42.0.4, asn: 65515, ttl_security: true, communities: [64512:10, "1:2:3", no-export], password_file: "off"}
  - {address: fd00::5, asn: 4200000000, multihop: null, med: 0, families: [ipv4, ipv6]}
azure: {arm_url: "https://arm.local:8443", settle: 500ms}
fallback: {mode: "off", min_peers: 1}
probe: {mode: off}
kubernetes: {context: "null"}
"""


@pytest.mark.parametrize("text", [FULL, init_text()])
def test_what_check_prints_loads_again_as_the_same_config(text: str) -> None:
    config = parse(text, PATH, {}).config
    assert parse(effective(config), Path("/elsewhere/c.yaml"), {}).config == config


def test_what_check_prints_means_the_same_to_a_reader_of_yaml_1_1() -> None:
    printed = effective(parse(FULL.replace("1h", "3600s"), PATH, {}).config)
    assert yaml.safe_load(printed) == read(printed).value


def test_credentials_in_a_url_are_masked_even_if_they_got_in() -> None:
    config = parse(FULL, PATH, {}).config
    assert config.azure is not None
    azure = config.azure.model_copy(update={"arm_url": "https://me:hunter2@host"})
    printed = effective(config.model_copy(update={"azure": azure}))
    assert "hunter2" not in printed
    assert "https://***@host" in printed
