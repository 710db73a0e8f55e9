"""docker-compose.yml as a text: rights, doors, and that the twin's file names the same containers."""

from __future__ import annotations

from typing import Final

import pytest
from azure_twin.config import load
from azure_twin.core.kinds.hubs import INSTANCES as SERVED

from bgp_agent.config import load as load_agent
from lab.compose.engine import ROOT
from tests.compose.stack import BLOCKS, INSTANCES, NODES, PODS, SERVICES

CONFIG: Final = ROOT / "lab" / "compose" / "config"


def test_each_container_is_read_only_and_has_no_right_that_is_not_named() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service, name


def test_agent_and_speaker_share_the_nodes_network_and_one_state_directory() -> None:
    for letter in "abc":
        agent, speaker = (SERVICES[f"{part}-{letter}"] for part in ("agent", "speaker"))
        assert agent["network_mode"] == speaker["network_mode"] == f"service:node-{letter}"
        assert f"state-{letter}:/run/bgp-agent" in agent["volumes"]
        assert f"state-{letter}:/run/bgp-agent" in speaker["volumes"]


def test_whatever_is_published_is_on_this_machines_loopback_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_twin_knows_each_node_and_each_instance_by_the_name_of_its_container() -> None:
    twin = load(CONFIG / "twin.yaml")
    assert {nic.name: nic.address for nic in twin.nics} == NODES
    assert [SERVICES[name]["command"] for name in INSTANCES] == [f"instance {index}" for index in range(SERVED)]
    assert all(SERVICES[vm.name]["command"] == vm.name for vm in twin.vms)
    assert all(SERVICES[pod]["command"].split()[1] == address for pod, address in PODS.items())


@pytest.mark.parametrize("node", NODES)
def test_each_nodes_config_and_block_file_are_good(node: str) -> None:
    environment = SERVICES[node.replace("node", "agent")]["environment"]
    config = load_agent(CONFIG / "config.yaml", environment).config
    assert config.node.name == node
    assert config.blocks.path == str(CONFIG / f"{node}.yaml")
    named = (CONFIG / f"{node}.yaml").read_text()
    assert all((block in named) is (owner == NODES[node]) for block, owner in BLOCKS.items())
