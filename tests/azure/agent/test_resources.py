"""Azure's network, read and written through the twin."""

from __future__ import annotations

import asyncio

import pytest

from bgp_agent.cloud import resources
from bgp_agent.cloud.errors import Busy, Changed, Conflict, Denied, NotFound, Throttled, Trouble
from bgp_agent.cloud.ids import ResourceId, same
from bgp_agent.core.prefix import parse_address, parse_prefix
from tests.azure.agent.conftest import CONFIG, NETWORK, SERVER, SUBSCRIPTION, TABLE, Azure, Opened

BLOCK = parse_prefix("192.168.1.0/26")
OTHER = parse_prefix("192.168.1.64/26")
HERE, THERE = parse_address("10.42.1.4"), parse_address("10.42.1.5")


async def test_a_route_is_written_moved_and_deleted_by_its_name(azure: Azure) -> None:
    await resources.put_route(azure.arm, TABLE, "r1", BLOCK, HERE)
    await resources.put_route(azure.arm, TABLE, "r2", OTHER, HERE)
    await resources.put_route(azure.arm, TABLE, "r1", BLOCK, THERE)
    table = await resources.read_table(azure.arm, TABLE)
    found = {each.name: (each.prefix, each.hop_type, each.next_hops, each.state) for each in table.routes}
    assert found == {
        "r1": (BLOCK, "VirtualAppliance", (THERE,), "Succeeded"),
        "r2": (OTHER, "VirtualAppliance", (HERE,), "Succeeded"),
    }
    assert table.propagates
    assert [each.rpartition("/")[2] for each in table.subnets] == ["nodes"]
    await resources.delete_route(azure.arm, TABLE, "r1")
    await resources.delete_route(azure.arm, TABLE, "r1")
    assert [each.name for each in (await resources.read_table(azure.arm, TABLE)).routes] == ["r2"]


async def test_a_write_with_an_old_etag_is_refused_and_changes_nothing(azure: Azure) -> None:
    await resources.put_route(azure.arm, TABLE, "r1", BLOCK, THERE)
    old = (await resources.read_table(azure.arm, TABLE)).etag
    await resources.put_route(azure.arm, TABLE, "r1", BLOCK, HERE, if_match=old)
    with pytest.raises(Changed, match="PreconditionFailed"):
        await resources.put_route(azure.arm, TABLE, "r1", BLOCK, THERE, if_match=old)
    with pytest.raises(Changed):
        await resources.delete_route(azure.arm, TABLE, "r1", if_match=old)
    table = await resources.read_table(azure.arm, TABLE)
    assert table.routes[0].next_hops == (HERE,)
    await resources.delete_route(azure.arm, TABLE, "r1", if_match=table.etag)


async def test_a_strangers_route_for_our_prefix_is_a_conflict_with_azures_code(azure: Azure) -> None:
    await resources.put_route(azure.arm, TABLE, "theirs", BLOCK, THERE)
    with pytest.raises(Conflict, match="theirs") as caught:
        await resources.put_route(azure.arm, TABLE, "ours", BLOCK, HERE)
    assert caught.value.code == "RouteConflict"


async def test_a_full_table_is_a_conflict_and_usages_tell_the_limit_before(opened: Opened) -> None:
    azure = await opened(config=CONFIG.replace("imds_per_second: 0", "imds_per_second: 0, routes_per_table: 1"))
    usage = await resources.routes_per_table(azure.arm, SUBSCRIPTION, "westeurope")
    assert usage is not None
    assert (usage.used, usage.limit) == (0, 1)
    await resources.put_route(azure.arm, TABLE, "r1", BLOCK, HERE)
    with pytest.raises(Conflict) as caught:
        await resources.put_route(azure.arm, TABLE, "r2", OTHER, HERE)
    assert caught.value.code == "RouteTableRoutesLimitReached"


async def test_a_table_that_is_gone_is_not_found_and_one_that_cannot_be_read_is_trouble(azure: Azure) -> None:
    with pytest.raises(NotFound, match="routeTables/nowhere"):
        await resources.read_table(azure.arm, ResourceId(f"{NETWORK}/routeTables/nowhere"))
    azure.fault(kind="answer", status=503, times=3, method="GET", path="*/routetables/*")
    with pytest.raises(Trouble, match="503"):
        await resources.read_table(azure.arm, TABLE)


async def test_a_short_5xx_is_not_even_noticed(azure: Azure) -> None:
    azure.fault(kind="answer", status=503, times=2, method="GET", path="*/routetables/*")
    assert (await resources.read_table(azure.arm, TABLE)).routes == ()
    azure.fault(kind="close", times=2, method="PUT", path="*/routes/*")
    await resources.put_route(azure.arm, TABLE, "r1", BLOCK, HERE)


async def test_an_operation_is_waited_for_and_a_second_writer_hears_when_to_come_back(opened: Opened) -> None:
    azure = await opened(timing="{preset: fast, route: 0.6, query: 0.2}")
    began = asyncio.get_running_loop().time()
    first = asyncio.create_task(resources.put_route(azure.arm, TABLE, "r1", BLOCK, HERE))
    while not azure.twin.arm.operations.running():  # noqa: ASYNC110  # the twin has no event for it
        await asyncio.sleep(0.01)
    with pytest.raises(Busy, match="is updating resource") as caught:
        await resources.put_route(azure.arm, TABLE, "r2", OTHER, HERE)
    assert caught.value.retry_after == 11.0
    await first
    assert asyncio.get_running_loop().time() - began >= 0.6
    assert (await resources.read_table(azure.arm, TABLE)).routes[0].state == "Succeeded"
    assert list(await resources.learned_routes(azure.arm, ResourceId(f"{SERVER}/bgpConnections/a"))) == [
        "RouteServiceRole_IN_0",
        "RouteServiceRole_IN_1",
    ]


async def test_an_operation_that_outlasts_our_patience_is_busy_and_polls_that_fail_do_not_end_it(
    opened: Opened,
) -> None:
    azure = await opened(timing="{preset: fast, route: 1.0}")
    path = f"{TABLE}/routes/r1"
    body = {"properties": {"addressPrefix": "192.168.1.0/26", "nextHopType": "None"}}
    with pytest.raises(Busy, match="still runs"):
        await azure.arm.put(path, body, patience=0.3)
    azure.twin.advance(10)
    azure.fault(kind="answer", status=500, times=6, method="GET", path="*/operations/*")
    await resources.delete_route(azure.arm, TABLE, "r1")
    assert (await resources.read_table(azure.arm, TABLE)).routes == ()


async def test_an_operation_that_fails_raises_what_it_failed_with(opened: Opened) -> None:
    azure = await opened(timing="{preset: fast, route: 0.2}")
    azure.fault(kind="fail", method="PUT", path="*/routes/r1", code="SomethingOdd", message="why")
    with pytest.raises(Conflict, match="why") as caught:
        await resources.put_route(azure.arm, TABLE, "r1", BLOCK, HERE)
    assert caught.value.code == "SomethingOdd"
    assert (await resources.read_table(azure.arm, TABLE)).routes[0].state == "Failed"
    azure.fault(kind="fail", method="PUT", path="*/routes/r1")
    with pytest.raises(Trouble, match="InternalServerError"):
        await resources.put_route(azure.arm, TABLE, "r1", BLOCK, HERE)


async def test_a_quota_that_is_used_up_is_left_alone_for_as_long_as_azure_asks(azure: Azure) -> None:
    await resources.read_table(azure.arm, TABLE)
    azure.fault(kind="answer", status=429, retry_after=30, method="GET", path="*/routetables/*")
    with pytest.raises(Throttled) as caught:
        await resources.read_table(azure.arm, TABLE)
    assert caught.value.retry_after == 30.0
    with pytest.raises(Throttled, match="not sent") as caught:
        await resources.read_table(azure.arm, TABLE)
    assert 29 < caught.value.retry_after <= 30
    await resources.delete_route(azure.arm, TABLE, "none")  # deletes have a quota of their own


async def test_a_missing_right_is_named(opened: Opened) -> None:
    azure = await opened(
        extra="identities: [{name: agent, client_id: c1, object_id: d1, roles: [{actions: "
        "['Microsoft.Network/routeTables/read'], scope: /subscriptions/00000000-0000-0000-0000-000000000001}]}]\n"
    )
    await resources.read_table(azure.arm, TABLE)
    with pytest.raises(Denied) as caught:
        await resources.put_route(azure.arm, TABLE, "r1", BLOCK, HERE)
    assert caught.value.action == "Microsoft.Network/routeTables/routes/write"
    assert same(caught.value.scope, f"{TABLE}/routes/r1")


async def test_the_route_server_and_its_peers_are_read(azure: Azure) -> None:
    (server,) = await resources.list_servers(azure.arm, SUBSCRIPTION)
    assert server == await resources.read_server(azure.arm, SERVER)
    assert (server.asn, server.routing) == (65515, "Provisioned")
    assert server.addresses == (parse_address("10.42.0.4"), parse_address("10.42.0.5"))
    assert await resources.server_subnets(azure.arm, SERVER) == [
        f"{NETWORK}/virtualNetworks/vnet1/subnets/RouteServerSubnet"
    ]
    found = {each.name: (each.address, each.asn) for each in await resources.list_connections(azure.arm, SERVER)}
    assert found == {"a": (HERE, 64512), "b": (THERE, 64513)}


async def test_a_bgp_connection_is_written_only_on_a_difference_and_keeps_what_others_put_in_it(azure: Azure) -> None:
    address = parse_address("10.42.2.4")
    route_map = {"inboundRouteMap": {"id": f"{SERVER}/routeMaps/m1"}}
    assert await resources.put_connection(azure.arm, SERVER, "bgp-agent-c", address, 64514)
    assert not await resources.put_connection(azure.arm, SERVER, "bgp-agent-c", address, 64514)
    path = f"{SERVER}/bgpConnections/bgp-agent-c"
    body = {"properties": {"peerIp": "10.42.2.4", "peerAsn": 64514, "routingConfiguration": route_map}}
    await azure.arm.put(path, body, version=resources.PEERING_VERSION)
    assert await resources.put_connection(azure.arm, SERVER, "bgp-agent-c", address, 64515)
    held = azure.twin.arm.store.get(path)
    assert held is not None
    assert held.properties == {"peerIp": "10.42.2.4", "peerAsn": 64515, "routingConfiguration": route_map}
    await resources.delete_connection(azure.arm, SERVER, "bgp-agent-c")
    assert len(await resources.list_connections(azure.arm, SERVER)) == 2


async def test_a_bgp_connection_that_a_race_left_failed_is_written_again(opened: Opened) -> None:
    azure = await opened(timing="{preset: fast, bgp_connection: 0.3}")
    azure.fault(kind="fail", method="PUT", path="*/bgpconnections/x")
    address = parse_address("10.42.2.4")
    with pytest.raises(Trouble):
        await resources.put_connection(azure.arm, SERVER, "x", address, 64514)
    assert await resources.put_connection(azure.arm, SERVER, "x", address, 64514)
    states = {each.name: each.state for each in await resources.list_connections(azure.arm, SERVER)}
    assert states["x"] == "Succeeded"


async def test_interfaces_and_networks_are_read(azure: Azure) -> None:
    group = ResourceId(f"{SUBSCRIPTION}/resourceGroups/rg1")
    nics = {each.id.rpartition("/")[2]: each for each in await resources.list_nics(azure.arm, group)}
    assert nics["nic-a"].forwarding
    assert nics["nic-a"].addresses == (HERE,)
    assert nics["nic-a"].mac == "000D3A2A0104"
    assert str(nics["nic-a"].machine).endswith("/virtualMachines/a")
    assert nics["nic-a"] == await resources.read_nic(azure.arm, nics["nic-a"].id)
    network = await resources.read_network(azure.arm, ResourceId(f"{NETWORK}/virtualNetworks/vnet1"))
    assert network.space == (parse_prefix("10.42.0.0/16"),)
    tables = {each.id.rpartition("/")[2]: (each.route_table or "").rpartition("/")[2] for each in network.subnets}
    assert tables == {"RouteServerSubnet": "", "nodes": "rt1", "others": "rt2", "databases": ""}
    with pytest.raises(NotFound):
        await resources.read_nic(azure.arm, ResourceId(f"{NETWORK}/networkInterfaces/none"))


async def test_no_name_leads_out_of_the_table(azure: Azure) -> None:
    for name in ("../rt2/routes/r1", "a/b", "", "a?x=1", "r1/", "é", "a" * 81):
        with pytest.raises(ValueError, match="name that Azure takes"):
            await resources.delete_route(azure.arm, TABLE, name)
