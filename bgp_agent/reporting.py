"""The running agent as others see it: everything that HTTP, the command line and the metrics ask for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from bgp_agent import __version__
from bgp_agent.core import explain as explaining
from bgp_agent.core import views
from bgp_agent.core.attraction import Attraction, CloudView
from bgp_agent.core.prefix import Address, Prefix, PrefixSet, address_of, is_host
from bgp_agent.core.reports import (
    ConfigReport,
    Explanation,
    FallbackReport,
    NodeReport,
    RoutePage,
    RouteReport,
    SourceReport,
    Status,
    Verified,
)
from bgp_agent.core.router import Change, Router
from bgp_agent.core.values import RouteState
from bgp_agent.home import Home
from bgp_agent.kernel import Kernel
from bgp_agent.probe.service import Prober
from bgp_agent.speaker.client import Speaker
from bgp_agent.web.events import EventHub, Subscription
from bgp_agent.web.paging import select
from bgp_agent.web.reporter import Figures


@dataclass(slots=True)
class Identity:
    """Who this agent is and which configuration it runs; the agent keeps it up to date."""

    name: str
    config_path: str
    address: str = ""
    address6: str | None = None
    started: float = field(default_factory=time.time)
    config_loaded: float = field(default_factory=time.time)
    config_problem: str | None = None
    restart_needed: tuple[str, ...] = ()
    reload_failures: int = 0


class Reports:
    """Fulfils :class:`bgp_agent.web.reporter.Reporter`. Nothing here changes anything."""

    def __init__(
        self,
        *,
        identity: Identity,
        router: Router,
        kernel: Kernel,
        speaker: Speaker,
        prober: Prober,
        home: Home,
        attraction: Attraction | None,
        clock: Callable[[], float],
    ) -> None:
        self.identity = identity
        self.events = EventHub()
        self._router = router
        self._kernel = kernel
        self._speaker = speaker
        self._prober = prober
        self._home = home
        self._attraction = attraction
        self._clock = clock
        self.verified: dict[Prefix, Verified] = {}
        self._states: dict[Prefix, RouteState] = {}
        self._states_of = -1  # the router's revision that _states was made for

    def forget_released(self, own: PrefixSet) -> None:
        """Keep answers only for prefixes that are still own blocks or learned."""
        for prefix in [p for p in self.verified if p not in own and p not in self._router.learned.routes]:
            del self.verified[prefix]

    def _wall(self, moment: float) -> float:
        return time.time() - (self._clock() - moment)

    # --- /status -----------------------------------------------------------------------------------------------------
    def status(self) -> Status:
        """Everything but the routes."""
        router, identity = self._router, self.identity
        ready, reason = self.readiness()
        mode, mode_reason = views.mode(router, self._attraction)
        source = router.own.table.source
        return Status(
            node=NodeReport(identity.name, identity.address, __version__, identity.started, identity.address6),
            ready=ready,
            mode=mode,
            reason=self._headline(mode_reason, ready=ready, unready=reason),
            blocks=views.blocks(router, self.verified, self._attraction, self._wall),
            peers=views.peers(router, self._clock(), self._wall),
            source=SourceReport(source.kind, source.state, source.reason),
            kernel=views.kernel(router, self._warnings()),
            fallback=self._fallback(),
            config=ConfigReport(
                identity.config_path, identity.config_loaded, identity.config_problem, identity.restart_needed
            ),
            routes_total=len(self._known_states()),
        )

    def _fallback(self) -> FallbackReport:
        if self._attraction is None:
            return FallbackReport("off", "off", (), "no cloud is configured: there is nothing to fall back to")
        return self._attraction.report(self._clock())

    def _headline(self, mode: str, *, ready: bool, unready: str) -> str:
        """The first thing that is wrong, when something is, before what attracts traffic."""
        parts = [] if ready else [unready]
        if not self._speaker.attached:
            parts.append(f"the speaker is not attached: {self._speaker.reason}")
        if self._home.problem is not None:
            parts.append(self._home.problem)
        drained = unready.partition(":")[0] + "; "  # the mode begins with that word too
        parts.append(mode if ready else mode.removeprefix(drained))
        return "; ".join(parts)

    def _warnings(self) -> tuple[str, ...]:
        found = [*self._kernel.warnings()]
        if self._prober.state == "off":
            found.append(f"the probe is off: {self._prober.reason}")
        return tuple(found)

    # --- routes ------------------------------------------------------------------------------------------------------
    def routes(
        self, *, state: RouteState | None, prefix: Prefix | None, cursor: Prefix | None, limit: int
    ) -> RoutePage:
        """One page, in the order of the prefixes."""
        router = self._router
        chosen = select(self._known_states(), state=state, prefix=prefix, cursor=cursor, limit=limit)
        reports = [views.route(router, p, self.verified) for p in chosen.prefixes]
        return RoutePage(tuple(r for r in reports if r is not None), chosen.total, chosen.cursor)

    def _known_states(self) -> dict[Prefix, RouteState]:
        """The state of every route, made anew only when something has changed since."""
        if self._states_of != self._router.revision:
            self._states_of = self._router.revision
            self._states = views.states(self._router)
        return self._states

    def explain(self, target: str) -> Explanation:
        """What happens to a packet for ``target``. Raises ValueError."""
        packed = explaining.read_target(target)
        answer = self._kernel.lookup(_first(packed))
        return explaining.explain(self._router, target, answer, self.verified)

    async def probe(self, target: str) -> Verified:
        """Ask the network who gets a packet for ``target``. Raises ValueError when it cannot be asked."""
        packed = explaining.read_target(target)
        return await self._prober.probe(address_of(packed) if is_host(packed) else packed)

    # --- the rest ----------------------------------------------------------------------------------------------------
    def readiness(self) -> tuple[bool, str]:
        """Ready or not, and why."""
        if not self._kernel.ready:
            return False, f"the kernel's routes have not been read: {self._kernel.reason}"
        return views.readiness(self._router, self._attraction)

    def subscribe(self) -> Subscription:
        """A new reader of changes. Raises :class:`bgp_agent.web.events.TooManySubscribersError`."""
        return self.events.subscribe()

    def publish(self, change: Change) -> None:
        """Tell whoever listens."""
        if self.events.active:
            self.events.publish(
                {"kind": change.kind, "subject": change.subject, "state": change.state, "reason": change.reason}
            )

    def metrics(self) -> Figures:
        """The numbers that :meth:`status` does not hold."""
        view = self._attraction.view if self._attraction is not None else CloudView()
        return Figures(
            routes=Counter(self._known_states().values()),
            reload_failures=self.identity.reload_failures,
            speaker_attached=self._speaker.attached,
            cloud_reads=view.reads,
            cloud_writes=view.writes,
            cloud_problem=view.problem is not None,
        )

    def route(self, prefix: Prefix) -> RouteReport | None:
        """One prefix."""
        return views.route(self._router, prefix, self.verified)


def _first(prefix: Prefix) -> Address:
    """An address of the prefix that a packet could have: not the network's own where there is another."""
    if is_host(prefix):
        return address_of(prefix)
    return Address((int.from_bytes(address_of(prefix), "big") + 1).to_bytes(len(prefix) - 1, "big"))
