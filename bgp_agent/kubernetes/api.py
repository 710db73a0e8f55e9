"""One connection to the API server: whole answers, and watches line by line, as bytes.

`lightkube` knows where the server is and how to log in (in-cluster with its rotated token, kubeconfig, exec plugins)
and gives the HTTP client. Its objects are not used: what is read of a block of 64 addresses is two fields, and 5,000 of
them as dictionaries would be most of the agent's memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Final

import httpx2 as httpx
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ConfigError

from bgp_agent.kubernetes.errors import ApiError, Unavailable, clean, refusal

CONNECT: Final = 5.0
"""Seconds until a connection must stand."""
ANSWER: Final = 30.0
"""Seconds of silence within an answer."""
SILENCE: Final = 90.0
"""Seconds of silence in a watch: bookmarks come every minute, so that the connection is dead or the server is."""
MAX_LINE: Final = 16 * 1024 * 1024
"""Bytes of one watch event; etcd takes objects of 1.5 MiB."""
MAX_BODY: Final = 64 * 1024 * 1024
"""Bytes of one answer; a page of 500 full blocks has about 8 MiB."""


class Api:
    """The API server of ``kubeconfig`` (None: in-cluster, then ``$KUBECONFIG``), asked with GET alone.

    Raises :class:`Unavailable` while it cannot be known where the server is.
    """

    def __init__(self, kubeconfig: str | None = None, context: str | None = None) -> None:
        try:
            found = KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_env()
            config = found.get(context)
        except (ConfigError, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise Unavailable(f"no Kubernetes API to ask: {clean(error)}; set kubernetes.kubeconfig") from error
        if config is None:
            raise Unavailable("no Kubernetes API to ask: the kubeconfig names no context; set kubernetes.context")
        timeout = httpx.Timeout(ANSWER, connect=CONNECT)
        try:
            self._client = AsyncClient(config, ConnectionParams(timeout=timeout))
        except (ConfigError, OSError, ValueError, AssertionError) as error:
            raise Unavailable(f"the kubeconfig cannot be used: {clean(error)}") from error
        self.server = config.cluster.server
        self.requests = 0
        self.received = 0  # bytes of bodies

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def get(self, path: str, params: Mapping[str, str] | None = None, accept: str = "application/json") -> bytes:
        """The body of a successful GET. Raises :class:`ApiError`."""
        async with self._open(path, params or {}, accept, ANSWER) as response:
            parts, size = [], 0
            async for part in response.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > MAX_BODY:
                    raise Unavailable(f"GET {path}: the answer is longer than {MAX_BODY:,} bytes")
            self.received += size
            return b"".join(parts)

    async def lines(
        self, path: str, params: Mapping[str, str], accept: str = "application/json"
    ) -> AsyncIterator[list[bytes]]:
        """The lines of a watch, those that came together in one list; an empty one when the server has agreed to it.

        Ends when the server does; raises as ``get``.
        """
        async with self._open(path, params, accept, SILENCE) as response:
            yield []
            rest = b""
            async for part in response.aiter_bytes():
                self.received += len(part)
                *whole, rest = (rest + part).split(b"\n")
                if len(rest) > MAX_LINE:
                    raise Unavailable(f"GET {path}: an event is longer than {MAX_LINE:,} bytes")
                if whole:
                    yield whole

    @contextlib.asynccontextmanager
    async def _open(
        self, path: str, params: Mapping[str, str], accept: str, silence: float
    ) -> AsyncIterator[httpx.Response]:
        self.requests += 1
        timeout = httpx.Timeout(silence, connect=CONNECT, pool=None)
        headers = {"Accept": accept}
        try:
            async with self._client.stream("GET", path, params=params, headers=headers, timeout=timeout) as response:
                if response.status_code != httpx.codes.OK:
                    body = (await response.aread())[: 64 * 1024]
                    raise refusal(f"GET {path}", body, response.status_code, _seconds(response))
                yield response
        except ApiError:
            raise
        except (httpx.HTTPError, httpx.StreamError, ConfigError, OSError, ValueError) as error:
            raise Unavailable(f"GET {path} of {self.server}: {type(error).__name__} {clean(error)}".rstrip()) from error


def _seconds(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return min(float(text), 60.0) if text.isascii() and text.isdecimal() else None
