"""The YAML file: what is refused, with which words; and what an empty state is seeded with."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from azure_twin.config import ConfigError, load, parse
from azure_twin.twin import Twin
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "mapping"),
        ("- a", "mapping"),
        ("a: b", "unknown field"),
        ("timing: {preset: quick}", "neither azure nor fast"),
        ("timing: {route: soon}", "timing"),
        ("listen: 5", "listen"),
        ("vms: [{name: a}, {name: A}]", "same name"),
        ("vms: [{name: a, identities: [nobody]}]", "unknown identities"),
        ("limits: {bgp_peers: many}", "bgp_peers"),
        ("rules: {instance_share: coin}", "coin"),
        ("a: [", "YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(text)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse(text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load(tmp_path / "none.yaml")


def test_durations_have_units_and_a_preset_can_be_changed_in_one_place() -> None:
    timing = parse("timing: {preset: fast, route: 250ms, rbac_effect: 2m}").timing
    assert (timing.route, timing.rbac_effect, timing.bgp_connection) == (0.25, 120.0, 0)
    assert parse("timing: azure").timing.bgp_connection == 170
    assert parse("limits: {dampening: 30s}").limits.dampening == 30


def test_azures_refusal_of_a_resource_in_the_file_is_shown() -> None:
    text = "fabric: {mode: none}\nvirtual_networks: [{name: v, address_space: [10.0.0.1/16]}]"
    with pytest.raises(ConfigError, match="InvalidCIDRNotation"):
        Twin(parse(text)).open()


def test_seeding_takes_no_time_whatever_the_timing() -> None:
    twin = Twin(parse("fabric: {mode: none}\nroute_tables: [{name: rt1, routes: [{name: r, prefix: 10.9.0.0/16}]}]"))
    twin.open()
    assert all(each.state == "Succeeded" for each in twin.arm.store)
    assert twin.arm.timer() is None
    assert len(list(twin.arm.effective.of_kind("Microsoft.Network/routeTables/routes"))) == 1
