"""Which address is the node's: several interfaces, several addresses, and ARM that says nothing."""

from __future__ import annotations

from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.imds import Instance, Interface
from bgp_agent.cloud.place import own_interfaces, place
from bgp_agent.cloud.values import BgpConnection, IpConfiguration, Nic
from bgp_agent.core.prefix import Address, parse_address

MACHINE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/n"
FIRST, SECOND, THIRD = (parse_address(f"10.0.{each}.4") for each in range(3))
SIX = parse_address("fd00::4")


def subnet(number: int) -> ResourceId:
    return ResourceId(
        f"/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/{number}"
    )


def nic(number: int, *addresses: Address, primary: bool = False, machine: str = MACHINE, mac: str = "") -> Nic:
    configurations = tuple(IpConfiguration(each, subnet(number), at == 0) for at, each in enumerate(addresses))
    name = ResourceId(f"/subscriptions/s/networkInterfaces/{number}")
    return Nic(name, True, configurations, None, mac, ResourceId(machine), primary)  # noqa: FBT003  # as ARM has it


def instance(*interfaces: Interface) -> Instance:
    return Instance("s", "g", "n", MACHINE.upper(), "AzurePublicCloud", "westeurope", interfaces)


def connection(address: Address) -> BgpConnection:
    return BgpConnection(ResourceId("/subscriptions/s/bgpConnections/c"), "c", address, 64512, "Succeeded")


ALL = instance(Interface("B", (SECOND,)), Interface("A", (FIRST, SIX)))


def test_one_address_needs_no_words() -> None:
    found = place(instance(Interface("A", (FIRST,))), [nic(0, FIRST)], None, ())
    assert (found.address, found.subnet, found.missing, found.notes) == (FIRST, subnet(0), (), ())


def test_the_primary_interface_goes_first_whatever_the_order_of_imds() -> None:
    found = place(ALL, [nic(1, SECOND), nic(0, FIRST, SIX, primary=True)], None, ())
    assert (found.address, found.address6, found.subnet) == (FIRST, SIX, subnet(0))
    assert "primary interface's primary address" in found.notes[0]


def test_node_address_wins_and_its_own_interface_comes_with_it() -> None:
    nics = [nic(1, SECOND), nic(0, FIRST, SIX, primary=True)]
    found = place(ALL, nics, SECOND, [connection(FIRST)])
    assert (found.address, found.address6, found.interface, found.subnet) == (SECOND, None, nics[0], subnet(1))
    assert "10.0.1.4 is taken (node.address), not 10.0.0.4" in found.notes[0]


def test_a_peering_says_which_address_is_meant() -> None:
    found = place(ALL, [nic(1, SECOND), nic(0, FIRST, primary=True)], None, [connection(SECOND)])
    assert (found.address, found.subnet) == (SECOND, subnet(1))


def test_an_address_that_this_machine_does_not_have_is_kept_and_doubted() -> None:
    found = place(ALL, [nic(0, FIRST, primary=True)], THIRD, ())
    assert found.address == THIRD
    assert "node.address 10.0.2.4 is none of this machine's" in found.missing[0]


def test_without_arm_imds_is_believed_and_the_choice_is_not_called_primary() -> None:
    found = place(ALL, [], None, ())
    assert (found.address, found.interface, found.subnet) == (SECOND, None, None)
    assert "the first that IMDS names" in found.notes[0]


def test_without_anything_only_the_configuration_is_left() -> None:
    assert place(None, [], THIRD, ()).address == THIRD
    assert place(None, [], None, ()).missing == ()  # that IMDS is silent was said already
    assert "set node.address" in place(instance(), [], None, ()).missing[0]


def test_the_machines_interfaces_are_known_by_its_id_or_by_mac_and_no_other_is_taken() -> None:
    stranger = nic(5, FIRST, machine="/subscriptions/s/x", mac="C")
    by_mac = nic(6, SECOND, machine="/subscriptions/s/x", mac="A")
    by_id = nic(7, THIRD)
    assert own_interfaces(ALL, [stranger, by_mac, by_id]) == [by_mac, by_id]
    assert own_interfaces(instance(Interface("", ())), [nic(5, FIRST, machine="/subscriptions/s/x")]) == []
