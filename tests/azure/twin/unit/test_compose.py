"""The compose files that the guide gives: every VM and every instance of the YAML file has its container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from azure_twin.config import load
from azure_twin.core.kinds.hubs import INSTANCES

FOLDER = Path(__file__).parents[4] / "azure" / "twin" / "compose"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())["services"]


def test_each_vm_and_each_instance_has_a_container_without_another_network() -> None:
    config = load(FOLDER / "twin.yaml")
    wanted = {f"attach {vm.name}" for vm in config.vms} | {f"instance {index}" for index in range(INSTANCES)}
    linked = {name: each for name, each in SERVICES.items() if "healthcheck" in each}
    assert {each["command"] for each in linked.values()} == wanted
    assert {each["network_mode"] for each in linked.values()} == {"none"}
    directories = {volume for each in linked.values() for volume in each["volumes"]}
    assert directories == {f"fabric:{config.fabric.directory}"}
    assert directories < set(SERVICES["azure"]["volumes"])


def test_the_twins_own_api_is_published_on_the_hosts_loopback_alone() -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["azure"]["ports"])
    assert not [name for name, each in SERVICES.items() if name != "azure" and "ports" in each]
