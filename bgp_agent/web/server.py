"""Listening at ``http.listen`` and ``http.metrics_listen``, with a bound on everything that a client can fill."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler
from prometheus_client.registry import Collector

from bgp_agent.web.app import application
from bgp_agent.web.guard import is_loopback
from bgp_agent.web.reporter import Reporter

CONNECTIONS: Final = 128
"""Open connections; one more is closed at once."""
FIRST_REQUEST: Final = 10.0
"""Seconds a new connection has until its first request is complete."""
LINE: Final = 4096
"""Bytes of the request line, and of one header."""
HEADER_COUNT: Final = 64
IDLE: Final = 15.0
"""Seconds a connection is kept open between requests."""
SHUTDOWN: Final = 0.2
"""Seconds that answers under way get when the agent ends."""


class ListenError(Exception):
    """The address cannot be listened at; the message says why and what to do."""


class _Quiet(logging.Filter):
    """A stranger's broken HTTP is answered with 400 and is no news: it must not fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError)


_LOG: Final = logging.getLogger("bgp_agent.web.http")
_LOG.addFilter(_Quiet())
_ACCESS: Final = logging.getLogger("bgp_agent.web.access")
_ACCESS.setLevel(logging.WARNING)  # a line for every scrape and liveness check tells nobody anything


class _Connection(RequestHandler):
    """A connection that must bring its first request in time."""

    __slots__ = ("_deadline",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(FIRST_REQUEST, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._deadline.cancel()
        super().connection_lost(exc)

    def arrived(self) -> None:
        """The first request is complete."""
        self._deadline.cancel()


class _Refused(asyncio.Protocol):
    """A connection above the bound."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


@web.middleware
async def _arrived(request: web.Request, handler: Handler) -> web.StreamResponse:
    if isinstance(request.protocol, _Connection):
        request.protocol.arrived()
    return await handler(request)


def split_listen(listen: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT`` as host and port. Raises :class:`ListenError`."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535):
        raise ListenError(f"{listen!r} is not ADDRESS:PORT, such as 127.0.0.1:9179 or [::1]:9179")
    return host, int(port)


@contextlib.asynccontextmanager
async def _site(app: web.Application, key: str, listen: str) -> AsyncIterator[int]:
    app.middlewares.insert(0, _arrived)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN)
    await runner.setup()
    server = runner.server
    if server is None:
        raise RuntimeError("a runner that was set up has no server")

    def connect() -> asyncio.Protocol:
        if len(server.connections) >= CONNECTIONS:
            return _Refused()
        return _Connection(
            server, loop=loop, logger=_LOG, access_log=_ACCESS, keepalive_timeout=IDLE,
            max_line_size=LINE, max_field_size=LINE, max_headers=HEADER_COUNT, lingering_time=0, read_bufsize=2 * LINE,
        )  # fmt: skip

    loop = asyncio.get_running_loop()
    try:
        listening = await _listen(loop, connect, key, listen)
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            listening.close()
    finally:
        await runner.cleanup()


async def _listen(
    loop: asyncio.AbstractEventLoop, connect: Callable[[], asyncio.Protocol], key: str, listen: str
) -> asyncio.Server:
    host, port = split_listen(listen)
    try:
        return await loop.create_server(connect, host, port, backlog=CONNECTIONS)
    except OSError as error:
        raise ListenError(_why(error, key, listen)) from error


def _why(error: OSError, key: str, listen: str) -> str:
    if error.errno == errno.EADDRINUSE:
        port = listen.rpartition(":")[2]
        return (
            f"{key}: {listen} is taken by another process: `ss -ltnp 'sport = :{port}'` names it; "
            f"end it or set {key} to another port"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{key}: {listen} is no address of this machine; `ip address` shows which are"
    return f"{key}: cannot listen at {listen}: {error.strerror or error}"


@contextlib.asynccontextmanager
async def serving(
    reporter: Reporter, listen: str, metrics_listen: str | None = None, *, collectors: Iterable[Collector] = ()
) -> AsyncIterator[tuple[int, int | None]]:
    """Serve while inside; yields the two ports. Raises :class:`ListenError` before anything is served."""
    collectors = tuple(collectors)
    loopback = is_loopback(split_listen(listen)[0])
    async with contextlib.AsyncExitStack() as stack:
        main = application(reporter, loopback=loopback, collectors=collectors)
        port = await stack.enter_async_context(_site(main, "http.listen", listen))
        metrics_port = None
        if metrics_listen is not None:
            own = is_loopback(split_listen(metrics_listen)[0])
            app = application(reporter, loopback=own, only_metrics=True, collectors=collectors)
            metrics_port = await stack.enter_async_context(_site(app, "http.metrics_listen", metrics_listen))
        yield port, metrics_port
