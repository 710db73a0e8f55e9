"""The seam between what the agent knows and how it is shown.

The agent fulfils :class:`Reporter`; HTTP, metrics and the page use nothing else. All values come from
:mod:`bgp_agent.core.reports`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from bgp_agent.core.prefix import Prefix
from bgp_agent.core.reports import Explanation, RoutePage, Status, Verified
from bgp_agent.core.values import RouteState
from bgp_agent.web.events import Subscription


@dataclass(frozen=True, slots=True)
class Figures:
    """Numbers for ``/metrics`` that ``/status`` does not hold. Counts are since the start of the agent.

    ``cloud_reads``, ``cloud_writes``: of route tables; ``cloud_problem``: the cloud cannot be asked, or told, now.
    """

    routes: Mapping[RouteState, int]
    reload_failures: int = 0
    speaker_attached: bool = True
    cloud_reads: int = 0
    cloud_writes: int = 0
    cloud_problem: bool = False


class Reporter(Protocol):
    """What can be asked of a running agent. Nothing here changes anything, and all but :meth:`probe` answer at once."""

    def status(self) -> Status:
        """Everything but the routes."""

    def routes(
        self, *, state: RouteState | None, prefix: Prefix | None, cursor: Prefix | None, limit: int
    ) -> RoutePage:
        """Routes in the order of their prefixes, those after ``cursor`` only, at most ``limit``.

        ``prefix``: those that overlap it. :func:`bgp_agent.web.paging.select` does the choosing. The page's cursor is
        the text of its last prefix, None when nothing follows.
        """

    def explain(self, target: str) -> Explanation:
        """What happens to a packet for an address or prefix (already checked to be one). Raises ValueError."""

    async def probe(self, target: str) -> Verified:
        """Ask the network who gets a packet for ``target``. Raises ValueError when it cannot be asked."""

    def readiness(self) -> tuple[bool, str]:
        """Ready or not, and why."""

    def subscribe(self) -> Subscription:
        """A new reader of changes. Raises :class:`bgp_agent.web.events.TooManySubscribersError`."""

    def metrics(self) -> Figures:
        """The numbers that :meth:`status` does not hold."""
