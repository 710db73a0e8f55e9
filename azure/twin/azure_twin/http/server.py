"""One handler for every path and method: reads the body within bounds, asks the twin, writes the answer."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from aiohttp import web

from azure_twin.core.errors import ArmError, error_body
from azure_twin.core.messages import Request, Response, refusal

log = logging.getLogger("azure_twin.http")
BODY_TIMEOUT: Final = 30.0  # seconds for a whole body
MAX_WAITING: Final = 512  # requests at once; beyond that 503
_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")


class _Brief(logging.Filter):
    """What strangers send is no bug of ours: aiohttp's complaints about it are logged in one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            record.msg, record.args = f"{record.getMessage()}: {type(record.exc_info[1]).__name__}", ()
        record.exc_info = None
        return True


_quiet = logging.getLogger("azure_twin.http.server")
_quiet.addFilter(_Brief())


class Service(Protocol):
    """Who answers."""

    body_bytes: int

    def serve(self, request: Request, *, control: bool) -> Response:
        """The answer to a request; ``control``: it came in where /twin is open."""

    async def quiet(self) -> None:
        """Until what was asked is so."""


class Handler:
    """An aiohttp handler around a :class:`Service`."""

    def __init__(self, service: Service, *, control: bool) -> None:
        self.service = service
        self.control = control
        self._now = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request; whatever goes wrong has Azure's error shape."""
        if self._now >= MAX_WAITING:
            return _http(refusal(ArmError(503, "ServiceUnavailable", "Too many requests at once.")))
        self._now += 1
        try:
            answer = await self._answer(request)
        except ArmError as error:
            answer = refusal(error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # a request's root: logged with its cause, answered as Azure would
            log.exception("%s %s failed", request.method, request.path)
            answer = Response(500, error_body("InternalServerError", "An error occurred."))
        finally:
            self._now -= 1
        if answer.close:
            await asyncio.sleep(answer.hang)
            if request.transport is not None:
                request.transport.abort()
        return _http(answer)

    async def _answer(self, request: web.BaseRequest) -> Response:
        host = request.headers.get("Host", "")
        value = Request(
            method=request.method,
            path=request.rel_url.raw_path,
            query=dict(request.rel_url.query),
            headers={name.lower(): text for name, text in request.headers.items()},
            body=await self._body(request),
            base=f"{request.scheme}://{host if _HOST.fullmatch(host) else 'localhost'}",
            source=request.remote or "",
        )
        answer = self.service.serve(value, control=self.control)
        if answer.waits:
            await self.service.quiet()
        return answer

    async def _body(self, request: web.BaseRequest) -> bytes:
        limit = self.service.body_bytes
        too_large = ArmError(
            413, "RequestContentTooLarge", f"The request content size exceeds the maximum size of {limit} bytes."
        )
        if not request.can_read_body:
            return b""
        if (request.content_length or 0) > limit:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                async for part in request.content.iter_any():
                    size += len(part)
                    if size > limit:
                        raise too_large
                    parts.append(part)
        except TimeoutError:
            raise ArmError(
                408, "RequestTimeout", f"The request content did not come within {BODY_TIMEOUT:g} s."
            ) from None
        except web.RequestPayloadError:
            raise ArmError(400, "InvalidRequestContent", "The request content ended early.") from None
        return b"".join(parts)


def _http(answer: Response) -> web.Response:
    body = answer.encoded()
    headers = dict(answer.headers)
    if body and "Content-Type" not in headers:
        headers["Content-Type"] = "application/json; charset=utf-8"
    return web.Response(status=answer.status, body=body or None, headers=headers)


async def listen(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], listening: socket.socket, *,
    certificate: str | None = None, key: str | None = None,
) -> web.ServerRunner:  # fmt: skip
    """Serve on a bound socket, with HTTPS if there is a certificate."""
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
    runner = web.ServerRunner(web.Server(handler, access_log=None, logger=_quiet))
    await runner.setup()
    await web.SockSite(runner, listening, ssl_context=context).start()
    return runner


def bound(address: str) -> socket.socket:
    """A listening socket for ``host:port``; raises :class:`OSError` or :class:`ValueError` with the address in it."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or not host:
        raise ValueError(f"listen: {address!r} is not host:port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host.strip("[]"), int(port)))
    except OSError as error:
        made.close()
        raise OSError(error.errno, f"listen: {address}: {error.strerror}") from None
    made.listen(1024)
    made.setblocking(False)  # noqa: FBT003  # the standard library's own name
    return made
