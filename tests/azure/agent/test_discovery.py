"""What the agent finds by itself: all of it, a part of it, and what it says about the rest."""

from __future__ import annotations

import pytest

from bgp_agent.cloud import ids, peering
from bgp_agent.cloud.asking import Wanted
from bgp_agent.cloud.discovery import discover
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.imds import Imds
from bgp_agent.core.prefix import parse_address
from tests.azure.agent.conftest import CONFIG, NETWORK, SERVER, SUBSCRIPTION, TABLE, Azure, Opened

HERE = parse_address("10.42.1.4")


def agent_with(*actions: str) -> str:
    """An identity that may do these things and nothing else."""
    allowed = ", ".join(f"'Microsoft.Network/{each}'" for each in actions)
    return (
        f"identities: [{{name: agent, client_id: c1, object_id: d1, roles: [{{actions: [{allowed}], "
        f"scope: {SUBSCRIPTION}}}]}}]\n"
    )


async def test_on_azure_an_empty_section_is_config_enough(azure: Azure) -> None:
    found = await discover(azure.imds, azure.arm, Wanted())
    assert (found.missing, found.notes, found.again) == ((), (), False)
    assert found.instance is not None
    assert (found.instance.name, found.instance.location) == ("a", "westeurope")
    assert found.address == HERE
    assert found.interface is not None
    assert (ids.name(found.interface.id), found.interface.forwarding) == ("nic-a", True)
    assert found.network is not None
    assert ids.name(found.network.id) == "vnet1"
    assert found.server is not None
    assert (found.server.asn, found.server.addresses) == (65515, tuple(map(parse_address, ("10.42.0.4", "10.42.0.5"))))
    assert found.connection is not None
    assert (found.connection.name, found.asn) == ("a", 64512)


async def test_the_tables_are_those_of_every_subnet_with_nodes_and_of_no_other(azure: Azure) -> None:
    found = await discover(azure.imds, azure.arm, Wanted())
    assert [ids.name(each.id) for each in found.subnets] == ["nodes", "others"]  # not the databases' one
    assert [ids.name(each.id) for each in found.tables] == ["rt1", "rt2"]


async def test_what_the_configuration_names_is_not_looked_for(opened: Opened) -> None:
    azure = await opened(extra=agent_with("routeTables/read", "virtualHubs/read", "virtualHubs/bgpConnections/read"))
    found = await discover(azure.imds, azure.arm, Wanted(HERE, SERVER, (TABLE,), 64512))
    assert [ids.name(each.id) for each in found.tables] == ["rt1"]
    assert found.connection is not None
    assert found.asn == 64512
    assert [each for each in found.missing if "interface" not in each] == []


async def test_each_missing_right_is_named_with_the_key_that_helps(opened: Opened) -> None:
    azure = await opened(extra=agent_with("networkInterfaces/read"))
    found = await discover(azure.imds, azure.arm, Wanted())
    assert found.address == HERE
    words = "\n".join(found.missing)
    assert "the virtual network vnet1 is not known: the right Microsoft.Network/virtualNetworks/read" in words
    assert "grant Microsoft.Network/virtualNetworks/read, or set azure.route_server and azure.route_tables" in words
    assert not found.again

    azure = await opened(extra=agent_with("networkInterfaces/read", "virtualNetworks/read"))
    found = await discover(azure.imds, azure.arm, Wanted())
    words = "\n".join(found.missing)
    assert "the Route Server rs1 is not known: the right Microsoft.Network/virtualHubs/read" in words
    assert "the route table rt1 is not known: the right Microsoft.Network/routeTables/read" in words
    assert "or set azure.route_server" in words

    azure = await opened(
        extra=agent_with("networkInterfaces/read", "virtualNetworks/read", "virtualHubs/read", "routeTables/read")
    )
    found = await discover(azure.imds, azure.arm, Wanted())
    assert found.server is not None
    assert (found.connections, found.asn) == (None, None)
    (said,) = found.missing
    assert "grant Microsoft.Network/virtualHubs/bgpConnections/read, or set bgp.asn" in said


async def test_a_node_without_a_peering_says_so(azure: Azure) -> None:
    found = await discover(azure.imds, azure.arm, Wanted(address=parse_address("10.42.2.4")))
    words = "\n".join(found.missing)
    assert "rs1 has no bgpConnection for 10.42.2.4" in words
    assert "bgp.asn" in words
    assert "node.address 10.42.2.4 is none of this machine's, which are 10.42.1.4" in words
    assert (found.connection, found.asn) == (None, None)
    assert len(found.connections or ()) == 2


async def test_a_configured_asn_that_the_route_server_does_not_expect_is_noted(azure: Azure) -> None:
    found = await discover(azure.imds, azure.arm, Wanted(asn=64999))
    assert found.asn == 64999
    assert found.notes == ("bgp.asn is 64999, but the Route Server rs1 expects 64512 from 10.42.1.4",)


async def test_arm_that_does_not_answer_is_asked_again_and_nothing_is_guessed(azure: Azure) -> None:
    azure.fault(kind="answer", status=503, times=200)
    found = await discover(azure.imds, azure.arm, Wanted())
    assert found.again
    assert found.address == HERE  # IMDS tells it
    assert (found.server, found.tables, found.connections, found.asn) == (None, (), None, None)
    assert "asked again" in found.missing[0]


async def test_no_imds_and_yet_all_that_the_configuration_names(azure: Azure) -> None:
    async with Imds("http://127.0.0.1:9", timeout=0.5) as nobody:
        found = await discover(nobody, azure.arm, Wanted(HERE, SERVER, (TABLE,)))
    assert "not an Azure VM, or IMDS is blocked" in found.missing[0]
    assert "node.address, azure.route_server and azure.route_tables" in found.missing[0]
    assert (found.address, found.asn) == (HERE, 64512)
    assert [ids.name(each.id) for each in found.tables] == ["rt1"]


async def test_a_subnet_with_nodes_and_no_table_and_a_network_without_a_route_server_are_told(opened: Opened) -> None:
    bare = CONFIG[: CONFIG.index("route_server:")] + CONFIG[CONFIG.index("nics:") :]
    azure = await opened(config=bare.replace(", route_table: rt2", ""))
    found = await discover(azure.imds, azure.arm, Wanted())
    assert found.missing == (
        "the virtual network vnet1 has no Route Server: set azure.route_server, or bgp.peers",
        "the subnet others has no route table, so no fallback: associate one, or set azure.route_tables",
    )


async def test_a_route_server_that_is_being_built_has_no_addresses_yet(opened: Opened) -> None:
    bare = CONFIG[: CONFIG.index("route_server:")] + CONFIG[CONFIG.index("nics:") :]
    azure = await opened(timing="{preset: fast, route_server: 900}", config=bare)
    place = {"location": "westeurope"}
    await azure.arm.put(SERVER, place | {"properties": {"sku": "Standard"}})
    ip = f"{NETWORK}/publicIPAddresses/ip1"
    await azure.arm.put(ip, place | {"sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Static"}})
    subnet = {"id": f"{NETWORK}/virtualNetworks/vnet1/subnets/RouteServerSubnet"}
    body = {"properties": {"subnet": subnet, "publicIPAddress": {"id": ip}}}
    with pytest.raises(Exception, match="still runs"):
        await azure.arm.put(f"{SERVER}/ipConfigurations/Default", body, patience=0.3)
    found = await discover(azure.imds, azure.arm, Wanted())
    assert found.again
    assert "the addresses of the Route Server rs1 are not known yet (routingState Provisioning)" in found.missing[0]
    azure.twin.advance(1000)
    found = await discover(azure.imds, azure.arm, Wanted())
    assert found.server is not None
    assert len(found.server.addresses) == 2


@pytest.mark.parametrize("told", ["by the hub's subnet", "by the list"])
async def test_a_spoke_finds_the_route_server_of_the_network_whose_gateway_it_uses(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    hub = """
- name: hub
  address_space: [10.50.0.0/16]
  subnets: [{name: RouteServerSubnet, prefix: 10.50.0.0/26}]
  peerings: [{name: to-spoke, remote: vnet1, allow_gateway_transit: true}]
"""
    config = CONFIG.replace("\nroute_tables:", hub + "route_tables:").replace(
        "- {name: databases, prefix: 10.42.3.0/24}",
        "- {name: databases, prefix: 10.42.3.0/24}\n"
        "  peerings: [{name: to-hub, remote: hub, use_remote_gateways: true}]",
    )
    config = config.replace("virtual_network: vnet1", "virtual_network: hub")
    azure = await opened(config=config)
    if told == "by the list":
        monkeypatch.setattr(peering, "_in_subnet", lambda _: None)  # a subnet that does not name its occupant
    else:
        azure.fault(kind="answer", status=403, method="GET", path="*/virtualhubs", times=2)
    found = await discover(azure.imds, azure.arm, Wanted())
    assert found.missing == ()
    assert found.server is not None
    assert found.server.addresses == tuple(map(parse_address, ("10.50.0.4", "10.50.0.5")))


async def test_of_several_addresses_the_one_with_a_peering_is_taken_and_that_is_said(azure: Azure) -> None:
    nic = f"{NETWORK}/networkInterfaces/nic-a"
    subnet = {"id": f"{NETWORK}/virtualNetworks/vnet1/subnets/nodes"}
    addresses = [("one", "10.42.1.20", True), ("two", "10.42.1.4", False)]
    body = {
        "location": "westeurope",
        "properties": {
            "enableIPForwarding": True,
            "ipConfigurations": [
                {"name": name, "properties": {"subnet": subnet, "privateIPAddress": address, "primary": primary}}
                for name, address, primary in addresses
            ],
        },
    }
    await azure.arm.put(nic, body)
    found = await discover(azure.imds, azure.arm, Wanted())
    assert found.address == HERE
    (said,) = found.notes
    assert "10.42.1.4 is taken (the Route Server has a bgpConnection for it), not 10.42.1.20" in said
    assert "node.address" in said
    await azure.arm.delete(f"{SERVER}/bgpConnections/a")
    found = await discover(azure.imds, azure.arm, Wanted())
    assert found.address == parse_address("10.42.1.20")
    assert "primary interface's primary address" in found.notes[0]


async def test_a_configured_resource_that_does_not_exist_is_told_with_its_key(azure: Azure) -> None:
    nowhere = Wanted(
        route_server=ResourceId(f"{NETWORK}/virtualHubs/nowhere"),
        route_tables=(ResourceId(f"{NETWORK}/routeTables/nowhere"),),
    )
    found = await discover(azure.imds, azure.arm, nowhere)
    words = "\n".join(found.missing)
    assert "correct azure.route_server" in words
    assert "correct azure.route_tables" in words
    assert found.tables == ()
