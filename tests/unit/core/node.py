"""A node without a network: the router on a kernel of two dictionaries, driven by hand."""

from __future__ import annotations

from collections.abc import Iterable

from bgp_agent.core.fib import Failure, Fib, Operation
from bgp_agent.core.nexthop import InterfaceAddress, Link, NextHops
from bgp_agent.core.prefix import Family, Prefix, PrefixSet, parse_address, parse_prefix, prefix_text
from bgp_agent.core.router import Actions, Router
from bgp_agent.core.seen import KernelRoute
from bgp_agent.core.settings import PeerSettings, Settings
from bgp_agent.core.values import (
    AnnouncementsChanged,
    Audited,
    Blocks,
    Hop,
    Path,
    SessionDown,
    SessionUp,
    SourceState,
    SpeakerEvent,
    Target,
    Unicast,
    Update,
)

RS0, RS1 = "10.42.0.4", "10.42.0.5"
GATEWAY = parse_address("10.42.1.1")
VIA_GATEWAY = Unicast((Hop(2, GATEWAY),))
V4 = frozenset({Family.IPV4})


def p(text: str) -> Prefix:
    return parse_prefix(text)


def peer(address: str = RS0, asn: int = 65515, **more: object) -> PeerSettings:
    given: dict[str, object] = {"families": V4, **more}
    return PeerSettings(address, parse_address(address), asn, **given)  # type: ignore[arg-type]  # a test's short hand


def settings(*peers: PeerSettings, **more: object) -> Settings:
    given: dict[str, object] = {"pools": PrefixSet([p("192.168.0.0/16")]), **more}
    return Settings("node-a", 64512, peers=peers or (peer(RS0), peer(RS1)), **given)  # type: ignore[arg-type]  # as above


class Node:
    """node-a, 10.42.1.4 in 10.42.1.0/24, default gateway 10.42.1.1; ``kernel`` holds our routes."""

    def __init__(
        self, given: Settings | None = None, found: dict[Prefix, Target] | None = None, *, forwarding: bool = True
    ) -> None:
        self.now = 100.0
        self.kernel: dict[Prefix, Target] = dict(found or {})
        self.written: list[tuple[str, str]] = []  # every write, in order: (verb, prefix)
        self.unwritable: set[Prefix] = set()  # the kernel refuses to write these
        self.next_hops = NextHops(179)
        self.fib = Fib(4096, 179)
        self.next_hops.replace_links([Link(1, "lo", True, True, 65536, True), Link(2, "eth0", True, True, 1500)])  # noqa: FBT003
        self.next_hops.replace_addresses([InterfaceAddress(2, parse_address("10.42.1.4"), 24)])
        self.next_hops.begin()
        self.next_hops.rows(
            [
                KernelRoute(254, p("10.42.1.0/24"), 0, 2, Unicast((Hop(2, None),))),
                KernelRoute(254, p("0.0.0.0/0"), 0, 4, VIA_GATEWAY),
            ]
        )
        self.next_hops.end()
        self.router = Router(given or settings(), self.fib, self.next_hops, self.now)
        self.fib.begin(254)
        self.fib.rows(254, [KernelRoute(254, q, 4096, 179, target) for q, target in self.kernel.items()])
        self.fib.end(254)
        self.router.adopt_kernel(self.fib.adopted(), self.now)
        self.router.own.forward({Family.IPV4: forwarding})
        self.actions: list[Actions] = []
        self.settle()

    def settle(self) -> Actions:
        """Derive and write until nothing is left; returns everything that was asked of the shells, in one."""
        whole = Actions()
        while True:
            step = self.router.derive(self.now)
            for address, changed in step.announce.items():
                whole.announce.setdefault(address, {}).update(changed)
            whole.complete += step.complete
            whole.refresh += step.refresh
            whole.restart += step.restart
            whole.learned += step.learned
            whole.forgotten += step.forgotten
            whole.changes += step.changes
            whole.own = step.own or whole.own
            while operations := self.fib.operations():
                self.fib.results(operations, self._write(operations), self.now)
            self.router.on_kernel(self.fib.take_changed())
            if not self.router.dirty:
                break
        self.actions.append(whole)
        return whole

    def _write(self, operations: list[Operation]) -> dict[int, Failure]:
        failures = {}
        for position, operation in enumerate(operations):
            if operation.prefix in self.unwritable:
                failures[position] = Failure(22, "the kernel refuses it: EINVAL")
                continue
            self.written.append((operation.verb.value, prefix_text(operation.prefix)))
            if operation.target is None:
                del self.kernel[operation.prefix]
            else:
                self.kernel[operation.prefix] = operation.target
        return failures

    # --- what happens to it ------------------------------------------------------------------------------------------
    def source(self, *blocks: str, state: SourceState = SourceState.SYNCED) -> Actions:
        self.router.on_source(Blocks("file", state, f"{len(blocks)} blocks", frozenset(map(p, blocks))), self.now)
        return self.settle()

    def hears(self, *events: SpeakerEvent) -> Actions:
        self.router.on_events(events, self.now)
        return self.settle()

    def up(self, *peers: str, families: Iterable[Family] = V4) -> Actions:
        return self.hears(*(SessionUp(a, frozenset(families), 30, "enhanced", True) for a in peers or (RS0, RS1)))  # noqa: FBT003

    def audited(self, *peers: str) -> Actions:
        """ExaBGP has told what it holds for these peers (for all of them)."""
        return self.hears(*(Audited(a) for a in peers or self.router.peers))

    def down(self, address: str = RS0) -> Actions:
        return self.hears(SessionDown(address, "closing connection", True))  # noqa: FBT003

    def told(
        self, *prefixes: str, by: str = RS0, hop: str | None = None, path: tuple[int, ...] = (65515, 64512)
    ) -> Actions:
        made = Path(by, parse_address(hop or by), path)
        return self.hears(Update(by, (), ((made, tuple(map(p, prefixes))),)))

    def withdrawn(self, *prefixes: str, by: str = RS0) -> Actions:
        return self.hears(Update(by, tuple(map(p, prefixes)), ()))

    def acknowledges(self, *prefixes: str, by: str = RS0) -> Actions:
        return self.hears(AnnouncementsChanged(by, tuple(map(p, prefixes)), ()))

    def lets_go(self, *prefixes: str, by: str = RS0) -> Actions:
        return self.hears(AnnouncementsChanged(by, (), tuple(map(p, prefixes))))

    def wait(self, seconds: float) -> Actions:
        self.now += seconds
        self.router.handle_timer(self.now)
        return self.settle()

    def announced(self, address: str = RS0) -> set[str]:
        """What the peer is wanted to hear."""
        return {prefix_text(q) for q in self.router.own.exports[address].wanted}

    def routes(self) -> dict[str, Target]:
        """Our routes in the kernel, but the host routes to the peers."""
        return {prefix_text(q): target for q, target in self.kernel.items() if q not in self.router.guards}
