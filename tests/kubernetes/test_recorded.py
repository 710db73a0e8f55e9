"""Calico's own IPAM, recorded on a real API server, replayed event by event: who announces what, and when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bgp_agent.core.ipam import Ipam
from bgp_agent.core.prefix import Prefix, prefix_text
from bgp_agent.kubernetes.calico import read_affinity, read_block, read_pool

SAMPLES = Path(__file__).parent / "samples"
FORSAKEN = [f"192.168.165.{n}/32" for n in range(136, 144)]

#: (event, counted from 0; node; announced from then on; withdrawn with it). Nothing else changes at any other event.
Step = tuple[int, str, list[str], list[str]]
BEGIN: list[Step] = [
    (3, "node-a", ["192.168.165.136/29"], []),
    (14, "node-a", ["192.168.165.144/29"], []),
    (18, "node-b", ["192.168.244.248/29"], []),
]
END: list[Step] = [
    (39, "node-a", ["10.244.0.8/29"], []),
    (43, "node-b", ["10.244.0.0/29"], []),
    (45, "node-c", ["10.244.0.1/32"], []),
    (46, "node-c", ["10.244.0.2/32"], []),
    (47, "node-c", [], ["10.244.0.2/32"]),
    (49, "node-c", [], ["10.244.0.1/32"]),
]
STORY = {
    "v1": [
        *BEGIN,
        (22, "node-a", FORSAKEN, ["192.168.165.136/29"]),
        (26, "node-a", ["192.168.165.144/32"], ["192.168.165.144/29"]),
        (30, "node-b", [], ["192.168.244.248/29"]),
        *END,
    ],
    "v3": [
        *BEGIN,
        (22, "node-b", [], ["192.168.244.248/29"]),
        (27, "node-a", FORSAKEN, ["192.168.165.136/29"]),
        (31, "node-a", ["192.168.165.144/32"], ["192.168.165.144/29"]),
        *END,
    ],
}


@pytest.mark.parametrize("group", ["v1", "v3"])
def test_each_event_of_the_recording_changes_exactly_the_announcements_that_it_should(group: str) -> None:
    nodes = {name: Ipam(name) for name in ("node-a", "node-b", "node-c")}
    before: dict[str, frozenset[Prefix]] = dict.fromkeys(nodes, frozenset())
    seen = []
    for number, line in enumerate((SAMPLES / f"{group}.jsonl").read_text().splitlines()):
        event = json.loads(line)
        for name, ipam in nodes.items():
            take(ipam, event)
            now = ipam.own().blocks
            if now != before[name]:
                seen.append((number, name, texts(now - before[name]), texts(before[name] - now)))
                before[name] = now
    assert seen == STORY[group]


def take(ipam: Ipam, event: dict[str, dict[str, dict[str, str]]]) -> None:
    thing = event["object"]
    raw, name, gone = json.dumps(thing).encode(), thing["metadata"]["name"], str(event["type"]) == "DELETED"
    match str(thing["kind"]):
        case "BlockAffinity":
            ipam.affinity(name, None if gone else read_affinity(raw))
        case "IPAMBlock":
            ipam.block(name, None if gone else read_block(raw, ipam.node))
        case "IPPool":
            ipam.pool(name, None if gone else read_pool(raw))


def texts(prefixes: frozenset[Prefix]) -> list[str]:
    return [prefix_text(each) for each in sorted(prefixes)]
