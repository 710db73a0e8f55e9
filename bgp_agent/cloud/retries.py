"""Trying again within seconds, in azure-core's terms: a 5xx and a lost connection, nothing else.

azure-core's own policy waits as long as an answer tells it to, retries any status that comes with ``Retry-After``, and
gives up on a locked table after 4.8 s, which is both too long and too short: locks and quotas are the caller's.
"""

from __future__ import annotations

from typing import Any, Final

from azure.core.pipeline import PipelineResponse
from azure.core.pipeline.policies import AsyncRetryPolicy
from azure.core.rest import AsyncHttpResponse, HttpRequest

from bgp_agent.cloud.errors import retry_after

LONGEST: Final = 2.0
"""Seconds that are waited in here at most before a request is sent again."""


class ShortRetries(AsyncRetryPolicy[HttpRequest, AsyncHttpResponse]):
    """Twice, at once and after 0.6 s, or after the ``Retry-After`` of an answer if that is no more than 2 s."""

    def __init__(self) -> None:
        super().__init__(retry_total=2, retry_backoff_factor=0.3, retry_backoff_max=LONGEST)

    def is_retry(
        self,
        settings: dict[str, Any],
        response: PipelineResponse[Any, Any],  # azure-core's signature
    ) -> bool:
        """Is this worth sending again."""
        answer = response.http_response
        if answer.status_code < 500 or (retry_after(answer.headers) or 0.0) > LONGEST:
            return False
        return bool(settings["total"] > 0 and answer.status_code in self._retry_on_status_codes)

    def get_retry_after(self, response: PipelineResponse[Any, Any]) -> float | None:
        """Seconds to wait, as :func:`bgp_agent.cloud.errors.retry_after` reads them."""
        return retry_after(response.http_response.headers)
