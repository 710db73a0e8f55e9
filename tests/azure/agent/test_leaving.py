"""`bgp-agent cleanup` on a node that goes: its routes leave the tables, and nobody else's."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from bgp_agent.cloud import leaving, resources
from bgp_agent.cloud.ids import ResourceId
from bgp_agent.cloud.imds import Imds
from bgp_agent.cloud.leaving import leave
from bgp_agent.cloud.remembered import Remembered, save
from bgp_agent.config import Config
from bgp_agent.core.cloudtable import name_of
from bgp_agent.core.prefix import parse_address, parse_prefix
from tests.azure.agent.conftest import NETWORK, TABLE, Azure, Opened
from tests.azure.agent.test_discovery import agent_with
from tests.unit.cli.test_operate import SANDBOXED, write_config

HERE, THERE = parse_address("10.42.1.4"), parse_address("10.42.1.5")
OTHER = ResourceId(f"{NETWORK}/routeTables/rt2")
MINE, MOVED, ALSO_MINE = (parse_prefix(f"192.168.{n}.0/26") for n in (1, 2, 3))


def config_of(azure: Azure, folder: Path, **more: object) -> Config:
    section = {"arm_url": azure.url, "imds_url": azure.url, "allow_http": True, **more}
    return Config.model_validate({"azure": section, "node": {"name": "a"}, "state_dir": str(folder)})


async def names(azure: Azure, table: ResourceId = TABLE) -> set[str]:
    return {each.name for each in (await resources.read_table(azure.arm, table)).routes}


async def filled(azure: Azure) -> set[str]:
    """Routes of this node in both tables; those that have to stay are returned."""
    put = resources.put_route
    await put(azure.arm, TABLE, name_of(MINE), MINE, HERE)
    await put(azure.arm, OTHER, name_of(ALSO_MINE), ALSO_MINE, HERE)
    await put(azure.arm, TABLE, name_of(MOVED), MOVED, THERE)
    await put(azure.arm, TABLE, "somebodys", parse_prefix("192.168.9.0/24"), HERE)
    await put(azure.arm, TABLE, "bgp-agent_mine", parse_prefix("192.168.8.0/24"), HERE)
    return {name_of(MOVED), "somebodys", "bgp-agent_mine"}


async def test_own_routes_go_from_every_table_and_those_of_the_new_owner_and_of_strangers_stay(
    azure: Azure, tmp_path: Path
) -> None:
    stay = await filled(azure)
    left = await leave(config_of(azure, tmp_path))
    assert (left.done, left.failed) == ("2 taken out (rt1, rt2)", ())
    assert await names(azure) == stay
    assert await names(azure, OTHER) == set()
    assert (await leave(config_of(azure, tmp_path))).done == "0 taken out (rt1, rt2)"


async def test_a_busy_table_is_waited_for_and_a_change_in_between_is_read_again(azure: Azure, tmp_path: Path) -> None:
    stay = await filled(azure)
    azure.fault(kind="lock", method="DELETE", retry_after=1)
    azure.fault(kind="answer", method="DELETE", status=412)
    assert (await leave(config_of(azure, tmp_path))).failed == ()
    assert await names(azure) == stay


async def test_a_missing_right_names_what_to_grant_and_how_to_do_it_by_hand(opened: Opened, tmp_path: Path) -> None:
    reads = ("networkInterfaces/read", "virtualNetworks/read", "virtualHubs/read", "routeTables/read")
    azure = await opened(extra=agent_with(*reads, "routeTables/routes/write"))
    await filled(azure)
    left = await leave(config_of(azure, tmp_path))
    assert len(left.failed) == 2
    assert "grant Microsoft.Network/routeTables/routes/delete and run it again" in left.failed[0]
    assert "az network route-table route list -g rg1 --route-table-name rt1" in left.failed[0]
    assert "nextHopIpAddress=='10.42.1.4'" in left.failed[0]


async def test_without_instance_metadata_the_remembered_tables_and_address_serve(azure: Azure, tmp_path: Path) -> None:
    stay = await filled(azure)
    save(tmp_path, Remembered(address="10.42.1.4", tables=(TABLE,)))
    async with Imds("http://127.0.0.1:9", timeout=0.5) as nobody:
        left = await leaving._leave(config_of(azure, tmp_path), nobody, azure.arm)
    assert (left.done, left.failed) == ("1 taken out (rt1)", ())
    assert await names(azure) == stay


async def test_azure_that_cannot_be_asked_in_time_is_said(
    azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "PATIENCE", 0.2)
    azure.fault(kind="hang", seconds=5.0, times=50)
    left = await leave(config_of(azure, tmp_path))
    assert left.failed == ("not done within 0.2 s: run it again",)


@SANDBOXED
async def test_the_command_cleans_the_rest_when_azure_is_silent_and_ends_with_1(azure: Azure, tmp_path: Path) -> None:
    path = write_config(tmp_path)
    state = tmp_path / "state"
    state.mkdir()
    save(state, Remembered(address="10.42.1.4"))
    text = path.read_text()
    path.write_text(text + section(azure.url, "http://127.0.0.1:9"))
    code, told = await cleanup(path)
    assert code == 1
    assert "the route tables are not known" in told["failed"][0]
    assert "set azure.route_tables" in told["failed"][0]
    assert any(each.startswith("kernel routes") for each in told["done"])
    assert not state.exists()

    stay = await filled(azure)
    path.write_text(text + section(azure.url, azure.url))
    code, told = await cleanup(path)
    assert (code, told["failed"]) == (0, [])
    assert told["done"][0] == "user-defined routes: 2 taken out (rt1, rt2)"
    assert await names(azure) == stay


def section(arm: str, imds: str) -> str:
    return f"azure: {{arm_url: '{arm}', imds_url: '{imds}', allow_http: true}}\n"


async def cleanup(path: Path) -> tuple[int | None, dict[str, list[str]]]:
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/env", "-u", "BGP_AGENT_CONFIG", sys.executable, "-m", "bgp_agent", "cleanup", "-c", path, "--json",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode, json.loads(out)
