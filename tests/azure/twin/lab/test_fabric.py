"""The data path: a packet crosses the fabric if and only if Azure's rules say so.

Real kernel, real BIRD on every side.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest

from tests.azure.twin.lab.cloud import ADDRESSES, INSTANCES, NODES, Cloud

pytestmark = [pytest.mark.netns, pytest.mark.xdist_group("azure-twin"), pytest.mark.timeout(240)]

OUTSIDE, INSIDE = "192.168.1.0/26", "10.42.200.0/26"
POD = {OUTSIDE: "192.168.1.1", INSIDE: "10.42.200.1"}
SENDER = "192.168.9.1"


def put_route(cloud: Cloud, name: str, prefix: str, hop: str | None) -> None:
    properties = {"addressPrefix": prefix, "nextHopType": "VirtualAppliance", "nextHopIpAddress": hop}
    cloud.arm("PUT", f"routeTables/rt1/routes/{name}", {"properties": properties})


def set_forwarding(cloud: Cloud, vm: str, *, on: bool) -> None:
    nic = cloud.arm("GET", f"networkInterfaces/{vm}")
    nic["properties"]["enableIPForwarding"] = on
    cloud.arm("PUT", f"networkInterfaces/{vm}", nic)


def set_table(cloud: Cloud, routes: dict[str, str], *, propagate: bool) -> None:
    """The whole table in one PUT."""
    named = [
        {
            "name": f"r{index}",
            "properties": {"addressPrefix": prefix, "nextHopType": "VirtualAppliance", "nextHopIpAddress": hop},
        }
        for index, (prefix, hop) in enumerate(routes.items())
    ]
    properties = {"disableBgpRoutePropagation": not propagate, "routes": named}
    cloud.arm("PUT", "routeTables/rt1", {"location": "westeurope", "properties": properties})


def azure_says(*, udr: str, held: tuple[int, ...], propagate: bool, prefix: str, a: bool, b: bool) -> bool:
    """The rules in words: a UDR wins.

    BGP counts where propagated, outside of the VNet, on the instance that this NIC hears.
    """
    arrives = udr == "right" if udr != "none" else propagate and prefix == OUTSIDE and 0 in held
    return arrives and a and b


def test_a_pod_packet_crosses_if_and_only_if_azures_rules_say_so(cloud: Cloud) -> None:
    cloud.pod("a", SENDER)
    for address in POD.values():
        cloud.pod("b", address)
    cloud.bird("b", POD)
    wrong = []
    seen = {True: 0, False: 0}
    switches = [(True, True)] * 3 + [(False, True), (True, False)]
    combinations = itertools.product([(0, 1), (0,), (1,), ()], ["none", "right", "wrong"], [True, False])
    for number, (held, udr, propagate) in enumerate(combinations):
        for index in (0, 1):
            cloud.birdc("b", f"{'enable' if index in held else 'disable'} r{index}")
        for index in (0, 1):
            cloud.until(
                f"instance {index} {'holds' if index in held else 'has lost'} the blocks",
                lambda index=index, held=held: len(cloud.holds(index)) == (2 if index in held else 0),  # type: ignore[misc]  # bound now
                timeout=30,
            )
        hop = {"right": ADDRESSES["b"], "wrong": ADDRESSES["c"]}.get(udr)
        routes = {"192.168.9.0/26": ADDRESSES["a"]} | (dict.fromkeys(POD, hop) if hop else {})
        set_table(cloud, routes, propagate=propagate)
        for a, b in {(True, True), switches[number % len(switches)]}:
            set_forwarding(cloud, "a", on=a)
            set_forwarding(cloud, "b", on=b)
            cloud.settled()
            for prefix, pod in POD.items():
                expected = azure_says(udr=udr, held=held, propagate=propagate, prefix=prefix, a=a, b=b)
                seen[expected] += 1
                if cloud.reaches("a", pod, SENDER, wait="1" if expected else "0.15") != expected:
                    wrong.append((held, udr, propagate, a, b, prefix, expected))
    assert not wrong
    assert min(seen.values()) >= 8


def test_two_nics_of_one_subnet_talk_through_the_fabric_too(cloud: Cloud) -> None:
    cloud.pod("b", POD[OUTSIDE])
    assert cloud.reaches("a", ADDRESSES["b"])
    cloud.vm("a").ip(f"route add {OUTSIDE} via {ADDRESSES['b']}")  # a bridged subnet would deliver this
    assert not cloud.reaches("a", POD[OUTSIDE])
    put_route(cloud, "r", OUTSIDE, ADDRESSES["b"])
    cloud.settled()
    assert cloud.reaches("a", POD[OUTSIDE])


def test_a_nic_that_gets_another_address_is_reached_there_and_its_routes_lead_there(cloud: Cloud) -> None:
    nic = cloud.arm("GET", "networkInterfaces/b")
    nic["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"] = "10.42.1.9"
    cloud.arm("PUT", "networkInterfaces/b", nic)
    cloud.settled()
    assert cloud.reaches("a", "10.42.1.9")
    assert not cloud.reaches("a", ADDRESSES["b"])
    cloud.pod("b", POD[OUTSIDE])
    put_route(cloud, "r", OUTSIDE, "10.42.1.9")
    cloud.settled()
    assert cloud.reaches("c", "10.42.1.9")
    assert cloud.reaches("a", POD[OUTSIDE])
    assert "ERROR" not in (cloud.folder / "twin.log").read_text()


def test_azure_is_not_a_hop(cloud: Cloud) -> None:
    assert "1 received" in cloud.vm("a").run("ping", "-c1", "-W1", "-t", "1", ADDRESSES["c"])


def test_dropped_packets_are_dropped_in_silence(cloud: Cloud) -> None:
    out = cloud.vm("a").run("ping", "-c1", "-W", "0.3", "192.168.77.1", check=False)
    assert re.search(r"1 packets transmitted, 0 received, 100% packet loss", out)
    assert "nreachable" not in out


def test_a_nic_without_forwarding_still_talks_for_itself(cloud: Cloud) -> None:
    set_forwarding(cloud, "b", on=False)
    cloud.settled()
    assert cloud.reaches("a", ADDRESSES["b"])
    assert cloud.reaches("b", ADDRESSES["c"])


def test_a_nic_without_forwarding_neither_sends_foreign_sources_nor_receives_foreign_destinations(cloud: Cloud) -> None:
    pod = POD[OUTSIDE]
    cloud.pod("b", pod)
    put_route(cloud, "r", OUTSIDE, ADDRESSES["b"])

    def arrives(sender: str, at: str, target: str, source: str) -> bool:
        """Whether the request gets there, whatever becomes of the answer."""
        before = _echo_requests(cloud, at)
        cloud.reaches(sender, target, source)
        return _echo_requests(cloud, at) > before

    for forwarding in (True, False):
        set_forwarding(cloud, "b", on=forwarding)
        cloud.settled()
        assert arrives("b", "a", ADDRESSES["a"], pod) == forwarding
        assert arrives("a", "b", pod, ADDRESSES["a"]) == forwarding


def _echo_requests(cloud: Cloud, vm: str) -> int:
    """ICMP echo requests that a VM's kernel has received."""
    names, values = (
        line.split() for line in cloud.vm(vm).run("cat", "/proc/net/snmp").splitlines() if line.startswith("Icmp:")
    )
    return int(values[names.index("InEchos")])


def test_a_third_party_next_hop_is_honoured(cloud: Cloud) -> None:
    cloud.pod("b", POD[OUTSIDE])
    cloud.bird("c", [OUTSIDE], extra=f"bgp_next_hop = {ADDRESSES['b']};")
    cloud.until("instance 0 holds it", lambda: (OUTSIDE, ADDRESSES["b"]) in cloud.holds(0))
    assert cloud.reaches("a", POD[OUTSIDE])


def test_equal_paths_share_the_flows_and_a_shorter_one_wins_alone(cloud: Cloud) -> None:
    for vm in ("b", "c"):
        cloud.pod(vm, POD[OUTSIDE])
        cloud.bird(vm, [OUTSIDE])
    cloud.until("both are held by both", lambda: all(len(cloud.holds(index)) == 2 for index in (0, 1)))
    table = cloud.vm("fabric").run("ip", "route", "show", "table", "1000", OUTSIDE)
    assert table.count("nexthop") == 2
    cloud.bird("c", [OUTSIDE], extra="bgp_path.prepend(64514);")
    cloud.birdc("c", "reload out all")
    cloud.until("the longer path is out of use", lambda: "nexthop" not in cloud.vm("fabric").run(
        "ip", "route", "show", "table", "1000", OUTSIDE))  # fmt: skip
    assert f"via {ADDRESSES['b']}" in cloud.vm("fabric").run("ip", "route", "show", "table", "1000", OUTSIDE)


def test_an_instance_that_lacks_a_route_loses_its_share_of_nics(cloud: Cloud) -> None:
    cloud.pod("c", POD[OUTSIDE])
    cloud.bird("c", [OUTSIDE])
    cloud.until("both hold it", lambda: all(cloud.holds(index) for index in (0, 1)))
    assert cloud.reaches("a", POD[OUTSIDE])
    assert cloud.reaches("b", POD[OUTSIDE])
    cloud.birdc("c", "disable r1")
    cloud.until("instance 1 lost it", lambda: not cloud.holds(1))
    assert cloud.reaches("a", POD[OUTSIDE])  # the first NIC hears instance 0, the second instance 1
    assert not cloud.reaches("b", POD[OUTSIDE])


def test_by_flow_an_instance_that_lacks_a_route_loses_about_half_of_the_flows(build: Callable[..., Cloud]) -> None:
    cloud = build(NODES + "rules: {instance_share: flow}\n")
    cloud.bird("c", [OUTSIDE])
    for last in range(1, 41):
        cloud.pod("c", f"192.168.1.{last}")
    cloud.birdc("c", "disable r1")
    cloud.until("instance 1 lost it", lambda: cloud.holds(0) and not cloud.holds(1))
    answered = sum(cloud.reaches("a", f"192.168.1.{last}", wait="0.1") for last in range(1, 41))
    assert 5 <= answered <= 35


def test_an_instance_that_is_down_takes_no_part(cloud: Cloud) -> None:
    cloud.pod("c", POD[OUTSIDE])
    cloud.bird("c", [OUTSIDE])
    cloud.until("both hold it", lambda: all(cloud.holds(index) for index in (0, 1)))
    cloud.twin("POST", "instances/1", {"state": "down"})
    cloud.until("instance 1 is down", lambda: not cloud.status()["instances"][1]["up"])
    assert cloud.reaches("a", POD[OUTSIDE])
    assert cloud.reaches("b", POD[OUTSIDE])
    cloud.twin("POST", "instances/1", {"state": "up"})
    cloud.until("instance 1 holds it again", lambda: cloud.holds(1), timeout=40)
    assert cloud.reaches("b", POD[OUTSIDE])


def test_an_appliance_in_a_peered_spoke_serves_the_hub_and_the_other_way_round(build: Callable[..., Cloud]) -> None:
    hub = "  - {name: others, prefix: 10.42.2.0/24}\n"
    lent = "  peerings: [{name: p, remote: spoke, allow_gateway_transit: true}]\n"
    spoke = (
        "- name: spoke\n  address_space: [10.50.0.0/16]\n  subnets: [{name: far, prefix: 10.50.1.0/24}]\n"
        "  peerings: [{name: p, remote: vnet1, use_remote_gateways: true}]\n"
    )
    config = NODES.replace(hub, hub + lent + spoke).replace("10.42.2.4", "10.50.1.4")
    cloud = build(config.replace("subnet: others", "subnet: spoke/far").replace("subnet: nodes", "subnet: vnet1/nodes"))
    cloud.pod("c", "192.168.3.1")
    cloud.pod("b", POD[OUTSIDE])
    cloud.addresses["c"] = "10.50.1.4"
    cloud.bird("c", ["192.168.3.0/26"])
    cloud.bird("b", [OUTSIDE])
    cloud.until("both instances hold both", lambda: all(len(cloud.holds(index)) == 2 for index in (0, 1)))
    assert cloud.reaches("a", "192.168.3.1")
    assert cloud.reaches("c", POD[OUTSIDE])
    assert cloud.reaches("c", POD[OUTSIDE], "192.168.3.1")


def test_silent_links_drop_everything_and_come_back(cloud: Cloud) -> None:
    cloud.twin("POST", "links/b", {"silent": True})  # in effect when it is answered
    assert not cloud.reaches("a", ADDRESSES["b"])
    answer = cloud.http("GET", "/twin/route", **{"from": "a", "to": "b"})[1]["answer"]
    assert answer.endswith("b (10.42.1.5), which is silent by order: dropped")
    cloud.twin("POST", "links/b", {"silent": False})
    assert cloud.reaches("a", ADDRESSES["b"])
    cloud.twin("POST", "instances/0", {"state": "silent"})
    assert not cloud.reaches("a", INSTANCES[0])
    assert cloud.reaches("a", INSTANCES[1])


def test_effective_routes_show_the_beaten_bgp_route_and_what_the_route_command_says(cloud: Cloud) -> None:
    cloud.bird("b", [OUTSIDE, INSIDE])
    cloud.until("both hold them", lambda: all(len(cloud.holds(index)) == 2 for index in (0, 1)))
    put_route(cloud, "r", OUTSIDE, ADDRESSES["c"])
    cloud.settled()
    rows = cloud.arm("POST", "networkInterfaces/a/effectiveRouteTable")["value"]
    by = {(each["addressPrefix"][0], each["source"]): each for each in rows}
    assert by[OUTSIDE, "User"]["state"] == "Active"
    assert by[OUTSIDE, "VirtualNetworkGateway"]["state"] == "Invalid"
    assert by[INSIDE, "VirtualNetworkGateway"]["state"] == "Invalid"
    assert by["10.42.0.0/16", "Default"]["nextHopType"] == "VnetLocal"
    assert by["192.168.0.0/16", "Default"]["nextHopType"] == "None"
    answer = cloud.http("GET", "/twin/route", **{"from": "a", "to": POD[OUTSIDE]})[1]["answer"]
    assert answer.startswith(f"by User route {OUTSIDE}")
    cloud.arm("DELETE", "routeTables/rt1/routes/r")
    answer = cloud.http("GET", "/twin/route", **{"from": "a", "to": POD[OUTSIDE]})[1]["answer"]
    assert answer == f"by VirtualNetworkGateway route {OUTSIDE} (VirtualNetworkGateway) of a to b (10.42.1.5)"
