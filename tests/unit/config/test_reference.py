"""The published files say what the model says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bgp_agent.config import ConfigError, effective, init_text, parse
from bgp_agent.config.reference import page, schema, schema_text
from bgp_agent.config.reload import LIVE, RESTART, leaves
from bgp_agent.config.yaml12 import read

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
GOOD: dict[str, Any] = {
    "pools": ["10.0.0.0/16"],
    "bgp": {"asn": 64512, "peers": [{"address": "10.42.0.4", "asn": 65515}]},
}


def valid(value: object) -> bool:
    return bool(jsonschema.Draft202012Validator(schema()).is_valid(value))


def test_the_published_schema_is_the_models() -> None:
    made = schema_text()
    assert (REFERENCE / "config.schema.json").read_text() == made, (
        "write it anew: python -m bgp_agent.config.reference schema > docs/reference/config.schema.json"
    )


def test_the_published_page_is_the_models() -> None:
    assert (REFERENCE / "configuration.md").read_text() == page(), (
        "write it anew: python -m bgp_agent.config.reference page > docs/reference/configuration.md"
    )


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text()))


@pytest.mark.parametrize("text", [init_text(), effective(parse(init_text(), Path("/c"), {}).config), "azure: {}"])
def test_the_schema_takes_what_the_model_takes(text: str) -> None:
    parse(text, Path("/c"), {})
    assert valid(read(text).value)


@pytest.mark.parametrize(
    "change",
    [
        {"pool": []},
        {"imports": {}},
        {"pools": "10.0.0.0/16"},
        {"pools": ["10.0.0.0"]},
        {"bgp": {**GOOD["bgp"], "asn": "64512"}},
        {"bgp": {**GOOD["bgp"], "asn": 23456}},
        {"bgp": {**GOOD["bgp"], "asn": 0}},
        {"bgp": {**GOOD["bgp"], "hold_time": 30}},
        {"bgp": {**GOOD["bgp"], "hold_time": "30"}},
        {"bgp": {**GOOD["bgp"], "peers": [{"address": "10.42.0.4"}]}},
        {"bgp": {**GOOD["bgp"], "peers": [{"address": "x", "asn": 1}]}},
        {"bgp": {**GOOD["bgp"], "peers": [{"address": "10.42.0.4", "asn": 1, "families": ["vpn"]}]}},
        {"bgp": {**GOOD["bgp"], "peers": [{"address": "10.42.0.4", "asn": 1, "families": []}]}},
        {"bgp": {**GOOD["bgp"], "peers": [{"address": "10.42.0.4", "asn": 1, "communities": ["x"]}]}},
        {"bgp": {**GOOD["bgp"], "peers": [{"address": "10.42.0.4", "asn": 1, "ttl_security": 0}]}},
        {"bgp": {**GOOD["bgp"], "peers": [{"address": "10.42.0.4", "asn": 1, "port": 65536}]}},
        {"kernel": {"protocol": 4}},
        {"kernel": {"install": "yes"}},
        {"kernel": None},
        {"fallback": {"min_peers": 0}},
        {"fallback": {"mode": False}},
        {"http": {"listen": "9179"}},
        {"azure": {"arm_url": "ftp://x"}},
        {"log": {"level": "loud"}},
        {"node": {"address6": "10.0.0.1"}},
    ],
)
def test_the_schema_refuses_what_the_model_refuses(change: dict[str, Any]) -> None:
    assert valid(GOOD)
    whole = {**GOOD, **change}
    with pytest.raises(ConfigError):
        parse(yaml.safe_dump(whole), Path("/c"), {})
    assert not valid(whole)


def test_the_page_names_every_key_every_variable_and_what_reloads() -> None:
    text = page()
    for key in leaves():
        if key != "azure":
            section, _, leaf = key.rpartition(".")
            assert f"| `{key}` |" in text
            variable = f"BGP_AGENT_{section.upper()}__{leaf.upper()}" if section else f"BGP_AGENT_{leaf.upper()}"
            assert variable in text
    for key, words in {**LIVE, **RESTART}.items():
        assert f"| `{key}` | {words} |" in text
