"""The resource manager (ARM): requests with a token, answers that were checked, operations waited for.

Built on azure-core's pipeline and azure-mgmt-core's authentication. Nothing is repeated for long in here: a 5xx or a
lost connection is tried again twice within seconds, everything else is told to the caller, who looks again later and
closes the difference that is left. A quota that is used up (429) is left alone for the time that Azure asks for,
whoever calls. Answers are bounded, and no link in an answer leads the token to another host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
import msgspec
from azure.core import AsyncPipelineClient
from azure.core.exceptions import AzureError
from azure.core.pipeline.policies import RequestIdPolicy, UserAgentPolicy
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.mgmt.core.policies import AsyncARMChallengeAuthenticationPolicy

from bgp_agent import __version__
from bgp_agent.cloud import ids
from bgp_agent.cloud.clouds import Cloud
from bgp_agent.cloud.credentials import Credential
from bgp_agent.cloud.errors import (
    LOCK_WAIT,
    Busy,
    CloudError,
    Said,
    Throttled,
    Trouble,
    clean,
    failure,
    refusal,
    retry_after,
)
from bgp_agent.cloud.retries import ShortRetries

T = TypeVar("T")

VERSION: Final = "2024-05-01"
"""api-version of the network provider; enough for all but route maps, and present in the sovereign clouds."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""Bytes of one answer."""
MAX_PAGES: Final = 200
MAX_LISTED: Final = 4 * MAX_BYTES
"""Bytes of all pages of a list."""
TIMEOUT: Final = 45.0
"""Seconds for one request with its short retries and its whole answer."""
PATIENCE: Final = 120.0
"""Seconds for an operation to end; a route takes 4 to 10."""
_POLL: Final = (0.2, 5.0)
"""Seconds between polls where Azure does not say: at first, and at most."""
_KINDS: Final = {"GET": "read", "DELETE": "delete"}


class _Page(msgspec.Struct, rename="camel"):
    value: list[msgspec.Raw]
    next_link: str | None = None


class _Operation(msgspec.Struct):
    status: str
    error: Said | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Arm:
    """A client of one cloud's resource manager; use as an async context manager, or :meth:`close` it.

    Raises :class:`ValueError` for a plain http address unless ``allow_http``: the token would be readable. Every method
    raises a :class:`~bgp_agent.cloud.errors.CloudError`.
    """

    def __init__(
        self, cloud: Cloud, credential: Credential, *, allow_http: bool = False, timeout: float = TIMEOUT
    ) -> None:
        if not cloud.url.startswith("https://") and not allow_http:
            raise ValueError(f"azure.arm_url {cloud.url} is plain http: use https, or set azure.allow_http")
        self.cloud = cloud
        self.credential = credential
        self._https = not allow_http
        self._timeout = timeout
        self._host = _origin(cloud.url)
        self._closed_until: dict[str, float] = {}  # kind of request -> the loop's time
        self._client: AsyncPipelineClient[HttpRequest, AsyncHttpResponse] = AsyncPipelineClient(
            cloud.url,
            policies=[
                RequestIdPolicy(),
                UserAgentPolicy(base_user_agent=f"bgp-agent/{__version__}"),
                ShortRetries(),
                AsyncARMChallengeAuthenticationPolicy(credential, cloud.scope),
            ],
            connection_timeout=5,
            read_timeout=20,
            connection_data_block_size=64 * 1024,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give connections back, the credential's too."""
        await self._client.close()
        await self.credential.close()

    async def get(self, path: str, kind: type[T], *, version: str = VERSION) -> T:
        """One resource, or whatever the path answers, as ``kind``."""
        what = f"GET {ids.short(path)}"
        return _decoded(what, (await self._send("GET", self._url(path, version), what)).body, kind)

    async def pages(self, path: str, *, version: str = VERSION) -> list[msgspec.Raw]:
        """All members of a list, undecoded: one that cannot be read does not cost the others."""
        what = f"GET {ids.short(path)}"
        url: str | None = self._url(path, version)
        found: list[msgspec.Raw] = []
        seen: set[str] = set()
        size = 0
        while url is not None:
            if url in seen or len(seen) >= MAX_PAGES or size > MAX_LISTED:
                raise Trouble(f"{what}: the list does not end (after {len(seen)} pages, {size:,} bytes)")
            seen.add(url)
            body = (await self._send("GET", url, what)).body
            size += len(body)
            page = _decoded(what, body, _Page)
            found += page.value
            url = self._ours(what, page.next_link) if page.next_link else None
        return found

    async def put(
        self, path: str, body: object, *, version: str = VERSION, if_match: str | None = None,
        patience: float = PATIENCE,
    ) -> None:  # fmt: skip
        """Create or replace, and wait until the operation has ended well: up to ``patience`` seconds, then Busy."""
        what = f"PUT {ids.short(path)}"
        answer = await self._send("PUT", self._url(path, version), what, msgspec.json.encode(body), if_match)
        await self._finished(what, answer, patience)

    async def delete(
        self, path: str, *, version: str = VERSION, if_match: str | None = None, patience: float = PATIENCE
    ) -> None:
        """Delete, and wait as :meth:`put` does; what is not there is deleted."""
        what = f"DELETE {ids.short(path)}"
        answer = await self._send("DELETE", self._url(path, version), what, None, if_match)
        await self._finished(what, answer, patience)

    async def post(self, path: str, kind: type[T], *, version: str = VERSION, patience: float = PATIENCE) -> T:
        """An action that answers, at once or after an operation."""
        what = f"POST {ids.short(path)}"
        answer = await self._send("POST", self._url(path, version), what)
        return _decoded(what, (await self._finished(what, answer, patience)).body, kind)

    # --- operations --------------------------------------------------------------------------------------------------
    async def _finished(self, what: str, answer: _Answer, patience: float) -> _Answer:
        """The answer at the end of the operation that ``answer`` began; ``answer`` itself when there is none."""
        watch, location = answer.headers.get("Azure-AsyncOperation"), answer.headers.get("Location")
        if not watch and not (answer.status == 202 and location):
            return answer
        url = self._ours(what, watch or location or "")
        result = self._ours(what, location) if watch and location and what.startswith("POST") else None
        deadline = asyncio.get_running_loop().time() + patience
        wait, pause = retry_after(answer.headers), _POLL[0]
        problem: CloudError | None = None
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(wait or pause, left))
            pause = min(pause * 1.6, _POLL[1])
            try:
                polled = await self._send("GET", url, what)
            except (Trouble, Throttled, Busy) as error:  # the operation goes on whether it can be seen or not
                problem, wait = error, getattr(error, "retry_after", None)
                continue
            problem, wait = None, retry_after(polled.headers)
            if watch and self._ended(what, polled):
                return await self._send("GET", result, what) if result else polled
            if not watch and polled.status != 202:
                return polled
        raise Busy(f"{problem or what}: it still runs after {patience:g} s", LOCK_WAIT)

    def _ended(self, what: str, polled: _Answer) -> bool:
        """Has it ended well. Raises what it ended with otherwise."""
        found = _decoded(what, polled.body, _Operation)
        match found.status.lower():
            case "succeeded":
                return True
            case "failed" | "canceled" | "cancelled":
                raise failure(f"{what} ended as {clean(found.status)}", found.error or Said(found.status))
            case _:
                return False

    # --- requests ----------------------------------------------------------------------------------------------------
    def _url(self, path: str, version: str) -> str:
        return f"{self.cloud.url}{ids.path(path)}?api-version={version}"

    def _ours(self, what: str, link: str) -> str:
        """A link of an answer, which has to stay where the token belongs."""
        try:
            url = urljoin(self.cloud.url, link)
            if _origin(url) == self._host:
                return url
        except ValueError:
            pass
        raise Trouble(f"{what}: the answer leads elsewhere, to {clean(link[:100])}: not followed")

    async def _send(
        self, method: str, url: str, what: str, body: bytes | None = None, if_match: str | None = None
    ) -> _Answer:
        """One answer of success. Raises for every other."""
        kind = _KINDS.get(method, "write")
        left = self._closed_until.get(kind, 0.0) - asyncio.get_running_loop().time()
        if left > 0:
            raise Throttled(f"{what}: not sent, Azure's quota is used up for another {left:.0f} s", left)
        answer = await self._exchange(method, url, what, body, if_match)
        if answer.status == 401 and await self.credential.forget():
            answer = await self._exchange(method, url, what, body, if_match)
        if answer.status < 300:
            return answer
        error = refusal(what, answer.status, answer.headers, answer.body)
        if isinstance(error, Throttled):
            self._closed_until[kind] = asyncio.get_running_loop().time() + error.retry_after
        raise error

    async def _exchange(self, method: str, url: str, what: str, body: bytes | None, if_match: str | None) -> _Answer:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if if_match is not None:
            headers["If-Match"] = if_match
        request = HttpRequest(method, url, headers=headers, content=body)
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.send_request(request, stream=True, enforce_https=self._https)
                try:
                    return _Answer(response.status_code, response.headers, await _bounded(response, what))
                finally:
                    await response.close()
        except TimeoutError:
            raise Trouble(f"{what}: no whole answer within {self._timeout:g} s") from None
        except (AzureError, aiohttp.ClientError, OSError, ValueError) as error:
            raise Trouble(f"{what}: {clean(error) or type(error).__name__}") from None


async def _bounded(response: AsyncHttpResponse, what: str) -> bytes:
    parts, size = [], 0
    async for part in response.iter_raw():
        size += len(part)
        if size > MAX_BYTES:
            raise Trouble(f"{what}: the answer is longer than {MAX_BYTES:,} bytes")
        parts.append(part)
    return b"".join(parts)


def _decoded(what: str, body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Trouble(f"{what}: the answer is not what ARM gives: {clean(error)}") from None


def _origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port. Raises :class:`ValueError` for what is no such URL."""
    parts = urlsplit(url)
    if parts.username is not None or not parts.hostname:
        raise ValueError(f"{url[:100]!r} has no host, or a user")
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
