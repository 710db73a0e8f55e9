"""The crossroads' node has its address on the loopback, as nodes do that speak BGP by several links."""

from __future__ import annotations

import json

import pytest

from tests.chaos.kernel.crossroads import LEFT, Crossroads

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]


def test_a_node_with_its_address_on_the_loopback_does_not_answer_its_own_probe(roads: Crossroads) -> None:
    """What it sends itself comes in by ``lo``: a rule for that link would claim every block of the others."""
    answer = json.loads(roads.node.ask("probe", LEFT, "--json").stdout)
    assert (answer["state"], answer["node"]) == ("unknown", None), answer
    assert " iif lo " not in roads.inside.ip("rule show") + roads.inside.ip("-6 rule show")
