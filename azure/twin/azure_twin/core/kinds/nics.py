"""Network interfaces: an address in a subnet, and whether foreign packets may pass (``enableIPForwarding``)."""

from __future__ import annotations

import copy
import ipaddress
from typing import Final, cast

from azure_twin.core import ids
from azure_twin.core.errors import Json, bad_request
from azure_twin.core.kinds.base import Kind, Put, World, address, in_use, network, referenced
from azure_twin.core.resources import Resource
from azure_twin.core.specs import HubIpConfigurationSpec, IpConfiguration, NicSpec, SubnetSpec

NIC: Final = "Microsoft.Network/networkInterfaces"
HUB_IP: Final = "Microsoft.Network/virtualHubs/ipConfigurations"
RESERVED_HEAD: Final = 4  # Azure keeps a subnet's first four addresses and the last


def taken(world: World, subnet_id: str, but: str = "") -> set[str]:
    """The addresses in use in a subnet; ``but`` is a NIC that does not count."""
    wanted = ids.key(subnet_id)
    found = {
        each.properties.private_ip_address
        for nic in world.store.of_kind(NIC)
        if nic.key != ids.key(but)
        for each in nic.spec(NicSpec).ip_configurations
        if each.properties.subnet is not None and ids.key(each.properties.subnet.id) == wanted
    }
    for hub in world.store.of_kind(HUB_IP):
        spec = hub.spec(HubIpConfigurationSpec)
        subnet = world.store.get(spec.subnet.id)
        if subnet is not None and subnet.key == wanted:
            base = ipaddress.ip_network(subnet.spec(SubnetSpec).prefix)
            found |= {str(base[4]), str(base[5])}
    return {each for each in found if each}


def check(world: World, put: Put) -> Json:
    """Every ipConfiguration in a subnet that exists, with an address of it that is free; dynamic ones get the next."""
    spec = put.spec
    assert isinstance(spec, NicSpec)  # noqa: S101  # the registry pairs them
    if not spec.ip_configurations:
        raise bad_request("NetworkInterfaceMustHaveIpConfiguration", f"{put.resource_id} has no IP configuration.")
    kept = copy.deepcopy(put.properties)
    bodies = cast("list[Json]", kept["ipConfigurations"])  # the shape was checked by the spec
    for body, each in zip(bodies, spec.ip_configurations, strict=True):
        chosen = _address(world, put, each)
        inner = cast("Json", body["properties"])
        inner.update({"privateIPAddress": chosen, "provisioningState": "Succeeded"})
        inner.setdefault("privateIPAllocationMethod", "Dynamic")
        inner.setdefault("privateIPAddressVersion", "IPv4")
        inner.setdefault("primary", each is spec.ip_configurations[0])
        body["id"] = f"{put.resource_id}/ipConfigurations/{each.name}"
    return kept


def _address(world: World, put: Put, each: IpConfiguration) -> str:
    if each.properties.subnet is None:
        raise bad_request("SubnetIdMissing", f"IP configuration {each.name} of {put.resource_id} has no subnet.")
    subnet = referenced(world, each.properties.subnet.id, put.resource_id, "PutSubnetOperation")
    prefix = network(subnet.spec(SubnetSpec).prefix, subnet.id)
    used = taken(world, subnet.id, but=put.resource_id)
    wanted = each.properties.private_ip_address
    if not wanted:
        for host in range(RESERVED_HEAD, prefix.num_addresses - 1):
            if str(prefix[host]) not in used:
                return str(prefix[host])
        raise bad_request("SubnetIsFull", f"Subnet {subnet.name} has no free address.")
    found = address(wanted, put.resource_id)
    if found not in prefix:
        raise bad_request(
            "PrivateIPAddressNotInSubnet",
            f"Private static IP address {wanted} does not belong to the range of subnet prefix {prefix}.",
        )
    offset = int(found) - int(prefix.network_address)
    if offset < RESERVED_HEAD or offset == prefix.num_addresses - 1:
        raise bad_request(
            "PrivateIPAddressInReservedRange",
            f"Private static IP address {wanted} falls within reserved IP range of subnet {prefix}.",
        )
    if wanted in used:
        raise bad_request(
            "PrivateIPAddressIsAllocated",
            f"IP configuration {each.name} is using the private IP address {wanted} which is already allocated.",
        )
    return str(found)


def vm_of(world: World, nic: Resource) -> str | None:
    """The VM that has this NIC, by the YAML file."""
    return next((vm for vm, name in world.settings.vm_nics.items() if name.lower() == nic.name.lower()), None)


def show(world: World, nic: Resource) -> Json:
    """``virtualMachine`` and the MAC address, when there is a VM."""
    shown: Json = {"enableIPForwarding": nic.spec(NicSpec).enable_ip_forwarding}
    vm = vm_of(world, nic)
    if vm is not None:
        group = nic.id.split("/providers/", 1)[0]
        shown["virtualMachine"] = {"id": f"{group}/providers/Microsoft.Compute/virtualMachines/{vm}"}
        shown["macAddress"] = "-".join(mac(nic)[at : at + 2] for at in range(0, 12, 2))
    return shown


def mac(nic: Resource) -> str:
    """A MAC address in Azure's range, of the NIC's first address (IMDS writes it without separators)."""
    first = nic.spec(NicSpec).ip_configurations[0].properties.private_ip_address or "0.0.0.0"  # noqa: S104  # no bind
    return f"000D3A{int(ipaddress.IPv4Address(first)) & 0xFFFFFF:06X}"


def check_delete(world: World, nic: Resource) -> None:
    """A NIC of a VM stays."""
    vm = vm_of(world, nic)
    if vm is not None:
        raise in_use("NicInUse", f"Network Interface {nic.id}", [vm])


def _joins(put: Put) -> list[tuple[str, str]]:
    spec = put.spec
    assert isinstance(spec, NicSpec)  # noqa: S101  # the registry pairs them
    return [
        ("Microsoft.Network/virtualNetworks/subnets/join/action", each.properties.subnet.id)
        for each in spec.ip_configurations
        if each.properties.subnet is not None
    ]


KINDS: Final = (
    Kind(
        NIC,
        "NetworkInterface",
        NicSpec,
        check,
        show,
        check_delete,
        _joins,
        seconds=lambda timing: timing.network_interface,
        effect=lambda timing: timing.nic_effect,
        read_only=frozenset({"provisioningState", "resourceGuid", "virtualMachine", "macAddress"}),
    ),
)
