"""The network's own answers, from a Route Server of two real BIRDs and a fabric of namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bgp_agent.cloud import resources
from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.asking import Wanted
from bgp_agent.cloud.clouds import cloud
from bgp_agent.cloud.credentials import Credential
from bgp_agent.cloud.discovery import discover
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.imds import Imds
from bgp_agent.core.prefix import Prefix, parse_address, parse_prefix
from tests.azure.agent.conftest import NETWORK, SERVER, TABLE
from tests.azure.twin.lab.cloud import Cloud

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

BLOCK, HERE, THERE = parse_prefix("192.168.1.0/26"), parse_address("10.42.1.4"), parse_address("10.42.1.5")
NIC_B, NIC_C = (ResourceId(f"{NETWORK}/networkInterfaces/{name}") for name in "bc")


@pytest.fixture
def fabric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9")  # put back afterwards
    made = Cloud(tmp_path)
    yield made
    made.close()


async def rows(arm: Arm, nic: ResourceId, prefix: Prefix) -> list[tuple[str, bool]]:
    return [(each.source, each.active) for each in await resources.effective_routes(arm, nic) if each.prefix == prefix]


async def test_what_each_instance_took_and_what_each_interface_follows(fabric: Cloud) -> None:
    fabric.bird("a", ["192.168.1.0/26"])
    for index in (0, 1):
        fabric.until("it has the route", lambda index=index: fabric.holds(index))  # type: ignore[misc]  # bound now
    chosen = cloud(None, fabric.url)
    async with Imds(fabric.url) as imds, Arm(chosen, Credential(chosen, fabric.url), allow_http=True) as arm:
        found = await discover(imds, arm, Wanted())
        assert (found.address, found.asn) == (HERE, 64512)
        assert found.connection is not None
        learned = await resources.learned_routes(arm, found.connection.id)
        assert {
            name: [(each.prefix, each.next_hop, each.as_path) for each in got] for name, got in learned.items()
        } == {name: [(BLOCK, HERE, (64512,))] for name in ("RouteServiceRole_IN_0", "RouteServiceRole_IN_1")}
        other = await resources.learned_routes(arm, ResourceId(f"{SERVER}/bgpConnections/b"))
        assert set(map(len, other.values())) == {0}
        assert await rows(arm, NIC_B, BLOCK) == [("VirtualNetworkGateway", True)]
        await resources.put_route(arm, TABLE, "r1", BLOCK, THERE)  # in rt1, which c's subnet does not have
        fabric.settled()
        assert sorted(await rows(arm, NIC_B, BLOCK)) == [("User", True), ("VirtualNetworkGateway", False)]
        assert await rows(arm, NIC_C, BLOCK) == [("VirtualNetworkGateway", True)]
