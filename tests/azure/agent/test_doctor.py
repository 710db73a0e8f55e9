"""`bgp-agent doctor` on Azure: what is wrong is named, with the command that helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bgp_agent.cli.answers import Status
from bgp_agent.cloud import resources
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.config import Config, Loaded
from bgp_agent.core.cloudtable import name_of
from bgp_agent.core.prefix import parse_address, parse_prefix
from bgp_agent.core.proof import Effective, Learned, Row
from bgp_agent.doctor import azure as judging
from bgp_agent.doctor import checks
from bgp_agent.doctor.checks import Context
from bgp_agent.doctor.cloud import NOBODY, Facts
from bgp_agent.doctor.examination import _with_cloud
from bgp_agent.doctor.findings import Finding, Verdict
from bgp_agent.doctor.groups import Group, Rule
from bgp_agent.doctor.machine import Machine
from bgp_agent.web import encode
from tests.azure.agent.conftest import CONFIG, NETWORK, TABLE, Azure, Opened
from tests.azure.agent.test_discovery import agent_with
from tests.unit.web.memory import example_status

OK, WARN, FAIL, SKIP = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.SKIP
BLOCK = parse_prefix("192.168.1.0/26")
HERE, THERE = parse_address("10.42.1.4"), parse_address("10.42.1.5")
READS = (
    "networkInterfaces/read", "virtualNetworks/read", "virtualHubs/read", "virtualHubs/bgpConnections/read",
    "routeTables/read",
)  # fmt: skip


def status() -> Status:
    """A running agent that announces 192.168.1.0/26 to both peers."""
    return msgspec.json.decode(msgspec.json.encode(encode.status(example_status(), [])), type=Status)


def context_of(azure: Azure, folder: Path, section: dict[str, Any] | None = None, **more: Any) -> Context:  # noqa: ANN401
    asked = {"arm_url": azure.url, "imds_url": azure.url, "allow_http": True, **(section or {})}
    values = {"azure": asked, "node": {"name": "a"}, "pools": ["192.168.0.0/16"], "state_dir": str(folder), **more}
    return Context(Machine(), Loaded(Config.model_validate(values), folder / "config.yaml"), status=status())


async def examined(context: Context) -> Context:
    return await _with_cloud(context)


async def findings(context: Context) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for one in await checks.cloud(await examined(context)):
        assert one.remedy or one.verdict in {OK, SKIP}, one
        found.setdefault(one.check, []).append(one)
    return found


def judged(facts: Facts, context: Context, check: str) -> Finding:
    (found,) = [one for one in judging.judge(context, facts) if one.check == check]
    return found


async def test_a_healthy_node_has_nothing_to_mend(azure: Azure, tmp_path: Path) -> None:
    found = await findings(context_of(azure, tmp_path))
    bad = [one for several in found.values() for one in several if one.verdict in {WARN, FAIL}]
    assert {one.check for one in bad} <= {"azure effective routes", "azure learned routes"}  # this twin has no fabric
    assert {name for name, (one, *_) in found.items() if one.verdict is OK} >= {
        "azure imds", "azure identity", "azure rights", "azure route server", "azure peering", "azure forwarding",
        "azure tables", "azure table rt1", "azure table rt2", "azure address space",
    }  # fmt: skip


async def test_asking_for_rights_changes_nothing(azure: Azure, tmp_path: Path) -> None:
    before = await resources.read_table(azure.arm, TABLE)
    await findings(context_of(azure, tmp_path))
    after = await resources.read_table(azure.arm, TABLE)
    assert (after.etag, after.routes) == (before.etag, before.routes)
    assert NOBODY not in {each.name for each in after.routes}


async def test_each_missing_right_has_the_command_that_grants_it(opened: Opened, tmp_path: Path) -> None:
    azure = await opened(extra=agent_with(*READS))
    rights = {one.seen.split()[0]: one for one in (await findings(context_of(azure, tmp_path)))["azure rights"]}
    prefix = "Microsoft.Network/"
    assert {name: one.verdict for name, one in rights.items()} == {
        f"{prefix}routeTables/routes/write": FAIL,
        f"{prefix}routeTables/routes/delete": FAIL,
        f"{prefix}networkInterfaces/effectiveRouteTable/action": WARN,
        f"{prefix}virtualHubs/bgpConnections/learnedRoutes/action": WARN,
        f"{prefix}locations/usages/read": WARN,
    }
    write = rights[f"{prefix}routeTables/routes/write"].remedy
    assert write.startswith("az role assignment create --assignee-object-id d1 ")
    assert "--role 'Network Contributor' --scope /subscriptions/" in write
    assert "--role 'Reader'" in rights[f"{prefix}locations/usages/read"].remedy


async def test_a_right_that_is_missing_to_find_things_is_told_too(opened: Opened, tmp_path: Path) -> None:
    azure = await opened(extra=agent_with("networkInterfaces/read"))
    found = await findings(context_of(azure, tmp_path))
    assert any("virtualNetworks/read" in one.seen and one.verdict is FAIL for one in found["azure rights"])
    assert found["azure tables"][0].verdict is FAIL


async def test_without_metadata_and_identity_the_rest_is_not_guessed(azure: Azure, tmp_path: Path) -> None:
    found = await findings(context_of(azure, tmp_path, {"imds_url": "http://127.0.0.1:9"}))
    assert set(found) == {"azure imds", "azure identity"}
    assert found["azure identity"][0].verdict is FAIL
    assert found["azure identity"][0].remedy.startswith("az vm identity assign")
    assert "169.254.169.254" in found["azure imds"][0].remedy


async def test_peers_that_are_not_the_route_servers_are_named(azure: Azure, tmp_path: Path) -> None:
    peers = {"asn": 64512, "peers": [{"address": "10.42.0.4", "asn": 65515}]}
    (found,) = (await findings(context_of(azure, tmp_path, bgp=peers)))["azure route server"]
    assert found.verdict is FAIL
    assert "bgp.peers lacks 10.42.0.5" in found.seen
    peers["peers"] = [{"address": each, "asn": 65000} for each in ("10.42.0.4", "10.42.0.5")]
    (found,) = (await findings(context_of(azure, tmp_path, bgp=peers)))["azure route server"]
    assert (found.verdict, found.remedy) == (FAIL, "set asn: 65515 in bgp.peers, or leave bgp.peers out")


async def test_a_peering_with_another_as_number_or_none_at_all(opened: Opened, azure: Azure, tmp_path: Path) -> None:
    (found,) = (await findings(context_of(azure, tmp_path, bgp={"asn": 64999})))["azure peering"]
    assert (found.verdict, found.remedy) == (FAIL, "set bgp.asn: 64512, or leave it out")
    bare = await opened(config=CONFIG.replace("{name: a, address: 10.42.1.4, asn: 64512}, ", ""))
    (found,) = (await findings(context_of(bare, tmp_path, bgp={"asn": 64512})))["azure peering"]
    assert found.verdict is FAIL
    assert found.remedy == (
        "az network routeserver peering create -g rg1 --routeserver rs1 -n bgp-agent-a --peer-ip 10.42.1.4 "
        "--peer-asn 64512"
    )


async def test_a_route_server_with_as_many_peers_as_it_takes(opened: Opened, tmp_path: Path) -> None:
    others = ", ".join(f"{{name: n{n}, address: 10.42.1.{n}, asn: 64512}}" for n in range(20, 27))
    azure = await opened(config=CONFIG.replace("{name: a, address: 10.42.1.4, asn: 64512}", others))
    (found,) = (await findings(context_of(azure, tmp_path)))["azure peering"]
    assert found.verdict is WARN
    assert "lives by the route table" in found.seen


async def test_ip_forwarding_that_is_off_on_this_very_interface(opened: Opened, tmp_path: Path) -> None:
    azure = await opened(config=CONFIG.replace("address: 10.42.1.4, ip_forwarding: true", "address: 10.42.1.4"))
    (found,) = (await findings(context_of(azure, tmp_path)))["azure forwarding"]
    assert found.verdict is FAIL
    assert found.remedy == f"az network nic update --ids {NETWORK}/networkInterfaces/nic-a --ip-forwarding true"


async def test_a_subnet_with_nodes_that_uses_no_route_table(opened: Opened, tmp_path: Path) -> None:
    azure = await opened(config=CONFIG.replace(", route_table: rt2", ""))
    (found,) = (await findings(context_of(azure, tmp_path)))["azure tables"]
    assert (found.verdict, "subnet others has nodes" in found.seen) == (FAIL, True)
    assert found.remedy == (
        f"az network vnet subnet update --ids {NETWORK}/virtualNetworks/vnet1/subnets/others --route-table {TABLE}"
    )


async def test_propagation_that_is_switched_off(azure: Azure, tmp_path: Path) -> None:
    body = {"location": "westeurope", "properties": {"disableBgpRoutePropagation": True, "routes": []}}
    await azure.arm.put(TABLE, body)
    found = (await findings(context_of(azure, tmp_path)))["azure table rt1"]
    assert found[0].verdict is FAIL
    assert found[0].remedy == f"az network route-table update --ids {TABLE} --disable-bgp-route-propagation false"


async def test_a_strangers_route_for_our_block_and_the_route_controller(azure: Azure, tmp_path: Path) -> None:
    await resources.put_route(azure.arm, TABLE, "theirs", BLOCK, THERE)
    (found,) = (await findings(context_of(azure, tmp_path)))["azure table rt1"]
    assert (found.verdict, "somebody else holds 192.168.1.0/26" in found.seen) == (FAIL, True)
    assert found.remedy == f"az network route-table route delete --ids {TABLE}/routes/theirs"

    await resources.delete_route(azure.arm, TABLE, "theirs")
    await resources.put_route(azure.arm, TABLE, "a____1921682026", parse_prefix("10.244.0.0/24"), HERE)
    (found,) = (await findings(context_of(azure, tmp_path)))["azure table rt1"]
    assert (found.verdict, "route controller" in found.seen) == (FAIL, True)


async def test_a_table_that_is_nearly_full(opened: Opened, tmp_path: Path) -> None:
    limits = "{imds_per_second: 0, identity_per_second: 0"
    azure = await opened(config=CONFIG.replace(limits, f"{limits}, routes_per_table: 2"))
    await resources.put_route(azure.arm, TABLE, name_of(BLOCK), BLOCK, HERE)
    await resources.put_route(azure.arm, TABLE, "x", parse_prefix("172.16.0.0/16"), THERE)
    (found,) = (await findings(context_of(azure, tmp_path)))["azure table rt1"]
    assert (found.verdict, "2 of 2 routes" in found.seen) == (FAIL, True)
    assert "az network list-usages --location westeurope" in found.remedy


async def test_pods_inside_the_virtual_networks_own_space(azure: Azure, tmp_path: Path) -> None:
    (found,) = (await findings(context_of(azure, tmp_path, pools=["10.42.64.0/18"])))["azure address space"]
    assert (found.verdict, "10.42.64.0/18 meets" in found.seen) == (WARN, True)


async def test_what_azure_has_of_our_routes_is_compared_with_what_is_announced(azure: Azure, tmp_path: Path) -> None:
    context = await examined(context_of(azure, tmp_path))
    facts = context.cloud
    assert facts is not None

    def with_answers(row: Row | None, *instances: frozenset[Any]) -> Facts:
        learned = Learned(0.0, {f"IN_{n}": each for n, each in enumerate(instances)})
        effective = Effective(0.0, "nic-a", (row,) if row else ())
        return replace(facts, network=replace(facts.network, learned=learned, effective=effective))

    bgp = Row(BLOCK, "VirtualNetworkGateway", active=True, next_hops=(HERE,))
    has, lacks = frozenset({BLOCK}), frozenset[Any]()
    effective, learned = "azure effective routes", "azure learned routes"
    assert judged(with_answers(bgp, has, has), context, effective).verdict is OK
    assert judged(with_answers(bgp, has, has), context, learned).verdict is OK
    lost = judged(with_answers(None, has, lacks), context, effective)
    assert (lost.verdict, "show-effective-route-table" in lost.remedy) == (FAIL, True)
    half = judged(with_answers(bgp, has, lacks), context, learned)
    assert (half.verdict, "IN_1 has not learned 192.168.1.0/26" in half.seen) == (FAIL, True)
    assert judged(with_answers(bgp, has), context, learned).verdict is WARN
    assert judged(facts, replace(context, status=None), effective).verdict is SKIP


async def test_a_security_group_that_denies_the_pods_or_cannot_be_read(azure: Azure, tmp_path: Path) -> None:
    context = await examined(context_of(azure, tmp_path))
    assert context.cloud is not None
    group = ResourceId(f"{NETWORK}/networkSecurityGroups/nsg1")
    allow = Rule("out", 100, inbound=False, allow=True, whole=True, sources=("*",), destinations=("*",))
    deny = Rule("deny", 200, inbound=True, allow=False, whole=True, sources=("*",), destinations=("*",))
    facts = replace(context.cloud, groups=(Group(group, ("subnet nodes",), (allow, deny)),))
    found = judged(facts, context, "security group nsg1")
    assert (found.verdict, "inbound packets" in found.seen) == (FAIL, True)
    assert found.remedy.startswith("az network nsg rule create -g rg1 --nsg-name nsg1 -n pods-inbound ")
    unread = replace(facts, groups=(Group(group, ("subnet nodes",), None, "no right"),))
    assert judged(unread, context, "security group nsg1").verdict is SKIP


async def test_a_config_without_peers_is_examined_with_those_that_azure_names(azure: Azure, tmp_path: Path) -> None:
    context = await examined(context_of(azure, tmp_path))
    assert context.config is not None
    assert [each.address for each in context.config.bgp.peers] == ["10.42.0.4", "10.42.0.5"]
    assert (context.config.bgp.asn, context.config.node.address) == (64512, "10.42.1.4")


async def test_azure_that_answers_nothing_in_time_is_one_finding(
    azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bgp_agent.doctor.cloud.PATIENCE", 0.3)
    azure.fault(kind="hang", seconds=5.0, times=50)
    found = await findings(context_of(azure, tmp_path))
    assert [(one.check, one.verdict) for several in found.values() for one in several] == [("azure", FAIL)]
