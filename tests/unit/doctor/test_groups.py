"""Security groups: the first rule that matches packets between pods decides."""

from __future__ import annotations

import msgspec
import pytest

from bgp_agent.core.prefix import parse_prefix
from bgp_agent.doctor.groups import Rule, RuleWire, passage, read_rules

POOL = parse_prefix("192.168.0.0/16")


def rule(priority: int, source: str, *, allow: bool, whole: bool = True) -> Rule:
    return Rule(f"r{priority}", priority, True, allow, whole, (source,), (source,))  # noqa: FBT003 - inbound


DEFAULTS = [rule(65000, "VirtualNetwork", allow=True), rule(65500, "*", allow=False)]


@pytest.mark.parametrize(
    ("rules", "verdict", "by"),
    [
        ([], "tag", "r65000"),  # nothing says that the tag covers what BGP announces
        ([rule(100, "192.168.0.0/16", allow=True)], "passes", "r100"),
        ([rule(100, "0.0.0.0/0", allow=True)], "passes", "r100"),
        ([rule(100, "192.168.0.0/16", allow=False)], "denied", "r100"),
        ([rule(200, "*", allow=True), rule(100, "*", allow=False)], "denied", "r100"),
        ([rule(100, "*", allow=False, whole=False), rule(200, "*", allow=True)], "partly", "r100"),
        ([rule(100, "192.168.7.0/24", allow=False), rule(200, "*", allow=True)], "partly", "r100"),
        ([rule(100, "Internet", allow=False), rule(200, "192.168.0.0/16", allow=True)], "passes", "r200"),
        ([rule(100, "10.0.0.0/8", allow=False), rule(200, "192.168.0.0/16", allow=True)], "passes", "r200"),
    ],
)
def test_what_passes_between_pods(rules: list[Rule], verdict: str, by: str) -> None:
    found = passage([*DEFAULTS, *rules], POOL, inbound=True)
    assert (found.verdict, found.rule) == (verdict, by)


def test_a_rule_of_the_other_direction_decides_nothing() -> None:
    assert passage([rule(100, "*", allow=True)], POOL, inbound=False).verdict == "denied"


def test_rules_as_azure_writes_them() -> None:
    properties = {
        "priority": 100, "direction": "Inbound", "access": "Deny", "protocol": "Tcp", "sourcePortRange": "*",
        "sourceAddressPrefixes": ["10.0.0.0/8", "192.168.0.0/16"], "destinationAddressPrefix": "*",
        "destinationPortRange": None, "destinationPortRanges": ["80", "443"],
    }  # fmt: skip
    (found,) = read_rules([msgspec.convert({"name": "web", "properties": properties}, RuleWire)])
    assert found == Rule("web", 100, True, False, False, ("10.0.0.0/8", "192.168.0.0/16"), ("*",))  # noqa: FBT003
