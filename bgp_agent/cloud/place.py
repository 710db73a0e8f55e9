"""Which of a machine's interfaces and addresses is the node's. Values in, values out.

``node.address`` wins. Else, of several addresses, the one that the Route Server has a peer for: somebody meant it. Else
the primary address of the primary interface, as Azure and Kubernetes do. IMDS gives interfaces in no order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bgp_agent.cloud import ids
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.imds import Instance
from bgp_agent.cloud.values import BgpConnection, Nic
from bgp_agent.core.prefix import Address, Family, address_text, family_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where the node is. ``interface``: the one with the address, or the primary one; None where ARM does not tell."""

    address: Address | None
    address6: Address | None
    interface: Nic | None
    subnet: ResourceId | None
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def place(
    instance: Instance | None, nics: Iterable[Nic], wanted: Address | None, connections: Iterable[BgpConnection]
) -> Place:
    """Choose, and say what was chosen where there was a choice."""
    own = own_interfaces(instance, nics)
    addresses = _addresses(instance, own)
    missing: list[str] = []
    if not addresses and wanted is None:
        if instance is not None:
            missing.append("the node's address is not known: IMDS names no private address: set node.address")
        return Place(None, None, None, None, tuple(missing))
    four = [each for each in addresses if family_of(each) is Family.IPV4]
    peers = {each.address for each in connections}
    chosen, why = wanted, "node.address"
    if chosen is None:
        peered = [each for each in four if each in peers]
        chosen = (peered or four or addresses)[0]
        why = "the first that IMDS names"
        if peered:
            why = "the Route Server has a bgpConnection for it"
        elif own:
            why = "the primary interface's primary address"
    notes = []
    if len(four) > 1:
        others = ", ".join(address_text(each) for each in four if each != chosen)
        notes.append(
            f"of several addresses {address_text(chosen)} is taken ({why}), not {others}: node.address chooses"
        )
    if addresses and chosen not in addresses:
        known = ", ".join(address_text(each) for each in addresses)
        missing.append(f"node.address {address_text(chosen)} is none of this machine's, which are {known}: correct it")
    interface = next((each for each in own if chosen in each.addresses), None)
    if own and interface is None:
        interface = own[0]
    return Place(chosen, _six(instance, interface), interface, _subnet(interface, chosen), tuple(missing), tuple(notes))


def own_interfaces(instance: Instance | None, nics: Iterable[Nic]) -> list[Nic]:
    """Those of the machine, the primary one first: by the machine's ID, or by MAC."""
    if instance is None:
        return []
    macs = {each.mac for each in instance.interfaces if each.mac}
    found = [each for each in nics if ids.same(each.machine, instance.resource_id) or each.mac in macs]
    return sorted(found, key=lambda each: not each.primary)


def _addresses(instance: Instance | None, own: list[Nic]) -> list[Address]:
    """All, the best first: as ARM orders them, then what only IMDS knows."""
    found = [each for nic in own for each in nic.addresses]
    if instance is not None:
        found += [each for one in instance.interfaces for each in one.addresses]
    return list(dict.fromkeys(found))


def _six(instance: Instance | None, interface: Nic | None) -> Address | None:
    """The IPv6 address of the same interface."""
    if interface is not None:
        found = list(interface.addresses)
    else:
        found = [each for one in (instance.interfaces[:1] if instance else ()) for each in one.addresses]
    return next((each for each in found if family_of(each) is Family.IPV6), None)


def _subnet(interface: Nic | None, address: Address) -> ResourceId | None:
    if interface is None:
        return None
    ordered = sorted(interface.configurations, key=lambda each: each.address != address)
    return next((each.subnet for each in ordered if each.subnet is not None), None)
