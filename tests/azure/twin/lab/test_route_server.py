"""The Route Server as appliances meet it: real BIRD on both sides."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable

import pytest

from lab.netns import NETNS, wait_for
from tests.azure.twin.lab.cloud import ADDRESSES, INSTANCES, NODES, Cloud

pytestmark = [pytest.mark.netns, pytest.mark.xdist_group("azure-twin"), pytest.mark.timeout(180)]

BLOCK = "192.168.1.0/26"
WITHOUT_REFRESH = "enable route refresh off;"


def since(cloud: Cloud, vm: str, protocol: str = "r0") -> float:
    """When a session changed its state last: seconds of the day (BIRD's own figure wavers by a millisecond)."""
    found = re.search(
        rf"^{protocol} .* (\d+):(\d+):([\d.]+) ", cloud.birdc(vm, f"show protocols {protocol}"), re.MULTILINE
    )
    assert found
    return round(int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]), 1)


def moved(cloud: Cloud, vm: str, before: float) -> bool:
    return abs(since(cloud, vm) - before) > 0.25


def blocks(count: int, first: int = 0) -> list[str]:
    return [f"192.168.{number // 4}.{number % 4 * 64}/26" for number in range(first, first + count)]


def test_routes_are_reflected_with_the_instance_as_next_hop_and_never_to_their_source(cloud: Cloud) -> None:
    cloud.bird("b")
    cloud.bird("a", [BLOCK], extra="bgp_community.add((64512, 7));")
    cloud.until("b has it from both", lambda: cloud.birdc("b", f"show route {BLOCK} all").count("BGP.as_path") == 2)
    seen = cloud.birdc("b", f"show route {BLOCK} protocol r0 all")
    assert f"BGP.next_hop: {INSTANCES[0]}" in seen
    assert "BGP.as_path: 65515 64512" in seen
    assert "BGP.community: (64512,7) (65517,65517)" in seen
    assert "r0" not in cloud.birdc("a", f"show route {BLOCK}")
    assert cloud.ignored("a") == 0  # nor sent to it and dropped there for its own number in the path
    vnet = cloud.birdc("a", "show route 10.42.0.0/16 protocol r1 all")
    assert f"BGP.next_hop: {INSTANCES[1]}" in vnet
    assert "BGP.as_path: 65515" in vnet


def test_what_is_learned_and_advertised_is_told_by_instance(cloud: Cloud) -> None:
    cloud.bird("b")
    cloud.bird("a", [BLOCK], extra=f'if proto = "static1" then bgp_next_hop = {ADDRESSES["c"]};')
    cloud.until("both hold it", lambda: all(cloud.holds(index) for index in (0, 1)))
    cloud.birdc("a", "disable r1")
    cloud.until("instance 1 lost it", lambda: not cloud.holds(1))
    hub = "virtualHubs/rs1/bgpConnections"
    learned = cloud.arm("POST", f"{hub}/a/learnedRoutes")
    assert learned["RouteServiceRole_IN_1"] == []
    row = learned["RouteServiceRole_IN_0"][0]
    assert (row["network"], row["nextHop"], row["asPath"], row["weight"]) == (BLOCK, ADDRESSES["c"], "64512", 32768)
    advertised = cloud.arm("POST", f"{hub}/b/advertisedRoutes")["RouteServiceRole_IN_0"]
    real = cloud.birdc("b", "show route protocol r0")
    assert {each["network"] for each in advertised} == {BLOCK, "10.42.0.0/16"}
    assert all(each["network"] in real for each in advertised)
    assert {each["asPath"] for each in advertised} == {"65515", "65515-64512"}


def test_no_advertise_is_withheld_but_programmed_and_no_export_is_reflected(cloud: Cloud) -> None:
    cloud.bird("b")
    cloud.bird("a", ["192.168.1.0/26", "192.168.2.0/26"], extra=(
        "if net = 192.168.1.0/26 then bgp_community.add((65535, 65282)); else bgp_community.add((65535, 65281));"
    ))  # fmt: skip
    wait_for("b has the second", lambda: "r0" in cloud.birdc("b", "show route 192.168.2.0/26"))
    cloud.until("the twin has heard of both", lambda: len(cloud.holds(0)) == 2)
    assert "r0" not in cloud.birdc("b", "show route 192.168.1.0/26")
    assert "via 10.42.1.4" in cloud.vm("fabric").run("ip", "route", "show", "table", "1002", "192.168.1.0/26")


def test_a_path_with_the_route_servers_own_number_is_dropped(cloud: Cloud) -> None:
    cloud.bird("a", ["192.168.1.0/26", "192.168.2.0/26"], extra="if net = 192.168.1.0/26 then bgp_path.prepend(65515);")
    cloud.until("the other one is held", lambda: any(prefix == "192.168.2.0/26" for prefix, _ in cloud.holds(0)))
    assert not any(prefix == "192.168.1.0/26" for prefix, _ in cloud.holds(0))


def test_capabilities_are_those_of_route_server_and_hold_time_goes_down(cloud: Cloud) -> None:
    cloud.bird("a", [BLOCK], options="hold time 9;")
    seen = cloud.birdc("a", "show protocols all r0")
    theirs = seen.split("Neighbor capabilities")[1].split("Session:")[0]
    assert "4-octet AS numbers" in theirs
    assert "Route refresh" in theirs
    assert "ipv6" in theirs
    assert "restart" not in theirs.lower()
    assert "/9" in seen.split("Hold timer:")[1].splitlines()[0]


def test_strangers_and_wrong_numbers_get_no_session(build: Callable[..., Cloud]) -> None:
    cloud = build(NODES.replace("  - {name: c, address: 10.42.2.4, asn: 64514}\n", ""))
    cloud.bird("c", [BLOCK], wait=False)
    cloud.bird("b", [BLOCK], asn=64999, wait=False)
    cloud.bird("a", ["192.168.2.0/26"])
    wait_for("b hears that its number is wrong", lambda: "Bad peer AS" in cloud.birdc("b", "show protocols all r0"), 40)
    assert "Established" not in cloud.birdc("c", "show protocols r0")
    assert "Received:" not in _log(cloud, "c")  # closed without a NOTIFICATION
    cloud.until("the peer's route is held", lambda: "192.168.2.0/26" in {prefix for prefix, _ in cloud.holds(0)})
    assert {prefix for prefix, _ in cloud.holds(0)} == {"192.168.2.0/26"}


def test_re_advertising_more_than_half_of_the_limit_ends_the_session_and_the_others_stay(
    build: Callable[..., Cloud],
) -> None:
    cloud = build(NODES + "limits: {routes_per_peer: 20, burst_window: 500ms, limit_reconnect: 1s}\n")
    cloud.bird("b", [BLOCK.replace("192.168", "10.99")])
    cloud.bird("a", blocks(11))
    cloud.until("11 are held", lambda: len(cloud.holds(0)) == 12)
    uptime = since(cloud, "b")
    wait_for("the first burst is over", lambda: _quiet(cloud), 40)
    cloud.birdc("a", "reload out all")
    wait_for("the session ended", lambda: "limit 20" in cloud.peer(0, "a").get("note", ""), 40)
    assert "22 routes counted" in cloud.peer(0, "a")["note"]
    wait_for("a was told 6/1", lambda: "Maximum number of prefixes" in _log(cloud, "a"), 40)
    cloud.established("a")
    assert not moved(cloud, "b", uptime)


def _log(cloud: Cloud, vm: str) -> str:
    path = cloud.folder / f"{vm}.log"
    return path.read_text() if path.exists() else ""


def _quiet(cloud: Cloud) -> bool:
    """The burst window has passed: BIRD of the appliance shows a session older than that."""
    seen = cloud.status()["time"]
    first = cloud.__dict__.setdefault("quiet_from", seen)
    return bool(seen - first > 0.8)


def test_too_many_routes_make_the_session_flap_for_ever(build: Callable[..., Cloud]) -> None:
    cloud = build(NODES + "limits: {routes_per_peer: 20, limit_reconnect: 300ms}\n")
    cloud.bird("a", blocks(21), wait=False)
    wait_for("it was ended three times", lambda: _log(cloud, "a").count("Maximum number of prefixes") >= 3, 40)


def test_a_new_vnet_peering_asks_every_peer_for_its_routes_again(cloud: Cloud) -> None:
    cloud.bird("a", [BLOCK], options="debug all;")
    cloud.bird("b", options=WITHOUT_REFRESH)
    cloud.until("both hold it", lambda: all(cloud.holds(index) for index in (0, 1)))
    before = since(cloud, "b")
    place = {"location": "westeurope", "properties": {"addressSpace": {"addressPrefixes": ["10.50.0.0/16"]}}}
    spoke = cloud.arm("PUT", "virtualNetworks/spoke", place)
    hub = cloud.arm("GET", "virtualNetworks/vnet1")
    elsewhere = cloud.arm("PUT", "virtualNetworks/elsewhere", {"location": "westeurope", "properties": {
        "addressSpace": {"addressPrefixes": ["10.60.0.0/16"]}}})  # fmt: skip
    for here, there in (("spoke", elsewhere), ("elsewhere", spoke)):
        cloud.arm("PUT", f"virtualNetworks/{here}/virtualNetworkPeerings/p", {"properties": {
            "remoteVirtualNetwork": {"id": there["id"]}}})  # fmt: skip
    cloud.arm("PUT", "virtualHubs/rs1/bgpConnections/d", {"properties": {"peerIp": "10.42.2.9", "peerAsn": 64520}})
    cloud.settled()
    assert "ROUTE-REFRESH" not in _log(cloud, "a")  # neither is a peering of the Route Server's VNet
    for name, here, there, lends in (("to-spoke", "vnet1", spoke, True), ("to-hub", "spoke", hub, False)):
        cloud.arm("PUT", f"virtualNetworks/{here}/virtualNetworkPeerings/{name}", {"properties": {
            "remoteVirtualNetwork": {"id": there["id"]}, "allowGatewayTransit": lends, "useRemoteGateways": not lends,
        }})  # fmt: skip
    wait_for("a was asked", lambda: "ROUTE-REFRESH" in _log(cloud, "a"), 40)
    wait_for("b, who cannot be asked, was reset", lambda: moved(cloud, "b", before), 40)
    cloud.established("b")
    wait_for("the spoke is advertised", lambda: "10.50.0.0/16" in cloud.birdc("a", "show route"), 40)


def test_writing_a_live_connection_drops_its_session_and_no_other(cloud: Cloud) -> None:
    cloud.bird("a", [BLOCK])
    cloud.bird("b")
    before, other = since(cloud, "a"), since(cloud, "b")
    found = cloud.arm("GET", "virtualHubs/rs1/bgpConnections/a")
    cloud.arm("PUT", "virtualHubs/rs1/bgpConnections/a", found)
    wait_for("the session was dropped", lambda: moved(cloud, "a", before), 40)
    cloud.established("a")
    assert not moved(cloud, "b", other)
    cloud.arm("DELETE", "virtualHubs/rs1/bgpConnections/a")
    wait_for("its routes are gone", lambda: not cloud.holds(0), 40)
    assert not moved(cloud, "b", other)


def test_an_appliance_that_is_killed_leaves_no_route_behind(cloud: Cloud) -> None:
    cloud.pod("b", "192.168.1.1")
    cloud.bird("b", [BLOCK])
    cloud.until("both hold it", lambda: all(cloud.holds(index) for index in (0, 1)))
    assert cloud.reaches("a", "192.168.1.1")
    cloud.kill_bird("b")
    cloud.until("it is withdrawn", lambda: not cloud.holds(0) and not cloud.holds(1), 40)
    assert not cloud.reaches("a", "192.168.1.1")


def test_garbage_on_the_session_hurts_nobody_else(cloud: Cloud) -> None:
    cloud.bird("a", [BLOCK])
    cloud.until("it is held", lambda: cloud.holds(0))
    before = since(cloud, "a")
    for garbage in (r"\x00" * 64, r"\xff" * 16 + r"\x00\x13\x09", "GET / HTTP/1.1"):
        script = f"printf '{garbage}' > /dev/tcp/{INSTANCES[0]}/179"
        cloud.vm("b").run("timeout", "2", "bash", "-c", script, check=False)
    cloud.bird("b", ["0.0.0.0/0", "10.42.1.0/24", "192.168.2.0/26"])
    cloud.until("b's routes are held", lambda: len(cloud.holds(0)) == 4)
    assert not moved(cloud, "a", before)
    assert cloud.reaches("a", ADDRESSES["c"])
    assert cloud.reaches("c", ADDRESSES["a"])


def test_an_instance_whose_bird_dies_is_down_and_comes_back(cloud: Cloud) -> None:
    cloud.bird("a", [BLOCK])
    cloud.until("both hold it", lambda: all(cloud.holds(index) for index in (0, 1)))
    before = since(cloud, "a", "r1")
    pids = subprocess.run(
        ["ip", "netns", "pids", f"{cloud.tag}-rs0"], capture_output=True, text=True, check=True
    ).stdout.split()
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)
    cloud.until("its routes are gone", lambda: not cloud.holds(0))
    cloud.until("it holds them again", lambda: cloud.holds(0), 60)
    assert abs(since(cloud, "a", "r1") - before) < 0.25


def test_an_instance_that_silently_lacks_a_block_keeps_its_session_and_has_the_block_afterwards(cloud: Cloud) -> None:
    cloud.pod("a", "192.168.1.1")
    cloud.bird("a", [BLOCK, "192.168.2.0/26"])
    both, other = {(BLOCK, "10.42.1.4"), ("192.168.2.0/26", "10.42.1.4")}, {("192.168.2.0/26", "10.42.1.4")}
    cloud.until("both hold both", lambda: cloud.holds(0) == cloud.holds(1) == both)
    before = since(cloud, "a", "r1")
    cloud.twin("POST", "instances/1", {"lacks": [BLOCK, "192.168.3.0/26"]})
    cloud.until("instance 1 lacks the block", lambda: cloud.holds(1) == other)
    cloud.bird("a", [BLOCK, "192.168.2.0/26", "192.168.3.0/26"])
    cloud.until("a new block is with instance 0 alone", lambda: len(cloud.holds(0)) == 3)
    assert cloud.holds(1) == other
    learned = cloud.arm("POST", "virtualHubs/rs1/bgpConnections/a/learnedRoutes")
    assert [each["network"] for each in learned["RouteServiceRole_IN_1"]] == ["192.168.2.0/26"]
    assert cloud.reaches("c", "192.168.1.1")  # whose NIC follows instance 0
    assert not cloud.reaches("b", "192.168.1.1")
    cloud.twin("POST", "instances/1", {"lacks": []})
    cloud.until("all is back", lambda: len(cloud.holds(1)) == 3)
    wait_for("b reaches it", lambda: cloud.reaches("b", "192.168.1.1"), 10)
    assert abs(since(cloud, "a", "r1") - before) < 0.25


def test_a_killed_instance_says_nothing_and_comes_back(cloud: Cloud) -> None:
    cloud.bird("a", [BLOCK])
    cloud.twin("POST", "instances/1", {"state": "killed"})
    wait_for("the session is gone", lambda: "Established" not in cloud.birdc("a", "show protocols r1"), 10)
    assert "Received:" not in _log(cloud, "a")
    cloud.settled()
    assert not cloud.status()["instances"][1]["up"]
    cloud.twin("POST", "instances/0", {"state": "down"})
    wait_for("one that stops in order says so", lambda: "Received:" in _log(cloud, "a"), 10)
    for number in (0, 1):
        cloud.twin("POST", f"instances/{number}", {"state": "up"})
    cloud.until("both hold it", lambda: all(cloud.holds(index) for index in (0, 1)), 60)


def test_a_twin_that_was_killed_starts_again_over_what_it_left(cloud: Cloud) -> None:
    cloud.process.kill()
    cloud.process.wait()
    cloud.start()
    cloud.bird("a", [BLOCK])
    cloud.until("both hold it", lambda: all(cloud.holds(index) for index in (0, 1)))
    assert cloud.reaches("a", ADDRESSES["c"])


def test_a_twin_that_ends_leaves_nothing_behind(cloud: Cloud) -> None:
    cloud.process.terminate()
    assert cloud.process.wait(20) == 0
    assert not [each.name for each in NETNS.iterdir() if each.name.startswith(f"{cloud.tag}-")]
