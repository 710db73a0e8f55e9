"""Route Server as ARM shows it: serial, slow, PUT-only, with the limits and refusals of Azure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from azure_twin.core.messages import Request, Response

from tests.azure.twin.arm_client import Client, body, code

CONNECTION = "virtualHubs/rs1/bgpConnections"


def peer(client: Client, name: str, ip: str = "10.42.1.4", asn: object = 64512, **more: object) -> Response:
    return client.ask("PUT", f"{CONNECTION}/{name}", {"properties": {"peerIp": ip, "peerAsn": asn}}, **more)  # type: ignore[arg-type]  # keywords of ask


def state(client: Client, name: str) -> object:
    return body(client.ask("GET", f"{CONNECTION}/{name}"))["properties"]["provisioningState"]  # type: ignore[index]  # JSON


def test_a_hub_is_succeeded_long_before_it_has_addresses(configured: Callable[..., Client]) -> None:
    client = configured(
        timing="azure",
        base="timing: {TIMING}\nfabric: {mode: none}\nvirtual_networks:\n"
        "- {name: v, address_space: [10.0.0.0/16], subnets: [{name: RouteServerSubnet, prefix: 10.0.0.0/26}]}\n",
    )
    client.ask("PUT", "publicIPAddresses/ip", {"location": "westeurope"})
    client.ask("PUT", "virtualHubs/rs1", {"location": "westeurope", "properties": {"sku": "Standard"}})
    client.settle(5)
    hub = body(client.ask("GET", "virtualHubs/rs1"))["properties"]
    assert (hub["provisioningState"], hub["routingState"], hub["virtualRouterIps"]) == ("Succeeded", "None", [])  # type: ignore[index]  # JSON
    early = peer(client, "a")
    assert (early.status, code(early)) == (400, "HubBgpConnectionParentHubMustHaveProvisionedRoutingState")
    made = client.ask(
        "PUT",
        "virtualHubs/rs1/ipConfigurations/Default",
        {
            "properties": {
                "subnet": {"id": client.twin.arm.store.get(f"{NET}/virtualNetworks/v/subnets/RouteServerSubnet").id},  # type: ignore[union-attr]  # it is there
                "publicIPAddress": {"id": f"{NET}/publicIPAddresses/ip"},
            }
        },
    )
    assert made.status == 201
    hub = body(client.ask("GET", "virtualHubs/rs1"))["properties"]
    assert (hub["provisioningState"], hub["routingState"], hub["virtualRouterIps"]) == ("Succeeded", "Provisioning", [])  # type: ignore[index]  # JSON
    busy = client.ask("PUT", "virtualHubs/rs1", {"location": "westeurope", "properties": {}})
    assert (busy.status, code(busy)) == (409, "AnotherOperationInProgress")
    client.settle(911)
    hub = body(client.ask("GET", "virtualHubs/rs1"))["properties"]
    assert (hub["routingState"], hub["virtualRouterIps"], hub["virtualRouterAsn"]) == (  # type: ignore[index]  # JSON
        "Provisioned",
        ["10.0.0.4", "10.0.0.5"],
        65515,
    )
    assert peer(client, "a").status == 201


NET = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg1/providers/Microsoft.Network"


def test_parallel_writes_conflict_and_the_loser_stays_failed_until_it_is_written_again(slow: Client) -> None:
    assert peer(slow, "a").status == 201
    loser = peer(slow, "b", "10.42.1.5")
    assert (loser.status, code(loser)) == (409, "ConflictError")
    assert state(slow, "b") == "Failed"
    assert state(slow, "a") == "Updating"
    slow.settle(171)
    assert (state(slow, "a"), state(slow, "b")) == ("Succeeded", "Failed")
    assert peer(slow, "b", "10.42.1.5").status == 200
    slow.settle(171)
    assert state(slow, "b") == "Succeeded"


def test_parallel_writes_may_be_set_to_leave_no_trace(configured: Callable[..., Client]) -> None:
    client = configured(timing="azure", extra="rules: {bgp_conflict_leaves: nothing}\n")
    peer(client, "a")
    assert peer(client, "b", "10.42.1.5").status == 409
    assert client.ask("GET", f"{CONNECTION}/b").status == 404


@pytest.mark.parametrize(
    "asn", [8074, 8075, 12076, 65515, 65517, 65520, 23456, 64496, 64511, 65535, 65551, 65536, 4200000000, 0, -1]
)
def test_reserved_and_32_bit_numbers_are_refused(client: Client, asn: int) -> None:
    answer = peer(client, "a", asn=asn)
    assert (answer.status, code(answer)) == (400, "InvalidPeerAsn")


@pytest.mark.parametrize("asn", [1, 64495, 64512, 65514, 65516, 65521, 65534])
def test_other_numbers_are_taken(client: Client, asn: int) -> None:
    assert peer(client, "a", asn=asn).status == 201


def test_wrong_peers_are_refused(client: Client) -> None:
    assert peer(client, "a", asn="64512").status == 400
    assert code(peer(client, "a", "nonsense")) == "InvalidPeerIp"
    assert code(peer(client, "a", "10.42.0.4")) == "InvalidPeerIp"
    for nobody in ("0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255"):
        assert code(peer(client, "a", nobody)) == "InvalidPeerIp"
    peer(client, "a")
    assert code(peer(client, "b")) == "HubBgpConnectionPeerIpConflict"
    assert peer(client, "x" * 81).status == 400
    assert client.ask("PATCH", f"{CONNECTION}/a", {"tags": {}}).status == 405


def test_there_is_room_for_eight_peers_or_as_many_as_are_set(configured: Callable[..., Client]) -> None:
    for limit in (8, 16):
        client = configured(extra=f"limits: {{bgp_peers: {limit}}}\n")
        answers = [peer(client, f"p{number}", f"10.42.1.{number + 10}") for number in range(limit + 1)]
        assert [each.status for each in answers] == [201] * limit + [400]
        assert code(answers[-1]) == "HubBgpConnectionsLimitReached"
        assert peer(client, "p0", "10.42.1.10").status == 200


def test_connection_state_is_left_empty(client: Client) -> None:
    peer(client, "a")
    assert body(client.ask("GET", f"{CONNECTION}/a"))["properties"]["connectionState"] == ""  # type: ignore[index]  # JSON


def test_an_older_api_version_does_not_see_a_route_map_and_erases_it(client: Client) -> None:
    maps = {"peerIp": "10.42.1.4", "peerAsn": 64512, "routingConfiguration": {"inboundRouteMap": {"id": "x"}}}
    client.ask("PUT", f"{CONNECTION}/a", {"properties": maps})
    old = body(client.ask("GET", f"{CONNECTION}/a", version="2024-05-01"))["properties"]
    new = body(client.ask("GET", f"{CONNECTION}/a"))["properties"]
    assert "routingConfiguration" not in old  # type: ignore[operator]  # JSON
    assert "routingConfiguration" in new  # type: ignore[operator]  # JSON
    client.ask("PUT", f"{CONNECTION}/a", {"properties": old}, version="2024-05-01")
    assert "routingConfiguration" not in body(client.ask("GET", f"{CONNECTION}/a"))["properties"]  # type: ignore[operator]  # JSON


def test_the_subnet_must_be_route_servers_own_and_large_enough(configured: Callable[..., Client]) -> None:
    client = configured(
        base="timing: fast\nfabric: {mode: none}\nvirtual_networks:\n- {name: v, address_space: [10.0.0.0/16], "
        "subnets: [{name: RouteServerSubnet, prefix: 10.0.0.0/27}, {name: other, prefix: 10.0.1.0/24}]}\n"
        "route_tables: [{name: rt1}]\n"
    )
    client.ask("PUT", "publicIPAddresses/ip", {"location": "westeurope"})
    client.ask("PUT", "virtualHubs/rs1", {"location": "westeurope", "properties": {}})

    def put(subnet: str, **more: object) -> Response:
        properties = {
            "subnet": {"id": f"{NET}/virtualNetworks/v/subnets/{subnet}"},
            "publicIPAddress": {"id": f"{NET}/publicIPAddresses/ip"},
        } | more
        return client.ask("PUT", "virtualHubs/rs1/ipConfigurations/Default", {"properties": properties})

    assert code(put("other")) == "InvalidSubnetName"
    assert code(put("RouteServerSubnet")) == "InvalidSubnetSize"
    assert code(put("none")) == "InvalidResourceReference"
    table = {"addressPrefix": "10.0.0.0/27", "routeTable": {"id": f"{NET}/routeTables/rt1"}}
    answer = client.ask("PUT", "virtualNetworks/v/subnets/RouteServerSubnet", {"properties": table})
    assert code(answer) == "RouteServerSubnetUserDefinedRouteNotAllowed"


def test_a_route_server_without_a_public_address_is_refused(client: Client) -> None:
    subnet = {"id": f"{NET}/virtualNetworks/vnet1/subnets/RouteServerSubnet"}
    answer = client.ask("PUT", "virtualHubs/rs1/ipConfigurations/Default", {"properties": {"subnet": subnet}})
    assert (answer.status, code(answer)) == (400, "PublicIPAddressRequired")


def test_the_route_servers_subnet_takes_no_security_group(client: Client) -> None:
    subnet = {"addressPrefix": "10.42.0.0/26", "networkSecurityGroup": {"id": f"{NET}/networkSecurityGroups/x"}}
    answer = client.ask("PUT", "virtualNetworks/vnet1/subnets/RouteServerSubnet", {"properties": subnet})
    assert code(answer) == "RouteServerSubnetNetworkSecurityGroupNotAllowed"


def test_taking_a_route_server_down_takes_as_long_as_setting_it_up(slow: Client) -> None:
    assert slow.ask("DELETE", "virtualHubs/rs1/ipConfigurations/Default").status == 202
    slow.settle(909)
    assert slow.ask("GET", "virtualHubs/rs1/ipConfigurations/Default").status == 200
    slow.settle(2)
    assert slow.ask("GET", "virtualHubs/rs1/ipConfigurations/Default").status == 404


def test_a_connection_takes_its_170_seconds_and_its_end_93(slow: Client) -> None:
    peer(slow, "a")
    slow.settle(169)
    assert state(slow, "a") == "Updating"
    slow.settle(2)
    assert state(slow, "a") == "Succeeded"
    assert slow.ask("DELETE", f"{CONNECTION}/a").status == 202
    slow.settle(92)
    assert state(slow, "a") == "Deleting"
    slow.settle(2)
    assert slow.ask("GET", f"{CONNECTION}/a").status == 404


@pytest.mark.parametrize(
    ("properties", "status"),
    [
        ({"hubRoutingPreference": "ASPath", "allowBranchToBranchTraffic": True}, 200),
        ({"virtualRouterAutoScaleConfiguration": {"minCapacity": 50}}, 200),
        ({"virtualRouterAutoScaleConfiguration": {"minCapacity": 1}}, 400),
        ({"virtualRouterAutoScaleConfiguration": {"minCapacity": 51}}, 400),
        ({"hubRoutingPreference": "Shortest"}, 400),
    ],
)
def test_preference_and_capacity_are_checked_and_kept(
    client: Client, properties: dict[str, object], status: int
) -> None:
    answer = client.ask("PUT", "virtualHubs/rs1", {"location": "westeurope", "properties": properties})
    assert answer.status == status
    shown = body(client.ask("GET", "virtualHubs/rs1"))
    assert shown["kind"] == "RouteServer"
    if status == 200:
        assert properties.items() <= shown["properties"].items()  # type: ignore[attr-defined]  # JSON


def test_learned_routes_are_a_long_running_query(slow: Client) -> None:
    peer(slow, "a")
    slow.settle(171)
    answer = slow.ask("POST", f"{CONNECTION}/a/learnedRoutes")
    assert answer.status == 202
    place = answer.headers["Location"].split("localhost", 1)[1].split("?")[0]
    assert slow.ask("GET", place).status == 202
    slow.settle(3)
    assert body(slow.ask("GET", place)) == {"RouteServiceRole_IN_0": [], "RouteServiceRole_IN_1": []}


def test_a_second_route_server_in_a_vnet_is_refused(client: Client) -> None:
    client.ask("PUT", "virtualHubs/rs2", {"location": "westeurope", "properties": {}})
    answer = client.ask(
        "PUT",
        "virtualHubs/rs2/ipConfigurations/Default",
        {
            "properties": {
                "subnet": {"id": f"{NET}/virtualNetworks/vnet1/subnets/RouteServerSubnet"},
                "publicIPAddress": {"id": f"{NET}/publicIPAddresses/rs1-ip"},
            }
        },
    )
    assert code(answer) == "VirtualNetworkAlreadyHasRouteServer"


def test_a_failed_write_leaves_a_failed_object_and_no_peer(client: Client) -> None:
    client.twin.serve(_fault({"kind": "fail", "method": "PUT", "path": "*/bgpConnections/*"}), control=True)
    peer(client, "a")
    assert state(client, "a") == "Failed"
    assert not list(client.twin.arm.effective.of_kind("Microsoft.Network/virtualHubs/bgpConnections"))


def _fault(body_of: dict[str, object]) -> Request:

    return Request("POST", "/twin/faults", {}, {}, msgspec.json.encode(body_of))
