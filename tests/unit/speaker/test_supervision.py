from __future__ import annotations

import pytest

from bgp_agent.speaker.supervision import TRANSITIONS, Backoff, Event, State


def test_every_running_state_can_be_stopped_and_can_end() -> None:
    for state in State:
        assert TRANSITIONS[state, Event.STOP] in {State.ENDING, State.STOPPED}
        if state is not State.STOPPED:
            assert TRANSITIONS[state, Event.EXITED] is State.STOPPED


def test_pipes_of_a_process_that_was_never_started_cannot_be() -> None:
    with pytest.raises(KeyError):
        TRANSITIONS[State.STOPPED, Event.PIPES]


def test_first_end_is_followed_at_once_and_a_loop_more_and_more_slowly() -> None:
    backoff = Backoff(first=0.2, most=30.0, window=120.0)
    waits = [backoff.ended(now) for now in range(10)]
    assert waits[:4] == [0.2, 0.4, 0.8, 1.6]
    assert waits[-1] == 30.0
    assert backoff.looping


def test_an_end_long_ago_is_forgotten() -> None:
    backoff = Backoff()
    for now in (0.0, 1.0):
        backoff.ended(now)
    assert not backoff.looping
    assert backoff.ended(500.0) == 0.2
    assert not backoff.looping
