"""The HTTP application: what is served where. Nothing here changes anything."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterable
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client.registry import Collector

from bgp_agent.core.prefix import Prefix, parse_prefix
from bgp_agent.core.reports import RouteReport
from bgp_agent.core.values import RouteState
from bgp_agent.web import encode, page, queries
from bgp_agent.web.events import Subscription, TooManySubscribersError
from bgp_agent.web.guard import guard, headers, json, refusal
from bgp_agent.web.metrics import CONTENT_TYPE, Exposition, LoopLag
from bgp_agent.web.reporter import Reporter

STATUS_ROUTES: Final = 1_000
"""``/status`` shows at most so many routes, those in trouble first."""
TROUBLE_FIRST: Final = (
    RouteState.REFUSED, RouteState.PENDING, RouteState.STALE, RouteState.SHADOWED, RouteState.INSTALLED,
)  # fmt: skip
ASK: Final = 2_000
"""Routes asked for at a time: each time costs a look at the whole table, each route its report."""
ENCODE: Final = 250
"""Routes encoded at a time: a few milliseconds of the event loop."""
PROBE_BURST: Final = 10
PROBE_RATE: Final = 5.0
"""Probes asked for over HTTP: at most so many at once, and so many a second after that."""
HEARTBEAT: Final = 15.0
"""Seconds between the comments that keep an idle event stream open."""
WRITE_TIMEOUT: Final = 10.0
"""Seconds after which a reader of events that takes nothing is dropped."""
_encode: Final = msgspec.json.Encoder().encode


class Allowance:
    """A token bucket: ``burst`` at once, then ``rate`` a second."""

    def __init__(self, burst: int, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._left = float(burst)
        self._at = -math.inf

    def wait(self, now: float) -> float:
        """Take one; 0, or the seconds after which there is one to take."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._rate
        self._left -= 1
        return 0.0


async def status_routes(reporter: Reporter) -> list[RouteReport]:
    """The routes of ``/status``: at most :data:`STATUS_ROUTES`, refused and pending ones first."""
    chosen: list[RouteReport] = []
    counts = reporter.metrics().routes  # a state that no route has need not be looked for in a large table
    for state in TROUBLE_FIRST:
        left = STATUS_ROUTES - len(chosen)
        if left and counts.get(state):
            chosen += reporter.routes(state=state, prefix=None, cursor=None, limit=left).routes
            await asyncio.sleep(0)
    return chosen


class Views:
    """The answers, made from a :class:`Reporter`."""

    def __init__(self, reporter: Reporter, exposition: Exposition) -> None:
        self._reporter = reporter
        self._exposition = exposition
        self._probes = Allowance(PROBE_BURST, PROBE_RATE)

    async def status(self, request: web.Request) -> web.Response:
        """``/status``: 200 whatever it says."""
        queries.single(request.query.items(), {})
        routes = await status_routes(self._reporter)
        return json(encode.status(self._reporter.status(), routes))

    async def routes(self, request: web.Request) -> web.StreamResponse:
        """``/routes``: one page, streamed so that the loop stays free."""
        known = {"limit": "1..10000", "cursor": "of the page before", "state": "STATE", "prefix": "ADDRESS|PREFIX"}
        asked = queries.single(request.query.items(), known)
        limit = queries.limit(asked.get("limit"))
        chunks = self._chunks(
            state=queries.route_state(asked.get("state")), prefix=queries.overlapping(asked.get("prefix")),
            cursor=queries.cursor(asked.get("cursor")), limit=limit,
        )  # fmt: skip
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if request.method != "HEAD":
            async for chunk in chunks:
                await response.write(chunk)
        await response.write_eof()
        return response

    async def _chunks(
        self, *, state: RouteState | None, prefix: Prefix | None, cursor: Prefix | None, limit: int
    ) -> AsyncIterator[bytes]:
        opening, joint, left, after = b'{"total":%d,"routes":[', b"", limit, cursor
        while True:
            found = self._reporter.routes(state=state, prefix=prefix, cursor=after, limit=min(ASK, left))
            if opening:
                yield opening % found.total
                opening = b""
            for start in range(0, len(found.routes), ENCODE):
                yield joint + b",".join(_encode(encode.route(one)) for one in found.routes[start : start + ENCODE])
                joint = b","
                await asyncio.sleep(0)
            left -= len(found.routes)
            if found.cursor is None or left <= 0 or not found.routes:
                yield b'],"cursor":%s}\n' % _encode(found.cursor)
                return
            after = parse_prefix(found.cursor)

    async def explain(self, request: web.Request) -> web.Response:
        """``/explain?for=``: what happens to a packet for it."""
        text, _ = _target(request)
        try:
            return json(encode.explanation(self._reporter.explain(text)))
        except ValueError as error:
            raise queries.BadParameterError(str(error), "for", "give an address or a prefix") from None

    async def probe(self, request: web.Request) -> web.Response:
        """``/probe?for=``: ask the network, at a bounded pace."""
        text, _ = _target(request)
        wait = self._probes.wait(time.monotonic())
        if wait:
            answer = refusal(429, f"more than {PROBE_RATE:g} probes a second were asked for", "/probe",
                             f"ask again in {math.ceil(wait)} s")  # fmt: skip
            answer.headers["Retry-After"] = str(math.ceil(wait))
            return answer
        try:
            return json(encode.verified(await self._reporter.probe(text)))
        except ValueError as error:
            raise queries.BadParameterError(str(error), "for", "see `bgp-agent explain` for what it is") from None

    async def healthz(self, _request: web.Request) -> web.Response:
        """``/healthz``: the event loop answers."""
        return json({"alive": True})

    async def readyz(self, _request: web.Request) -> web.Response:
        """``/readyz``: 200 or 503, with the reason."""
        ready, reason = self._reporter.readiness()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return json({"ready": ready, "reason": reason}, status)

    async def metrics(self, _request: web.Request) -> web.Response:
        """``/metrics`` for Prometheus."""
        return web.Response(body=self._exposition.text(), headers={"Content-Type": CONTENT_TYPE})

    async def page(self, _request: web.Request) -> web.Response:
        """``/``: the page for people."""
        routes = await status_routes(self._reporter)
        body = page.render(self._reporter.status(), routes, time.time())
        answer = web.Response(text=body, content_type="text/html")
        answer.headers["Content-Security-Policy"] = page.POLICY
        return answer

    async def events(self, request: web.Request) -> web.StreamResponse:
        """``/events``: changes as server-sent events, until the reader goes or falls behind."""
        try:
            subscription = self._reporter.subscribe()
        except TooManySubscribersError as error:
            return refusal(503, str(error), "/events", "close another one, or ask /status now and then")
        with subscription:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            if request.method != "HEAD":
                await _stream(request, response, subscription)
            return response


def _target(request: web.Request) -> tuple[str, Prefix]:
    return queries.target(queries.single(request.query.items(), {"for": "ADDRESS|PREFIX"}).get("for"), "for")


async def _stream(request: web.Request, response: web.StreamResponse, subscription: Subscription) -> None:
    await _write(request, response, b"retry: 2000\n: the state itself is at /status\n\n")
    while not subscription.closed:
        try:
            async with asyncio.timeout(HEARTBEAT):
                events = await subscription.take()
        except TimeoutError:
            await _write(request, response, b":\n\n")
            continue
        await _write(request, response, b"".join(b"event: change\ndata: %s\n\n" % _encode(event) for event in events))
    if subscription.dropped:
        await _write(request, response, b'event: dropped\ndata: {"reason":"too many changes waited; ask /status"}\n\n')


async def _write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    try:
        async with asyncio.timeout(WRITE_TIMEOUT):
            await response.write(data)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the reader of events takes nothing") from None


def application(
    reporter: Reporter, *, loopback: bool = True, only_metrics: bool = False, collectors: Iterable[Collector] = ()
) -> web.Application:
    """Make the application. ``only_metrics``: /metrics, /healthz and /readyz alone, for ``http.metrics_listen``.

    ``collectors``: parts that keep metrics of their own; what they yield must begin with ``bgp_agent_``.
    """
    lag = LoopLag()
    views = Views(reporter, Exposition(reporter, lag, collectors))
    app = web.Application(middlewares=[guard(loopback=loopback)], client_max_size=1)
    app.on_response_prepare.append(headers)
    app.cleanup_ctx.append(lag.measured)
    app.router.add_get("/healthz", views.healthz)
    app.router.add_get("/readyz", views.readyz)
    app.router.add_get("/metrics", views.metrics)
    if not only_metrics:
        app.router.add_get("/", views.page)
        app.router.add_get("/status", views.status)
        app.router.add_get("/routes", views.routes)
        app.router.add_get("/explain", views.explain)
        app.router.add_get("/probe", views.probe)
        app.router.add_get("/events", views.events)
    return app
