"""A server that answers whatever a test wants, in Azure's place, and clients that believe it to be Azure."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from azure.core.credentials import AccessTokenInfo, TokenRequestOptions

from bgp_agent.cloud.arm import Arm
from bgp_agent.cloud.clouds import Cloud, cloud
from bgp_agent.cloud.credentials import Credential

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Fixed(Credential):
    """A token that is always there; counts how often it had to be a new one."""

    forgotten = 0

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:  # noqa: ARG002
        return AccessTokenInfo("secret-token", int(time.time()) + 3600)

    async def forget(self) -> bool:
        self.forgotten += 1
        return True


@dataclass
class Stub:
    """Where it answers, what it was asked, and how it answers: ``answer`` may be replaced at any time."""

    url: str = ""
    requests: list[web.Request] = field(default_factory=list)
    answer: Handler | None = None

    def says(self, body: bytes | str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """The same to everybody."""
        data = body.encode() if isinstance(body, str) else body

        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=data, status=status, headers=headers)

        self.answer = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        assert self.answer is not None
        return await self.answer(request)

    @property
    def cloud(self) -> Cloud:
        return cloud(None, self.url)


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    made = Stub()
    application = web.Application(client_max_size=1024**3)
    application.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def arm(stub: Stub) -> AsyncIterator[Arm]:
    async with Arm(stub.cloud, Fixed(stub.cloud), allow_http=True, timeout=2.0) as made:
        yield made
