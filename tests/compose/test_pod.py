"""What a pod says of the others: a number that is wrong here would make a lost packet look like none."""

from __future__ import annotations

from lab.compose.pod import Other


def test_a_packet_that_nobody_answers_is_counted_once_and_is_no_silence() -> None:
    other = Other("192.168.2.2")
    for turn in range(30):
        other.ask(turn / 10)
        if turn != 4:
            other.answered(other.sent, turn / 10 + 0.01)
        assert other.judge(turn / 10 + 0.05) is None
    assert (other.sent, other.lost) == (30, 1)


def test_a_silence_is_said_once_and_its_packets_are_lost() -> None:
    other = Other("192.168.2.2")
    other.ask(0.0)
    assert other.answered(1, 0.1) == "192.168.2.2 answers"
    said = []
    for second in range(1, 6):
        other.ask(float(second))
        said.append(other.judge(second + 0.5))
    assert said == ["192.168.2.2 is silent", None, None, None, None]
    assert other.answered(6, 5.6) == "192.168.2.2 answers again after 5.5 s, 4 packets lost"
    assert (other.judge(5.7), other.lost, other.waiting) == (None, 4, {})


def test_what_was_asked_before_the_other_pod_was_there_is_not_counted() -> None:
    other = Other("192.168.2.2")
    for second in range(5):
        other.ask(float(second))
        assert other.judge(second + 0.5) is None
    assert other.answered(5, 4.6) == "192.168.2.2 answers"
    assert (other.sent, other.lost) == (1, 0)
