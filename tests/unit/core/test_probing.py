from __future__ import annotations

import itertools
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bgp_agent.core.prefix import Prefix, parse_prefix
from bgp_agent.core.probing import (
    JITTER,
    RATE,
    REST,
    RETRIES,
    TURN,
    Delivered,
    Evidence,
    Misdelivered,
    Schedule,
    Silence,
    judge,
    owner_changed,
)
from bgp_agent.core.reports import Verified


def prefix(number: int) -> Prefix:
    return Prefix(bytes((10, number >> 16 & 255, number >> 8 & 255, number & 255, 32)))


A, B, C = (parse_prefix(f"192.168.{number}.0/26") for number in (1, 2, 3))


def schedule(seed: int = 1) -> Schedule:
    return Schedule(random.Random(seed))  # noqa: S311 - a test's


def answer_all(asked: Schedule, until: float) -> list[tuple[float, Prefix]]:
    """Move the time to ``until``; every question is answered at once."""
    out = []
    while (at := asked.next_time()) is not None and at <= until:
        for due in asked.due(at):
            out.append((at, due))
            asked.answered(due, at)
    return out


def test_a_new_prefix_is_asked_for_at_once() -> None:
    asked = schedule()
    asked.changed(A, 5.0)
    assert asked.next_time() is not None
    assert asked.due(5.0) == [A]
    assert asked.due(5.0) == []


def test_nothing_known_is_nothing_to_wait_for() -> None:
    asked = schedule()
    assert asked.next_time() is None
    assert asked.due(1.0) == []


def test_a_changed_prefix_is_asked_again_at_once_although_it_rests() -> None:
    asked = schedule()
    asked.changed(A, 0.0)
    asked.due(0.0)
    asked.answered(A, 0.001)
    assert asked.due(0.002) == []
    asked.changed(A, 0.003)
    assert asked.due(0.003) == [A]


def test_a_change_during_the_question_asks_once_more_when_the_old_answer_is_in() -> None:
    asked = schedule()
    asked.changed(A, 0.0)
    assert asked.due(0.0) == [A]
    asked.changed(A, 0.1)
    assert asked.due(0.1) == []
    asked.answered(A, 0.2)
    assert asked.due(0.2) == [A]


def test_silence_is_asked_again_after_1_4_and_15_seconds_and_then_takes_its_turn() -> None:
    asked = schedule()
    asked.changed(A, 0.0)
    now = 0.0
    for wait in RETRIES:
        assert asked.due(now) == [A]
        asked.silent(A, now)
        assert asked.due(now + wait - 0.001) == []
        assert asked.next_time() == now + wait
        now += wait
    assert asked.due(now) == [A]
    asked.silent(A, now)
    assert asked.next_time() == now + REST


def test_an_answer_ends_the_back_off() -> None:
    asked = schedule()
    asked.changed(A, 0.0)
    asked.due(0.0)
    asked.silent(A, 0.0)
    asked.due(1.0)
    asked.answered(A, 1.0)
    asked.due(100.0)
    asked.silent(A, 100.0)
    assert asked.next_time() == 100.0 + RETRIES[0]


def test_resting_prefixes_take_turns_at_most_one_a_second_the_longest_unasked_first() -> None:
    asked = schedule()
    for number in range(30):
        asked.changed(prefix(number), 0.0)
    first = answer_all(asked, 5.0)
    later = answer_all(asked, 60.0)
    assert [which for _, which in first] == [which for _, which in later[:30]]
    times = [at for at, _ in later]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert min(gaps) >= TURN
    assert max(gaps) <= TURN * (1 + JITTER)
    assert len(set(gaps)) > 5


def test_nodes_started_together_do_not_stay_in_step() -> None:
    runs = []
    for seed in (1, 2):
        asked = schedule(seed)
        for number in range(30):
            asked.changed(prefix(number), 0.0)
        runs.append([at for at, _ in answer_all(asked, 60.0)][-10:])
    assert not set(runs[0]) & set(runs[1])


def test_a_flapping_prefix_does_not_starve_the_new_and_the_silent() -> None:
    asked = schedule()
    for one in (A, B):
        asked.changed(one, 0.0)
    assert set(asked.due(0.0)) == {A, B}
    asked.answered(A, 0.0)
    asked.silent(B, 0.0)
    asked.changed(C, 1.0)
    seen = []
    for _ in range(4):
        asked.changed(A, 1.0)
        for due in asked.due(1.0, limit=1):
            seen.append(due)
            asked.answered(due, 1.0)
    assert {A, B, C} <= set(seen)


def test_a_person_s_questions_count_towards_the_rate() -> None:
    asked = schedule()
    for _ in range(RATE):
        asked.spend(1.0)
    asked.changed(A, 1.0)
    assert asked.due(1.5) == []
    assert asked.due(2.0) == [A]


def test_a_forgotten_prefix_is_never_asked_for_wherever_it_was() -> None:
    asked = schedule()
    for one in (A, B, C):
        asked.changed(one, 0.0)
    asked.forget(A)  # waits for its first question
    assert asked.due(0.0) == [B, C]
    asked.forget(B)  # in flight
    asked.answered(B, 0.1)
    asked.silent(C, 0.1)
    asked.forget(C)  # waits for its second question
    assert asked.next_time() is None
    assert len(asked) == 0


def test_an_answer_from_before_it_was_forgotten_does_not_stand_for_the_new_one() -> None:
    asked = schedule()
    asked.changed(A, 0.0)
    assert asked.due(0.0) == [A]
    asked.forget(A)
    asked.changed(A, 0.1)
    asked.answered(A, 0.2)
    assert asked.due(0.2) == [A]


def test_a_hundred_thousand_resting_prefixes_cost_nothing() -> None:
    asked = schedule()
    for number in range(100_000):
        asked.changed(prefix(number), 0.0)
        asked._new.popitem(last=False)
        asked._resting[prefix(number)] = REST
    before = time.process_time()
    for step in range(1000):
        for due in asked.due(REST + step):
            asked.answered(due, REST + step)
        asked.next_time()
    assert time.process_time() - before < 1.0  # a scan of all for each second would take over 10 s


class Story(RuleBasedStateMachine):
    """Any order of changes, answers, silences and time: never over the rate, never one twice, and none forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = schedule()
        self.now = 0.0
        self.sent: list[float] = []
        self.flying: list[Prefix] = []
        self.waiting: set[Prefix] = set()
        self.known: set[Prefix] = set()
        self.reborn: set[Prefix] = set()  # forgotten in flight: what is known again later is another question

    @rule(number=st.integers(0, 60))
    def change(self, number: int) -> None:
        self.asked.changed(prefix(number), self.now)
        self.known.add(prefix(number))
        self.waiting.add(prefix(number))

    @rule(first=st.integers(0, 60), count=st.integers(1, 40))
    def change_many(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self.change(number)

    @rule(number=st.integers(0, 60))
    def forget(self, number: int) -> None:
        self.asked.forget(prefix(number))
        self.known.discard(prefix(number))
        self.reborn.add(prefix(number))
        self.waiting.discard(prefix(number))

    @rule(seconds=st.floats(0.0, 20.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(limit=st.integers(1, 32))
    def ask(self, limit: int) -> None:
        due = self.asked.due(self.now, limit)
        assert len(due) <= limit
        for one in due:
            assert one in self.known
            assert one not in self.flying or one in self.reborn
            self.flying.append(one)
            self.waiting.discard(one)
            self.sent.append(self.now)

    @precondition(lambda self: self.flying)
    @rule(answered=st.booleans())
    def land(self, answered: bool) -> None:
        one = self.flying.pop(0)
        (self.asked.answered if answered else self.asked.silent)(one, self.now)

    @invariant()
    def never_over_the_rate(self) -> None:
        recent = self.sent[-RATE - 1 :]
        assert len(recent) <= RATE or recent[-1] - recent[0] >= 1.0

    def teardown(self) -> None:
        """Whatever happened: everything that changed is asked for in the end."""
        while self.flying:
            self.land(answered=True)
        for _ in range(1000):
            if not self.waiting:
                break
            at = self.asked.next_time()
            assert at is not None, f"{len(self.waiting)} changed prefixes are never asked for"
            self.now = max(self.now, at)
            self.ask(limit=32)
            while self.flying:
                self.land(answered=True)
        assert not self.waiting


TestStory = Story.TestCase


# --- what an answer means --------------------------------------------------------------------------------------------
def test_an_answer_says_who_got_it_who_asked_and_when() -> None:
    assert judge(Verified(), Delivered("node-b", "why"), by="node-a", at=5.0) == Verified(
        "delivered", "node-b", "node-a", 5.0, "why"
    )
    assert judge(Verified(), Misdelivered("node-c", "why"), by="node-a", at=5.0) == Verified(
        "misdelivered", "node-c", "node-a", 5.0, "why"
    )


@pytest.mark.parametrize("evidence", [Delivered("node-b", "how"), Misdelivered("node-c", "how")])
def test_silence_takes_no_answer_back_but_says_since_when(evidence: Delivered | Misdelivered) -> None:
    known = judge(Verified(), evidence, by="node-a", at=0.0)
    for at in (10.0, 20.0):
        silent = judge(known, Silence("time-out"), by="node-a", at=at)
        assert (silent.state, silent.node, silent.at) == (known.state, known.node, 0.0)
        assert silent.reason == (f"no answer since 1970-01-01T00:00:00Z ({known.state} to {known.node}): time-out")
        known = silent


def test_silence_from_the_start_is_not_known() -> None:
    assert judge(Verified(), Silence("time-out"), by="node-a", at=1.0) == Verified(reason="time-out")


def test_a_proof_for_the_former_owner_proves_nothing_for_the_next_one() -> None:
    known = judge(Verified(), Delivered("node-b", "how"), by="node-a", at=0.0)
    assert owner_changed(known) == Verified(
        reason="not asked since the owner changed (delivered to node-b at 1970-01-01T00:00:00Z)"
    )
    assert owner_changed(Verified(reason="time-out")) == Verified()


@given(st.lists(st.sampled_from(["delivered", "misdelivered", "silence"]), min_size=1))
def test_the_state_is_always_that_of_the_last_answer(story: list[str]) -> None:
    kinds: dict[str, Evidence] = {
        "delivered": Delivered("n", "h"),
        "misdelivered": Misdelivered("n", "h"),
        "silence": Silence("w"),
    }
    known = Verified()
    for at, word in enumerate(story):
        known = judge(known, kinds[word], by="me", at=float(at))
    answers = [(word, at) for at, word in enumerate(story) if word != "silence"]
    assert (known.state, known.at) == ((answers[-1][0], float(answers[-1][1])) if answers else ("unknown", None))
