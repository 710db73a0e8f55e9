"""Routes per peer, counted as Azure counts them: held plus what comes in with the burst."""

from __future__ import annotations

from azure_twin.core.counting import PeerCount
from azure_twin.core.settings import Limits
from hypothesis import given, settings
from hypothesis import strategies as st


def prefixes(count: int) -> list[str]:
    return [f"10.{number >> 8}.{number & 255}.0/24" for number in range(count)]


def test_the_whole_limit_at_once_is_taken_and_one_more_is_not() -> None:
    count = PeerCount(4000, 1.0)
    assert not count.update(prefixes(4000), [], 0.0)
    assert count.update(["192.168.0.0/24"], [], 0.5)


def test_a_peer_has_4000_routes_unless_set_otherwise() -> None:
    assert Limits().routes_per_peer == 4000


def test_the_lab_at_the_limit_of_1000_is_dropped_at_501_re_advertised() -> None:
    for held, over in ((500, False), (501, True)):
        count = PeerCount(1000, 1.0)
        assert not count.update(prefixes(held), [], 0.0)
        assert count.update(prefixes(held), [], 10.0) is over


def test_in_small_bursts_everything_may_be_re_advertised() -> None:
    count = PeerCount(1000, 1.0)
    count.update(prefixes(900), [], 0.0)
    for step, first in enumerate(range(0, 900, 100), 1):
        assert not count.update(prefixes(900)[first : first + 100], [], step * 5.0)


def test_withdrawals_and_a_lost_session_make_room() -> None:
    count = PeerCount(10, 1.0)
    count.update(prefixes(10), [], 0.0)
    assert not count.update([], prefixes(10), 5.0)
    assert not count.update(prefixes(10), [], 10.0)
    count.down()
    assert not count.update(prefixes(10), [], 10.1)
    assert count.counted == 10


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.integers(0, 30), max_size=12), st.lists(st.integers(0, 30), max_size=12),
    st.floats(0, 3))), st.integers(1, 40),
)  # fmt: skip
def test_it_never_counts_less_than_what_is_held(updates: list[tuple[list[int], list[int], float]], limit: int) -> None:
    count, now, held = PeerCount(limit, 1.0), 0.0, set[str]()
    for announced, withdrawn, pause in updates:
        now += pause
        new, old = [f"10.0.{each}.0/24" for each in announced], [f"10.0.{each}.0/24" for each in withdrawn]
        over = count.update(new, old, now)
        held = (held - set(old)) | set(new)
        assert count.held == held
        assert count.counted >= len(set(new))
        if len(held) > limit and new:
            assert over
