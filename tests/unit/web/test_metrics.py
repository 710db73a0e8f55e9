"""Metrics: valid for Prometheus, and exactly the documented ones."""

from __future__ import annotations

import re
from dataclasses import replace

import aiohttp
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from bgp_agent.core.values import PeerState
from bgp_agent.web.metrics import METRICS, PREFIX
from tests.unit.web.memory import Memory


async def scrape(http: aiohttp.ClientSession) -> dict[str, Metric]:
    async with http.get("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return {family.name: family for family in text_string_to_metric_families(await answer.text())}


async def test_every_metric_of_the_table_is_served_and_no_other(http: aiohttp.ClientSession) -> None:
    assert set(await scrape(http)) == {PREFIX + one.name.removesuffix("_total") for one in METRICS}


def test_names_follow_the_rules() -> None:
    names = [one.name for one in METRICS]
    assert len(names) == len(set(names))
    for one in METRICS:
        assert re.fullmatch(r"[a-z][a-z_]*", one.name)
        assert one.help.endswith(".")


async def test_a_peers_state_is_one_series_a_state(http: aiohttp.ClientSession, memory: Memory) -> None:
    memory.report = replace(memory.report, peers=(replace(memory.report.peers[0], state=PeerState.DOWN, flaps=3),))
    found = await scrape(http)
    states = {one.labels["state"]: one.value for one in found["bgp_agent_peer_state"].samples}
    assert states == {"established": 0, "connecting": 0, "down": 1, "disabled": 0}
    assert found["bgp_agent_peer_flaps"].samples[0].value == 3


async def test_the_numbers_are_the_reporters(http: aiohttp.ClientSession) -> None:
    found = await scrape(http)
    assert {one.labels["state"]: one.value for one in found["bgp_agent_routes"].samples}["installed"] == 1
    assert found["bgp_agent_config_reload_failures"].samples[0].value == 2
    assert found["bgp_agent_build_info"].samples[0].labels == {"version": "0.1.0", "node": "node-a"}
    assert found["bgp_agent_event_loop_lag_seconds"].samples[0].value >= 0


async def test_the_clouds_part_says_what_carries_the_blocks_and_whether_azure_answers(
    http: aiohttp.ClientSession, memory: Memory
) -> None:
    memory.report = replace(memory.report, fallback=replace(memory.report.fallback, state="maintenance"))
    found = await scrape(http)

    def by_state(name: str) -> dict[str, float]:
        return {one.labels["state"]: one.value for one in found[name].samples}

    assert by_state("bgp_agent_fallback_state") == {"bgp": 0, "fallback": 0, "maintenance": 1, "off": 0}
    assert by_state("bgp_agent_fallback_routes") == {"written": 1, "pending": 0, "refused": 0, "removing": 0}
    assert found["bgp_agent_cloud_reads"].samples[0].value == 7
    assert found["bgp_agent_cloud_writes"].samples[0].value == 3
    assert found["bgp_agent_cloud_problem"].samples[0].value == 1


async def test_a_hostile_name_cannot_break_the_format(http: aiohttp.ClientSession, memory: Memory) -> None:
    memory.report = replace(memory.report, node=replace(memory.report.node, name='a"\n\\evil 1'))
    assert (await scrape(http))["bgp_agent_build_info"].samples[0].labels["node"] == 'a"\n\\evil 1'
