"""The router: all facts come together here, and the desired sets go out.

Facts arrive one by one (the source's blocks, the speaker's events, what the kernel shows) and only mark what they touch
as dirty. :meth:`Router.derive` then decides for the dirty prefixes alone, tells the kernel diff what is wanted and
returns what has to be said to the speaker, to the probe and to the log. Nothing here waits, and nothing is decided
anywhere else.

An agent that starts beside a running network *adopts*: routes found in the kernel stand until every peer has told its
table (or had the time to), blocks found announced or blackholed stand until the source was read. A prefix for which all
peers have spoken is decided at once; it need not wait for the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from bgp_agent.core.fib import Fib
from bgp_agent.core.importing import ImportPolicy, OwnBlocks
from bgp_agent.core.learned import Learned
from bgp_agent.core.nexthop import NextHops
from bgp_agent.core.own import Own
from bgp_agent.core.peers import Peer
from bgp_agent.core.prefix import Address, Prefix, PrefixSet, host, is_host, prefix_text
from bgp_agent.core.rib import Rib, Whole
from bgp_agent.core.seen import Seen
from bgp_agent.core.selection import Selection
from bgp_agent.core.settings import Settings
from bgp_agent.core.values import (
    Announcement,
    AnnouncementsChanged,
    Audited,
    Blackhole,
    Blocks,
    EndOfRib,
    Hop,
    Notified,
    PeerProblem,
    RefreshBegin,
    RefreshEnd,
    RouteState,
    SessionDown,
    SessionUp,
    SpeakerEvent,
    Target,
    Unicast,
    Update,
)

SessionEvent: TypeAlias = SessionUp | SessionDown | PeerProblem | AnnouncementsChanged | Audited | Notified

#: One for all: what is made of a target is kept by its identity.
_BLACKHOLE: Final = Blackhole()
#: Above this many changed prefixes in one step the log gets one line for all of them.
ONE_BY_ONE: Final = 50
#: On a node with more own blocks than that, so many of them are told one by one: acknowledgements come by fifties.
FEW: Final = 10


@dataclass(frozen=True, slots=True)
class Change:
    """Something a person may want to know: one line in the log, one event at ``/events``.

    ``count``: how many prefixes a line of kind "routes" stands for; its reason begins with that number.
    """

    kind: str  # "node", "peer", "block", "blocks", "route", "routes", "source", "speaker", "verified"
    subject: str
    state: str
    reason: str
    count: int = 1


@dataclass(slots=True)
class Actions:
    """What the shells have to do after a step; the kernel's part is in the :class:`~bgp_agent.core.fib.Fib`."""

    announce: dict[str, dict[Prefix, Announcement | None]] = field(default_factory=dict)
    complete: list[str] = field(default_factory=list)  # peers whose wanted set is whole from now on
    refresh: list[str] = field(default_factory=list)
    restart: list[str] = field(default_factory=list)  # peers that do not answer a refresh
    learned: list[tuple[Prefix, Address | None]] = field(default_factory=list)  # for the probe: who should own it
    forgotten: list[Prefix] = field(default_factory=list)
    own: PrefixSet | None = None  # the own blocks, when they changed
    changes: list[Change] = field(default_factory=list)


class Router:
    """See the module. ``now`` of every call is on one clock that only goes forward."""

    def __init__(self, settings: Settings, fib: Fib, next_hops: NextHops, now: float) -> None:
        self.settings = settings
        self.fib = fib
        self.next_hops = next_hops
        self.peers: dict[str, Peer] = {}
        self.rib = Rib(settings.stale_time)
        self.own = Own(settings, self.peers, fib.state)
        self.learned = Learned(self.rib, self._policy(), self._resolve, settings.max_paths, self._carrier)
        self.revision = 0  # grows with everything that may change a route's or a block's state
        self.probing = True  # does anybody want to know of learned prefixes
        self.adopted: set[Prefix] = set()  # learned routes of an earlier run that nobody has judged yet
        self.guards: dict[Prefix, Unicast] = {}  # host routes to peers that are not on-link
        self.completed: set[str] = set()  # peers whose wanted set was said to be whole
        self._changes: list[Change] = []
        self._standing: dict[Prefix, bool] = {}  # own block -> did its blackhole stand when its covers were judged
        self._doubted: set[Prefix] = set()  # own blocks whose blackhole did not stand at the last look
        self._shown: dict[Prefix, tuple[str, str]] = {}  # own block -> state and reason that the log said last
        self._shadowed: set[Prefix] = set()  # those that the log said are
        self._limits: dict[str, str | None] = {}  # peer -> what the log said last of its limits
        self._set_own_blocks()
        self._configure_peers(now)

    # --- configuration -----------------------------------------------------------------------------------------------
    def configure(self, settings: Settings, now: float) -> None:
        """A reload: peers come and go one by one, and everything is judged by the new rules."""
        self.settings = settings
        self.rib.stale_time = settings.stale_time
        self.learned.max_paths = settings.max_paths
        self._configure_peers(now)
        self._judge_everything()

    def _configure_peers(self, now: float) -> None:
        given = {peer.address: peer for peer in self.settings.peers}
        for address in [a for a, peer in self.peers.items() if a not in given or given[a].asn != peer.asn]:
            del self.peers[address]
            self.rib.remove_peer(address)
            self.completed.discard(address)
            self._limits.pop(address, None)
        for address, peer in given.items():
            if address not in self.peers:
                self.peers[address] = Peer(peer, now)
            self.peers[address].settings = peer
            self.rib.add_peer(address, peer.max_prefixes)
        self.learned.asns = {address: peer.asn for address, peer in self.peers.items()}
        self.own.configure(self.settings)
        self._guard_sessions()

    def _policy(self) -> ImportPolicy:
        settings = self.settings
        return ImportPolicy(
            pools=settings.pools,
            own_asn=settings.own_asn,
            allow_own_as=settings.allow_own_as,
            refuse=settings.refuse,
            own_addresses=self.next_hops.own_addresses(),
            subnets=PrefixSet(self.next_hops.subnets()),
            peers=frozenset(peer.packed for peer in settings.peers),
        )

    def _judge_everything(self) -> None:
        self.learned.policy = self._policy()
        self.learned.forget_decisions()
        self.rib.dirty |= self.learned.everything()

    # --- facts -------------------------------------------------------------------------------------------------------
    def on_source(self, blocks: Blocks, now: float) -> None:
        """The block source has something to say."""
        before = self.own.table.source
        self.own.table.source_says(blocks, now)
        if (before.state, before.reason) != (blocks.state, blocks.reason):
            self._changes.append(Change("source", blocks.kind, blocks.state.value, blocks.reason))

    def on_events(self, events: Sequence[SpeakerEvent], now: float) -> None:
        """What ExaBGP told, in its order. Events of a peer that is not configured any more are dropped."""
        self.revision += 1  # also for what changes no decision, such as a prefix above the limit
        for event in events:
            peer = self.peers.get(event.peer)
            if peer is None:
                continue
            if isinstance(event, Update | EndOfRib | RefreshBegin | RefreshEnd):
                self.rib.take(event, now)
            else:
                self._on_session_event(peer, event, now)

    def _on_session_event(self, peer: Peer, event: SessionEvent, now: float) -> None:
        before = peer.state, peer.reason
        match event:
            case SessionUp():
                peer.on_up(event, now)
                self.rib.session_up(peer.address, event.families, now, _whole(event))
                self.own.touch(self.own.table.blocks)
            case SessionDown():
                peer.on_down(event, now)
                self.rib.session_down(peer.address, event.reason, now)
                self.own.ended(peer.address)
            case PeerProblem():
                peer.on_problem(event, now)
                if event.reason is not None:
                    self.rib.session_down(peer.address, event.reason, now)
                self.own.ended(peer.address)
            case AnnouncementsChanged():
                peer.on_announcements(event)
                self.own.table.adopt(event.announced, announced=True, now=now)
                self.own.touch((*event.withdrawn, *(p for p, _ in (*event.refused, *event.leaving))))
            case Audited():
                peer.audited = True
            case Notified():
                way = "sent" if event.sent else "received"
                words = f"NOTIFICATION {way}: {event.code}/{event.subcode} {event.message}".strip()
                self._changes.append(Change("peer", peer.address, "notification", words))
        if (peer.state, peer.reason) != before:
            self._changes.append(Change("peer", peer.address, peer.state.value, peer.reason))

    def on_owners(self, changes: Mapping[Prefix, Address | None]) -> None:
        """The cluster tells on which nodes blocks are, by address; None: it does not any more."""
        for prefix, owner in changes.items():
            if owner is None:
                self.learned.owners.pop(prefix, None)
            else:
                self.learned.owners[prefix] = owner
        self.rib.dirty.update(prefix for prefix in changes if prefix in self.learned.routes)

    def adopt_kernel(self, found: Mapping[Prefix, Seen], now: float) -> None:
        """What the first dump shows of an earlier run. Called once, before the first derivation."""
        self.own.table.adopt([p for p, seen in found.items() if isinstance(seen, Blackhole)], announced=False, now=now)
        guards = {host(peer.packed) for peer in self.settings.peers}
        self.adopted = {p for p, seen in found.items() if not isinstance(seen, Blackhole) and p not in guards}

    def on_kernel(self, prefixes: Collection[Prefix]) -> None:
        """The kernel's state of these prefixes changed.

        A block may have got or lost its blackhole, an address inside of one may be in use here now, or not any more.
        """
        if not prefixes:
            return
        self.revision += 1
        self.own.touch(prefixes)
        if len(prefixes) <= ONE_BY_ONE:
            self._log_shadows(prefixes)
        self.rib.dirty.update(p for p in prefixes if is_host(p) and self._use_changed(p))

    def _use_changed(self, address: Prefix) -> bool:
        """Was a learned address inside an own block judged by a use here that is not so any more."""
        accepted = address in self.learned.routes
        if not accepted and address not in self.learned.refused:
            return False
        inside = self.learned.own.blocks.covering(address) not in (None, address)
        return inside and self.next_hops.in_use(address) is accepted

    def on_links(self, changed: AbstractSet[Address]) -> None:
        """Links, addresses or routes of others changed; ``changed``: the next hops that resolve differently now."""
        if self._policy() != self.learned.policy:
            self._judge_everything()
        elif changed:
            self.rib.dirty.update(self.learned.through(changed))
            self.learned.forget_decisions()
        self._guard_sessions()

    # --- next hops ---------------------------------------------------------------------------------------------------
    def _resolve(self, next_hop: Address) -> tuple[tuple[Hop, ...], str]:
        answer = self.next_hops.resolve(next_hop)
        return answer.hops, answer.reason

    def _carrier(self, next_hop: Address) -> bool:
        return self.next_hops.resolve(next_hop).carrier

    def _guard_sessions(self) -> None:
        """A host route to each peer that is not on-link, so that nothing learned can capture the session to it."""
        wanted: dict[Prefix, Unicast] = {}
        for peer in self.settings.peers:
            prefix, answer = host(peer.packed), self.next_hops.resolve(peer.packed)
            if answer.hops and not answer.on_link:
                wanted[prefix] = Unicast(answer.hops)
            elif not answer.hops and prefix in self.guards:
                wanted[prefix] = self.guards[prefix]  # the way to it is lost for now: what stands may stand
        gone = [(prefix, None) for prefix in self.guards.keys() - wanted.keys()]
        self.fib.want_many([*gone, *wanted.items()])
        self.guards = wanted

    # --- deriving ----------------------------------------------------------------------------------------------------
    @property
    def dirty(self) -> bool:
        """Is there anything for :meth:`derive` to do."""
        return bool(self.rib.dirty or self.rib.mute or self.own.table.dirty or self.own.table.gone or self._changes)

    def derive(self, now: float) -> Actions:
        """Decide for everything that is dirty."""
        self.revision += self.dirty
        actions = Actions(changes=self._changes, restart=self.rib.take_mute(now, adopted=bool(self.adopted)))
        self._changes = []
        self._derive_blocks(actions, now)
        self.own.look(now)
        self._derive_routes(actions, now)
        self._log_limits(actions)
        for address, export in self.own.exports.items():
            if changes := export.take_changes():
                actions.announce[address] = changes
        if self.own.table.synced_once:
            actions.complete = [a for a, peer in self.peers.items() if peer.audited and a not in self.completed]
            self.completed.update(actions.complete)
        actions.refresh = self.rib.take_refreshes()
        return actions

    def _derive_blocks(self, actions: Actions, now: float) -> None:
        table = self.own.table
        changed: list[Prefix] = []
        said: list[Change] = []
        dirty, table.dirty = sorted(table.dirty), set()
        for prefix in dirty:  # in order: when a limit does not let all of them out, the lowest addresses are first
            self.own.step(prefix, now)
            held = table.held(prefix)
            if held != (prefix in self.learned.own.blocks):
                changed.append(prefix)
            self._judge_covering(prefix, held=held)
            if held and self.settings.blackhole:
                self.fib.want(prefix, _BLACKHOLE)
            elif held and changed and changed[-1] == prefix:
                self.fib.want(prefix, None)  # a learned route of that very prefix ends
            self._log_block(prefix, said)
        actions.changes += said if len(said) <= FEW or len(table.blocks) <= ONE_BY_ONE else [_summary(said)]
        if changed:
            actions.own = self._set_own_blocks()
            self.rib.dirty.update(changed)  # a released block's blackhole may go, or become another owner's route
            if len(changed) > ONE_BY_ONE:
                self.rib.dirty |= self.learned.everything()
            for prefix in changed if len(changed) <= ONE_BY_ONE else ():
                wider = prefix[-1] if table.held(prefix) else 0  # those that cover a new one: _judge_covering()
                self.rib.dirty.update(q for q in self.learned.touching(prefix) if q[-1] >= wider)
        self.rib.dirty |= table.gone
        table.gone = set()

    def _judge_covering(self, prefix: Prefix, *, held: bool) -> None:
        """What covers an own block is judged again when its blackhole has come or gone.

        One that does not stand gets a second look, after the kernel was written: its first write, or its repair, must
        not take a summary away in between.
        """
        if not held:
            self._standing.pop(prefix, None)
            self._doubted.discard(prefix)
            return
        standing = self.own.standing(prefix)
        if self._standing.get(prefix) is standing:
            self._doubted.discard(prefix)
        elif not standing and self.settings.blackhole and prefix not in self._doubted:
            self._doubted.add(prefix)
            self.own.table.dirty.add(prefix)
        else:
            self._doubted.discard(prefix)
            self._standing[prefix] = standing
            self.rib.dirty.update(self.learned.covering(prefix))

    def _set_own_blocks(self) -> PrefixSet:
        held = PrefixSet(prefix for prefix in self.own.table.blocks if self.own.table.held(prefix))
        self.learned.own = OwnBlocks(held, self.own.standing, self.next_hops.in_use)
        return held

    def _derive_routes(self, actions: Actions, now: float) -> None:
        settling = self.rib.settling
        if self.adopted and not settling:
            self.rib.dirty |= self.adopted
            self.adopted = set()
        dirty, self.rib.dirty = self.rib.dirty, set()
        own, guards, adopted = self.own.table.blocks, self.guards, self.adopted
        changed: list[tuple[Prefix, Selection | None]] = []
        wants: list[tuple[Prefix, Target | None]] = []
        for prefix, before, after, other in self.learned.decide_all(dirty):
            if other:
                changed.append((prefix, before))
            if adopted and prefix in adopted:
                if not all(table.spoke_of(prefix) for table in settling):
                    continue  # a peer that may offer it has not spoken: what stands, stands
                adopted.discard(prefix)
            if prefix in guards:
                continue
            target: Target | None = after.target if after is not None else None
            if prefix in own:
                if self.own.table.held(prefix):
                    continue
                target = self._releasing(prefix, after, now)
            wants.append((prefix, target))
        self.fib.want_many(wants)
        if self.probing:
            self._note(actions, changed)
        self._log_routes(actions, changed)

    def _releasing(self, prefix: Prefix, selection: Selection | None, now: float) -> Target | None:
        """Another owner's path ends the wait and takes the blackhole's place in one step; a lost session's does not."""
        if selection is not None and selection.target is not None and not selection.stale:
            self.own.table.let_go(prefix, now)
            return selection.target
        return _BLACKHOLE if self.settings.blackhole else None

    def _note(self, actions: Actions, decided: list[tuple[Prefix, Selection | None]]) -> None:
        """Tell the probe what may be asked for now, and what no more. ``decided``: as in :meth:`_log_routes`."""
        routes, owners = self.learned.routes, dict[Selection, Address | None]()
        for prefix, before in decided:
            after = routes.get(prefix)
            if after is not None and after.target is not None:
                owner = owners[after] if after in owners else owners.setdefault(after, self.owner(after))
                actions.learned.append((prefix, owner))
            elif before is not None and before.target is not None:
                actions.forgotten.append(prefix)

    def owner(self, selection: Selection) -> Address | None:
        """The node that should get the packets: the path's next hop, or what the cluster tells of a peer's own."""
        path = selection.best
        return selection.owner if path.next_hop in self.learned.policy.peers else path.next_hop

    # --- time --------------------------------------------------------------------------------------------------------
    def next_timer(self) -> float | None:
        """The earliest moment at which :meth:`handle_timer` has something to do."""
        return min((t for t in (self.rib.next_timer(), self.own.next_timer()) if t is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Let time pass."""
        self.rib.handle_timer(now)
        self.own.handle_timer(now)

    # --- the log -----------------------------------------------------------------------------------------------------
    def _log_block(self, prefix: Prefix, changes: list[Change]) -> None:
        if self.own.table.held(prefix):
            state, reason = self.own.describe(prefix)
            said = (state.value, reason)
        elif prefix in self.own.table.blocks:
            said = ("released", "withdrawn; its blackhole stays until the network has let go")
        else:
            self._shown.pop(prefix, None)
            said = ("gone", "nothing of it is left here")
        if self._shown.get(prefix) != said:
            changes.append(Change("block", prefix_text(prefix), *said))
            if said[0] != "gone":
                self._shown[prefix] = said

    def _log_shadows(self, prefixes: Collection[Prefix]) -> None:
        """One event when somebody else's route takes the place of ours, one when ours forwards again."""
        for prefix in prefixes:
            state, reason = self.fib.state(prefix)
            shadowed = state is RouteState.SHADOWED
            if shadowed is not (prefix in self._shadowed):
                self._shadowed ^= {prefix}
                if shadowed or state is RouteState.INSTALLED:
                    self._changes.append(Change("route", prefix_text(prefix), state.value, reason))

    def _log_limits(self, actions: Actions) -> None:
        """One event when a peer passes max_prefixes or its warning level, one when it is below again."""
        for address, table in self.rib.tables.items():
            given = self.peers[address].settings
            words = None
            if table.overfull:
                words = f"more than max_prefixes {given.max_prefixes} prefixes; the surplus is refused"
            elif given.warn_prefixes is not None and len(table.paths) > given.warn_prefixes:
                words = f"more than warn_prefixes {given.warn_prefixes} prefixes"
            if words == self._limits.get(address):
                continue
            self._limits[address] = words
            below = f"{len(table.paths)} prefixes; none is refused"
            state = "below limit" if words is None else "above limit"
            actions.changes.append(Change("peer", address, state, words or below))

    def _log_routes(self, actions: Actions, decided: list[tuple[Prefix, Selection | None]]) -> None:
        """``decided``: the prefixes that were judged anew, with the decision before."""
        routes_now = self.learned.routes
        changed = [prefix for prefix, before in decided if not _alike(before, routes_now.get(prefix))]
        if len(changed) > ONE_BY_ONE:
            routes, refused = len(self.learned.routes), len(self.learned.refused)
            words = f"{len(changed)} prefixes changed; now {routes} are accepted and {refused} refused"
            actions.changes.append(Change("routes", "all", "changed", words, len(changed)))
            return
        for prefix in changed:
            selection, refusal = self.learned.routes.get(prefix), self.learned.refused.get(prefix)
            if refusal is not None:
                change = Change("route", prefix_text(prefix), "refused", refusal)
            elif selection is None:
                change = Change("route", prefix_text(prefix), "gone", "no peer offers it any more")
            else:
                state = "refused" if selection.refused else "accepted" if selection.target else "pending"
                change = Change("route", prefix_text(prefix), state, selection.reason)
            actions.changes.append(change)


def _summary(changes: list[Change]) -> Change:
    """One line in place of one for each of many own blocks."""
    states = Counter(change.state for change in changes)
    words = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    return Change("blocks", "all", "changed", f"{len(changes)} own blocks changed: {words}")


def _alike(before: Selection | None, after: Selection | None) -> bool:
    """Would the log say the same of both."""
    if before is None or after is None:
        return False
    said = before.reason == after.reason and before.refused == after.refused
    return said and before.target == after.target


def _whole(session: SessionUp) -> Whole:
    """How the peer lets us know that it has told its whole table (RFC 4724, RFC 7313, RFC 2918)."""
    if not session.adopted:
        return Whole.MARKED if session.graceful_restart else Whole.SILENCE
    return {"enhanced": Whole.MARKED, "plain": Whole.ANSWER}.get(session.refresh, Whole.NEVER)
