"""The reference says what is served: no more, no less."""

from __future__ import annotations

import json
import re
from pathlib import Path

import aiohttp

from bgp_agent.core.values import BlockState, PeerState, RouteState, SourceState
from bgp_agent.web import reference
from bgp_agent.web.app import application
from bgp_agent.web.metrics import MODES
from tests.unit.web.memory import Memory

DOCS = Path(__file__).parents[3] / "docs" / "reference"


def test_the_metrics_page_is_made_from_the_table() -> None:
    assert (DOCS / "metrics.md").read_text() == reference.page(), "make docs"


async def test_the_status_example_is_what_is_served(http: aiohttp.ClientSession) -> None:
    found = re.search(r"<!-- example status -->\n```json\n(.*?)\n```", (DOCS / "http.md").read_text(), re.DOTALL)
    assert found
    async with http.get("/status") as answer:
        assert json.loads(found[1]) == await answer.json()


def test_every_path_and_state_is_documented(memory: Memory) -> None:
    text = (DOCS / "http.md").read_text()
    for route in application(memory).router.routes():
        assert route.resource
        assert re.search(rf"^\| `{re.escape(route.resource.canonical)}[`?]", text, re.MULTILINE), route
    states = {state.value for kind in (BlockState, PeerState, RouteState, SourceState) for state in kind}
    for word in states | set(MODES) | {"delivered", "misdelivered", "unknown"}:
        assert f"`{word}`" in text, word


def test_every_metric_of_an_alert_exists() -> None:
    names = set(re.findall(r"^\| `(bgp_agent_\w+)` \|", reference.page(), re.MULTILINE))
    assert set(re.findall(r"bgp_agent_\w+", reference.page())) <= names
