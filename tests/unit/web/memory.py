"""A reporter in memory: the shape of the contract's example, and as many routes as a test wants."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp

from bgp_agent.core.prefix import Prefix, parse_address, parse_prefix
from bgp_agent.core.reports import (
    BlockReport,
    ConfigReport,
    Explanation,
    FallbackReport,
    KernelReport,
    NodeReport,
    Offer,
    PeerReport,
    Reachable,
    RoutePage,
    RouteReport,
    SourceReport,
    Status,
    TableRouteReport,
    Verified,
)  # fmt: skip
from bgp_agent.core.values import BlockState, PeerState, RouteState, SourceState
from bgp_agent.web.events import EventHub, Subscription
from bgp_agent.web.paging import select
from bgp_agent.web.reporter import Figures
from bgp_agent.web.server import serving

START = 1767225600.0  # 2026-01-01T00:00:00Z
DELIVERED = Verified("delivered", "node-a", "node-b", START + 60, "answered in 0.2 ms")


def route(prefix: str, state: RouteState = RouteState.INSTALLED, reason: str = "best path") -> RouteReport:
    return RouteReport(
        parse_prefix(prefix), state, reason, (parse_address("10.42.1.1"),), ("10.42.0.4", "10.42.0.5"), (65515, 64512),
        replace(DELIVERED, node="node-b", by="node-a"),
    )  # fmt: skip


def example_status() -> Status:
    return Status(
        node=NodeReport("node-a", "10.42.1.4", "0.1.0", START),
        ready=True, mode="bgp", reason="2 of 2 peers established",
        blocks=(BlockReport(parse_prefix("192.168.1.0/26"), BlockState.ANNOUNCED, "acknowledged by 2 of 2 peers",
                            ("10.42.0.4", "10.42.0.5"), DELIVERED,
                            Reachable("bgp", "a BGP route is in effect on nic-a", START + 60)),),
        peers=(PeerReport("10.42.0.4", 65515, PeerState.ESTABLISHED, "established", START, 12.5, 3, 2, 1, 0),),
        source=SourceReport("file", SourceState.SYNCED, "1 block in blocks.yaml"),
        kernel=KernelReport(254, 179, 4096, 1, 0, 0),
        fallback=FallbackReport(
            "standby", "bgp",
            (TableRouteReport(parse_prefix("192.168.1.64/26"), "written", "in effect"),),
            "2 of 2 peers established", ("pods",), "the subnets that use the table",
        ),
        config=ConfigReport("/etc/bgp-agent/config.yaml", START),
        routes_total=1,
    )  # fmt: skip


class Memory:
    """A :class:`bgp_agent.web.reporter.Reporter` that a test fills."""

    def __init__(self) -> None:
        self.report = example_status()
        self.hub = EventHub(subscribers=2, backlog=4)
        self.table: dict[Prefix, RouteReport] = {}
        self.add(route("192.168.2.0/26"))
        self.figures = Figures({}, reload_failures=2, cloud_reads=7, cloud_writes=3, cloud_problem=True)
        self.probed: list[str] = []
        self.failure: Exception | None = None

    def add(self, *routes: RouteReport) -> None:
        self.table |= {one.prefix: one for one in routes}
        self.report = replace(self.report, routes_total=len(self.table))

    def status(self) -> Status:
        if self.failure:
            raise self.failure
        return self.report

    def routes(
        self, *, state: RouteState | None, prefix: Prefix | None, cursor: Prefix | None, limit: int
    ) -> RoutePage:
        states = {key: one.state for key, one in self.table.items()}
        page = select(states, state=state, prefix=prefix, cursor=cursor, limit=limit)
        return RoutePage(tuple(self.table[one] for one in page.prefixes), page.total, page.cursor)

    def explain(self, target: str) -> Explanation:
        if target == "224.0.0.1":
            raise ValueError("multicast is not routed here")
        offer = Offer(
            parse_prefix("192.168.2.0/26"), "10.42.0.4", parse_address("10.42.1.5"), (65515, 64512), (), None,
            stale=False, best=True, refused=None,
        )  # fmt: skip
        return Explanation(
            target,
            "goes to 10.42.1.1 by eth0", parse_prefix("192.168.2.0/26"), ("learned from 10.42.0.4", "installed"),
            (offer,),
            "192.168.2.7 via 10.42.1.1 dev eth0", DELIVERED,
        )  # fmt: skip

    async def probe(self, target: str) -> Verified:
        await asyncio.sleep(0)
        if target == "224.0.0.1":
            raise ValueError("no block owns multicast")
        self.probed.append(target)
        return DELIVERED

    def readiness(self) -> tuple[bool, str]:
        return self.report.ready, self.report.reason

    def subscribe(self) -> Subscription:
        return self.hub.subscribe()

    def metrics(self) -> Figures:
        return replace(self.figures, routes=Counter(one.state for one in self.table.values()))


@asynccontextmanager
async def asking(memory: Memory) -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(memory, "127.0.0.1:0") as (port, _), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        yield http
