"""Sessions with the Route Server, as appliances set them up: real BIRD on both sides."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.netns import wait_for
from tests.azure.twin.lab.cloud import NODES, Cloud

pytestmark = [pytest.mark.netns, pytest.mark.xdist_group("azure-twin"), pytest.mark.timeout(180)]

BLOCK = "192.168.1.0/26"


@pytest.mark.parametrize("how", [{"hops": "direct"}, {"options": 'password "x";'}])
def test_without_multihop_or_with_a_password_there_is_no_session(cloud: Cloud, how: dict[str, str]) -> None:
    cloud.bird("a", [BLOCK], wait=False, **how)  # type: ignore[arg-type]  # both are text
    cloud.bird("b")
    cloud.bird("c")  # as long as it takes for two others
    assert "Established" not in cloud.birdc("a", "show protocols")
    assert not cloud.holds(0)


def test_hold_time_is_180_seconds_for_who_asks_for_more(cloud: Cloud) -> None:
    cloud.bird("a", options="hold time 240;")
    seen = cloud.birdc("a", "show protocols all r0")
    assert seen.split("Hold timer:")[1].splitlines()[0].endswith("/180")


def test_it_connects_to_an_appliance_that_only_waits_and_takes_one_that_only_connects(cloud: Cloud) -> None:
    cloud.bird("a", options="passive yes;")
    cloud.bird("b", port=1790)  # nobody listens on 179 there


def test_an_appliance_with_the_asn_of_another_is_sent_the_others_routes(build: Callable[..., Cloud]) -> None:
    cloud = build(NODES.replace("asn: 64513", "asn: 64512").replace("asn: 64514", "asn: 64512"))
    cloud.bird("b", asn=64512, options="allow local as 1;")
    cloud.bird("c", asn=64512)
    cloud.bird("a", [BLOCK])
    wait_for("b, who takes its own number in a path, has it", lambda: "r0" in cloud.birdc("b", f"show route {BLOCK}"))
    wait_for("c heard of it too", lambda: cloud.ignored("c") == 1)
    assert "r0" not in cloud.birdc("c", f"show route {BLOCK}")


def test_the_community_of_reflected_routes_is_not_doubled(cloud: Cloud) -> None:
    cloud.bird("b")
    cloud.bird("a", [BLOCK], extra="bgp_community.add((65517, 65517));")
    wait_for("b has it", lambda: "r0" in cloud.birdc("b", f"show route {BLOCK}"))
    assert "BGP.community: (65517,65517)\n" in cloud.birdc("b", f"show route {BLOCK} protocol r0 all")


def test_a_silent_instance_is_noticed_by_the_hold_timer_alone(cloud: Cloud) -> None:
    cloud.bird("a", [BLOCK], options="hold time 3; keepalive time 1;")
    cloud.twin("POST", "instances/1", {"state": "silent"})
    wait_for("the hold timer ran out", lambda: "Hold timer expired" in cloud.birdc("a", "show protocols all r1"), 20)
    assert "Established" in cloud.birdc("a", "show protocols r0")
    cloud.twin("POST", "instances/1", {"state": "up"})
    cloud.established("a", [1])
