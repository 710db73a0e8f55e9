"""Effective routes: the documented order against an oracle that is written another way."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from azure_twin.core.effective import effective_routes, lookup
from azure_twin.core.forwarding import FIRST, Planner, explain
from azure_twin.core.learned import Instance, Learned
from azure_twin.core.route_server import route_server
from azure_twin.core.settings import Rules
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.azure.twin.arm_client import NETWORK, Client

PREFIXES = [
    "192.168.1.0/24",
    "192.168.1.0/26",
    "10.42.1.128/25",
    "10.42.0.0/16",
    "0.0.0.0/0",
    "10.0.0.0/8",
    "172.20.0.0/16",
]
TARGETS = [
    "192.168.1.1",
    "192.168.1.200",
    "10.42.1.4",
    "10.42.1.200",
    "8.8.8.8",
    "172.20.1.1",
    "10.9.9.9",
    "100.64.0.1",
]


def set_routes(client: Client, prefixes: list[str], *, propagate: bool = True) -> None:
    routes = [
        {
            "name": f"r{at}",
            "properties": {"addressPrefix": each, "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.42.1.5"},
        }
        for at, each in enumerate(prefixes)
    ]
    client.time += 10  # the write bucket fills again
    answer = client.ask(
        "PUT",
        "routeTables/rt1",
        {"location": "westeurope", "properties": {"routes": routes, "disableBgpRoutePropagation": not propagate}},
    )
    assert answer.status == 200


def oracle(target: str, user: list[str], learned: list[str], *, propagate: bool) -> str:
    """In Azure's words: the longest prefix; then user, then BGP (never inside the VNet), then system."""
    address = ipaddress.ip_address(target)
    vnet = ipaddress.IPv4Network("10.42.0.0/16")
    system = {
        "10.42.0.0/16": "VnetLocal",
        "0.0.0.0/0": "Internet",
        "10.0.0.0/8": "None",
        "172.16.0.0/12": "None",
        "192.168.0.0/16": "None",
        "100.64.0.0/10": "None",
    }
    usable = [each for each in learned if not ipaddress.IPv4Network(each).subnet_of(vnet)] if propagate else []
    candidates = [(each, 2, "User") for each in user] + [(each, 1, "BGP") for each in usable]
    candidates += [(each, 0, kind) for each, kind in system.items()]
    fitting = [each for each in candidates if address in ipaddress.ip_network(each[0])]
    return max(fitting, key=lambda each: (ipaddress.ip_network(each[0]).prefixlen, each[1]))[2]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120, deadline=None)
@given(
    user=st.lists(st.sampled_from(PREFIXES), unique=True),
    learned=st.lists(st.sampled_from(PREFIXES), unique=True),
    propagate=st.booleans(),
)
def test_every_packet_follows_the_documented_order(
    client: Client, user: list[str], learned: list[str], *, propagate: bool
) -> None:
    set_routes(client, user, propagate=propagate)
    subnet = client.twin.arm.effective.get(f"{NETWORK}/virtualNetworks/vnet1/subnets/nodes")
    assert subnet is not None
    held = {each: (Learned(each, "10.42.1.4", "10.42.1.4", (64512,)),) for each in learned}
    rows = effective_routes(client.twin.arm.effective, subnet, held)
    for target in TARGETS:
        row = lookup(rows, target)
        assert row is not None
        kind = {"User": "User", "VirtualNetworkGateway": "BGP"}.get(row.source, row.next_hop_type)
        assert kind == oracle(target, user, learned, propagate=propagate), (target, row)
    active = [row.prefix for row in rows if row.state == "Active"]
    assert len(active) == len(set(active))


def test_a_beaten_bgp_route_is_listed_as_invalid_or_hidden(client: Client) -> None:
    set_routes(client, ["192.168.1.0/24"])
    subnet = client.twin.arm.effective.get(f"{NETWORK}/virtualNetworks/vnet1/subnets/nodes")
    assert subnet is not None
    held = {"192.168.1.0/24": (Learned("192.168.1.0/24", "10.42.1.4", "10.42.1.4", (1,)),)}
    for setting, states in (("invalid", ["Invalid"]), ("hidden", [])):
        rows = effective_routes(client.twin.arm.effective, subnet, held, overridden=setting)
        assert [row.state for row in rows if row.source == "VirtualNetworkGateway"] == states


def test_a_spoke_hears_the_route_server_only_when_it_is_lent(client: Client) -> None:
    spoke = f"{NETWORK}/virtualNetworks/spoke"
    client.ask(
        "PUT",
        "virtualNetworks/spoke",
        {
            "location": "westeurope",
            "properties": {
                "addressSpace": {"addressPrefixes": ["10.50.0.0/16"]},
                "subnets": [{"name": "s", "properties": {"addressPrefix": "10.50.1.0/24"}}],
            },
        },
    )
    held = {"192.168.1.0/24": (Learned("192.168.1.0/24", "10.42.1.4", "10.42.1.4", (1,)),)}

    def sources() -> set[str]:
        subnet = client.twin.arm.effective.get(f"{spoke}/subnets/s")
        assert subnet is not None
        return {row.source for row in effective_routes(client.twin.arm.effective, subnet, held)}

    for lends in (False, True):
        client.ask(
            "PUT",
            "virtualNetworks/vnet1/virtualNetworkPeerings/p",
            {"properties": {"remoteVirtualNetwork": {"id": spoke}, "allowGatewayTransit": lends}},
        )
        client.ask(
            "PUT",
            "virtualNetworks/spoke/virtualNetworkPeerings/p",
            {
                "properties": {
                    "remoteVirtualNetwork": {"id": f"{NETWORK}/virtualNetworks/vnet1"},
                    "useRemoteGateways": lends,
                }
            },
        )
        assert ("VirtualNetworkGateway" in sources()) is lends


def planner(client: Client, rules: Rules, held: list[list[str]], up: tuple[bool, bool] = (True, True)) -> Planner:
    instances = [Instance(0.0, 0.0), Instance(0.0, 0.0)]
    for instance, prefixes, is_up in zip(instances, held, up, strict=True):
        instance.up = is_up
        instance.report([Learned(each, "10.42.1.5", "10.42.1.5", (64513,)) for each in prefixes], 0.0)
        instance.handle_timer(0.0)
    return Planner(client.twin.arm.effective, instances, rules, client.twin.settings.vm_nics)


def line(made: Planner, index: int, prefix: str = "192.168.1.0/24") -> str | None:
    return made.plan(None, frozenset()).routes.get((FIRST + index, prefix))


def test_shares_of_the_instances_by_nic_and_by_flow(client: Client) -> None:
    one = [["192.168.1.0/24"], list[str]()]
    via = "via 10.42.1.5 dev n1 onlink"
    by_nic = planner(client, Rules(), one)
    assert (line(by_nic, 0), line(by_nic, 1)) == (via, None)
    by_flow = planner(client, Rules(instance_share="flow"), one)
    assert line(by_flow, 0) == f"nexthop {via} weight 60 nexthop dev void weight 60"
    down = planner(client, Rules(), one, up=(True, False))
    assert (line(down, 0), line(down, 1)) == (via, via)
    loses = planner(client, Rules(down_instance="loses_share"), one, up=(True, False))
    assert (line(loses, 0), line(loses, 1)) == (via, None)
    both = [["192.168.1.0/24"], ["192.168.1.0/24"]]
    loses = planner(client, Rules(down_instance="loses_share"), both, up=(True, False))
    assert (line(loses, 0), line(loses, 1)) == (via, None)


def test_a_next_hop_that_no_nic_has_or_that_is_out_of_reach_is_silence(client: Client) -> None:
    client.put_route("r", "192.168.7.0/24", "10.42.1.99")
    client.put_route("s", "192.168.8.0/24", "203.0.113.1")
    routes = planner(client, Rules(), [[], []]).plan(None, frozenset()).routes
    assert routes[FIRST, "192.168.7.0/24"] == routes[FIRST, "192.168.8.0/24"] == "blackhole"
    assert routes[FIRST, "10.42.0.0/16"] == "throw"
    assert routes[FIRST, "0.0.0.0/0"] == "blackhole"


def test_the_sentence_of_a_packet_says_by_which_route_to_whom_or_why_not(client: Client) -> None:
    made = planner(client, Rules(), [["192.168.1.0/24"], ["192.168.1.0/24"]])
    assert explain(made, "node-a", "192.168.1.1").endswith("to node-b (10.42.1.5)")
    assert (
        explain(made, "node-a", "node-b") == "by Default route 10.42.0.0/16 (VnetLocal) of node-a to node-b (10.42.1.5)"
    )
    assert "which no NIC has: dropped" in explain(made, "10.42.1.4", "10.42.1.77")
    assert explain(made, "node-a", "192.168.2.1").startswith("dropped by Default route 192.168.0.0/16 (None)")
    assert "neither an address" in explain(made, "nobody", "1.1.1.1")


def test_the_route_server_in_effect_is_what_the_shells_get(configured: Callable[..., Client]) -> None:
    client = configured()
    client.ask("PUT", "virtualHubs/rs1/bgpConnections/a", {"properties": {"peerIp": "10.42.1.4", "peerAsn": 64512}})
    arm = client.twin.arm
    from azure_twin.core.kinds import World  # noqa: PLC0415

    found = route_server(World(arm.effective, arm.effective, client.twin.settings, "2025-07-01", 0.0, arm.operations))
    assert found is not None
    assert (found.addresses, found.gateway, found.length) == (("10.42.0.4", "10.42.0.5"), "10.42.0.1", 26)
    assert [(each.address, each.asn) for each in found.peers] == [("10.42.1.4", 64512)]
    assert found.prefixes == ("10.42.0.0/16",)
