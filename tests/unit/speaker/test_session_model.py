"""Whatever happens in whatever order, ExaBGP ends up holding exactly what is wanted (Hypothesis, a model ExaBGP)."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bgp_agent.core.prefix import Address, Prefix, parse_address, parse_prefix, prefix_text
from bgp_agent.core.values import Announcement, AnnouncementsChanged, SessionDown, SessionUp
from bgp_agent.speaker.definition import PeerDefinition
from bgp_agent.speaker.protocol import Snapshot
from bgp_agent.speaker.session import AUDIT, Session
from tests.unit.speaker.model import OPEN, ExaBgp

DEFINITION = PeerDefinition("10.99.1.2", 65515, 65001, "10.99.1.1", local_address="10.99.1.1")
PREFIXES = [parse_prefix(f"192.168.{n}.0/26") for n in range(9)]
LIMIT = 5  # prefixes that are held at most, at any moment
HOP: Address = parse_address("10.99.1.7")
ANNOUNCEMENTS = [
    Announcement(),
    Announcement(med=50, communities=("65001:2", "65001:1")),
    Announcement(next_hop=HOP, prepend=2),
    Announcement(communities=("no-export", "65001:1:2")),
]


class Speaker(RuleBasedStateMachine):
    """An agent that comes and goes, an ExaBGP that does too, a peer that flaps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.exabgp = ExaBgp()
        self.epoch = 1
        self.since = 1000.0
        self.wanted: dict[Prefix, Announcement] = {}
        self.session = Session(DEFINITION)
        self.attached = False
        self.up_told = False
        self.announced: set[Prefix] = set()

    # --- the agent ---------------------------------------------------------------------------------------------------
    @initialize()
    def begin(self) -> None:
        self.attach()

    def pump(self) -> None:
        """What the client does after each call."""
        for event in self.session.take_events():
            match event:
                case SessionUp():
                    self.up_told = True
                case SessionDown(was_established=True):
                    self.up_told = False
                case AnnouncementsChanged():
                    assert not self.announced & set(event.announced), "announced twice"
                    self.announced.update(event.announced)
                    self.announced.difference_update(event.withdrawn)
        lines = self.session.take_lines()
        assert self.attached or not lines
        self.exabgp.read(lines)
        when = self.session.next_timer()
        if when is not None and when <= self.now:
            self.session.handle_timer(self.now)
            assert self.session.next_timer() != when, "a timer that does not move"
            self.pump()

    @rule(prefix=st.sampled_from(PREFIXES), announcement=st.sampled_from([*ANNOUNCEMENTS, None]))
    def want(self, prefix: Prefix, announcement: Announcement | None) -> None:
        if announcement is None:
            self.wanted.pop(prefix, None)
        elif prefix in self.wanted or len(self.wanted) < LIMIT:
            self.wanted[prefix] = announcement
        self.session.announce({prefix: self.wanted.get(prefix)}, LIMIT)
        self.pump()

    @rule(prefixes=st.sets(st.sampled_from(PREFIXES), max_size=LIMIT), announcement=st.sampled_from(ANNOUNCEMENTS))
    def want_these(self, prefixes: set[Prefix], announcement: Announcement) -> None:
        self.wanted = dict.fromkeys(prefixes, announcement)
        self.session.announce({prefix: self.wanted.get(prefix) for prefix in PREFIXES}, LIMIT)
        self.pump()

    @rule()
    def complete(self) -> None:
        self.session.complete()
        self.pump()

    @precondition(lambda self: not self.attached)
    @rule()
    def attach(self) -> None:
        self.attached = True
        self.exabgp.output.clear()  # it went to a host that nobody listened to
        established = self.exabgp.established
        opened = OPEN if established else None
        self.session.attached(
            Snapshot("running", established, self.since, opened, len(self.exabgp.queue), None, self.epoch), self.now
        )
        self.pump()

    @precondition(lambda self: self.attached)
    @rule()
    def detach(self) -> None:
        self.attached = False
        self.session.detached(self.now)
        self.pump()

    @precondition(lambda self: not self.attached)
    @rule()
    def another_agent(self) -> None:
        self.session = Session(DEFINITION)
        self.up_told = False
        self.announced = set()
        self.session.announce(dict(self.wanted), LIMIT)
        self.pump()

    @precondition(lambda self: self.attached)
    @rule()
    def an_audit_is_due(self) -> None:
        self.now += AUDIT
        while self.exabgp.queue:  # it is not frozen
            self.answer()
        self.deliver(1000)
        self.session.handle_timer(self.now)
        self.pump()

    # --- ExaBGP and the peer -----------------------------------------------------------------------------------------
    @rule()
    def answer(self) -> None:
        self.exabgp.step()

    @rule(count=st.integers(1, 20))
    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.exabgp.output))):
            line = self.exabgp.output.popleft()
            if self.attached:
                self.session.receive(line + b"\n", self.now)
                self.pump()

    @rule()
    def flap(self) -> None:
        self.since += 60
        if self.exabgp.established:
            self.exabgp.down()
        else:
            self.exabgp.up()

    @rule()
    def exabgp_dies(self) -> None:
        poison = self.exabgp.poison
        self.exabgp = ExaBgp()
        self.exabgp.poison = poison
        self.epoch += 1
        if self.attached:
            self.session.attached(Snapshot("running", False, self.since, None, 0, None, self.epoch), self.now)  # noqa: FBT003
            self.pump()

    @rule(prefix=st.sampled_from(PREFIXES))
    def somebody_tampers(self, prefix: Prefix) -> None:
        self.exabgp.rib.pop(prefix_text(prefix), None)

    @rule(prefix=st.sampled_from(PREFIXES))
    def exabgp_dislikes(self, prefix: Prefix) -> None:
        self.exabgp.poison = {prefix_text(prefix)}

    # --- promises ----------------------------------------------------------------------------------------------------
    @invariant()
    def what_is_announced_was_told(self) -> None:
        assert set(self.session.announced) == self.announced
        assert self.up_told or not self.announced

    @invariant()
    def never_more_than_the_limit_is_held(self) -> None:
        assert len(self.exabgp.rib) <= LIMIT

    def teardown(self) -> None:
        """Let it settle: then ExaBGP holds what is wanted, and all of it is announced."""
        self.exabgp.poison = set()
        if not self.attached:
            self.attach()
        self.session.complete()
        self.pump()
        self.settle()
        if self.exabgp.established:
            self.flap()
        self.flap()  # a new session: what was refused is tried again
        for _ in range(2):
            self.settle()
            self.an_audit_is_due()
        self.settle()
        assert set(self.exabgp.rib) == {prefix_text(prefix) for prefix in self.wanted}
        if self.session.problems == 0:
            told = {prefix for prefix in self.wanted if prefix in self.session.announced}
            assert told == set(self.wanted)
        before = self.exabgp.updates
        again = Session(DEFINITION)  # an agent that starts now changes nothing
        self.session.detached(self.now)
        self.session = again
        self.announced, self.up_told = set(), False
        self.session.announce(dict(self.wanted), LIMIT)
        self.session.complete()
        eors = sum(word.startswith("eor") for word in self.exabgp.wire)
        self.attach()
        self.settle()
        assert self.exabgp.updates == before
        assert set(self.session.announced) == set(self.wanted)
        if self.wanted:
            assert sum(word.startswith("eor") for word in self.exabgp.wire) == eors

    def settle(self) -> None:
        for _ in range(2000):
            moved = self.exabgp.step()
            self.deliver(1000)
            if not moved and not self.exabgp.queue and not self.exabgp.output:
                return
        raise AssertionError("it never settles")


TestSpeaker = Speaker.TestCase
TestSpeaker.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
