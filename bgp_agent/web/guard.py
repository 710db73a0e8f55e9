"""What every request passes: allowed methods, an honest Host header, errors as JSON, headers that browsers obey.

Listening on loopback keeps other machines out but not the browser on this one: a page of a stranger can point its own
name at 127.0.0.1 (DNS rebinding) and read the answers. Such a request carries the stranger's name as its Host, so on
loopback only addresses and ``localhost`` are taken.
"""

from __future__ import annotations

import ipaddress
import logging
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from bgp_agent.web.queries import BadParameterError

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_LOG: Final = logging.getLogger(__name__)
_encode: Final = msgspec.json.Encoder().encode


def json(body: object, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(body=_encode(body) + b"\n", status=status, content_type="application/json")


def refusal(status: int, what: str, where: str, remedy: str) -> web.Response:
    """An error for programs and people alike."""
    return json({"error": what, "where": where, "remedy": remedy}, status)


def is_loopback(host: str) -> bool:
    """Is an address to listen at reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def honest_host(header: str) -> bool:
    """Is a Host header an address or ``localhost``, which no stranger's page can have as its name."""
    name = header.rsplit(":", 1)[0] if header.count(":") == 1 or "]:" in header else header
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def guard(*, loopback: bool) -> Middleware:
    """The middleware. ``loopback``: check the Host header."""

    @web.middleware
    async def pass_or_refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        if loopback and not honest_host(request.headers.get("Host", "")):
            return refusal(
                HTTPStatus.MISDIRECTED_REQUEST, "the Host header is neither an address nor localhost", "Host",
                "ask by address, such as http://127.0.0.1:9179/status",
            )  # fmt: skip
        if request.method not in {"GET", "HEAD"}:
            answer = refusal(405, f"{request.method[:16]} is not allowed: this is read-only", request.path,
                             "use GET or HEAD; `bgp-agent drain` works over the control socket")  # fmt: skip
            answer.headers["Allow"] = "GET, HEAD"
            return answer
        return await _answer(request, handler)

    return pass_or_refuse


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The handler's answer, or its failure as JSON: never a traceback."""
    try:
        return await handler(request)
    except BadParameterError as error:
        return refusal(400, error.what, error.where, error.remedy)
    except web.HTTPNotFound:
        return refusal(
            404, "nothing is here", request.path, "see / for a page, or /status, /routes, /explain, /metrics"
        )
    except web.HTTPException as error:
        return refusal(error.status, error.reason, request.path, "see docs/reference/http.md")
    except ConnectionError:
        raise
    except Exception:  # noqa: BLE001 - the root of a request: one bad answer must not end the others
        _LOG.exception("answering %s failed", request.path)
        return refusal(500, "this answer could not be made", request.path, "the agent's log has the cause")


async def headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add what is not there yet; for ``Application.on_response_prepare``."""
    response.headers["Server"] = "bgp-agent"  # instead of aiohttp's, which tells versions
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
