"""How long peers get to move away before a block goes, and what a drain may become."""

from __future__ import annotations

from bgp_agent.core.notice import ANSWER, TRANSITIONS, Drain, Notice


def test_the_time_to_move_away_runs_from_when_all_were_told() -> None:
    notice = Notice.give(2.0, 100.0)
    assert (notice.told, notice.until) == (False, 102.0 + ANSWER)
    notice.heard(101.0)
    assert (notice.told, notice.until) == (True, 103.0)
    notice.heard(102.5)
    assert notice.until == 103.0, "a peer that comes up meanwhile does not make it longer"


def test_who_answers_late_does_not_make_it_longer() -> None:
    notice = Notice.give(2.0, 100.0)
    notice.heard(100.0 + ANSWER + 1.0)
    assert notice.until == 102.0 + ANSWER


def test_a_drain_can_be_taken_back_at_any_time_and_nothing_else_ends_it() -> None:
    assert {state for (state, event) in TRANSITIONS if event == "undrain"} == {Drain.LEAVING, Drain.DRAINED}
    assert {event for (_, event), after in TRANSITIONS.items() if after is Drain.OFF} == {"undrain"}
