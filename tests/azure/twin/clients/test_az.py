"""The real `az`, from group to role assignment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.azure.twin.lab.cloud import Cloud

pytestmark = [pytest.mark.netns, pytest.mark.xdist_group("azure-cli"), pytest.mark.timeout(900)]

ACTIONS = {
    "Name": "bgp-agent",
    "Description": "d",
    "Actions": ["Microsoft.Network/routeTables/read"],
    "AssignableScopes": ["/subscriptions/00000000-0000-0000-0000-000000000001"],
}


def test_az_runs_the_whole_list_of_a_deployment(https_cloud: Cloud, clients: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "REQUESTS_CA_BUNDLE": str(tmp_path / "cert.pem"),
        "AZURE_CONFIG_DIR": str(tmp_path / "azure"),
        "AZURE_CORE_COLLECT_TELEMETRY": "no",
        "NO_PROXY": "*",
        "AZURE_CORE_NO_COLOR": "yes",
    }
    assert https_cloud.url

    def az(words: str, *more: str) -> Any:  # noqa: ANN401  # JSON of any shape
        done = subprocess.run(
            [clients / "bin" / "az", *words.split(), *more, "-o", "json"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr[-2000:])
        return json.loads(done.stdout) if done.stdout.strip() else None

    az("cloud register -n Twin --endpoint-resource-manager https://127.0.0.1:8443")
    az("cloud set -n Twin")
    assert az("login --identity")[0]["id"] == "00000000-0000-0000-0000-000000000001"
    assert az("group create -n rg1 -l westeurope")["properties"]["provisioningState"] == "Succeeded"
    vnet = az(
        "network vnet create -g rg1 -n vnet1 --address-prefixes 10.42.0.0/16 --subnet-name nodes "
        "--subnet-prefixes 10.42.1.0/24"
    )
    assert vnet["newVNet"]["subnets"][0]["name"] == "nodes"
    subnet = az(
        "network vnet subnet create -g rg1 --vnet-name vnet1 -n RouteServerSubnet --address-prefixes 10.42.0.0/26"
    )
    az("network public-ip create -g rg1 -n rsip --sku Standard --allocation-method Static")
    server = az(f"network routeserver create -g rg1 -n rs1 --hosted-subnet {subnet['id']} --public-ip-address rsip")
    assert server["virtualRouterIps"] == ["10.42.0.4", "10.42.0.5"]
    assert server["virtualRouterAsn"] == 65515
    az("network routeserver peering create -g rg1 --routeserver rs1 -n node-a --peer-ip 10.42.1.4 --peer-asn 64512")
    assert [each["name"] for each in az("network routeserver peering list -g rg1 --routeserver rs1")] == ["node-a"]
    learned = az("network routeserver peering list-learned-routes -g rg1 --routeserver rs1 -n node-a")
    assert set(learned) == {"RouteServiceRole_IN_0", "RouteServiceRole_IN_1"}
    az("network routeserver peering list-advertised-routes -g rg1 --routeserver rs1 -n node-a")
    az("network route-table create -g rg1 -n rt1")
    route = "-g rg1 --route-table-name rt1 -n pods-192-168-1-0-26"
    az(
        f"network route-table route create {route} --address-prefix 192.168.1.0/26 --next-hop-type VirtualAppliance "
        "--next-hop-ip-address 10.42.1.4"
    )
    moved = az(f"network route-table route update {route} --next-hop-ip-address 10.42.1.5")
    assert moved["nextHopIpAddress"] == "10.42.1.5"
    assert len(az("network route-table route list -g rg1 --route-table-name rt1")) == 1
    nodes = az("network vnet subnet update -g rg1 --vnet-name vnet1 -n nodes --route-table rt1")
    assert nodes["routeTable"]["id"].endswith("/routeTables/rt1")
    nic = az(
        "network nic create -g rg1 -n nic-a --vnet-name vnet1 --subnet nodes --private-ip-address "
        "10.42.1.4 --ip-forwarding true"
    )
    assert nic["NewNIC"]["enableIPForwarding"] is True
    assert az("network nic update -g rg1 -n nic-a --ip-forwarding false")["enableIPForwarding"] is False
    rows = az("network nic show-effective-route-table -g rg1 -n nic-a")["value"]
    user = [each for each in rows if each["source"] == "User"]
    assert user[0]["addressPrefix"] == ["192.168.1.0/26"]
    assert user[0]["nextHopIpAddress"] == ["10.42.1.5"]
    az(f"network route-table route delete {route}")
    az("network routeserver peering delete -g rg1 --routeserver rs1 -n node-a --yes")
    role = az("role definition create --role-definition", json.dumps(ACTIONS))
    assert role["roleName"] == "bgp-agent"
    given = az(
        "role assignment create --assignee-object-id 00000000-0000-0000-0000-0000000000d2 "
        "--assignee-principal-type ServicePrincipal --role Reader --scope "
        "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg1"
    )
    assert given["principalId"] == "00000000-0000-0000-0000-0000000000d2"
