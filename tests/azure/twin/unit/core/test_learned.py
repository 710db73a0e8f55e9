"""What an instance holds and when NICs hear of it: delay, dampening, ECMP."""

from __future__ import annotations

from azure_twin.core.learned import Instance, Learned, nearest


def route(hop: str = "10.42.1.4", prefix: str = "192.168.1.0/26", path: tuple[int, ...] = (64512,)) -> Learned:
    return Learned(prefix, hop, hop, path)


def test_a_route_reaches_the_nics_after_the_delay() -> None:
    instance = Instance(dampening=0.0, delay=0.5)
    instance.report([route()], 10.0)
    assert instance.timer() == 10.5
    assert not instance.handle_timer(10.4)
    assert instance.handle_timer(10.5)
    assert instance.programmed == {"192.168.1.0/26": (route(),)}
    instance.report([], 11.0)
    assert instance.programmed
    assert instance.handle_timer(11.5)
    assert not instance.programmed
    assert instance.timer() is None


def test_the_same_report_again_changes_nothing() -> None:
    instance = Instance(0.0, 0.0)
    instance.report([route()], 0.0)
    instance.handle_timer(0.0)
    instance.report([route()], 1.0)
    assert not instance.handle_timer(9.0)


def test_with_dampening_a_second_change_of_a_prefix_waits_and_others_do_not() -> None:
    instance = Instance(dampening=30.0, delay=0.0)
    instance.report([route()], 0.0)
    instance.handle_timer(0.0)
    instance.report([route("10.42.1.5")], 1.0)
    assert not instance.handle_timer(29.0)
    other = route(prefix="192.168.2.0/26")
    instance.report([route("10.42.1.5"), other], 29.5)
    assert instance.handle_timer(29.5)
    assert instance.programmed["192.168.1.0/26"][0].next_hop == "10.42.1.4"
    assert "192.168.2.0/26" in instance.programmed
    assert instance.handle_timer(30.0)
    assert instance.programmed["192.168.1.0/26"][0].next_hop == "10.42.1.5"


def test_equal_as_paths_share_and_a_shorter_one_wins_alone() -> None:
    assert nearest([route("10.0.0.1"), route("10.0.0.2")]) == ("10.0.0.1", "10.0.0.2")
    assert nearest([route("10.0.0.1", path=(1, 1)), route("10.0.0.2")]) == ("10.0.0.2",)
    assert nearest([]) == ()
