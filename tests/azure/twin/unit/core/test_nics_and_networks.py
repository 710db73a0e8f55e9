"""NICs, subnets, VNets, peerings: what Azure checks before it takes them."""

from __future__ import annotations

from tests.azure.twin.arm_client import NETWORK, Client, body, code, detail

SUBNET = f"{NETWORK}/virtualNetworks/vnet1/subnets/nodes"


def nic(address: str | None = None, subnet: str = SUBNET) -> dict[str, object]:
    inner: dict[str, object] = {"subnet": {"id": subnet}}
    if address:
        inner["privateIPAddress"] = address
    return {"location": "westeurope", "properties": {"ipConfigurations": [{"name": "ipconfig1", "properties": inner}]}}


def address_of(client: Client, name: str) -> object:
    shown = body(client.ask("GET", f"networkInterfaces/{name}"))
    return shown["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"]  # type: ignore[index]  # JSON


def test_a_dynamic_address_is_the_next_free_one(client: Client) -> None:
    client.ask("PUT", "networkInterfaces/n1", nic())
    client.ask("PUT", "networkInterfaces/n2", nic())
    assert (address_of(client, "n1"), address_of(client, "n2")) == ("10.42.1.6", "10.42.1.7")


def test_addresses_that_cannot_be_had_are_refused(client: Client) -> None:
    for address, reason in (
        ("10.42.1.4", "PrivateIPAddressIsAllocated"),
        ("10.42.1.3", "PrivateIPAddressInReservedRange"),
        ("10.42.1.255", "PrivateIPAddressInReservedRange"),
        ("10.43.0.4", "PrivateIPAddressNotInSubnet"),
        ("nonsense", "InvalidIPAddressFormat"),
    ):
        assert code(client.ask("PUT", "networkInterfaces/n1", nic(address))) == reason
    assert code(client.ask("PUT", "networkInterfaces/n1", nic(subnet=SUBNET + "x"))) == "InvalidResourceReference"
    empty = {"location": "westeurope", "properties": {"ipConfigurations": []}}
    assert code(client.ask("PUT", "networkInterfaces/n1", empty)) == "NetworkInterfaceMustHaveIpConfiguration"


def test_read_modify_write_turns_forwarding_on_and_leaves_the_rest(client: Client) -> None:
    client.ask("PUT", "networkInterfaces/n1", nic() | {"tags": {"a": "b"}})
    shown = body(client.ask("GET", "networkInterfaces/n1"))
    assert shown["properties"]["enableIPForwarding"] is False  # type: ignore[index]  # JSON
    shown["properties"]["enableIPForwarding"] = True  # type: ignore[index]  # JSON
    assert client.ask("PUT", "networkInterfaces/n1", shown, headers={"if-match": str(shown["etag"])}).status == 200
    again = body(client.ask("GET", "networkInterfaces/n1"))
    assert again["tags"] == {"a": "b"}
    assert again["properties"]["ipConfigurations"] == shown["properties"]["ipConfigurations"]  # type: ignore[index]  # JSON
    assert again["properties"]["enableIPForwarding"] is True  # type: ignore[index]  # JSON


def test_a_nic_of_a_vm_says_so_and_stays(client: Client) -> None:
    shown = body(client.ask("GET", "networkInterfaces/node-a"))
    assert str(shown["properties"]["virtualMachine"]["id"]).endswith("/virtualMachines/node-a")  # type: ignore[index]  # JSON
    assert shown["properties"]["macAddress"] == "00-0D-3A-2A-01-04"  # type: ignore[index]  # JSON
    assert code(client.ask("DELETE", "networkInterfaces/node-a")) == "NicInUse"


def test_effective_routes_need_a_running_vm(client: Client) -> None:
    client.ask("PUT", "networkInterfaces/n1", nic())
    refused = client.ask("POST", "networkInterfaces/n1/effectiveRouteTable")
    assert (refused.status, code(refused)) == (400, "NetworkInterfaceNotAttachedToRunningVm")
    rows = body(client.ask("POST", "networkInterfaces/node-a/effectiveRouteTable"))["value"]
    assert {each["source"] for each in rows} == {"Default"}  # type: ignore[attr-defined]  # JSON


def test_effective_routes_are_a_long_running_query(slow: Client) -> None:
    asked = slow.ask("POST", "networkInterfaces/node-a/effectiveRouteTable")
    assert asked.status == 202
    path = asked.headers["Location"].split("localhost", 1)[1].split("?")[0]
    assert slow.ask("GET", path).status == 202
    slow.settle(3)
    assert slow.ask("GET", path).status == 200


def test_subnets_lie_inside_their_vnet_and_apart(client: Client) -> None:
    for prefix, reason in (
        ("10.43.0.0/24", "NetcfgInvalidSubnet"),
        ("10.42.1.128/25", "NetcfgSubnetRangesOverlap"),
        ("10.42.9.1/24", "InvalidCIDRNotation"),
        ("x", "InvalidAddressPrefixFormat"),
    ):
        answer = client.ask("PUT", "virtualNetworks/vnet1/subnets/new", {"properties": {"addressPrefix": prefix}})
        assert code(answer) == reason
    assert code(client.ask("DELETE", "virtualNetworks/vnet1/subnets/nodes")) == "InUseSubnetCannotBeDeleted"
    assert code(client.ask("DELETE", "virtualNetworks/vnet1")) == "InUseSubnetCannotBeDeleted"


def test_an_inline_subnet_can_be_read_as_a_child(client: Client) -> None:
    place = {
        "location": "westeurope",
        "properties": {
            "addressSpace": {"addressPrefixes": ["10.50.0.0/16"]},
            "subnets": [{"name": "s", "properties": {"addressPrefix": "10.50.1.0/24"}}],
        },
    }
    assert client.ask("PUT", "virtualNetworks/v2", place).status == 201
    assert client.ask("GET", "virtualNetworks/v2/subnets/s").status == 200
    assert client.ask("DELETE", "virtualNetworks/v2").status == 200
    assert client.ask("GET", "virtualNetworks/v2/subnets/s").status == 404


def test_peerings_need_both_sides_room_and_a_route_server_to_lend(client: Client) -> None:
    for name, prefix in (("near", "10.42.0.0/17"), ("far", "10.50.0.0/16")):
        client.ask(
            "PUT",
            f"virtualNetworks/{name}",
            {"location": "westeurope", "properties": {"addressSpace": {"addressPrefixes": [prefix]}}},
        )

    def peer(here: str, there: str, **flags: bool) -> object:
        return client.ask(
            "PUT",
            f"virtualNetworks/{here}/virtualNetworkPeerings/p",
            {"properties": {"remoteVirtualNetwork": {"id": f"{NETWORK}/virtualNetworks/{there}"}} | flags},
        )

    assert code(peer("vnet1", "near")) == "VnetAddressSpacesOverlap"  # type: ignore[arg-type]  # a Response
    assert code(peer("vnet1", "far", useRemoteGateways=True)) == "RemotePeeringHasNoGateways"  # type: ignore[arg-type]
    first = body(peer("vnet1", "far", allowGatewayTransit=True))  # type: ignore[arg-type]
    assert first["properties"]["peeringState"] == "Initiated"  # type: ignore[index]  # JSON
    peer("far", "vnet1", useRemoteGateways=True)
    shown = body(client.ask("GET", "virtualNetworks/vnet1/virtualNetworkPeerings/p"))
    assert shown["properties"]["peeringState"] == "Connected"  # type: ignore[index]  # JSON


def test_a_nic_in_a_subnet_that_is_updating_must_wait(slow: Client) -> None:
    slow.ask("PUT", "virtualNetworks/vnet1/subnets/new", {"properties": {"addressPrefix": "10.42.9.0/24"}})
    answer = slow.ask("PUT", "networkInterfaces/n1", nic(subnet=f"{NETWORK}/virtualNetworks/vnet1/subnets/new"))
    assert (answer.status, detail(answer)) == (429, "ReferencedResourceNotProvisioned")
