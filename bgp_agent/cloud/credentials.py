"""Whose token is sent to Azure: a workload identity where one is offered, else the machine's managed identity.

azure-identity does the work; this chooses, bounds the waiting, and turns what it raises into
:class:`~bgp_agent.cloud.errors.Denied` (somebody said no) or :class:`~bgp_agent.cloud.errors.Trouble` (nobody said
anything). azure-identity keeps a token until it expires, even after Azure refused it: :meth:`Credential.forget`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from types import TracebackType
from typing import Any, Final, Self

from azure.core.credentials import AccessTokenInfo, TokenRequestOptions
from azure.core.credentials_async import AsyncSupportsTokenInfo
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.identity.aio import ManagedIdentityCredential, WorkloadIdentityCredential

from bgp_agent.cloud.clouds import Cloud
from bgp_agent.cloud.errors import CloudError, Denied, Trouble, clean

PATIENCE: Final = 20.0
"""Seconds until a token is there, retries included."""
FORGET_EVERY: Final = 60.0
"""Seconds between two new identities after refused tokens: IMDS takes 20 requests a second from all of the machine."""
PAUSE: Final = (2.0, 60.0)
"""Seconds in which a failure to get a token is simply repeated: at first, and at most."""
_QUICK: Final[dict[str, Any]] = {"connection_timeout": 2, "read_timeout": 8, "retry_total": 2, "retry_status": 2}
for _name in ("azure", "msal"):  # what they complain of is in our errors, once; what they trace is nobody's to read
    logging.getLogger(_name).setLevel(logging.CRITICAL)
_WORKLOAD: Final = ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID")


class Credential(AsyncSupportsTokenInfo):
    """Tokens for ARM. ``kind`` says in words whose.

    Order: a workload identity, if ``AZURE_FEDERATED_TOKEN_FILE`` is set (Kubernetes' webhook sets it, with
    ``AZURE_CLIENT_ID``, ``AZURE_TENANT_ID`` and ``AZURE_AUTHORITY_HOST``); else a managed identity from IMDS, the one
    that ``AZURE_CLIENT_ID`` names or the machine's only one. ``imds_url`` has to be passed to azure-identity in the
    process's environment, which is the one place where it looks.
    """

    def __init__(self, cloud: Cloud, imds_url: str | None = None) -> None:
        self.cloud = cloud
        if imds_url is not None:
            os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = imds_url.rstrip("/")
        self.kind = "workload identity" if os.environ.get(_WORKLOAD[0]) else "managed identity"
        self._inner: AsyncSupportsTokenInfo | None = None
        self._forgotten = float("-inf")
        self._failure: CloudError | None = None
        self._pause, self._quiet_until = PAUSE[0], float("-inf")

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """A token. Raises :class:`Denied` or :class:`Trouble`; a failure is repeated for a while without asking."""
        if self._failure is not None and time.monotonic() < self._quiet_until:
            raise self._failure.with_traceback(None)
        try:
            token = await self._ask(*scopes, options=options)
        except CloudError as error:
            self._failure, self._quiet_until = error, time.monotonic() + self._pause
            self._pause = min(self._pause * 2, PAUSE[1])
            raise
        self._failure, self._pause = None, PAUSE[0]
        return token

    async def _ask(self, *scopes: str, options: TokenRequestOptions | None) -> AccessTokenInfo:
        try:
            if self._inner is None:
                self._inner = self._made()
            async with asyncio.timeout(PATIENCE):
                return await self._inner.get_token_info(*scopes, options=options)
        except ClientAuthenticationError as error:
            raise self._refused(error) from None
        except TimeoutError:
            raise Trouble(f"no token of the {self.kind} within {PATIENCE:g} s") from None
        except (AzureError, OSError, ValueError) as error:
            raise Trouble(f"no token of the {self.kind}: {clean(error)}") from None

    def _made(self) -> AsyncSupportsTokenInfo:
        """Raises :class:`Denied` when the environment is incomplete."""
        client = os.environ.get("AZURE_CLIENT_ID") or None
        if self.kind == "managed identity":
            return ManagedIdentityCredential(client_id=client, use_env_settings=False, **_QUICK)
        missing = [each for each in _WORKLOAD if not os.environ.get(each)]
        if missing:
            raise Denied(f"no token of the workload identity: {', '.join(missing)} is not set, but {_WORKLOAD[0]} is")
        authority = os.environ.get("AZURE_AUTHORITY_HOST") or self.cloud.authority
        return WorkloadIdentityCredential(authority=authority, **_QUICK)

    def _refused(self, error: ClientAuthenticationError) -> CloudError:
        """Was it refused, or is it just not to be had now."""
        cause = error if error.status_code is not None else error.__cause__
        status = cause.status_code if isinstance(cause, HttpResponseError) else None
        words = f"no token of the {self.kind}: {clean(error.message)}"
        return Denied(words) if status in {400, 401, 403} else Trouble(words)

    async def forget(self) -> bool:
        """After a refused token: the next one is a new one. False when that was done just now, so do not hurry."""
        if time.monotonic() < self._forgotten + FORGET_EVERY:
            return False
        self._forgotten = time.monotonic()
        await self.close()
        return True

    async def close(self) -> None:
        """Give connections back, and tokens up."""
        inner, self._inner = self._inner, None
        if inner is not None:
            await inner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()
