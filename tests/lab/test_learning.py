"""What the peers announce becomes kernel routes; what policy must refuse does not, and says why."""

from __future__ import annotations

import pytest

from lab.netns import wait_for
from lab.topology import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]


def states(lab: Lab, name: str) -> dict[str, tuple[str, str]]:
    """Of a node: prefix -> state and reason in /status."""
    return {route["prefix"]: (route["state"], route["reason"]) for route in lab.nodes[name].status()["routes"]}


def test_learned_blocks_are_in_the_kernel_by_way_of_the_subnets_gateway(lab: Lab) -> None:
    routes = lab.nodes["node-c"].routes()
    for block in ("192.168.1.0/26", "192.168.1.64/26", "192.168.2.0/26"):
        line = next(line for line in routes if line.startswith(f"{block} "))
        assert "via 10.42.2.1 dev eth0" in line
        assert "metric 4096" in line


def test_the_vnets_own_prefix_is_refused_with_its_reason(lab: Lab) -> None:
    for name in lab.nodes:
        state, reason = states(lab, name)["10.42.0.0/16"]
        assert state == "refused"
        assert reason


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        ("the default route", "0.0.0.0/0"),
        ("an own block", "192.168.1.0/26"),
        ("half of an own block", "192.168.1.0/27"),
        ("the node's subnet", "10.42.1.0/24"),
        ("a route server's address", "10.42.0.4/32"),
        ("the node's own address", "10.42.1.4/32"),
        ("outside of the pools", "203.0.113.0/24"),
    ],
)
def test_a_route_server_that_lies_changes_no_route_and_the_refusal_has_its_reason(
    lab: Lab, lie: str, told: str
) -> None:
    node = lab.nodes["node-a"]
    before = sorted(node.routes())
    lab.fabric.tell("rs-0", told)
    try:
        wait_for(f"node-a has refused {lie} and says why",
                 lambda: (seen := states(lab, "node-a").get(told)) and seen[0] == "refused" and seen[1], 5)  # fmt: skip
        assert sorted(node.routes()) == before
    finally:
        lab.fabric.tell("rs-0")
    wait_for(f"node-a has forgotten {lie}", lambda: told not in states(lab, "node-a"), 5)


def test_a_route_that_somebody_deletes_is_back_within_a_second(lab: Lab) -> None:
    node = lab.nodes["node-b"]
    repaired = node.status()["kernel"]["repaired"]
    node.inside.ip("route delete 192.168.3.0/26 proto 179 metric 4096")
    wait_for("the route is back", lambda: any(r.startswith("192.168.3.0/26 ") for r in node.routes()), 1.0)
    wait_for("the repair is counted", lambda: node.status()["kernel"]["repaired"] > repaired, 2.0)


def test_a_foreign_route_for_a_learned_block_is_left_alone(lab: Lab) -> None:
    node = lab.nodes["node-b"]
    node.inside.ip("route add 192.168.3.0/26 via 10.42.1.1 dev eth0 proto 80 metric 10")
    try:
        wait_for("/status says that a foreign route forwards",
                 lambda: states(lab, "node-b")["192.168.3.0/26"][0] == "shadowed", 5)  # fmt: skip
        assert "proto 80" in node.inside.ip("route show 192.168.3.0/26 metric 10")
    finally:
        node.inside.ip("route delete 192.168.3.0/26 proto 80 metric 10")
    wait_for("ours forwards again", lambda: states(lab, "node-b")["192.168.3.0/26"][0] == "installed", 5)
